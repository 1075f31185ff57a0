//! What goes into a run, and what comes out.

use crate::TokenId;
use crate::model::kv_cache::SequenceSet;

/// One token of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchToken {
    /// The token.
    pub token: TokenId,
    /// Its place in its sequences, from 0: it sees what is at this place and before.
    pub position: usize,
    /// The row of the position embedding, when that is not `position` (`position_ids`).
    pub position_id: Option<usize>,
    /// A token whose embedding is added (`token_type_ids`); for all tokens of a batch or for none.
    pub token_type: Option<TokenId>,
    /// Whether no token sees this one, as 0 in an `attention_mask` says. A token that sees nothing
    /// at all sees itself, so that its row, which means nothing, is made of numbers.
    pub masked: bool,
    /// The sequences it belongs to. It sees the earlier positions that all of them share.
    pub sequences: SequenceSet,
    /// Whether something comes out of it: what the batch asks for.
    pub output: bool,
}

/// A list of tokens to compute together: of one sequence or of many, in any order of sequences,
/// each sequence's own in ascending order of positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The tokens.
    pub tokens: Vec<BatchToken>,
    /// Whether logits come out; true by default.
    pub logits: bool,
    /// Whether the last hidden state comes out.
    pub last_hidden_state: bool,
    /// Whether all hidden states come out.
    pub hidden_states: bool,
    /// Whether the probabilities of attention come out, for which it is computed the plain way.
    pub attentions: bool,
    /// Whether this library's kernels give each token the bits that it has when it is computed
    /// alone. Of most types that costs nothing or little, of some up to twice the time from some
    /// number of tokens on: see [`Model::is_cheaply_batch_invariant`](super::Model). Attention does
    /// so in any company, but not among 64 or more tokens of one sequence.
    pub batch_invariant: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            logits: true,
            last_hidden_state: false,
            hidden_states: false,
            attentions: false,
            batch_invariant: false,
        }
    }
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
            // Beyond what can be counted is beyond any context: a run refuses it.
            position: position.saturating_add(index),
            sequences,
            output: output(index),
            ..BatchToken::default()
        };
        Self {
            tokens: tokens.iter().enumerate().map(token).collect(),
            ..Self::default()
        }
    }
}

/// What comes out of a run, a row for each token whose output was asked for, in the batch's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    pub(super) rows: usize,
    /// Columns of [`Output::logits`].
    pub vocabulary: usize,
    /// Logits, unless the batch left them out: row-major `[rows, vocabulary]`.
    pub logits: Vec<f32>,
    /// After the final layer norm, when asked for: row-major `[rows, width]`.
    pub last_hidden_state: Vec<f32>,
    /// When asked for, `layers + 1` matrices, row-major `[rows, width]`: the embeddings, what each
    /// layer but the last gave, and the final layer norm of what the last gave (transformers'
    /// `hidden_states`).
    pub hidden_states: Vec<Vec<f32>>,
    /// When asked for, a matrix for each layer, row-major `[rows, heads, positions]`: how much each
    /// head attends to each position, after softmax; 0 for positions a token does not see.
    pub attentions: Vec<Vec<f32>>,
    /// Columns of [`Output::attentions`]: one more than the highest position in the batch.
    pub positions: usize,
}

/// Consecutive rows of an [`Output`]: what one of several users of a batch gets of it.
#[derive(Debug, Clone, Copy)]
pub struct OutputRows<'a> {
    output: &'a Output,
    first: usize,
    count: usize,
}

impl<'a> OutputRows<'a> {
    /// The logits of row `index` of these; empty when there is no such row.
    pub fn logits(&self, index: usize) -> &'a [f32] {
        if index < self.count {
            self.output.row(self.first.saturating_add(index))
        } else {
            &[]
        }
    }

    /// The last hidden state of each row, row-major `[rows, width]`; empty when it was not asked
    /// for.
    pub fn last_hidden_state(&self) -> &'a [f32] {
        self.part(&self.output.last_hidden_state)
    }

    /// A hidden state of each row, row-major `[rows, width]`, by its place in
    /// [`Output::hidden_states`].
    pub fn hidden_state(&self, place: usize) -> Option<&'a [f32]> {
        let states = self.output.hidden_states.get(place)?;
        Some(self.part(states))
    }

    /// These rows of a matrix of all.
    fn part(&self, all: &'a [f32]) -> &'a [f32] {
        let width = all.len() / self.output.rows.max(1);
        let end = self.first.saturating_add(self.count).saturating_mul(width);
        let part = all.get(self.first.saturating_mul(width)..end);
        part.unwrap_or_default()
    }
}

impl Output {
    /// Rows of logits that a head gave, `[rows, vocabulary]`.
    pub(crate) fn of_logits(logits: Vec<f32>, vocabulary: usize) -> Self {
        Self {
            rows: logits.len() / vocabulary.max(1),
            vocabulary,
            logits,
            ..Self::default()
        }
    }

    /// `count` rows from `first` on.
    pub fn rows_from(&self, first: usize, count: usize) -> OutputRows<'_> {
        OutputRows {
            output: self,
            first,
            count,
        }
    }

    /// Every row.
    pub fn all_rows(&self) -> OutputRows<'_> {
        self.rows_from(0, self.rows)
    }

    /// Number of rows, whatever was asked of them.
    pub fn rows(&self) -> usize {
        self.rows
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

/// Memory of a session on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The device, by the name to ask for it.
    pub device: String,
    /// Its bytes.
    pub memory: Memory,
}
