//! What attention is computed of, and when that is consistent.

use half::f16;

use super::kv_tensor::{Head, KvTensor};

/// The widest head that is computed.
pub const MAX_HEAD_WIDTH: usize = 256;

/// Bits of −∞ as f16: the cell is not visible.
pub(super) const MASKED: u16 = 0xfc00;

#[inline(always)]
pub(super) fn is_visible(mask: f16) -> bool {
    mask.to_bits() != MASKED
}

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
    /// `[tokens, cells]`: added to scores. 0 where a token sees a cell, otherwise −∞.
    pub mask: &'a [f16],
    /// Queries; with 64 or more, they are computed in tiles.
    pub tokens: usize,
    /// Cells of the cache that are read.
    pub cells: usize,
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
        let queries = (self.tokens - 1) * self.queries.stride + width;
        (1..=MAX_HEAD_WIDTH).contains(&self.head_width)
            && self.queries.data.len() >= queries
            && self.mask.len() >= self.tokens * self.cells
            && self.keys.holds(self.cells, width, self.head_width)
            && self.values.holds(self.cells, width, self.head_width)
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
