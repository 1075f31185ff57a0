//! Processors without microkernels here, whose products are ggml's.

use super::format::Format;
use super::microkernel::{BatchSize, FloatGemm, KernelSet, Microkernel};
use crate::simd::Baseline;

/// There is none.
#[derive(Debug, Clone, Copy)]
pub(super) enum InstructionSet {}

impl KernelSet for InstructionSet {
    type Quantizer = Baseline;

    fn quantizer(self) -> Baseline {
        match self {}
    }

    fn available() -> impl Iterator<Item = Self> {
        std::iter::empty()
    }

    fn tile_sizes(self, _format: Format, _batch: BatchSize) -> &'static [usize] {
        match self {}
    }

    fn float_gemm(self, _format: Format) -> Option<FloatGemm> {
        match self {}
    }

    fn microkernel(self, _format: Format, _tokens: usize, _batch: BatchSize) -> Microkernel {
        match self {}
    }
}
