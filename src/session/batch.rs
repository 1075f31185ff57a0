//! What goes into a run, and what comes out.

use crate::TokenId;
use crate::model::cache::SequenceSet;

/// One token of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchToken {
    /// The token.
    pub token: TokenId,
    /// Its position in its sequences, from 0.
    pub position: usize,
    /// The sequences it belongs to. It sees the earlier positions that all of them share.
    pub sequences: SequenceSet,
    /// Whether its logits come out.
    pub output: bool,
}

/// A list of tokens to compute together: of one sequence or of many, in any order of sequences, each
/// sequence's own in ascending order of positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The tokens.
    pub tokens: Vec<BatchToken>,
    /// Whether the hidden states of the tokens with output come out too.
    pub hidden_states: bool,
}

impl Batch {
    /// The tokens of one stretch of text from `position` on, all in `sequences`; logits come out of
    /// those for whose index `output` says so.
    pub fn of_text(
        tokens: &[TokenId],
        position: usize,
        sequences: SequenceSet,
        output: impl Fn(usize) -> bool,
    ) -> Self {
        let token = |(index, &token)| BatchToken {
            token,
            position: position + index,
            sequences,
            output: output(index),
        };
        Self {
            tokens: tokens.iter().enumerate().map(token).collect(),
            hidden_states: false,
        }
    }
}

/// What comes out of a run, a row for each token whose output was asked for, in the batch's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// Columns of [`Output::logits`].
    pub vocabulary: usize,
    /// Logits, row-major `[rows, vocabulary]`.
    pub logits: Vec<f32>,
    /// When asked for, `layers + 1` matrices, row-major `[rows, width]`: the embeddings, what each layer
    /// but the last gave, and the final layer norm of what the last gave (transformers'
    /// `hidden_states`).
    pub hidden_states: Vec<Vec<f32>>,
}

impl Output {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.logits.len().checked_div(self.vocabulary).unwrap_or(0)
    }

    /// The logits of output row `index`; empty when there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        self.logits
            .chunks_exact(self.vocabulary.max(1))
            .nth(index)
            .unwrap_or_default()
    }
}

/// Memory of a session, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Weights of the model: in the mapped file and in memory of their own.
    pub weights: usize,
    /// The KV cache at its full size.
    pub kv: usize,
    /// Intermediate results of the computation.
    pub compute: usize,
}
