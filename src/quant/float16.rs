//! f16 and bf16 in the bytes of a file, which need not be aligned.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Values converted at a time, in an aligned buffer on the stack.
const AT_ONCE: usize = 256;

/// The two 16-bit formats of the crate `half`, which has no trait for both.
pub(super) trait Float16: Copy + Default {
    fn from_le_bytes(bytes: [u8; 2]) -> Self;
    fn to_le_bytes(self) -> [u8; 2];
    /// Rounds to nearest, ties to even.
    fn convert_from_f32(from: &[f32], to: &mut [Self]);
    fn convert_to_f32(from: &[Self], to: &mut [f32]);
}

macro_rules! float16 {
    ($($name:ident),*) => {$(
        impl Float16 for $name {
            fn from_le_bytes(bytes: [u8; 2]) -> Self {
                Self::from_le_bytes(bytes)
            }

            fn to_le_bytes(self) -> [u8; 2] {
                self.to_le_bytes()
            }

            fn convert_from_f32(from: &[f32], to: &mut [Self]) {
                to.convert_from_f32_slice(from);
            }

            fn convert_to_f32(from: &[Self], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
        }
    )*};
}

float16!(f16, bf16);

/// Rounds `source` to 16 bits a value.
pub(super) fn encode<H: Float16>(source: &[f32], target: &mut [u8]) {
    let mut buffer = [H::default(); AT_ONCE];
    for (from, to) in source.chunks(AT_ONCE).zip(target.chunks_mut(2 * AT_ONCE)) {
        let Some(converted) = buffer.get_mut(..from.len()) else {
            return;
        };
        H::convert_from_f32(from, converted);
        for (bytes, value) in to.as_chunks_mut::<2>().0.iter_mut().zip(converted) {
            *bytes = value.to_le_bytes();
        }
    }
}

/// The values of `source`, 16 bits each.
pub(super) fn decode<H: Float16>(source: &[u8], target: &mut [f32]) {
    let mut buffer = [H::default(); AT_ONCE];
    for (from, to) in source.chunks(2 * AT_ONCE).zip(target.chunks_mut(AT_ONCE)) {
        for (value, bytes) in buffer.iter_mut().zip(from.as_chunks::<2>().0) {
            *value = H::from_le_bytes(*bytes);
        }
        if let Some(values) = buffer.get(..to.len()) {
            H::convert_to_f32(values, to);
        }
    }
}
