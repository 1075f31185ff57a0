//! Every number that a session, its batches and its cache take.

use std::sync::Arc;

use gpt2::session::{
    Batch, BatchToken, CacheType, Model, ModelOptions, SequenceSet, Session, SessionOptions, fit,
    kv_bytes,
};
use gpt2::spec::Hyperparameters;

use crate::random::{Random, changes};
use crate::tiny::{TinyModel, hyperparameters};
use crate::{COUNTS, check, model, session};

#[test]
fn options_of_sessions_give_a_session_or_an_error() {
    let model = model(|_| ());
    let mut random = Random(7);
    let mut started = 0;
    for number in 0..changes(4000) {
        let mut pick = |usual| {
            if random.below(2) == 0 {
                usual
            } else {
                *random.of(COUNTS)
            }
        };
        let options = SessionOptions {
            context: Some(pick(16)),
            // Not hundreds of threads, which is what the largest allowed numbers would start.
            threads: Some(*random.of(&[0, 1, 1, 1, 2, 1 << 20, usize::MAX])),
            batch_size: *random.of(COUNTS),
            sequences: *random.of(&[0, 1, 1, 2, 63, 64, 65, usize::MAX]),
            cache_type: *random.of(&[None, Some(CacheType::Q8_0), Some(CacheType::F32)]),
            ..SessionOptions::default()
        };
        let what = format!("{number}: {options:?}");
        let limit = *random.of(&[0, 1, 1 << 20, 1 << 26, u64::MAX]);
        check(&what, || fit(&model, &options, limit));
        let done = check(&what, || {
            let mut session = Session::new(Arc::clone(&model), options)?;
            session.prefill(&[1, 2, 3])?;
            session.decode(4)?;
            Ok(())
        });
        started += usize::from(done.is_some());
    }
    assert!(started > 20, "only {started} sessions started");
}

#[test]
fn options_of_models_give_a_model_or_an_error() {
    let bytes: gpt2::gguf::Bytes = Arc::new(TinyModel::tiny().bytes());
    for &layers in COUNTS {
        for memory in [0, 1, 1 << 20, 1 << 30, u64::MAX] {
            for devices in [vec![], vec!["cpu".to_owned()]] {
                let options = ModelOptions {
                    gpu_layers: Some(layers),
                    memory: Some(memory),
                    devices,
                    ..ModelOptions::default()
                };
                check(&format!("{options:?}"), || {
                    Model::from_bytes(Arc::clone(&bytes), &options)
                });
            }
        }
    }
}

#[test]
fn batches_at_their_edges_are_computed_or_refused() {
    let model = model(|_| ());
    let mut session = session(&model, 2);
    let mut random = Random(3);
    let mut computed = 0;
    for number in 0..changes(10_000) {
        let mut batch = Batch {
            logits: random.below(4) > 0,
            last_hidden_state: random.below(2) == 0,
            hidden_states: random.below(4) == 0,
            attentions: random.below(4) == 0,
            batch_invariant: random.below(4) == 0,
            ..Batch::default()
        };
        let small = [0, 1, 2, 15];
        for place in 0..random.below(5) {
            let edge = random.below(6) == 0;
            let sequences = *random.of(&[0, 0, 0, 1, 63, 64, usize::MAX]);
            batch.tokens.push(BatchToken {
                token: *random.of(&[0, 1, 259, 259, 259, 260, u32::MAX]),
                position: if edge { *random.of(COUNTS) } else { place },
                position_id: match random.below(8) {
                    0 => Some(*random.of(COUNTS)),
                    1 => Some(*random.of(&small)),
                    _ => None,
                },
                masked: random.below(8) == 0,
                sequences: SequenceSet::of(sequences).unwrap_or_default(),
                output: random.below(2) == 0,
                ..BatchToken::default()
            });
        }
        if random.below(3) == 0 {
            session.clear();
        }
        let what = format!("{number}: {batch:?}");
        let done = check(&what, || {
            let output = session.run(&batch)?;
            for &row in COUNTS {
                for &count in COUNTS {
                    let rows = output.rows_from(row, count);
                    let _ = (rows.logits(0), rows.logits(count), rows.last_hidden_state());
                    let _ = (rows.hidden_state(row), output.row(row));
                }
            }
            Ok(())
        });
        computed += usize::from(done.is_some());
    }
    assert!(
        computed > changes(10_000) / 10,
        "only {computed} were computed"
    );
}

#[test]
fn the_cache_is_changed_within_its_bounds() {
    let model = model(|_| ());
    let mut session = session(&model, 2);
    session.prefill(&[1, 2, 3]).unwrap();
    for &a in COUNTS {
        let what = format!("{a}");
        let _ = (session.length(a), session.tokens(a));
        for &b in COUNTS {
            check(&what, || session.truncate(a, b));
            check(&what, || session.fork(a, b));
            check(&what, || session.reorder_from(a, &[b]));
            check(&what, || session.reorder(&[a, b, 0]));
        }
        check(&what, || session.retain_prefix(a, &[1, 2]));
        check(&what, || {
            let text = Batch::of_text(&[1, 2, 3], a, SequenceSet::of(0)?, |_| true);
            session.run(&text).map(drop)
        });
    }
}

#[test]
fn sizes_of_any_model_are_counted() {
    for &size in COUNTS {
        for &other in COUNTS {
            let sizes = Hyperparameters {
                vocab_size: other,
                n_positions: other,
                n_embd: size,
                n_layer: other,
                n_head: size,
                n_inner: other,
                ..hyperparameters()
            };
            check("sizes", || {
                for cache_type in CacheType::all() {
                    let _ = kv_bytes(&sizes, other, cache_type);
                }
                let _ = (sizes.head_size(), sizes.attention_scale(size));
                for tensor in gpt2::spec::tensor_table::tensors(&sizes).take(30) {
                    let _ = (
                        tensor.elements(),
                        tensor.columns(),
                        tensor.checkpoint_shape(),
                    );
                }
                let _ = sizes.validate("sizes");
                Ok(())
            });
        }
    }
}
