//! How long a layer takes; run it in the release profile, with `--ignored --nocapture`.

use std::fmt::Write;
use std::time::Instant;

use super::against_ggml::OfGgml;
use super::{Case, Instructions, Kind, Sight, available};
use super::{Pool, attend_with};

/// Microseconds of one call: the least of many short rounds, so that others' work does not come into it.
fn microseconds(mut work: impl FnMut()) -> f64 {
    work();
    let started = Instant::now();
    work();
    let once = started.elapsed().as_secs_f64().max(1e-7);
    let calls = (0.000_5 / once).ceil() as usize;
    let rounds = ((0.3 / once.max(0.000_5)) as usize).max(10);
    (0..rounds)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..calls {
                work();
            }
            started.elapsed().as_secs_f64() / calls as f64 * 1e6
        })
        .fold(f64::INFINITY, f64::min)
}

fn ours(case: &Case, instructions: Instructions) -> f64 {
    let (attention, pool) = (case.attention(), Pool::new(1));
    let mut output = vec![0.0; case.tokens * case.width()];
    microseconds(|| attend_with(instructions, &attention, &pool, &mut output))
}

#[test]
#[ignore = "measures"]
fn microseconds_of_a_layer() {
    for kind in [Kind::F16, Kind::F32, Kind::Q8_0] {
        for [tokens, cells] in [[1, 256], [1, 1024], [16, 256], [512, 512]] {
            let case = Case::new(kind, [tokens, cells, 12, 64], Sight::Causal, 1);
            let mut of_ggml = OfGgml::new(&case);
            let reference = microseconds(|| of_ggml.run());
            let mut line =
                format!("{kind:?}, {tokens} tokens, {cells} cells: ggml {reference:.1} µs");
            for instructions in available().into_iter().skip(1) {
                let time = ours(&case, instructions);
                let ratio = reference / time;
                write!(line, ", {instructions:?} {time:.1} ({ratio:.2}×)").unwrap();
            }
            println!("{line}");
        }
    }
}
