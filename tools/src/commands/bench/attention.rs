//! `gpt2 bench --attention`: plain attention against flash attention.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gpt2::session::{Batch, CacheType, FlashAttention, Model, ModelOptions, SequenceSet, Session};
use serde_json::{Value, json};

use super::measure::{ids, mean_and_deviation};
use super::plot::{self, Line};
use crate::arguments::RunArguments;
use crate::failure::{self, Failure};
use crate::report::{self, Progress};
use crate::stream::note;
use crate::{interrupt, memory};

/// Sequences computed together in the first half of the tests.
const BATCHES: [usize; 4] = [1, 2, 4, 8];
/// Their length, when the model has as many positions.
const LENGTH: usize = 512;
/// Lengths of one sequence in the second half, as far as they are wanted and the model has
/// positions.
const LENGTHS: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

const CACHES: [CacheType; 2] = [CacheType::F16, CacheType::Q8_0];
const WAYS: [(FlashAttention, &str); 2] = [
    (FlashAttention::Off, "plain"),
    (FlashAttention::On, "flash"),
];

/// `batch` sequences of `length` tokens each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    batch: usize,
    length: usize,
}

/// A session of each kind that is compared.
struct Contender {
    cache_type: CacheType,
    flash: bool,
    name: String,
    session: Session,
}

/// What one contender took at one size.
struct Figure {
    size: Size,
    contender: usize,
    /// The median time.
    seconds: f64,
    /// Mean and standard deviation.
    tokens_per_second: (f64, f64),
}

pub(super) fn run(
    arguments: &RunArguments,
    repetitions: usize,
    n_prompt: Option<usize>,
    chart: Option<(&Path, bool)>,
) -> Result<(), Failure> {
    let model = arguments.open_model_as(&ModelOptions {
        // Plain attention is ggml's alone: with ggml's flash attention beside it, the same threads
        // compute both.
        own_kernels: false,
        ..arguments.model_options()
    })?;
    let positions = model.hyperparameters().n_positions;
    let length = n_prompt.unwrap_or(LENGTH.min(positions));
    if !(1..=positions).contains(&length) {
        return Err(Failure::Work(format!(
            "-p {length}: expected 1 to the model's {positions} positions"
        )));
    }
    let longest = n_prompt.unwrap_or(positions);
    let by_batch = BATCHES.map(|batch| Size { batch, length });
    let by_length: Vec<Size> = LENGTHS
        .into_iter()
        .filter(|&length| length <= longest)
        .map(|length| Size { batch: 1, length })
        .collect();
    let sequences = BATCHES[BATCHES.len() - 1];
    let context = longest.max(sequences * length);
    let mut contenders = contenders(arguments, &model, context, sequences)?;
    let mut progress = Progress::new();
    let mut figures = Vec::new();
    let mut interrupted = false;
    let sizes: Vec<Size> = by_batch.iter().chain(&by_length).copied().collect();
    for (index, &size) in sizes.iter().enumerate() {
        progress.show(format!(
            "{} of {}: batch {}, {} tokens",
            index + 1,
            sizes.len(),
            size.batch,
            size.length
        ));
        match measure(&mut contenders, size, repetitions) {
            Ok(measured) => figures.extend(measured),
            // Of a size that is not done no figure is shown.
            Err(Failure::Interrupted(_)) if !figures.is_empty() => {
                interrupted = true;
                break;
            }
            Err(failure) => return Err(failure),
        }
    }
    drop(progress);
    let batches = (by_batch.len() * contenders.len()).min(figures.len());
    let (batches, lengths) = figures.split_at(batches);
    let mut drawn = Ok(());
    // A picture could not say that it is of a part.
    if let Some((path, force)) = chart.filter(|_| !interrupted) {
        let charts = [
            plot::Chart {
                title: format!("{length} tokens a sequence"),
                across: "sequences in the batch",
                lines: lines(&contenders, batches, |size| size.batch),
            },
            plot::Chart {
                title: "one sequence".to_owned(),
                across: "tokens",
                lines: lines(&contenders, lengths, |size| size.length),
            },
        ];
        drawn = plot::draw(path, force, &charts);
    }
    if arguments.json {
        let rows = [("batch", batches), ("length", lengths)]
            .into_iter()
            .flat_map(|(test, figures)| figures.iter().map(move |figure| (test, figure)))
            .map(|(test, figure)| row(test, figure, &contenders[figure.contender]))
            .collect::<Vec<Value>>();
        let mut document = json!({ "rows": rows });
        if interrupted {
            document["interrupted"] = true.into();
        }
        return failure::all([report::print_json(&document), drawn]);
    }
    let mut text = table(&contenders, &figures);
    if interrupted {
        let done = figures.len() / contenders.len();
        let _ = writeln!(text, "interrupted: {done} of {} sizes", sizes.len());
    }
    failure::all([report::print(&text), drawn])
}

/// Sessions of every cache type and both ways of attention. A type that the model's heads do not
/// allow is left out, and said.
fn contenders(
    arguments: &RunArguments,
    model: &Arc<Model>,
    context: usize,
    sequences: usize,
) -> Result<Vec<Contender>, Failure> {
    let mut all = Vec::new();
    for cache_type in CACHES {
        for (flash_attention, way) in WAYS {
            let mut options = arguments.session_options(None);
            options.context = Some(context);
            options.sequences = sequences;
            options.cache_type = Some(cache_type);
            options.flash_attention = flash_attention;
            let session = match Session::new(Arc::clone(model), options) {
                Ok(session) => session,
                Err(error @ gpt2::Error::Unsupported(_)) => {
                    note!("left out: {error}");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            interrupt::stop_on_interrupt(&session.stop_flag());
            all.push(Contender {
                cache_type,
                flash: flash_attention == FlashAttention::On,
                name: format!("{way}, {} cache", cache_type.name()),
                session,
            });
        }
    }
    if all.is_empty() {
        return Err(Failure::Work(
            "no kind of attention can be computed with this model: nothing is left to compare"
                .to_owned(),
        ));
    }
    Ok(all)
}

/// Every contender in turn, again and again, so that a disturbance hits all of them.
fn measure(
    contenders: &mut [Contender],
    size: Size,
    repetitions: usize,
) -> Result<Vec<Figure>, Failure> {
    let mut seconds = vec![Vec::new(); contenders.len()];
    for repetition in 0..=repetitions {
        for (contender, seconds) in contenders.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            once(&mut contender.session, size)?;
            // The first warms up: caches, page tables, the graph.
            if repetition > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let tokens = (size.batch * size.length) as f64;
    let figure = |(contender, mut seconds): (usize, Vec<f64>)| {
        seconds.sort_by(f64::total_cmp);
        let speeds: Vec<f64> = seconds.iter().map(|seconds| tokens / seconds).collect();
        Figure {
            size,
            contender,
            seconds: seconds[seconds.len() / 2],
            tokens_per_second: mean_and_deviation(&speeds),
        }
    };
    Ok(seconds.into_iter().enumerate().map(figure).collect())
}

fn once(session: &mut Session, size: Size) -> Result<(), Failure> {
    let ids = ids(session.model().hyperparameters().vocab_size, size.length);
    let last = size.length - 1;
    let mut batch = Batch::default();
    for sequence in 0..size.batch {
        let sequence = SequenceSet::of(sequence)?;
        let text = Batch::of_text(&ids, 0, sequence, |index| index == last);
        batch.tokens.extend(text.tokens);
    }
    session.clear();
    session.run(&batch)?;
    Ok(())
}

/// One line for each contender.
fn lines(contenders: &[Contender], figures: &[Figure], across: fn(&Size) -> usize) -> Vec<Line> {
    let points = |index: usize| {
        let own = figures
            .iter()
            .filter(move |figure| figure.contender == index);
        own.map(|figure| (across(&figure.size) as f64, 1000.0 * figure.seconds))
            .collect()
    };
    contenders
        .iter()
        .enumerate()
        .map(|(index, contender)| Line {
            name: contender.name.clone(),
            points: points(index),
        })
        .collect()
}

fn row(test: &str, figure: &Figure, contender: &Contender) -> Value {
    let (mean, std) = figure.tokens_per_second;
    json!({
        "test": test,
        "batch": figure.size.batch,
        "n_prompt": figure.size.length,
        "n_gen": 0,
        "cache_type": contender.cache_type.name(),
        "flash_attention": contender.flash,
        "ms": 1000.0 * figure.seconds,
        "tokens_per_s": { "mean": mean, "std": std },
        "memory": memory::of_session(&contender.session),
    })
}

fn table(contenders: &[Contender], figures: &[Figure]) -> String {
    let mut text = String::from("| batch | tokens |");
    for contender in contenders {
        let _ = write!(text, " {}, ms |", contender.name);
    }
    text += "\n|---:|---:|";
    text += &"---:|".repeat(contenders.len());
    text.push('\n');
    for figures in figures.chunks(contenders.len()) {
        let Size { batch, length } = figures[0].size;
        let _ = write!(text, "| {batch} | {length} |");
        for figure in figures {
            let _ = write!(text, " {:.1} |", 1000.0 * figure.seconds);
        }
        text.push('\n');
    }
    text
}
