//! Half floats whose products are added in half precision, four at a time, and these sums in f32: what keeps them in range.
//!
//! A power of two brings the activations of a token as high as they can go with the largest weight of the matrix, so that
//! little is lost below either. It is taken away again from the result, which costs no digit.

use half::f16;

use super::quantize_block::largest;
use crate::f16_convert;

/// Products that are added in half precision.
pub(super) const CHAIN: usize = 4;
/// Elements of a step: a chain in each of eight lanes.
pub(super) const STEP: usize = 8 * CHAIN;

/// The exponent of a power of two above each of the half floats in `bytes`; none when one is infinite or no number.
pub(super) fn bound(bytes: &[u8]) -> Option<i32> {
    let magnitudes = bytes.as_chunks().0.iter();
    let largest = magnitudes.map(|&half| u16::from_le_bytes(half) & 0x7fff);
    let largest = f16::from_bits(largest.max()?);
    largest.is_finite().then(|| above(largest.to_f32()))
}

/// The exponent of a power of two above `x`, which is not negative.
fn above(x: f32) -> i32 {
    (x.to_bits() >> 23) as i32 - 126
}

/// The exponent of what a token's activations, of which the largest magnitude is `largest`, are multiplied with: no
/// sum of [`CHAIN`] products with weights below 2^`bound` is above 2¹⁵ then, nor any activation.
pub(super) fn exponent(largest: f32, bound: i32) -> i32 {
    let chain = (bound + CHAIN.ilog2() as i32).max(0);
    (15 - above(largest) - chain).clamp(-126, 126)
}

/// 2^`exponent`, which is from −126 to 127.
pub(super) fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Writes for each row of `x`, of which there are `tokens`, its half floats (`[tokens][columns]`), then for each what its
/// results are to be multiplied with (f32).
pub(super) fn activations(x: &[f32], columns: usize, tokens: usize, bound: i32, output: &mut [u8]) {
    let (all, scales) = output.split_at_mut(2 * columns * tokens);
    let rows = x
        .chunks_exact(columns)
        .zip(all.chunks_exact_mut(2 * columns));
    for ((x, output), scale) in rows.zip(scales.as_chunks_mut::<4>().0) {
        let exponent = exponent(largest(x, f32::abs), bound);
        let factor = power(exponent);
        for (x, output) in x.chunks(STEP).zip(output.chunks_mut(2 * STEP)) {
            let (mut scaled, mut rounded) = ([0.0; STEP], [f16::ZERO; STEP]);
            for (scaled, x) in scaled.iter_mut().zip(x) {
                *scaled = x * factor;
            }
            f16_convert::from_f32(&scaled, &mut rounded);
            for (output, half) in output.as_chunks_mut().0.iter_mut().zip(rounded) {
                *output = half.to_ne_bytes();
            }
        }
        *scale = power(-exponent).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_chain_stays_in_range_and_as_high_as_it_can() {
        for weight in [6e-8, 1e-4, 0.24, 0.25, 0.26, 1.0, 3.0, 65504.0] {
            let bound = bound(&f16::from_f32(weight).to_le_bytes()).unwrap();
            for largest in [1e-30f32, 1e-5, 0.7, 1.0, 1.5, 300.0, 1e20] {
                let scaled = largest * power(exponent(largest, bound));
                let chain = CHAIN as f32 * f16::from_f32(weight).to_f32() * scaled;
                assert!(chain <= 32768.0 && scaled <= 32768.0, "{weight} {largest}");
                assert!(chain >= 8192.0 || scaled >= 16384.0, "{weight} {largest}");
            }
        }
        for nothing in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            let halves = [f16::ONE.to_le_bytes(), nothing.to_le_bytes()];
            assert_eq!(bound(halves.as_flattened()), None);
        }
        assert_eq!(power(exponent(0.0, 1)), power(126));
    }
}
