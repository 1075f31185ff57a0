//! `gpt2 generate`: continues a text.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use gpt2::TokenId;
use gpt2::sampling::SamplingOptions;
use gpt2::session::{Generation, GenerationOptions, Model, Session, Step, generate};
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::{interrupt, memory, report};

/// Continue a text.
///
/// The prompt is -p, -f, --ids or stdin (of -f and stdin, one newline at the end is dropped). The
/// continuation alone goes to stdout as it comes. Without --do-sample the most likely token is taken
/// every time. Parameters have the names and meanings they have in transformers.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 generate -p \"My dear Mr. Bennet,\" -n 40 --do-sample --temperature 0.8 --seed 1"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Most tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value_t = GenerationOptions::default().max_new_tokens)]
    max_new_tokens: usize,
    /// End before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Never choose a token that ends the text
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    run: RunArguments,
    // Last, since its heading holds for what follows.
    #[command(flatten)]
    decoding: Decoding,
}

/// Where the prompt comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Source {
    /// The text to continue
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the text to continue
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The tokens to continue, such as 1,2,3
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids)]
    ids: Option<Ids>,
}

/// How each token is chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Choosing tokens")]
struct Decoding {
    /// Draw tokens at random by their probability
    #[arg(long)]
    do_sample: bool,
    /// Below 1 prefers likely tokens more, above 1 less [default: 1]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from the K most likely tokens; 0 for all [default: 50]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the most likely tokens that together have probability P [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw from tokens at least P times as likely as the best [default: 0]
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Draw from the tokens nearest to the expected information, of probability P [default: 1]
    #[arg(long, value_name = "P")]
    typical_p: Option<f64>,
    /// Above 1 makes tokens seen before less likely [default: 1]
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// No run of N tokens occurs twice; 0 for no limit [default: 0]
    #[arg(long, value_name = "N")]
    no_repeat_ngram_size: Option<usize>,
    /// Do not end before N tokens, the prompt's included [default: 0]
    #[arg(long, value_name = "N")]
    min_length: Option<usize>,
    /// Do not end before N new tokens [default: 0]
    #[arg(long, value_name = "N")]
    min_new_tokens: Option<usize>,
    /// Continuations to draw; the n-th uses the seed + n
    #[arg(long, value_name = "N", default_value_t = 1)]
    num_return_sequences: usize,
}

impl Decoding {
    fn options(&self) -> SamplingOptions {
        let default = SamplingOptions::default();
        SamplingOptions {
            do_sample: self.do_sample,
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical_p: self.typical_p.unwrap_or(default.typical_p),
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(default.repetition_penalty),
            no_repeat_ngram_size: self
                .no_repeat_ngram_size
                .unwrap_or(default.no_repeat_ngram_size),
            min_length: self.min_length.unwrap_or(default.min_length),
            min_new_tokens: self.min_new_tokens.unwrap_or(default.min_new_tokens),
            ..default
        }
    }

    /// Says which parameters do nothing, as transformers does.
    fn warn_of_unused(&self) {
        let given = [
            ("--temperature", self.temperature.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--typical-p", self.typical_p.is_some()),
        ];
        let unused: Vec<&str> = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| *name)
            .collect();
        if !self.do_sample && !unused.is_empty() {
            eprintln!(
                "warning: without --do-sample there is no effect of {}",
                unused.join(", ")
            );
        }
    }
}

pub(super) fn run(arguments: &Arguments, start: Instant) -> Result<(), Failure> {
    let decoding = &arguments.decoding;
    let mut options = GenerationOptions {
        sampling: decoding.options(),
        max_new_tokens: arguments.max_new_tokens,
        num_return_sequences: decoding.num_return_sequences,
        ignore_eos: arguments.ignore_eos,
        stop: arguments.stop.clone(),
        ..GenerationOptions::default()
    };
    options
        .validate()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    decoding.warn_of_unused();
    if decoding.do_sample {
        options.seed = arguments.run.seed_or_new();
    }
    let text = arguments.source.text()?;
    let model = arguments.run.open_model()?;
    let prompt_ids = arguments.source.ids(&model, text.as_deref())?;
    let mut session = arguments.run.start(Arc::clone(&model), None)?;
    interrupt::stop_on_interrupt(session.stop_flag());
    let load = start.elapsed();

    let mut stream = Stream {
        shown: !arguments.run.json,
        written: 0,
        error: None,
    };
    let result = generate(&mut session, &prompt_ids, &options, &mut |step| {
        stream.step(step)
    });
    if let Some(error) = stream.error {
        return Err(error.into());
    }
    let generation = result?;
    if arguments.run.json {
        return report::print_json(&document(&prompt_ids, &generation, load, &session));
    }
    stream.finish(&generation)?;
    summarize(&generation, load, &session);
    Ok(())
}

impl Source {
    /// The prompt's text; none when it is given as ids.
    fn text(&self) -> Result<Option<String>, Failure> {
        let mut text = match (&self.prompt, &self.file, &self.ids) {
            (_, _, Some(_)) => return Ok(None),
            (Some(text), ..) => return Ok(Some(text.clone())),
            (_, Some(path), _) => prompt::read_file(path)?,
            _ => prompt::read_stdin()?,
        };
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Some(text))
    }

    fn ids(&self, model: &Model, text: Option<&str>) -> Result<Vec<TokenId>, Failure> {
        match &self.ids {
            Some(Ids(ids)) if !ids.is_empty() => Ok(ids.clone()),
            _ => prompt::encode(model, text.unwrap_or_default()),
        }
    }
}

/// The text on its way to stdout.
struct Stream {
    /// Whether it goes there at all.
    shown: bool,
    /// Bytes of the first continuation that were written; the others are written when all are done.
    written: usize,
    /// Why writing ended.
    error: Option<io::Error>,
}

impl Stream {
    fn step(&mut self, step: &Step) -> ControlFlow<()> {
        if !self.shown || step.sequence > 0 {
            return ControlFlow::Continue(());
        }
        self.written += step.text.len();
        match write(step.text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Writes what the steps did not.
    fn finish(&self, generation: &Generation) -> Result<(), Failure> {
        for (index, sequence) in generation.sequences.iter().enumerate() {
            if index > 0 {
                write("---\n")?;
            }
            let written = if index == 0 { self.written } else { 0 };
            write(sequence.text.get(written..).unwrap_or_default())?;
            write("\n")?;
        }
        Ok(())
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn document(
    prompt_ids: &[TokenId],
    generation: &Generation,
    load: Duration,
    session: &Session,
) -> Value {
    let timings = &generation.timings;
    let sequences: Vec<Value> = generation
        .sequences
        .iter()
        .map(|sequence| {
            json!({
                "ids": sequence.ids,
                "text": sequence.text,
                "finish_reason": sequence.finish_reason.name(),
                "score": sequence.score,
            })
        })
        .collect();
    json!({
        "prompt_ids": prompt_ids,
        "sequences": sequences,
        "timings": {
            "load_ms": milliseconds(load),
            "prefill_ms": milliseconds(timings.prefill),
            "decode_ms": milliseconds(timings.decode),
            "prefill_tokens_per_s": per_second(timings.prefill_tokens, timings.prefill),
            "decode_tokens_per_s": per_second(timings.decode_tokens, timings.decode),
        },
        "memory": memory::of_session(session),
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Nothing was computed at no speed.
fn per_second(count: usize, duration: Duration) -> Option<f64> {
    (count > 0 && !duration.is_zero()).then(|| count as f64 / duration.as_secs_f64())
}

fn summarize(generation: &Generation, load: Duration, session: &Session) {
    let timings = &generation.timings;
    let part = |count, duration| {
        let speed = per_second(count, duration).unwrap_or_default();
        format!(
            "{count} tokens in {:.0} ms ({speed:.0}/s)",
            milliseconds(duration)
        )
    };
    let memory = session.memory();
    let peak = memory::peak_rss().map_or_else(String::new, |peak| {
        format!(", {} at the peak", report::bytes(peak))
    });
    eprintln!(
        "load {:.0} ms, prefill {}, decode {}; weights {}, cache {}, compute {}{peak}",
        milliseconds(load),
        part(timings.prefill_tokens, timings.prefill),
        part(timings.decode_tokens, timings.decode),
        report::bytes(memory.weights as u64),
        report::bytes(memory.kv as u64),
        report::bytes(memory.compute as u64),
    );
}
