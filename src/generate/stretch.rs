//! A stretch of text that is computed for the logits after its end, and where it is cut.
//!
//! Products and attention add in an order that may depend on how many tokens of a text are in a
//! run. So a stretch is cut by its own length alone: into pieces of [`PIECE`] tokens, counted from
//! position 0, and a rest. A run takes one piece or several, or the rest. However a prompt is
//! divided among the steps of a scheduler, each of its tokens then has the bits that it has when
//! the prompt is computed at once.

use crate::TokenId;
use crate::session::{Batch, BatchToken, SequenceSet};

/// Tokens of a piece. Runs of as many, and of several times as many, have the same arithmetic: both
/// are many for the kernels.
pub(super) const PIECE: usize = 64;

/// Consecutive tokens that are computed one run after the other.
#[derive(Debug)]
pub(super) struct Stretch {
    batch: Batch,
    /// Tokens that are in the cache.
    done: usize,
    /// Whether it is one run: more comes out of it than what follows its last token, or it begins
    /// within a piece.
    whole: bool,
}

impl Stretch {
    /// The tokens of `batch`.
    pub(super) fn new(batch: Batch) -> Self {
        let whole = match &batch.tokens[..] {
            [first, ..] => {
                let last = batch.tokens.len() - 1;
                let follows = |(index, token): (usize, &BatchToken)| {
                    token.position == first.position + index
                        && token.sequences == first.sequences
                        && (!token.output || index == last)
                };
                !first.position.is_multiple_of(PIECE)
                    || !batch.tokens.iter().enumerate().all(follows)
            }
            [] => true,
        };
        Self {
            batch,
            done: 0,
            whole,
        }
    }

    /// All of it.
    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    /// Whether it cannot be cut.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether its tokens are the text `tokens`, from position 0 on.
    pub(super) fn is_of(&self, tokens: &[TokenId]) -> bool {
        let own = self.batch.tokens.iter();
        self.first() == 0
            && self.batch.tokens.len() == tokens.len()
            && own.map(|token| token.token).eq(tokens.iter().copied())
    }

    /// The position of the next token to compute.
    pub(super) fn position(&self) -> usize {
        self.first() + self.done
    }

    /// Whether nothing is left to compute.
    pub(super) fn is_done(&self) -> bool {
        self.done >= self.batch.tokens.len()
    }

    /// The sequences of its first token, and its position.
    pub(super) fn start(&self) -> Option<(SequenceSet, usize)> {
        let first = self.batch.tokens.first();
        first.map(|token| (token.sequences, token.position))
    }

    /// Goes on at `position`: what is before has come into the cache.
    pub(super) fn skip_to(&mut self, position: usize) {
        self.done = position.saturating_sub(self.first());
    }

    /// Lets logits come out of every token.
    pub(super) fn output_all(&mut self) {
        for token in &mut self.batch.tokens {
            token.output = true;
        }
    }

    /// The next run, of at most `most` tokens.
    pub(super) fn piece(&self, most: usize) -> Batch {
        let end = self.end_of_piece(most.max(1));
        Batch {
            tokens: self.batch.tokens[self.done..end].to_vec(),
            ..Batch {
                tokens: Vec::new(),
                ..self.batch
            }
        }
    }

    fn end_of_piece(&self, most: usize) -> usize {
        let all = self.batch.tokens.len();
        if self.whole {
            return all;
        }
        let (start, end) = (self.position(), self.first() + all);
        let size = most.min(PIECE);
        let whole_pieces = end / size * size;
        let stop = if start >= whole_pieces {
            end
        } else if size < PIECE {
            // Several of these would be other arithmetic than one.
            start / size * size + size
        } else {
            whole_pieces.min((start + most) / size * size)
        };
        stop - self.first()
    }

    /// The position of the first token.
    fn first(&self) -> usize {
        self.batch.tokens.first().map_or(0, |token| token.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::work::last_of_text;

    /// The lengths of the runs of `tokens` tokens from `position` on.
    fn runs(position: usize, tokens: usize, most: usize) -> Vec<usize> {
        let ids: Vec<TokenId> = (0..tokens as TokenId).collect();
        let mut stretch = Stretch::new(last_of_text(&ids, position, 0).unwrap());
        let mut lengths = Vec::new();
        while !stretch.is_done() {
            let piece = stretch.piece(most);
            lengths.push(piece.tokens.len());
            assert_eq!(piece.tokens[0].position, stretch.position());
            stretch.skip_to(stretch.position() + piece.tokens.len());
        }
        lengths
    }

    #[test]
    fn a_text_is_cut_at_the_same_places_whatever_fits_a_run() {
        assert_eq!(runs(0, 200, 64), [64, 64, 64, 8]);
        assert_eq!(runs(0, 200, 256), [192, 8]);
        assert_eq!(runs(0, 200, 130), [128, 64, 8]);
        assert_eq!(runs(0, 600, 256), [256, 256, 64, 24]);
        assert_eq!(runs(0, 128, usize::MAX / 2), [128]);
        assert_eq!(runs(0, 63, 64), [63]);
        assert_eq!(runs(64, 70, 256), [64, 6]);
        assert_eq!(runs(0, 20, 7), [7, 7, 6]);
        assert_eq!(runs(0, 3, 1), [1, 1, 1]);
    }

    #[test]
    fn what_begins_within_a_piece_or_gives_more_is_one_run() {
        assert_eq!(runs(10, 100, 64), [100]);
        let mut batch = last_of_text(&[1; 100], 0, 0).unwrap();
        batch.tokens[3].output = true;
        let stretch = Stretch::new(batch);
        assert!(stretch.is_whole());
        assert_eq!(stretch.piece(64).tokens.len(), 100);
    }
}
