//! What attention is computed of, and when that is consistent.

use super::kv_tensor::{Head, KvTensor};
use super::sights::Sights;

/// The widest head that is computed.
pub const MAX_HEAD_WIDTH: usize = 256;

/// Queries, f32: those of token n begin at element n × `stride`, head after head.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `[tokens, stride]`; the last row may end after its heads.
    pub data: &'a [f32],
    /// Elements from one token's queries to the next's.
    pub stride: usize,
}

/// What attention is computed of.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// `[tokens, heads × head_width]`, at a stride.
    pub queries: Queries<'a>,
    /// `[cells, heads × head_width]`.
    pub keys: KvTensor<'a>,
    /// `[cells, heads × head_width]`.
    pub values: KvTensor<'a>,
    /// Which cells each token sees.
    pub sights: &'a Sights,
    /// Attention heads.
    pub heads: usize,
    /// Elements of a head: 1 to [`MAX_HEAD_WIDTH`]; a multiple of 32 where a tensor has blocks.
    pub head_width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl Attention<'_> {
    /// Whether everything is as long as it must be.
    pub(super) fn is_consistent(&self) -> bool {
        let width = self.heads * self.head_width;
        let queries = (self.sights.tokens() - 1) * self.queries.stride + width;
        (1..=MAX_HEAD_WIDTH).contains(&self.head_width)
            && self.queries.data.len() >= queries
            && self.keys.holds(self.sights.end(), width, self.head_width)
            && self.values.holds(self.sights.end(), width, self.head_width)
    }

    #[inline(always)]
    pub(super) fn query(&self, token: usize, head: usize) -> &[f32] {
        &self.queries.data[token * self.queries.stride + head * self.head_width..]
            [..self.head_width]
    }

    #[inline(always)]
    pub(super) fn head(&self, head: usize) -> Head {
        Head {
            stride: self.heads * self.head_width,
            first: head * self.head_width,
            width: self.head_width,
        }
    }
}
