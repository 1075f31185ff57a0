//! The formats that the kernels know.

use half::bf16;

use super::layout::{
    BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, F16Bytes,
};

/// How the elements of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Blocks of 32, 4 bits and an f16 scale.
    Q4_0,
    /// Blocks of 32, 4 bits, a scale and a minimum.
    Q4_1,
    /// Blocks of 32, 5 bits and an f16 scale.
    Q5_0,
    /// Blocks of 32, 5 bits, a scale and a minimum.
    Q5_1,
    /// Blocks of 32, 8 bits and an f16 scale.
    Q8_0,
    /// Super-blocks of 256, 2 bits, scales and minimums of 4 bits.
    Q2K,
    /// Super-blocks of 256, 3 bits, scales of 6 bits.
    Q3K,
    /// Super-blocks of 256, 4 bits, scales and minimums of 6 bits.
    Q4K,
    /// Super-blocks of 256, 5 bits, scales and minimums of 6 bits.
    Q5K,
    /// Super-blocks of 256, 6 bits, scales of 8 bits.
    Q6K,
    /// Blocks of 32, 4 bits that choose one of 16 values, and an f16 scale.
    Iq4Nl,
    /// Super-blocks of 256, 4 bits that choose one of 16 values, scales of 6 bits.
    Iq4Xs,
}

impl Format {
    /// Elements of a block.
    pub(super) fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
        }
    }

    /// Bytes of a block as GGUF files hold it.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<bf16>(),
            Self::F16 => size_of::<F16Bytes>(),
            Self::Q4_0 | Self::Iq4Nl => size_of::<BlockQ4_0>(),
            Self::Q4_1 => size_of::<BlockQ4_1>(),
            Self::Q5_0 => size_of::<BlockQ5_0>(),
            Self::Q5_1 => size_of::<BlockQ5_1>(),
            Self::Q8_0 => size_of::<BlockQ8_0>(),
            Self::Q2K => size_of::<BlockQ2K>(),
            Self::Q3K => size_of::<BlockQ3K>(),
            Self::Q4K => size_of::<BlockQ4K>(),
            Self::Q5K => size_of::<BlockQ5K>(),
            Self::Q6K => size_of::<BlockQ6K>(),
            Self::Iq4Xs => size_of::<BlockIq4Xs>(),
        }
    }

    /// Whether elements are floating-point numbers, each by itself.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16 | Self::F16)
    }
}
