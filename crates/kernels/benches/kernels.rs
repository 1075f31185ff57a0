//! The kernels one by one, on one thread: `cargo bench --package gpt2-edge-kernels --`, with a part
//! of a name to choose.
//!
//! Products with one token read weights that are in no cache, and their throughput is bytes of
//! weights; with many tokens it is multiplications and additions. `GPT2_BENCH_CPU=avx2` restricts
//! the kernels to AVX2.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpt2_kernels::attention::{Attention, KvTensor, Queries, Sight, Sights, attend};
use gpt2_kernels::linear::{Arena, Epilogue, Format, Matrix, multiply};
use gpt2_kernels::pool::Pool;
use gpt2_kernels::rows::{LayerNorm, layer_norm};
use half::f16;

/// Rows and columns of the first matrix of GPT-2's feed-forward part.
const SHAPE: (usize, usize) = (3072, 768);
/// More than any cache holds.
const COLD_BYTES: usize = 128 << 20;
/// Tokens of a prefill.
const MANY: usize = 256;
/// Heads and their width.
const HEADS: (usize, usize) = (12, 64);

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

/// Pseudorandom values between −1 and 1.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

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

fn products(criterion: &mut Criterion) {
    let pool = Pool::new(1);
    let (rows, columns) = SHAPE;
    for tokens in [1, MANY] {
        let mut group = criterion.benchmark_group(format!("product of {tokens}"));
        group
            .sample_size(20)
            .measurement_time(Duration::from_secs(3));
        let x = values(tokens * columns);
        let mut output = vec![0.0; tokens * rows];
        for &(name, format, elements, block_bytes) in FORMATS {
            let bytes = rows * columns / elements * block_bytes;
            let count = if tokens == 1 {
                COLD_BYTES.div_ceil(bytes)
            } else {
                1
            };
            let matrices: Vec<_> = (0..count)
                .map(|_| matrix(format, elements, block_bytes))
                .collect();
            group.throughput(if tokens == 1 {
                Throughput::Bytes((bytes * count) as u64)
            } else {
                Throughput::Elements((rows * columns * tokens) as u64)
            });
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    for matrix in &matrices {
                        multiply(
                            matrix,
                            black_box(&x),
                            &Epilogue::NONE.into(),
                            &pool,
                            &mut output,
                        );
                    }
                });
            });
        }
        group.finish();
    }
}

fn attention(criterion: &mut Criterion) {
    let pool = Pool::new(1);
    let (heads, head_width) = HEADS;
    let width = heads * head_width;
    let mut group = criterion.benchmark_group("attention of a layer");
    let mut measure = |name: &str, texts: &[(usize, usize)]| {
        let tokens = texts.iter().map(|(tokens, _)| tokens).sum::<usize>();
        let cells = texts.iter().map(|(_, cells)| cells).sum::<usize>();
        let queries = values(tokens * width);
        let elements: Vec<f16> = values(cells * width)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        // A text's cells lie as far apart as there are texts, as they do when texts take turns.
        let (mut list, mut sights) = (Vec::new(), Vec::new());
        for (index, &(tokens, length)) in texts.iter().enumerate() {
            let first = list.len();
            list.extend((0..length).map(|place| (place * texts.len() + index) as u32));
            sights.extend((0..tokens).map(|token| Sight {
                first,
                count: length - (tokens - token - 1),
            }));
        }
        let sights = Sights::new(list, sights, false);
        let work = Attention {
            queries: Queries {
                data: &queries,
                stride: width,
            },
            keys: KvTensor::F16(&elements),
            values: KvTensor::F16(&elements),
            sights: &sights,
            heads,
            head_width,
            scale: 0.125,
        };
        let mut output = vec![0.0; tokens * width];
        let id = BenchmarkId::new(name, cells);
        group.bench_function(id, |bencher| {
            bencher.iter(|| attend(black_box(&work), &pool, &mut output));
        });
    };
    for (tokens, cells) in [(1, 1024), (6, 1024), (64, 1024), (MANY, MANY), (MANY, 1024)] {
        measure(&format!("{tokens} tokens"), &[(tokens, cells)]);
    }
    // The cost of a token is that of its own cells: these differ by the number of texts only.
    for texts in [1, 8, 63, 64] {
        measure(&format!("{texts} texts"), &vec![(1, 128); texts]);
    }
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let columns = SHAPE.1;
    let (x, weight, bias) = (values(MANY * columns), values(columns), values(columns));
    let mut output = vec![0.0; MANY * columns];
    let mut group = criterion.benchmark_group(format!("rows of {MANY}"));
    group.throughput(Throughput::Elements((MANY * columns) as u64));
    group.bench_function("layer norm", |bencher| {
        let norm = LayerNorm {
            x: &x,
            weight: &weight,
            bias: &bias,
            epsilon: 1e-5,
        };
        bencher.iter(|| layer_norm(black_box(&norm), &mut output));
    });
    group.bench_function("gelu", |bencher| {
        bencher.iter(|| gpt2_kernels::activation::gelu_tanh(black_box(&mut output)));
    });
    group.finish();
}

fn choose_instruction_set(_: &mut Criterion) {
    if std::env::var("GPT2_BENCH_CPU").is_ok_and(|name| name == "avx2") {
        gpt2_kernels::cpu_features::restrict_to(&[
            "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c",
        ]);
    }
}

criterion_group!(benches, choose_instruction_set, products, attention, rows);
criterion_main!(benches);
