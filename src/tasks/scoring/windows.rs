//! A text longer than the context, in windows: each token is scored once.
//!
//! As lm-evaluation-harness rolls them (`get_rolling_token_windows`, `context_len` 1): the first
//! window is as long as the context, every later one scores the next tokens, as many as the stride,
//! and has the newest tokens before them in front, as many as there is room for.

use std::ops::Range;

use super::ScoreRequest;

/// A part of the sequence of context and tokens that is computed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// The tokens that go into the model; the last token scored only comes out.
    pub(super) inputs: Range<usize>,
    /// The tokens that are scored, each from the input before it.
    pub(super) scored: Range<usize>,
}

/// The windows of a request, whose inputs are at most `most`; those after the first score `stride`
/// tokens.
pub(super) fn windows(
    request: &ScoreRequest,
    most: usize,
    stride: usize,
) -> impl Iterator<Item = Window> + use<> {
    let length = request.context.len() + request.tokens.len();
    of_length(request.context.len().max(1), length, most, stride)
}

/// The windows of a sequence of `length` tokens of which those from `first` on, at least 1, are
/// scored.
fn of_length(
    first: usize,
    length: usize,
    most: usize,
    stride: usize,
) -> impl Iterator<Item = Window> + use<> {
    let mut next = first;
    std::iter::from_fn(move || {
        if next >= length {
            return None;
        }
        let end = if next == first && first <= most {
            most + 1
        } else {
            next.saturating_add(stride)
        };
        let end = end.min(length);
        let window = Window {
            inputs: (end - 1).saturating_sub(most)..end - 1,
            scored: next..end,
        };
        next = end;
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(first: usize, length: usize, most: usize, stride: usize) -> Vec<[usize; 4]> {
        of_length(first, length, most, stride)
            .map(|Window { inputs, scored }| [inputs.start, inputs.end, scored.start, scored.end])
            .collect()
    }

    #[test]
    fn windows_roll_as_those_of_lm_evaluation_harness() {
        // get_rolling_token_windows(0..10, prefix_token, max_seq_len = 4, context_len = 1), with
        // the prefix as token 0.
        assert_eq!(
            all(1, 11, 4, 4),
            [[0, 4, 1, 5], [4, 8, 5, 9], [6, 10, 9, 11]]
        );
        assert_eq!(all(1, 11, 4, 2)[1..3], [[2, 6, 5, 7], [4, 8, 7, 9]]);
        // What fits is one window; the last token needs no room.
        assert_eq!(all(1, 5, 4, 4), [[0, 4, 1, 5]]);
        assert_eq!(all(3, 5, 4, 1), [[0, 4, 3, 5]]);
        // Of a context that is too long the newest tokens stay.
        assert_eq!(all(9, 11, 4, 4), [[6, 10, 9, 11]]);
        assert!(all(1, 1, 4, 4).is_empty() && all(1, 0, 4, 4).is_empty());
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_with_something_before_it(
            first in 1_usize..40, length in 0_usize..80, most in 1_usize..20, stride in 1_usize..20,
        ) {
            let stride = stride.min(most);
            let mut next = first;
            for Window { inputs, scored } in of_length(first, length, most, stride) {
                prop_assert_eq!(scored.start, next);
                prop_assert!(!scored.is_empty() && !inputs.is_empty() && inputs.len() <= most);
                prop_assert!(inputs.start < scored.start && inputs.end + 1 == scored.end);
                next = scored.end;
            }
            prop_assert!(next >= length);
        }
    }
}
