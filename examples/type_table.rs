//! Converts a checkpoint to every type and prints what each costs and is worth, as the table in
//! docs/performance.md: `cargo run --release --example type_table > table.md`.
//!
//! Arguments: the checkpoint's folder and a text to measure perplexity on; by default the demo
//! model and the chapters it has not seen.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gpt2::convert::{ConvertOptions, FileType, convert};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use gpt2::tasks::{PerplexityOptions, perplexity};

const WINDOW: usize = 512;
/// Tokens of a decode measurement, and how often it and the prefill are repeated.
const DECODE: usize = 128;
const ROUNDS: usize = 5;
const TYPES: &[&str] = &[
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_k", "q5_0", "q4_1", "q4_k", "q4_0", "iq4_nl",
    "iq4_xs", "q3_k", "q2_k",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let checkpoint = arguments
        .next()
        .unwrap_or_else(|| project.join("models/austen-gpt2"));
    let text = arguments
        .next()
        .unwrap_or_else(|| project.join("tests/data/austen/heldout.txt"));
    let text = std::fs::read_to_string(text)?;
    let folder = tempfile::tempdir()?;

    println!(
        "| type | file, MB | bits per weight | perplexity | prefill, tokens/s | decode, tokens/s |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for name in TYPES {
        let file_type = FileType::from_name(name)?;
        let output = folder.path().join(format!("{name}.gguf"));
        let report = convert(&checkpoint, &output, &ConvertOptions::new(file_type), &())?;
        let model = Model::open(&output, &ModelOptions::default())?;
        let texts = [model.tokenizer()?.encode(&text)?];
        let options = PerplexityOptions {
            window: WINDOW,
            stride: None,
        };
        let mut session = Session::new(Arc::clone(&model), SessionOptions::default())?;
        let score = perplexity(&mut session, None, &texts, options, &mut |_| {
            ControlFlow::Continue(())
        })?;
        let (prefill, decode) = speed(&mut session, &texts[0][..WINDOW])?;
        println!(
            "| {name} | {:.1} | {:.2} | {:.2} | {prefill:.0} | {decode:.0} |",
            std::fs::metadata(&output)?.len() as f64 / 1e6,
            report.plan.bits_per_weight,
            score.perplexity(),
        );
        std::fs::remove_file(&output)?;
    }
    Ok(())
}

/// Median tokens per second of prefill and of decode.
fn speed(session: &mut Session, ids: &[u32]) -> gpt2::Result<(f64, f64)> {
    let mut rounds = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        session.clear();
        let start = Instant::now();
        session.prefill(&ids[..ids.len() - DECODE])?;
        rounds
            .0
            .push((ids.len() - DECODE) as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for &id in &ids[..DECODE] {
            session.decode(id)?;
        }
        rounds.1.push(DECODE as f64 / start.elapsed().as_secs_f64());
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok((median(rounds.0), median(rounds.1)))
}
