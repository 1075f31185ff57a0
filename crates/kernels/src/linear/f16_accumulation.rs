//! Products of f16 that are accumulated in f16, four at a time, and these sums in f32: what keeps
//! them in range.
//!
//! A token's activations are scaled by the largest power of two that the largest weight of the
//! matrix allows, so that few of them underflow. The result is scaled back, which is exact.

use half::f16;

use super::layout::cast_mut;
use super::quantize_block::max_of;
use crate::f16_convert;

/// Products that are accumulated in f16.
pub(super) const CHAIN: usize = 4;
/// Elements of a step: a chain in each of eight lanes.
pub(super) const STEP: usize = 8 * CHAIN;
/// Rows have a multiple of this many elements: half a step may be the last.
pub(super) const MULTIPLE: usize = STEP / 2;

/// The exponent of a power of two above each of the f16 values in `bytes`; none when one is
/// infinite or NaN.
pub(super) fn bound(bytes: &[u8]) -> Option<i32> {
    let magnitudes = bytes.as_chunks().0.iter();
    let largest = magnitudes.map(|&value| u16::from_le_bytes(value) & 0x7fff);
    let largest = f16::from_bits(largest.max()?);
    largest.is_finite().then(|| above(largest.to_f32()))
}

/// The exponent of a power of two above `x`, which is not negative.
fn above(x: f32) -> i32 {
    (x.to_bits() >> 23) as i32 - 126
}

/// The exponent of a token's scale, from the largest magnitude of its activations: no sum of
/// [`CHAIN`] products with weights below 2^`bound` exceeds 2¹⁵ then, nor does any activation.
pub(super) fn exponent(max_abs: f32, bound: i32) -> i32 {
    let chain = (bound + CHAIN.ilog2() as i32).max(0);
    (15 - above(max_abs) - chain).clamp(-126, 126)
}

/// 2^`exponent`, which is from −126 to 127.
pub(super) fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Writes the `tokens` rows of `x` as scaled f16 (`[tokens][columns]`), then for each token the
/// factor that scales its results back (f32).
pub(super) fn quantize(x: &[f32], columns: usize, tokens: usize, bound: i32, output: &mut [u8]) {
    let (all, factors) = output.split_at_mut(size_of::<f16>() * columns * tokens);
    let factors = &mut factors[..size_of::<f32>() * tokens];
    let rows = x
        .chunks_exact(columns)
        .zip(cast_mut::<f16>(all).chunks_exact_mut(columns));
    for ((x, output), result_factor) in rows.zip(cast_mut::<f32>(factors)) {
        let exponent = exponent(max_of(x, f32::abs), bound);
        let factor = power(exponent);
        for (x, output) in x.chunks(STEP).zip(output.chunks_mut(STEP)) {
            let mut scaled = [0.0; STEP];
            for (scaled, x) in scaled.iter_mut().zip(x) {
                *scaled = x * factor;
            }
            f16_convert::from_f32(&scaled[..x.len()], output);
        }
        *result_factor = power(-exponent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_largest_that_keeps_chains_in_range() {
        for weight in [6e-8, 1e-4, 0.24, 0.25, 0.26, 1.0, 3.0, 65504.0] {
            let bound = bound(&f16::from_f32(weight).to_le_bytes()).unwrap();
            for max_abs in [1e-30f32, 1e-5, 0.7, 1.0, 1.5, 300.0, 1e20] {
                let scaled = max_abs * power(exponent(max_abs, bound));
                let chain = CHAIN as f32 * f16::from_f32(weight).to_f32() * scaled;
                assert!(chain <= 32768.0 && scaled <= 32768.0, "{weight} {max_abs}");
                assert!(chain >= 8192.0 || scaled >= 16384.0, "{weight} {max_abs}");
            }
        }
        for non_finite in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            let halves = [f16::ONE.to_le_bytes(), non_finite.to_le_bytes()];
            assert_eq!(bound(halves.as_flattened()), None);
        }
        assert_eq!(power(exponent(0.0, 1)), power(126));
    }
}
