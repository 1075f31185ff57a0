//! `gpt2 perplexity`: how well a model predicts a text.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use gpt2::session::Session;
use gpt2::tasks::{Perplexity, perplexity};
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::interrupt;
use crate::report::{self, Progress};
use crate::texts::{Form, Reading, TextSource};

/// The window when the model's context is not shorter.
const WINDOW: usize = 512;

/// Measure how well a model predicts a text.
///
/// The text is cut into windows that do not overlap; each is scored on its positions after the
/// first, and a last window that is not full is left out. With --reference, also how far the model
/// is from another one: the Kullback-Leibler divergence (mean and 99th percentile), and how often
/// both prefer the same token.
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
    /// A model of the same vocabulary to compare with
    #[arg(long, value_name = "OTHER.gguf")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    run: RunArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = arguments.texts.read_one(Reading {
        form: Form::Document,
        ..Reading::default()
    })?;
    let model = arguments.run.open_model()?;
    let ids = model.tokenizer()?.encode(&text)?;
    let window = arguments
        .window
        .unwrap_or(WINDOW.min(model.hyperparameters().n_positions));
    let mut session = arguments.run.start(model, Some(window))?;
    let mut reference: Option<Session> = match &arguments.reference {
        Some(path) => Some(
            arguments
                .run
                .start(arguments.run.open_model_at(path)?, Some(window))?,
        ),
        None => None,
    };
    interrupt::stop_on_interrupt(&session.stop_flag());

    let mut progress = Progress::new();
    let mut all = 0;
    let mut show = |sofar: &Perplexity, windows: usize| {
        all = windows;
        progress.show(format!(
            "{} of {windows} windows, perplexity {:.2}",
            sofar.windows,
            sofar.perplexity()
        ));
        ControlFlow::Continue(())
    };
    let result = perplexity(&mut session, reference.as_mut(), &ids, window, &mut show)?;
    drop(progress);
    let stopped = session.stop_flag().load(Ordering::Relaxed);
    if stopped && result.tokens == 0 {
        return Err(gpt2::Error::Stopped.into());
    }
    let cut = (stopped && result.windows < all).then_some(all);
    if arguments.run.json {
        return report::print_json(&document(&result, cut));
    }
    report::print(&sentence(&result, cut))
}

/// The figures; with `cut`, all windows that there would have been, they are of a part.
fn document(result: &Perplexity, cut: Option<usize>) -> Value {
    let mut document = json!({
        "nll_sum": result.nll_sum,
        "tokens": result.tokens,
        "perplexity": result.perplexity(),
    });
    if let Some(comparison) = &result.comparison {
        document["kld_mean"] = comparison.kld_mean.into();
        document["kld_p99"] = comparison.kld_p99.into();
        document["top1_agreement"] = comparison.top1_agreement.into();
    }
    if let Some(windows) = cut {
        document["interrupted"] = true.into();
        document["windows_done"] = result.windows.into();
        document["windows"] = windows.into();
    }
    document
}

fn sentence(result: &Perplexity, cut: Option<usize>) -> String {
    let mut text = cut.map_or_else(String::new, |windows| {
        format!(
            "interrupted; of the first {} of {windows} windows: ",
            result.windows
        )
    });
    let _ = writeln!(
        text,
        "perplexity {:.4} (nll_sum {:.3} over {} tokens in {} windows)",
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
