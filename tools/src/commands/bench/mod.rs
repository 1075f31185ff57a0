//! `gpt2 bench`: throughput of prefill and decode; plain attention against flash attention.

mod attention;
mod measure;
mod plot;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use gpt2::session::Session;
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::report::{self, Progress};
use crate::{interrupt, memory};
use measure::{ids, mean_and_deviation};

/// Measure how fast a model reads and writes.
///
/// As llama-bench counts: a prefill test (pp) is one prompt of N tokens into an empty cache, a
/// decode test (tg) is N single tokens after one another from an empty cache; each is run once to
/// warm up and then repeated. --attention compares plain attention with flash attention instead, by
/// the time to read a batch of 1 to 8 sequences of 512 tokens (or -p N) and one sequence of growing
/// length (up to N), with a cache of f16 and of `q8_0`; medians. Both are ggml's there, on the same
/// threads.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 bench -m model-q4_0.gguf -p 128,512 -n 128 -r 5 -t 2\n  \
                  gpt2 bench --attention --plot attention.svg"
)]
pub(super) struct Arguments {
    /// Tokens of the prefill tests, separated by commas; 0 for none [default: 512, or the context]
    #[arg(short = 'p', long, value_name = "N,…", value_delimiter = ',')]
    n_prompt: Vec<usize>,
    /// Tokens of the decode tests, separated by commas; 0 for none
    #[arg(
        short = 'n',
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "128"
    )]
    n_gen: Vec<usize>,
    /// Repetitions of each test
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Compare plain attention with flash attention
    #[arg(long, conflicts_with_all = ["n_gen", "flash_attn", "cache_type", "ctx_size", "mem"])]
    attention: bool,
    /// Draw the comparison of --attention into this file
    #[arg(long, value_name = "FILE.svg", requires = "attention")]
    plot: Option<PathBuf>,
    /// Replace the file of --plot if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// Prefill when a model's context allows it.
const PROMPT: usize = 512;

/// One row of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test {
    n_prompt: usize,
    n_gen: usize,
}

impl Test {
    /// The name llama-bench gives it.
    fn name(self) -> String {
        if self.n_gen == 0 {
            format!("pp{}", self.n_prompt)
        } else {
            format!("tg{}", self.n_gen)
        }
    }

    fn tokens(self) -> usize {
        self.n_prompt + self.n_gen
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.repetitions == 0 {
        return Err(Failure::Usage(
            "--repetitions must be at least 1".to_owned(),
        ));
    }
    if arguments.attention {
        let chart = arguments.plot.as_deref();
        let chart = chart.map(|path| (path, arguments.force));
        if let Some((path, force)) = chart {
            report::check_place(path, force)?;
        }
        let length = match arguments.n_prompt[..] {
            [] => None,
            [length] => Some(length),
            _ => return Err(Failure::Usage("--attention takes one -p".to_owned())),
        };
        return attention::run(&arguments.run, arguments.repetitions, length, chart);
    }
    let model = arguments.run.open_model()?;
    let positions = model.hyperparameters().n_positions;
    let context = arguments.run.ctx_size.filter(|&size| size > 0);
    let most = context.map_or(positions, |size| size.min(positions));
    let tests = tests(&arguments.n_prompt, &arguments.n_gen, most)?;
    let longest = tests.iter().map(|test| test.tokens()).max().unwrap_or(1);
    let mut session = arguments.run.start(model, Some(longest))?;
    interrupt::stop_on_interrupt(&session.stop_flag());

    let mut progress = Progress::new();
    let mut rows = Vec::new();
    let mut table = String::from("| test | tokens/s | ± |\n|---|---:|---:|\n");
    let count = tests.len();
    let mut interrupted = false;
    'tests: for test in tests {
        let mut speeds = Vec::new();
        for repetition in 0..=arguments.repetitions {
            progress.show(format!(
                "{}: {repetition} of {}",
                test.name(),
                arguments.repetitions
            ));
            let start = Instant::now();
            match once(&mut session, test) {
                // Of a test that is not over no figure is shown.
                Err(Failure::Interrupted(_)) if !rows.is_empty() => {
                    interrupted = true;
                    break 'tests;
                }
                done => done?,
            }
            // The first warms up: caches, page tables, the graph.
            if repetition > 0 {
                speeds.push(test.tokens() as f64 / start.elapsed().as_secs_f64());
            }
        }
        let (mean, deviation) = mean_and_deviation(&speeds);
        let _ = writeln!(table, "| {} | {mean:.2} | {deviation:.2} |", test.name());
        rows.push(row(test, mean, deviation, &session));
    }
    drop(progress);
    let mut document = json!({ "rows": rows });
    if interrupted {
        document["interrupted"] = true.into();
        let _ = writeln!(table, "interrupted: {} of {count} tests", rows.len());
    }
    if arguments.run.json {
        return report::print_json(&document);
    }
    report::print(&table)
}

fn tests(n_prompt: &[usize], n_gen: &[usize], positions: usize) -> Result<Vec<Test>, Failure> {
    let default = [PROMPT.min(positions)];
    let n_prompt = if n_prompt.is_empty() {
        &default
    } else {
        n_prompt
    };
    let prefill = n_prompt.iter().map(|&n_prompt| Test { n_prompt, n_gen: 0 });
    let decode = n_gen.iter().map(|&n_gen| Test { n_prompt: 0, n_gen });
    let tests: Vec<Test> = prefill
        .chain(decode)
        .filter(|test| test.tokens() > 0)
        .collect();
    match tests.iter().find(|test| test.tokens() > positions) {
        Some(test) => Err(Failure::Usage(format!(
            "{}: the model or the context has {positions} positions; ask for fewer tokens",
            test.name()
        ))),
        None if tests.is_empty() => Err(Failure::Usage(
            "no test is left: give -p or -n a number above 0".to_owned(),
        )),
        None => Ok(tests),
    }
}

fn once(session: &mut Session, test: Test) -> Result<(), Failure> {
    let vocabulary = session.model().hyperparameters().vocab_size;
    let ids = ids(vocabulary, test.tokens());
    session.clear();
    if test.n_prompt > 0 {
        session.prefill(&ids)?;
    } else {
        for id in ids {
            session.decode(id)?;
        }
    }
    Ok(())
}

fn row(test: Test, mean: f64, deviation: f64, session: &Session) -> Value {
    json!({
        "test": test.name(),
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "tokens_per_s": { "mean": mean, "std": deviation },
        "memory": memory::of_session(session),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_as_in_llama_bench() {
        let found = tests(&[128, 0], &[0, 16], 512).unwrap();
        let names: Vec<String> = found.iter().map(|test| test.name()).collect();
        assert_eq!(names, ["pp128", "tg16"]);
    }

    #[test]
    fn the_default_prompt_fits_the_model() {
        assert_eq!(tests(&[], &[1], 300).unwrap()[0].n_prompt, 300);
        assert!(matches!(tests(&[512], &[0], 300), Err(Failure::Usage(_))));
        assert!(matches!(tests(&[0], &[0], 300), Err(Failure::Usage(_))));
    }
}
