//! Conversion between f16 and f32 of whole slices.
//!
//! On 64-bit ARM every processor converts vectors. Rust's own functions for it are not stable or,
//! like the crate `half`, need arithmetic on f16, which few processors have.

use half::f16;
use half::slice::HalfFloatSliceExt;

#[cfg(target_arch = "aarch64")]
use crate::simd::neon;

/// Rounds each of `values` to the nearest f16, ties to even.
///
/// # Panics
/// When `output` has another length.
pub(super) fn from_f32(values: &[f32], output: &mut [f16]) {
    assert_eq!(values.len(), output.len());
    #[cfg(target_arch = "aarch64")]
    let (values, output) = {
        let (eights, values) = values.as_chunks::<8>();
        let (places, output) = output.split_at_mut(8 * eights.len());
        for (eight, places) in eights.iter().zip(places.as_chunks_mut::<8>().0) {
            neon::f32_to_f16_eight(eight, places);
        }
        (values, output)
    };
    output.convert_from_f32_slice(values);
}

/// Writes each of `values` as f32.
///
/// # Panics
/// When `output` has another length.
pub(super) fn to_f32(values: &[f16], output: &mut [f32]) {
    assert_eq!(values.len(), output.len());
    #[cfg(target_arch = "aarch64")]
    let (values, output) = {
        let (eights, values) = values.as_chunks::<8>();
        let (places, output) = output.split_at_mut(8 * eights.len());
        for (eight, places) in eights.iter().zip(places.as_chunks_mut::<8>().0) {
            neon::f16_to_f32_eight(eight, places);
        }
        (values, output)
    };
    values.convert_to_f32_slice(output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_converts_to_f32_and_back() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for count in [all.len(), 13] {
            let all = &all[..count];
            let mut values = vec![0.0; count];
            to_f32(all, &mut values);
            let mut back = vec![f16::ZERO; count];
            from_f32(&values, &mut back);
            for ((half, value), back) in all.iter().zip(&values).zip(&back) {
                let same = value.to_bits() == half.to_f32().to_bits() && back == half;
                let both_nan = half.is_nan() && value.is_nan() && back.is_nan();
                assert!(same || both_nan, "{half:?}: {value}, {back:?}");
            }
        }
    }

    #[test]
    fn values_between_two_f16_are_rounded_to_the_nearer() {
        // Between every two neighbours: just below, at and just above the middle.
        let values: Vec<f32> = (0..f16::INFINITY.to_bits())
            .flat_map(|bits| {
                let [a, b] = [bits, bits + 1].map(|bits| f16::from_bits(bits).to_f32());
                let middle = if b.is_finite() {
                    f32::midpoint(a, b)
                } else {
                    65520.0
                };
                [middle.next_down(), middle, middle.next_up(), -middle]
            })
            .collect();
        let mut rounded = vec![f16::ZERO; values.len()];
        from_f32(&values, &mut rounded);
        for (&value, rounded) in values.iter().zip(rounded) {
            assert_eq!(rounded, f16::from_f32(value), "{value:e}");
        }
    }
}
