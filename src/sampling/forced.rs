//! Steps at which only certain tokens may come.

use super::Processor;
use super::options::PrefixAllowedTokensFn;
use super::token_set::TokenSet;
use crate::TokenId;

/// Leaves only the tokens that a function of the ids so far allows (De Cao et al. 2020).
#[derive(Debug, Clone)]
pub struct PrefixAllowedTokens {
    function: PrefixAllowedTokensFn,
    allowed: TokenSet,
}

impl PrefixAllowedTokens {
    /// `function` is asked at every step; where it allows nothing, every token is ruled out.
    pub fn new(function: PrefixAllowedTokensFn) -> Self {
        Self {
            function,
            allowed: TokenSet::default(),
        }
    }
}

impl Processor for PrefixAllowedTokens {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.allowed.reset(logits.len());
        for token in self.function.allowed(ids) {
            self.allowed.insert(token);
        }
        for (position, logit) in logits.iter_mut().enumerate() {
            if !self.allowed.contains(position) {
                // Added, as there, so that NaN stays to be found.
                *logit += f32::NEG_INFINITY;
            }
        }
    }
}

/// Forces the token that follows a prompt of one id.
#[derive(Debug, Clone)]
pub struct ForcedBos {
    token: TokenId,
}

impl ForcedBos {
    /// `token` comes where there is exactly one id.
    pub fn new(token: TokenId) -> Self {
        Self { token }
    }
}

impl Processor for ForcedBos {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        if ids.len() == 1 {
            force(logits, &[self.token]);
        }
    }
}

/// Forces an end of text where the maximum length allows one more token.
#[derive(Debug, Clone)]
pub struct ForcedEos {
    max_length: usize,
    tokens: Vec<TokenId>,
}

impl ForcedEos {
    /// One of `tokens` is the last of `max_length` ids, prompt included.
    pub fn new(max_length: usize, tokens: &[TokenId]) -> Self {
        Self {
            max_length,
            tokens: tokens.to_vec(),
        }
    }
}

impl Processor for ForcedEos {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        if ids.len().checked_add(1) == Some(self.max_length) {
            force(logits, &self.tokens);
        }
    }
}

/// Gives `tokens` the score 0 and rules everything else out; does nothing where none of them is in
/// the vocabulary.
fn force(logits: &mut [f32], tokens: &[TokenId]) {
    let inside = |token: &&TokenId| (**token as usize) < logits.len();
    if !tokens.iter().any(|token| inside(&token)) {
        return;
    }
    logits.fill(f32::NEG_INFINITY);
    for token in tokens {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn only_allowed_tokens_come() {
        // After an even id odd ones and the reverse; 99 is outside the vocabulary.
        let function = PrefixAllowedTokensFn::new(|ids| match ids.last() {
            Some(id) if id % 2 == 0 => vec![1, 3, 99],
            Some(_) => vec![2, 0],
            None => Vec::new(),
        });
        let processor = PrefixAllowedTokens::new(function);
        let logits = [1.0, 2.0, 3.0, OUT];
        assert_eq!(
            applied(processor.clone(), &logits, &[5, 4]),
            [OUT, 2.0, OUT, OUT]
        );
        assert_eq!(
            applied(processor.clone(), &logits, &[5]),
            [1.0, OUT, 3.0, OUT]
        );
        assert_eq!(applied(processor.clone(), &logits, &[]), [OUT; 4]);
        assert!(applied(processor.clone(), &[f32::NAN], &[])[0].is_nan());
        assert!(applied(processor, &[], &[]).is_empty());
    }

    #[test]
    fn the_first_token_is_forced_after_one_id() {
        let logits = [1.0, f32::NAN, OUT];
        assert_eq!(applied(ForcedBos::new(2), &logits, &[7]), [OUT, OUT, 0.0]);
        for ids in [&[][..], &[7, 7]] {
            assert_eq!(applied(ForcedBos::new(1), &[1.0, 2.0], ids), [1.0, 2.0]);
        }
        assert_eq!(applied(ForcedBos::new(9), &[1.0, 2.0], &[7]), [1.0, 2.0]);
    }

    #[test]
    fn the_last_token_ends_the_text() {
        let logits = [1.0, 2.0, 3.0, 4.0];
        let processor = ForcedEos::new(3, &[1, 3, 99]);
        assert_eq!(applied(processor.clone(), &logits, &[0]), logits);
        assert_eq!(
            applied(processor.clone(), &logits, &[0, 0]),
            [OUT, 0.0, OUT, 0.0]
        );
        assert_eq!(applied(processor, &logits, &[0; 3]), logits);
        assert_eq!(applied(ForcedEos::new(1, &[99]), &logits, &[]), logits);
        assert_eq!(applied(ForcedEos::new(0, &[1]), &logits, &[]), logits);
    }
}
