//! Prefill and decode, on the demo model or the file that `GPT2_BENCH_MODEL` names.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};

const PREFILL: usize = 256;
const DECODE: usize = 32;

fn inference(criterion: &mut Criterion) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/austen-gpt2-q8_0.gguf");
    let file = std::env::var_os("GPT2_BENCH_MODEL").map_or(demo, Into::into);
    let model = Model::open(&file, &ModelOptions::default()).unwrap();
    let vocabulary = model.hyperparameters().vocab_size;
    let mut session = Session::new(model, SessionOptions::default()).unwrap();
    let ids: Vec<u32> = (0..PREFILL)
        .map(|index| (index * 7919 % vocabulary) as u32)
        .collect();

    let mut group = criterion.benchmark_group("session");
    group.sample_size(20);
    group.throughput(Throughput::Elements(PREFILL as u64));
    group.bench_function(format!("prefill {PREFILL}"), |bencher| {
        bencher.iter(|| {
            session.clear();
            session.prefill(&ids).unwrap();
        });
    });
    group.throughput(Throughput::Elements(DECODE as u64));
    group.bench_function(format!("decode {DECODE} after {PREFILL}"), |bencher| {
        session.clear();
        session.prefill(&ids).unwrap();
        bencher.iter(|| {
            session.truncate(0, PREFILL).unwrap();
            for &id in &ids[..DECODE] {
                session.decode(id).unwrap();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, inference);
criterion_main!(benches);
