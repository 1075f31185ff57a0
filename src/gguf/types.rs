//! The types a tensor's elements are stored in: one table.

use crate::error::{Error, Result};

/// Declares [`TensorType`] and its table from one list, so that they cannot disagree.
macro_rules! tensor_types {
    ($(
        $variant:ident $id:literal $name:literal
        $block_size:literal $block_bytes:literal $about:literal
    )*) => {
        /// How the elements of a tensor are stored. Rows are cut into blocks of
        /// [`block_size`](Self::block_size) elements which take
        /// [`block_bytes`](Self::block_bytes) bytes each.
        #[expect(non_camel_case_types, reason = "these are the names ggml gave them")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum TensorType {
            $(#[doc = $about] $variant,)*
        }

        impl TensorType {
            /// Every type, in the order of their ids.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The row of the table for this type.
            const fn layout(self) -> Layout {
                match self {
                    $(Self::$variant => Layout {
                        id: $id, name: $name, block_size: $block_size, block_bytes: $block_bytes,
                    },)*
                }
            }
        }
    };
}

/// What the table says of one type.
struct Layout {
    id: u32,
    name: &'static str,
    block_size: usize,
    block_bytes: usize,
}

// From `ggml_type` in ggml.h and the block structures in ggml-common.h of ggml 0.28. Ids 4, 5,
// 31-33 and 36-38 were types that ggml has removed.
tensor_types! {
    // variant id name     elements bytes
    F32      0 "f32"       1   4 "32-bit IEEE 754 float."
    F16      1 "f16"       1   2 "16-bit IEEE 754 float."
    Q4_0     2 "q4_0"     32  18 "4 bits, f16 scale a block."
    Q4_1     3 "q4_1"     32  20 "4 bits, f16 scale and minimum a block."
    Q5_0     6 "q5_0"     32  22 "5 bits, f16 scale a block."
    Q5_1     7 "q5_1"     32  24 "5 bits, f16 scale and minimum a block."
    Q8_0     8 "q8_0"     32  34 "8 bits, f16 scale a block."
    Q8_1     9 "q8_1"     32  36 "8 bits, f16 scale and sum a block; of activations."
    Q2_K    10 "q2_k"    256  84 "2 bits in super-blocks of 16 blocks, 4-bit scales and minima."
    Q3_K    11 "q3_k"    256 110 "3 bits in super-blocks of 16 blocks, 6-bit scales."
    Q4_K    12 "q4_k"    256 144 "4 bits in super-blocks of 8 blocks, 6-bit scales and minima."
    Q5_K    13 "q5_k"    256 176 "5 bits in super-blocks of 8 blocks, 6-bit scales and minima."
    Q6_K    14 "q6_k"    256 210 "6 bits in super-blocks of 16 blocks, 8-bit scales."
    Q8_K    15 "q8_k"    256 292 "8 bits, f32 scale a super-block; of activations."
    IQ2_XXS 16 "iq2_xxs" 256  66 "2.06 bits, from a codebook."
    IQ2_XS  17 "iq2_xs"  256  74 "2.31 bits, from a codebook."
    IQ3_XXS 18 "iq3_xxs" 256  98 "3.06 bits, from a codebook."
    IQ1_S   19 "iq1_s"   256  50 "1.56 bits, from a codebook."
    IQ4_NL  20 "iq4_nl"   32  18 "4 bits with non-linear steps, f16 scale a block."
    IQ3_S   21 "iq3_s"   256 110 "3.44 bits, from a codebook."
    IQ2_S   22 "iq2_s"   256  82 "2.56 bits, from a codebook."
    IQ4_XS  23 "iq4_xs"  256 136 "4 bits with non-linear steps in super-blocks."
    I8      24 "i8"        1   1 "8-bit integer."
    I16     25 "i16"       1   2 "16-bit integer."
    I32     26 "i32"       1   4 "32-bit integer."
    I64     27 "i64"       1   8 "64-bit integer."
    F64     28 "f64"       1   8 "64-bit IEEE 754 float."
    IQ1_M   29 "iq1_m"   256  56 "1.75 bits, from a codebook."
    BF16    30 "bf16"      1   2 "The upper half of a 32-bit float."
    TQ1_0   34 "tq1_0"   256  54 "Ternary, 1.69 bits."
    TQ2_0   35 "tq2_0"   256  66 "Ternary, 2.06 bits."
    MXFP4   39 "mxfp4"    32  17 "4-bit float, shared 8-bit exponent a block."
    NVFP4   40 "nvfp4"    64  36 "4-bit float, 8-bit float scale for every 16 elements."
    Q1_0    41 "q1_0"    128  18 "1 bit, f16 scale a block."
    Q2_0    42 "q2_0"     64  18 "2 bits, f16 scale a block."
    F8_E4M3 43 "f8_e4m3"   1   1 "8-bit float, 4 bits of exponent."
}

impl TensorType {
    /// The type with this id in files; `None` if ggml has no such type, or no longer.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.id() == id)
    }

    /// The type called `name`, whatever the case of its letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// The id of this type in files, which is ggml's `ggml_type`.
    pub const fn id(self) -> u32 {
        self.layout().id
    }

    /// The name in lower case: `q4_0`.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// Elements in a block; 1 for types without blocks.
    pub const fn block_size(self) -> usize {
        self.layout().block_size
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Whether weights of this type were quantized: it is neither an IEEE 754 float nor bf16.
    pub const fn is_quantized(self) -> bool {
        !matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Bits an element takes, its share of the block's scales included.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_size() as f64
    }

    /// Bytes of a row of `columns` elements.
    ///
    /// # Errors
    /// [`Error::Argument`] if `columns` is not a multiple of the block size or the product is
    /// beyond 64 bits.
    pub fn row_bytes(self, columns: u64) -> Result<u64> {
        self.tensor_bytes(&[columns])
    }

    /// Bytes of a tensor of `shape`, columns first.
    ///
    /// # Errors
    /// [`Error::Argument`] if the columns are not a multiple of the block size or the product is
    /// beyond 63 bits, which is what ggml counts with.
    pub fn tensor_bytes(self, shape: &[u64]) -> Result<u64> {
        self.layout_bytes(shape).map_err(Error::Argument)
    }

    /// [`Self::tensor_bytes`] with the bare message, for callers that know the place.
    pub(super) fn layout_bytes(self, shape: &[u64]) -> Result<u64, String> {
        let block_size = self.block_size() as u64;
        let columns = shape.first().copied().unwrap_or(1);
        if columns % block_size != 0 {
            return Err(format!(
                "{} stores rows in blocks of {block_size} elements, {columns} columns are not a \
                 multiple",
                self.name()
            ));
        }
        shape
            .iter()
            .try_fold(1u64, |product, &extent| product.checked_mul(extent))
            .filter(|&elements| i64::try_from(elements).is_ok())
            .and_then(|elements| (elements / block_size).checked_mul(self.block_bytes() as u64))
            .filter(|&bytes| i64::try_from(bytes).is_ok())
            .ok_or_else(|| format!("a tensor of shape {shape:?} is beyond 2^63 elements or bytes"))
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_go_both_ways_and_are_unique() {
        for &known in TensorType::ALL {
            assert_eq!(TensorType::from_id(known.id()), Some(known));
            assert_eq!(TensorType::from_name(known.name()), Some(known));
            assert_eq!(
                TensorType::from_name(&known.name().to_uppercase()),
                Some(known)
            );
        }
        assert!(TensorType::ALL.is_sorted_by_key(|known| known.id()));
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 44, u32::MAX] {
            assert_eq!(TensorType::from_id(removed), None);
        }
    }

    #[test]
    fn bytes_follow_the_blocks() {
        assert_eq!(TensorType::F32.row_bytes(768).unwrap(), 3072);
        assert_eq!(TensorType::Q4_0.row_bytes(768).unwrap(), 432);
        assert_eq!(TensorType::Q4_K.tensor_bytes(&[768, 3]).unwrap(), 1296);
        assert_eq!(TensorType::Q4_0.bits_per_weight(), 4.5);
        let message = TensorType::Q4_K.row_bytes(1600).unwrap_err().to_string();
        assert!(
            message.contains("256") && message.contains("1600"),
            "{message}"
        );
    }

    #[test]
    fn products_beyond_63_bits_are_refused() {
        assert!(TensorType::F32.tensor_bytes(&[1 << 32, 1 << 32]).is_err());
        assert!(TensorType::F32.tensor_bytes(&[1 << 62]).is_err());
        assert!(TensorType::I8.tensor_bytes(&[1 << 62]).is_ok());
        assert!(TensorType::I8.tensor_bytes(&[1 << 63]).is_err());
    }
}
