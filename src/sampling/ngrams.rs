//! Runs of ids that may not come again.

use super::Processor;
use super::suppress::forbid;
use crate::TokenId;

/// Rules out every token that would complete a run of `size` ids already present (Paulus et al.
/// 2017), prompt included.
#[derive(Debug, Clone)]
pub struct NoRepeatNgram {
    size: usize,
}

impl NoRepeatNgram {
    /// Runs of `size` ids; 0 rules nothing out.
    pub fn new(size: usize) -> Self {
        Self { size }
    }
}

impl Processor for NoRepeatNgram {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        forbid_repeats(logits, self.size, ids, ids);
    }
}

/// Rules out every token that would complete a run of `size` ids of the prompt.
#[derive(Debug, Clone)]
pub struct EncoderNoRepeatNgram {
    size: usize,
    prompt: Vec<TokenId>,
}

impl EncoderNoRepeatNgram {
    /// Runs of `size` ids of `prompt`; 0 rules nothing out.
    pub fn new(size: usize, prompt: &[TokenId]) -> Self {
        Self {
            size,
            prompt: prompt.to_vec(),
        }
    }
}

impl Processor for EncoderNoRepeatNgram {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        forbid_repeats(logits, self.size, &self.prompt, ids);
    }
}

/// Rules out what would make the end of `ids` a run of `size` ids that `text` has.
fn forbid_repeats(logits: &mut [f32], size: usize, text: &[TokenId], ids: &[TokenId]) {
    let Some(prefix) = size.checked_sub(1) else {
        return;
    };
    let Some(start) = ids.len().checked_sub(prefix) else {
        return;
    };
    let tail = &ids[start..];
    let repeats = text.windows(size).filter_map(|run| {
        let (last, start) = run.split_last()?;
        (start == tail).then_some(*last)
    });
    forbid(logits, repeats);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn ngrams_do_not_come_twice() {
        let logits = [0.0; 5];
        // 1 2 was followed by 3 and, later, by 4.
        let ids = [1, 2, 3, 1, 2, 4, 1, 2];
        assert_eq!(
            applied(NoRepeatNgram::new(3), &logits, &ids),
            [0.0, 0.0, 0.0, OUT, OUT]
        );
        // Of size 1: everything seen.
        assert_eq!(
            applied(NoRepeatNgram::new(1), &logits, &[0, 4, 4]),
            [OUT, 0.0, 0.0, 0.0, OUT]
        );
        // Not long enough for a run, or off.
        assert_eq!(applied(NoRepeatNgram::new(4), &logits, &[1, 2]), logits);
        assert_eq!(applied(NoRepeatNgram::new(3), &logits, &[1, 2]), logits);
        assert_eq!(applied(NoRepeatNgram::new(0), &logits, &[1, 1]), logits);
        assert_eq!(
            applied(NoRepeatNgram::new(usize::MAX), &logits, &[]),
            logits
        );
        // The first run that can repeat: two ids, size 2, tail 7 7 → outside the vocabulary.
        assert_eq!(applied(NoRepeatNgram::new(2), &logits, &[7, 7]), logits);
        assert_eq!(
            applied(NoRepeatNgram::new(2), &logits, &[3, 3]),
            [0.0, 0.0, 0.0, OUT, 0.0]
        );
    }

    #[test]
    fn ngrams_of_the_prompt_do_not_come_again() {
        let logits = [0.0; 5];
        let prompt = [1, 2, 3, 1, 4];
        // After 1 the prompt went on with 2 and with 4; that 1 0 was written since is no matter.
        assert_eq!(
            applied(
                EncoderNoRepeatNgram::new(2, &prompt),
                &logits,
                &[1, 2, 3, 1, 4, 1, 0, 1]
            ),
            [0.0, 0.0, OUT, 0.0, OUT]
        );
        // Runs that are only in what was written are free.
        assert_eq!(
            applied(
                EncoderNoRepeatNgram::new(2, &prompt),
                &logits,
                &[1, 2, 3, 1, 4, 0, 0]
            ),
            logits
        );
        // Of size 1: every id of the prompt.
        assert_eq!(
            applied(EncoderNoRepeatNgram::new(1, &prompt), &logits, &[]),
            [0.0, OUT, OUT, OUT, OUT]
        );
        for (size, prompt) in [(0, &prompt[..]), (6, &prompt), (2, &[])] {
            let processor = EncoderNoRepeatNgram::new(size, prompt);
            assert_eq!(applied(processor, &logits, &[1]), logits, "size {size}");
        }
    }
}
