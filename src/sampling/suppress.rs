//! Tokens that may not come.

use super::Processor;
use crate::TokenId;

/// Rules out every token of `tokens`.
pub(super) fn forbid(logits: &mut [f32], tokens: impl IntoIterator<Item = TokenId>) {
    for token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Rules tokens out at every step.
#[derive(Debug, Clone)]
pub struct SuppressTokens {
    tokens: Vec<TokenId>,
}

impl SuppressTokens {
    /// Never one of `tokens`.
    pub fn new(tokens: &[TokenId]) -> Self {
        Self {
            tokens: tokens.to_vec(),
        }
    }
}

impl Processor for SuppressTokens {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        forbid(logits, self.tokens.iter().copied());
    }
}

/// Rules tokens out as the first new one.
#[derive(Debug, Clone)]
pub struct SuppressTokensAtBegin {
    tokens: Vec<TokenId>,
    begin: usize,
}

impl SuppressTokensAtBegin {
    /// None of `tokens` where there are exactly `begin` ids: the prompt's length, or one more where
    /// the first new token is forced.
    pub fn new(tokens: &[TokenId], begin: usize) -> Self {
        Self {
            tokens: tokens.to_vec(),
            begin,
        }
    }
}

impl Processor for SuppressTokensAtBegin {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        if ids.len() == self.begin {
            forbid(logits, self.tokens.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn suppressed_tokens_never_come() {
        let processor = SuppressTokens::new(&[2, 0, 2, 99]);
        for ids in [&[][..], &[1, 1]] {
            assert_eq!(
                applied(processor.clone(), &[1.0, 2.0, f32::NAN], ids),
                [OUT, 2.0, OUT]
            );
        }
        assert_eq!(applied(SuppressTokens::new(&[]), &[1.0], &[]), [1.0]);
        assert!(applied(processor, &[], &[]).is_empty());
    }

    #[test]
    fn the_begin_is_one_place() {
        let processor = SuppressTokensAtBegin::new(&[1, 99], 2);
        let logits = [1.0, 2.0];
        assert_eq!(applied(processor.clone(), &logits, &[0]), logits);
        assert_eq!(applied(processor.clone(), &logits, &[0; 2]), [1.0, OUT]);
        assert_eq!(applied(processor, &logits, &[0; 3]), logits);
    }
}
