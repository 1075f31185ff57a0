//! Numbers at their edges: whatever a caller asks of a model, the answer is a result or an error
//! that names what was asked. No panic, no hang, and never blame for the weights.
#![allow(
    dead_code,
    reason = "the tiny model's files serve other tests, too, each a part"
)]

#[path = "../hostile/random.rs"]
mod random;
#[path = "../hostile/tiny.rs"]
mod tiny;

mod conversion;
mod options;
mod scores;
mod sessions;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpt2::gguf::TensorType;
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use gpt2::spec::Hyperparameters;
use gpt2::{Error, ErrorKind};
use tiny::{TinyModel, hyperparameters};

/// Far more than anything here needs, even on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

/// Counts that break arithmetic, and some around the tiny model's sizes.
const COUNTS: &[usize] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    15,
    16,
    17,
    63,
    64,
    65,
    259,
    260,
    0xFFFF_FFFF,
    usize::MAX / 2,
    usize::MAX - 1,
    usize::MAX,
];

/// Numbers that break arithmetic.
const NUMBERS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    0.999_999_999_999,
    1e-7,
    1e-38,
    1e-40,
    1e-46,
    5e-324,
    1e38,
    1e40,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// Runs `work`; what it refuses must be the caller's doing. Whether it succeeded.
fn check<T>(what: &str, work: impl FnOnce() -> gpt2::Result<T>) -> Option<T> {
    let start = Instant::now();
    let Ok(result) = catch_unwind(AssertUnwindSafe(work)) else {
        panic!("{what}: panicked");
    };
    let elapsed = start.elapsed();
    assert!(elapsed < LONGEST, "{what}: took {elapsed:?}");
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(refuses_the_request(&error), "{what}: {error}");
            None
        }
    }
}

/// Whether an error is about what was asked, and not about the model, ggml or this library.
fn refuses_the_request(error: &Error) -> bool {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Argument
        | ErrorKind::ContextFull
        | ErrorKind::Unsupported
        | ErrorKind::Memory => !text.contains("weights are broken"),
        // Everything may have been forbidden.
        ErrorKind::Format => text.contains("every token is ruled out"),
        _ => false,
    }
}

/// The tiny model with other sizes.
fn model(change: impl FnOnce(&mut Hyperparameters)) -> Arc<Model> {
    let mut sizes = hyperparameters();
    change(&mut sizes);
    let bytes = TinyModel::new(&sizes, TensorType::Q8_0).bytes();
    Model::from_bytes(Arc::new(bytes), &ModelOptions::default()).unwrap()
}

/// A session in one thread with as many sequences.
fn session(model: &Arc<Model>, sequences: usize) -> Session {
    let options = SessionOptions {
        sequences,
        threads: Some(1),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}
