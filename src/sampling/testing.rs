//! What the tests of the processors share.

use super::Processor;
use crate::TokenId;

/// The score of a token that is ruled out.
pub(super) const OUT: f32 = f32::NEG_INFINITY;

/// `logits` after `processor`.
pub(super) fn applied(mut processor: impl Processor, logits: &[f32], ids: &[TokenId]) -> Vec<f32> {
    let mut logits = logits.to_vec();
    processor.apply(&mut logits, ids);
    logits
}

/// Logits of a distribution, so that softmax gives the distribution back.
pub(super) fn log(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| libm::logf(*p)).collect()
}

/// The tokens that survive `warper`, which may change no other score.
pub(super) fn survivors(warper: impl Processor, logits: &[f32]) -> Vec<usize> {
    let warped = applied(warper, logits, &[]);
    for (after, before) in warped.iter().zip(logits) {
        assert!(*after == OUT || after.to_bits() == before.to_bits());
    }
    (0..logits.len())
        .filter(|&token| warped[token] != OUT)
        .collect()
}
