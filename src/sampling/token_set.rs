//! A set of tokens that costs no allocation after the first step.

use crate::TokenId;

/// Tokens of a vocabulary, one bit each.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenSet {
    words: Vec<u64>,
}

impl TokenSet {
    /// Empties the set, for a vocabulary of `size` tokens.
    pub(super) fn reset(&mut self, size: usize) {
        self.words.clear();
        self.words.resize(size.div_ceil(64), 0);
    }

    /// Adds `token`; whether it is new. A token outside the vocabulary never is.
    pub(super) fn insert(&mut self, token: TokenId) -> bool {
        let bit = 1 << (token % 64);
        match self.words.get_mut(token as usize / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether the token at `position` of the vocabulary is in the set.
    pub(super) fn contains(&self, position: usize) -> bool {
        let word = self.words.get(position / 64);
        word.is_some_and(|word| word & 1 << (position % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_new_once() {
        let mut set = TokenSet::default();
        assert!(!set.insert(0) && !set.contains(0));
        set.reset(65);
        assert!(set.insert(64) && set.insert(3));
        assert!(!set.insert(64) && !set.insert(u32::MAX));
        let contained: Vec<usize> = (0..200).filter(|&token| set.contains(token)).collect();
        assert_eq!(contained, [3, 64]);
        set.reset(65);
        assert!(!set.contains(64) && set.insert(64));
    }
}
