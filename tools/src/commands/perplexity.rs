//! `gpt2 perplexity`: how well a model predicts a text.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use gpt2::session::Session;
use gpt2::tasks::{Perplexity, PerplexityOptions, perplexity};
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::interrupt;
use crate::report::{self, Progress};
use crate::stream::note;
use crate::texts::{Form, Reading, TextSource};

/// The window when the model's context is not shorter.
const WINDOW: usize = 512;

/// Measure how well a model predicts a text.
///
/// The text is cut into windows that do not overlap; each is scored on its positions after the
/// first, and a last window that is not full is left out, unless it is the whole text. With
/// --stride, windows overlap, and the last one is scored as far as it goes: the numbers of the
/// guide in transformers' documentation. Several texts are cut each by itself and give one number.
/// With --reference, also how far the model is from another one: the Kullback-Leibler divergence
/// (mean and 99th percentile), and how often both prefer the same token.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 perplexity -m model-q4_0.gguf -f heldout.txt --reference \
        model-f32.gguf"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    /// Tokens of a window [default: 512, or the model's context]
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Begin a window every N tokens, at most --window; each scores what none before it has
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// A model of the same vocabulary to compare with
    #[arg(long, value_name = "OTHER.gguf")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    run: RunArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = arguments.texts.read(Reading {
        form: Form::Document,
        ..Reading::default()
    })?;
    let model = arguments.run.open_model()?;
    let options = arguments.options(model.hyperparameters().n_positions)?;
    let tokenizer = model.tokenizer()?;
    let encoded = texts.iter().map(|text| tokenizer.encode(text));
    let texts = encoded.collect::<gpt2::Result<Vec<_>>>()?;
    let start = |model| arguments.run.start(model, Some(options.window));
    let mut session = start(model.clone())?;
    let mut reference: Option<Session> = match &arguments.reference {
        Some(path) => Some(start(arguments.run.open_model_at(path)?)?),
        None => None,
    };
    interrupt::stop_on_interrupt(&session.stop_flag());

    let mut progress = Progress::new();
    let mut show = |sofar: &Perplexity| {
        progress.show(format!(
            "{} of {} windows, perplexity {:.2}",
            sofar.windows,
            sofar.all_windows,
            sofar.perplexity()
        ));
        ControlFlow::Continue(())
    };
    let reference = reference.as_mut();
    let result = perplexity(&mut session, reference, &texts, options, &mut show)?;
    drop(progress);
    if !result.is_complete() && result.tokens == 0 {
        return Err(gpt2::Error::Stopped.into());
    }
    if result.left_out > 0 {
        note!(
            "left out: {} tokens at the end that fill no window of {}; --stride {} scores them, too",
            result.left_out,
            options.window,
            options.window
        );
    }
    if arguments.run.json {
        return report::print_json(&document(&result));
    }
    report::print(&sentence(&result))
}

impl Arguments {
    /// The windows, checked against the model's positions.
    fn options(&self, positions: usize) -> Result<PerplexityOptions, Failure> {
        let window = self.window.unwrap_or(WINDOW.min(positions));
        let usage = |name: &str, most: usize, whose: &str, found: usize| {
            Err(Failure::Usage(format!(
                "--{name}: expected a number up to {most}, {whose}, found {found}"
            )))
        };
        if !(2..=positions).contains(&window) {
            return usage(
                "window",
                positions,
                "and from 2: the model's positions",
                window,
            );
        }
        match self.stride {
            Some(stride) if !(1..=window).contains(&stride) => {
                usage("stride", window, "and from 1: the window", stride)
            }
            stride => Ok(PerplexityOptions { window, stride }),
        }
    }
}

/// The figures; those of a part say so.
fn document(result: &Perplexity) -> Value {
    let mut document = json!({
        "nll_sum": result.nll_sum,
        "tokens": result.tokens,
        "perplexity": result.perplexity(),
        "windows": result.windows,
        "tokens_left_out": result.left_out,
    });
    if !result.is_complete() {
        document["interrupted"] = true.into();
        document["all_windows"] = result.all_windows.into();
    }
    if let Some(comparison) = &result.comparison {
        document["kld_mean"] = comparison.kld_mean.into();
        document["kld_p99"] = comparison.kld_p99.into();
        document["top1_agreement"] = comparison.top1_agreement.into();
    }
    document
}

fn sentence(result: &Perplexity) -> String {
    let part = if result.is_complete() {
        String::new()
    } else {
        format!(
            "interrupted, the first {} of {} windows: ",
            result.windows, result.all_windows
        )
    };
    let mut text = format!(
        "{part}perplexity {:.4} (nll_sum {:.3} over {} tokens in {} windows)\n",
        result.perplexity(),
        result.nll_sum,
        result.tokens,
        result.windows
    );
    if let Some(comparison) = &result.comparison {
        let _ = writeln!(
            text,
            "divergence from the reference: mean {:.6}, 99th percentile {:.6}; same first choice \
             at {:.2} % of the positions",
            comparison.kld_mean,
            comparison.kld_p99,
            comparison.top1_agreement * 100.0
        );
    }
    text
}
