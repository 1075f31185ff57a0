//! Processors without kernels here, whose products are ggml's.

use super::format::Format;
use super::microkernel::{Count, Expansion, Kernel};

/// There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {}

impl InstructionSet {
    /// None.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        std::iter::empty()
    }

    /// Of a set that is not there.
    pub(super) fn short_sums(self, _bound: Option<i32>) -> (Self, Option<i32>) {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn many(self, _format: Format) -> usize {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn tile_sizes(self, _format: Format, _count: Count) -> &'static [usize] {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn panels_together(self, _format: Format, _tokens: usize, _count: Count) -> usize {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn expansion(self, _format: Format) -> Option<Expansion> {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn wide(self) -> Wide {
        match self {}
    }

    /// Of a set that is not there.
    pub(super) fn kernel(self, _format: Format, _tokens: usize, _count: Count) -> Kernel {
        match self {}
    }
}

/// The product of f16 rows with many tokens, of a set that is not there.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    pub(super) rows: usize,
}

impl Wide {
    /// Never called.
    pub(super) fn takes(self, _tokens: usize) -> bool {
        false
    }

    /// Never called.
    pub(super) unsafe fn expand(&self, _halves: &[u8], _columns: usize, _expanded: &mut [f32]) {}

    /// Never called.
    #[expect(
        clippy::too_many_arguments,
        reason = "two matrices, their shapes, and where results go"
    )]
    pub(super) unsafe fn multiply(
        &self,
        _expanded: &[f32],
        _tile: &[u8],
        _tokens: usize,
        _columns: usize,
        _rows: usize,
        _output: *mut f32,
        _stride: usize,
    ) {
    }
}
