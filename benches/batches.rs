//! What a decode pass over several sequences costs, against that over one: `cargo bench --bench
//! batches -- [MODEL…]`, by default the demo model.
//!
//! Times are the processor time of one thread (on Linux; elsewhere, time), the least of several
//! rounds, so that a busy machine changes little.

#[path = "../crates/kernels/benches/shared/processor_time.rs"]
mod processor_time;

use std::path::{Path, PathBuf};

use gpt2::session::{Batch, BatchToken, Model, ModelOptions, SequenceSet, Session, SessionOptions};
use processor_time::processor_time;

const SEQUENCES: &[usize] = &[1, 2, 4, 8, 16, 32, 63, 64];
/// Tokens that each sequence has.
const CACHED: usize = 8;
const ROUNDS: usize = 7;

/// The time of a decode pass over `sequences` sequences with [`CACHED`] tokens each, in seconds.
fn pass(session: &mut Session, sequences: usize, batch_invariant: bool) -> f64 {
    let vocabulary = session.model().hyperparameters().vocab_size;
    let tokens = (0..sequences).map(|sequence| BatchToken {
        token: (sequence * 7919 % vocabulary) as u32,
        position: CACHED,
        sequences: SequenceSet::of(sequence).unwrap(),
        output: true,
        ..BatchToken::default()
    });
    let batch = Batch {
        tokens: tokens.collect(),
        batch_invariant,
        ..Batch::default()
    };
    let start = processor_time();
    session.run(&batch).unwrap();
    let time = processor_time().saturating_sub(start).as_secs_f64();
    for sequence in 0..sequences {
        session.truncate(sequence, CACHED).unwrap();
    }
    time
}

fn measure(file: &Path) {
    let most = SEQUENCES.iter().copied().max().unwrap_or(1);
    let model = Model::open(file, &ModelOptions::default()).unwrap();
    let options = SessionOptions {
        context: Some(most * (CACHED + 1)),
        sequences: most,
        threads: Some(1),
        ..SessionOptions::default()
    };
    let mut session = Session::new(model, options).unwrap();
    for sequence in 0..most {
        let tokens: Vec<u32> = (0..CACHED).map(|index| (sequence + index) as u32).collect();
        let set = SequenceSet::of(sequence).unwrap();
        session
            .run(&Batch::of_text(&tokens, 0, set, |_| false))
            .unwrap();
    }
    let mut least = vec![[f64::INFINITY; 2]; SEQUENCES.len()];
    for _ in 0..ROUNDS {
        for (least, &sequences) in least.iter_mut().zip(SEQUENCES) {
            for (least, batch_invariant) in least.iter_mut().zip([false, true]) {
                // The first builds the graph.
                pass(&mut session, sequences, batch_invariant);
                *least = least.min(pass(&mut session, sequences, batch_invariant));
            }
        }
    }
    let one = least[0][0].min(least[0][1]);
    println!("{}: one sequence takes {:.2} ms", file.display(), 1e3 * one);
    print!("{:>12}", "sequences");
    for sequences in SEQUENCES {
        print!("{sequences:>7}");
    }
    println!("   (times one)");
    for (index, label) in ["", "invariant"].into_iter().enumerate() {
        print!("{label:>12}");
        for least in &least {
            print!("{:>7.2}", least[index] / one);
        }
        println!();
    }
}

fn main() {
    let mut files: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| !argument.to_string_lossy().starts_with('-'))
        .map(Into::into)
        .collect();
    if files.is_empty() {
        files.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/austen-gpt2-q8_0.gguf"));
    }
    for file in files {
        measure(&file);
    }
}
