//! The demo model against what transformers computes with it (f32, eager attention).

use std::sync::Arc;

use crate::common::{austen, austen_f32, cores, ids, reference};
use gpt2::session::{
    Batch, CacheType, FlashAttention, Model, ModelOptions, SequenceSet, Session, SessionOptions,
};
use serde_json::Value;

fn session(model: &Arc<Model>, options: SessionOptions) -> Session {
    Session::new(Arc::clone(model), options).unwrap()
}

/// Ids from the likeliest on.
fn ranked(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    ids
}

/// The largest difference between `logits` and the reference's top 20 of a prompt; fails when their
/// order differs.
fn difference(logits: &[f32], prompt: &Value) -> f64 {
    let top20 = prompt["top20"].as_array().unwrap();
    let order: Vec<u32> = top20
        .iter()
        .map(|pair| pair[0].as_u64().unwrap() as u32)
        .collect();
    assert_eq!(ranked(logits)[..20], order[..], "order of the top 20");
    let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64;
    let expected_mean = prompt["logits_mean"].as_f64().unwrap();
    top20
        .iter()
        .map(|pair| {
            let found = f64::from(logits[pair[0].as_u64().unwrap() as usize]);
            (found - pair[1].as_f64().unwrap()).abs()
        })
        .fold((mean - expected_mean).abs(), f64::max)
}

#[test]
fn logits_and_greedy_continuations_are_the_references() {
    let _cores = cores();
    let reference = reference();
    let model = austen_f32();
    let mut worst = 0.0f64;
    for flash_attention in [FlashAttention::On, FlashAttention::Off] {
        for (threads, piece) in [
            (1, usize::MAX),
            (2, usize::MAX),
            (1, 7),
            (2, 7),
            (1, 1),
            (2, 1),
        ] {
            let options = SessionOptions {
                flash_attention,
                threads: Some(threads),
                ..SessionOptions::default()
            };
            for prompt in reference["prompts"].as_array().unwrap() {
                let mut session = session(&model, options);
                let mut logits = Vec::new();
                for part in ids(&prompt["ids"]).chunks(piece) {
                    logits = session.prefill(part).unwrap().to_vec();
                }
                worst = worst.max(difference(&logits, prompt));
                let greedy = ids(&prompt["greedy"]["ids"]);
                for (index, &token) in greedy.iter().enumerate() {
                    assert_eq!(
                        ranked(&logits)[0],
                        token,
                        "token {index} of the continuation of {}; flash attention \
                         {flash_attention:?}, {threads} threads, pieces of {piece}",
                        prompt["prompt"]
                    );
                    logits = session.decode(token).unwrap().to_vec();
                }
            }
        }
    }
    println!("largest difference of the logits: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn smaller_caches_stay_close() {
    let _cores = cores();
    let reference = reference();
    let model = austen_f32();
    for (cache_type, limit) in [
        (CacheType::F16, 4e-3),
        (CacheType::Q8_0, 5e-2),
        (CacheType::Q4_0, 1.5),
    ] {
        let mut worst = 0.0f64;
        for flash_attention in [FlashAttention::On, FlashAttention::Off] {
            for prompt in reference["prompts"].as_array().unwrap() {
                let cache_type = Some(cache_type);
                let options = SessionOptions {
                    cache_type,
                    flash_attention,
                    ..SessionOptions::default()
                };
                let mut session = session(&model, options);
                let logits = session.prefill(&ids(&prompt["ids"])).unwrap();
                for pair in prompt["top20"].as_array().unwrap() {
                    let found = f64::from(logits[pair[0].as_u64().unwrap() as usize]);
                    worst = worst.max((found - pair[1].as_f64().unwrap()).abs());
                }
            }
        }
        println!(
            "largest difference with a {} cache: {worst:.2e}",
            cache_type.name()
        );
        assert!(worst < limit, "{}: {worst:e}", cache_type.name());
    }
}

#[test]
fn ggmls_own_operations_agree_with_our_kernels() {
    let _cores = cores();
    let reference = reference();
    let options = ModelOptions {
        own_kernels: false,
        ..ModelOptions::default()
    };
    let model = Model::open(austen("f32"), &options).unwrap();
    let mut worst = 0.0f64;
    for prompt in reference["prompts"].as_array().unwrap() {
        let mut session = session(&model, SessionOptions::default());
        let logits = session.prefill(&ids(&prompt["ids"])).unwrap();
        worst = worst.max(difference(logits, prompt));
    }
    // ggml's GELU is a table of f16.
    println!("largest difference with ggml's operations: {worst:.2e}");
    assert!(worst < 1e-2, "{worst:e}");
}

#[test]
fn hidden_states_are_the_references() {
    let _cores = cores();
    let reference = reference();
    let hidden = &reference["hidden"];
    let prompt = ids(&reference["prompts"][0]["ids"]);
    assert_eq!(hidden["prompt"], reference["prompts"][0]["prompt"]);
    let mut session = session(&austen_f32(), SessionOptions::default());
    let sequence = SequenceSet::of(0).unwrap();
    let mut batch = Batch::of_text(&prompt, 0, sequence, |index| index + 1 == prompt.len());
    batch.hidden_states = true;
    let output = session.run(&batch).unwrap();
    assert_eq!(output.hidden_states.len(), 7);
    let norm = |row: &[f32]| {
        row.iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let mut worst = 0.0f64;
    let norms = hidden["residual_norms_last_position"]["norms"]
        .as_array()
        .unwrap();
    for (state, expected) in output.hidden_states.iter().zip(norms) {
        worst = worst.max((norm(state) / expected.as_f64().unwrap() - 1.0).abs());
    }
    let last = output.hidden_states.last().unwrap();
    worst = worst.max((norm(last) / hidden["norm"].as_f64().unwrap() - 1.0).abs());
    for (found, expected) in last.iter().zip(hidden["first8"].as_array().unwrap()) {
        worst = worst.max((f64::from(*found) - expected.as_f64().unwrap()).abs());
    }
    println!("largest difference of the hidden states: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn quantized_models_compute_what_ggmls_operations_do() {
    let _cores = cores();
    let exact = austen_f32();
    for file_type in [
        "bf16", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k",
        "q6_k", "iq4_nl", "iq4_xs",
    ] {
        let file = austen(file_type);
        let models = [true, false].map(|own_kernels| {
            let options = ModelOptions {
                own_kernels,
                ..ModelOptions::default()
            };
            Model::open(&file, &options).unwrap()
        });
        let mut worst = 0.0f32;
        // Squares of the differences to the logits without quantization, ours and ggml's.
        let mut squares = [0.0f64; 2];
        for prompt in reference()["prompts"].as_array().unwrap() {
            let [ours, theirs, exact] = [&models[0], &models[1], &exact].map(|model| {
                let mut session = session(model, SessionOptions::default());
                let mut logits = session.forward(&ids(&prompt["ids"])).unwrap().to_vec();
                logits.extend_from_slice(session.decode(11).unwrap());
                logits
            });
            let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
            worst = worst.max(differences.fold(0.0, f32::max));
            for (square, logits) in squares.iter_mut().zip([&ours, &theirs]) {
                let pairs = logits.iter().zip(&exact);
                *square += pairs.map(|(&a, &b)| f64::from(a - b).powi(2)).sum::<f64>();
            }
        }
        println!("{file_type}: largest difference to ggml's operations {worst:.2e}");
        // With AVX-512 ggml packs q2_k and sums it in another order.
        let is_ggmls = cfg!(target_arch = "x86_64") && file_type != "q2_k";
        if is_ggmls {
            // The same bits of quantized matrices (of q8_0 for fewer than 32 tokens). f16 and bf16
            // products are summed in another order, and activations that are rounded fall to the
            // other side.
            let limit = match file_type {
                "f16" => 0.01,
                "bf16" => 0.08,
                // Of eight tokens or more ggml adds the products of iq4_xs in another order.
                "iq4_xs" => 1e-5,
                _ => 0.0,
            };
            assert!(worst <= limit, "{file_type}: {worst:e}");
        } else {
            // Other processors have other orders, and ggml's operations are not the same on all of
            // them, so that now and then an activation is rounded to the other side: neither is
            // nearer to what the other computes than to the truth. Ours must not be further from
            // that than ggml's.
            let [ours, theirs] = squares;
            println!(
                "{file_type}: squares of the error {ours:.3}, of ggml's operations {theirs:.3}"
            );
            assert!(ours <= 1.2 * theirs, "{file_type}: {ours}, ggml {theirs}");
        }
    }
}
