//! What products with a few tokens cost, against that of one: `cargo bench --package
//! gpt2-edge-kernels --bench batches -- [FORMAT…]`.
//!
//! Times are this thread's processor time (on Linux; elsewhere, time), the least of several rounds,
//! so that a busy machine changes little. Weights are in no cache, as in a pass through a model.
//! `GPT2_BENCH_CPU=avx2` restricts the kernels to AVX2.

#[path = "shared/processor_time.rs"]
mod processor_time;

use std::sync::Arc;

use gpt2_kernels::linear::{Arena, Epilogue, Format, Matrix, Options, multiply};
use gpt2_kernels::pool::Pool;
use processor_time::processor_time;

/// Rows and columns of the first matrix of GPT-2's feed-forward part.
const SHAPE: (usize, usize) = (3072, 768);
/// More than a core's own caches hold.
const COLD_BYTES: usize = 48 << 20;
const ROUNDS: usize = 7;
const TOKENS: &[usize] = &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 63, 64];

/// Name, format, elements and bytes of a block.
const FORMATS: &[(&str, Format, usize, usize)] = &[
    ("q4_0", Format::Q4_0, 32, 18),
    ("q8_0", Format::Q8_0, 32, 34),
    ("q4_k", Format::Q4K, 256, 144),
    ("q5_k", Format::Q5K, 256, 176),
    ("q6_k", Format::Q6K, 256, 210),
    ("f16", Format::F16, 1, 2),
    ("bf16", Format::Bf16, 1, 2),
    ("f32", Format::F32, 1, 4),
    ("q4_1", Format::Q4_1, 32, 20),
    ("q5_0", Format::Q5_0, 32, 22),
    ("q5_1", Format::Q5_1, 32, 24),
    ("q2_k", Format::Q2K, 256, 84),
    ("q3_k", Format::Q3K, 256, 110),
    ("iq4_nl", Format::Iq4Nl, 32, 18),
    ("iq4_xs", Format::Iq4Xs, 256, 136),
];

/// A matrix as a file would hold it: bytes that are small positive values wherever they are a
/// scale.
fn matrix(format: Format, elements: usize, block_bytes: usize) -> Matrix {
    let (rows, columns) = SHAPE;
    let bytes = rows * columns / elements * block_bytes;
    let source: Vec<u8> = (0..bytes)
        .map(|index| (index * 37 % 61) as u8 & 0x3b)
        .collect();
    let bytes = Matrix::packed_bytes(format, rows, columns);
    let mut arena = Arena::new(bytes).expect("memory");
    let packed = &mut arena.bytes_mut()[..bytes];
    Matrix::pack(format, rows, columns, &source, packed);
    Matrix::new(format, rows, columns, Arc::new(arena), 0..bytes)
}

fn main() {
    if std::env::var("GPT2_BENCH_CPU").is_ok_and(|name| name == "avx2") {
        gpt2_kernels::cpu_features::restrict_to(&[
            "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c",
        ]);
    }
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let pool = Pool::new(1);
    let (rows, columns) = SHAPE;
    let most = TOKENS.iter().copied().max().unwrap_or(1);
    let x: Vec<f32> = (0..most * columns)
        .map(|index| (index * 7919 % 1009) as f32 / 504.5 - 1.0)
        .collect();
    let mut output = vec![0.0; most * rows];
    print!("{:>17}", "tokens");
    for tokens in TOKENS {
        print!("{tokens:>7}");
    }
    println!("   (times one token)");
    for &(name, format, elements, block_bytes) in FORMATS {
        if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == name) {
            continue;
        }
        let bytes = rows * columns / elements * block_bytes;
        let matrices: Vec<_> = (0..COLD_BYTES.div_ceil(bytes))
            .map(|_| matrix(format, elements, block_bytes))
            .collect();
        let mut time = |tokens: usize, batch_invariant: bool| {
            let options = Options {
                batch_invariant,
                ..Epilogue::NONE.into()
            };
            let start = processor_time();
            for matrix in &matrices {
                let x = &x[..tokens * columns];
                multiply(matrix, x, &options, &pool, &mut output[..tokens * rows]);
            }
            processor_time().saturating_sub(start).as_secs_f64() / matrices.len() as f64
        };
        let mut least = vec![[f64::INFINITY; 2]; TOKENS.len()];
        for _ in 0..ROUNDS {
            for (least, &tokens) in least.iter_mut().zip(TOKENS) {
                for (least, batch_invariant) in least.iter_mut().zip([false, true]) {
                    *least = least.min(time(tokens, batch_invariant));
                }
            }
        }
        let one = least[0][0].min(least[0][1]);
        for (index, label) in ["", "invariant"].into_iter().enumerate() {
            print!("{name:>7}{label:>10}");
            for least in &least {
                print!("{:>7.2}", least[index] / one);
            }
            println!("   one: {:.1} µs", 1e6 * one);
        }
    }
}
