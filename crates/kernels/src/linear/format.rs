//! The formats that the kernels know.

use super::layout::{BlockQ4_0, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, F16Bytes};

/// How the elements of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE half precision.
    F16,
    /// Blocks of 32, 4 bits and an f16 scale.
    Q4_0,
    /// Blocks of 32, 8 bits and an f16 scale.
    Q8_0,
    /// Super-blocks of 256, 4 bits, scales and minimums of 6 bits.
    Q4K,
    /// Super-blocks of 256, 5 bits, scales and minimums of 6 bits.
    Q5K,
    /// Super-blocks of 256, 6 bits, scales of 8 bits.
    Q6K,
}

impl Format {
    /// Elements of a block.
    pub(super) fn block_elements(self) -> usize {
        match self {
            Self::F16 => 1,
            Self::Q4_0 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block as GGUF files hold it.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::F16 => size_of::<F16Bytes>(),
            Self::Q4_0 => size_of::<BlockQ4_0>(),
            Self::Q8_0 => size_of::<BlockQ8_0>(),
            Self::Q4K => size_of::<BlockQ4K>(),
            Self::Q5K => size_of::<BlockQ5K>(),
            Self::Q6K => size_of::<BlockQ6K>(),
        }
    }

    /// The kernels take rows whose length is a multiple of this.
    pub(super) fn column_multiple(self) -> usize {
        match self {
            Self::F16 => 16,
            other => other.block_elements(),
        }
    }
}
