//! How fast rows become quantized, and come back.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpt2::gguf::TensorType;
use gpt2::quant::{dequantize_rows, quantize_rows};

const COLUMNS: usize = 768;
const ROWS: usize = 256;
const TYPES: &[TensorType] = &[
    TensorType::F16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType::Q4_K,
    TensorType::Q6_K,
    TensorType::IQ4_NL,
];

/// Numbers that look like weights: near 0, deterministic.
fn weights() -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..COLUMNS * ROWS)
        .map(|_| 0.04 * (uniform() + uniform() + uniform()))
        .collect()
}

fn quantize(criterion: &mut Criterion) {
    let source = weights();
    for (name, back) in [("quantize", false), ("dequantize", true)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(source.len() as u64));
        for &tensor_type in TYPES {
            let bytes = tensor_type.row_bytes(COLUMNS as u64).unwrap() as usize * ROWS;
            let mut blocks = vec![0u8; bytes];
            let mut numbers = vec![0f32; source.len()];
            quantize_rows(tensor_type, &source, COLUMNS, None, &mut blocks).unwrap();
            group.bench_function(BenchmarkId::from_parameter(tensor_type.name()), |bencher| {
                bencher.iter(|| {
                    if back {
                        dequantize_rows(tensor_type, &blocks, COLUMNS, &mut numbers).unwrap();
                    } else {
                        quantize_rows(tensor_type, &source, COLUMNS, None, &mut blocks).unwrap();
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, quantize);
criterion_main!(benches);
