//! The memory of intermediate results, computed before a graph is built.

use crate::model::graph::AttentionKind;
use crate::session::options::ResolvedOptions;
use crate::spec::Hyperparameters;

/// Upper bound of the bytes of intermediate results of a graph of `tokens` tokens, of which
/// `outputs` have logits. `None` when that is out of range.
///
/// The largest step of a layer has the residual stream, the normalized input and the queries, keys
/// and values, or the input and output of the feed-forward part, all f32. Attention adds its mask
/// (f16), if it has one, and where it is plain, its scores and the transposed values (f32).
pub(in crate::session) fn graph_bytes(
    hyperparameters: &Hyperparameters,
    tokens: usize,
    outputs: usize,
    attention: AttentionKind,
) -> Option<usize> {
    let (n_embd, n_inner) = (hyperparameters.n_embd, hyperparameters.n_inner);
    let values = n_embd
        .checked_mul(7)?
        .max(n_embd.checked_mul(3)?.checked_add(n_inner)?);
    let (scores, transposed) = match attention {
        AttentionKind::Kernel | AttentionKind::Flash { .. } => (0, 0),
        AttentionKind::Plain { keys } => (
            keys.checked_mul(hyperparameters.n_head)?,
            keys.checked_mul(n_embd)?,
        ),
    };
    let mask = attention.mask_keys().unwrap_or(0);
    let per_token = values
        .checked_add(scores)?
        .checked_mul(4)?
        .checked_add(mask.checked_mul(2)?)?;
    let logits = hyperparameters.vocab_size.checked_mul(outputs)?;
    let once = logits.checked_add(transposed)?.checked_mul(4)?;
    per_token.checked_mul(tokens)?.checked_add(once)
}

/// Upper bound of the bytes of a session's graphs: that of a stretch of a prompt and that of the
/// next token of every sequence. `None` when that is out of range.
pub(in crate::session) fn compute_bytes(
    hyperparameters: &Hyperparameters,
    options: &ResolvedOptions,
) -> Option<usize> {
    let keys = options.context;
    // With a mask, which takes more than none, if it has one.
    let attention = if options.flash_attention {
        AttentionKind::Flash { keys }
    } else {
        AttentionKind::Plain { keys }
    };
    let tokens = options.batch_size.min(keys);
    let prompt = graph_bytes(hyperparameters, tokens, 1, attention)?;
    let sequences = options.sequences.min(tokens);
    prompt.checked_add(graph_bytes(
        hyperparameters,
        sequences,
        sequences,
        attention,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;
    use crate::session::options::{FlashAttention, SessionOptions};

    #[test]
    fn computation_is_bounded_by_what_was_measured() {
        let model = Hyperparameters {
            n_embd: 256,
            n_inner: 1024,
            n_head: 4,
            n_layer: 6,
            vocab_size: 4096,
            n_positions: 512,
            ..Hyperparameters::default()
        };
        let planned = |model: &Hyperparameters, tokens, flash| {
            let options = SessionOptions {
                batch_size: tokens,
                flash_attention: if flash {
                    FlashAttention::On
                } else {
                    FlashAttention::Off
                },
                ..SessionOptions::default()
            };
            compute_bytes(model, &options.resolve(model, TensorType::F32).unwrap())
        };
        // Tokens, flash attention, bytes of the allocated graphs.
        for (tokens, flash, measured) in [
            (1, true, 18_432),
            (64, true, 468_128),
            (512, true, 4_203_552),
            (64, false, 468_128),
            (256, false, 4_723_744),
            (512, false, 7_873_568),
        ] {
            let bound = planned(&model, tokens, flash).unwrap();
            assert!(bound >= measured, "{tokens} tokens: {bound} < {measured}");
            assert!(
                tokens < 512 || bound < measured / 4 * 5,
                "{bound} is far above {measured}"
            );
        }
        let endless = Hyperparameters {
            n_embd: usize::MAX / 4,
            ..model
        };
        assert_eq!(planned(&endless, 1, true), None);
    }
}
