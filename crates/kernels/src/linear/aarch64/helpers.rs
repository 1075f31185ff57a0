//! Small operations of NEON that several microkernels need.

use std::arch::aarch64::*;

use super::super::layout::{F16Bytes, IQ4_VALUES, Lanes, PANEL};
use crate::simd::neon::{f16_to_f32_high, f16_to_f32_low};

/// An integer for each of eight rows.
pub(super) type Rows = [int32x4_t; 2];

/// Eight f16, converted.
#[inline(always)]
pub(super) unsafe fn load_f16x8(source: &[F16Bytes; PANEL]) -> [float32x4_t; 2] {
    // SAFETY: eight f16 are 16 bytes.
    let f16 = unsafe { vld1q_u16(source.as_ptr().cast()) };
    [f16_to_f32_low(f16), f16_to_f32_high(f16)]
}

/// An f16, converted, in every lane.
#[inline(always)]
pub(super) unsafe fn splat_f16(x: F16Bytes) -> float32x4_t {
    // SAFETY: NEON.
    f16_to_f32_low(unsafe { vdupq_n_u16(x.to_bits()) })
}

/// The values of `iq4_nl` that bytes below 16 choose.
#[inline(always)]
pub(super) unsafe fn iq4_values(indices: uint8x16_t) -> int8x16_t {
    // SAFETY: 16 values.
    unsafe { vqtbl1q_s8(vld1q_s8(IQ4_VALUES.as_ptr()), indices) }
}

/// The lower nibbles of 16 bytes, then the upper ones.
#[inline(always)]
pub(super) unsafe fn nibbles(bytes: &[u8; 16]) -> [uint8x16_t; 2] {
    // SAFETY: 16 bytes.
    unsafe {
        let bytes = vld1q_u8(bytes.as_ptr());
        [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)]
    }
}

/// A vector of weights.
#[inline(always)]
pub(super) unsafe fn load_u8(source: &Lanes) -> [uint8x16_t; 2] {
    let source = source.as_flattened().as_ptr();
    // SAFETY: 32 bytes.
    unsafe { [vld1q_u8(source), vld1q_u8(source.add(16))] }
}

/// A vector of signed weights, or 32 activations.
#[inline(always)]
pub(super) unsafe fn load_i8(source: &Lanes<i8>) -> [int8x16_t; 2] {
    let source = source.as_flattened().as_ptr();
    // SAFETY: 32 bytes.
    unsafe { [vld1q_s8(source), vld1q_s8(source.add(16))] }
}

/// accumulators + integers · row scales · token's scale, for eight rows.
#[inline(always)]
pub(super) unsafe fn add_scaled(
    accumulators: &mut [float32x4_t; 2],
    integers: Rows,
    row_scales: [float32x4_t; 2],
    token_scale: float32x4_t,
) {
    for half in 0..2 {
        // SAFETY: NEON.
        unsafe {
            let scale = vmulq_f32(row_scales[half], token_scale);
            accumulators[half] =
                vfmaq_f32(accumulators[half], vcvtq_f32_s32(integers[half]), scale);
        }
    }
}

/// Writes the sums of eight rows, or of the first `rows` of them.
///
/// # Safety
/// `output` has places for them.
#[inline(always)]
pub(super) unsafe fn store_rows(accumulators: [float32x4_t; 2], rows: usize, output: *mut f32) {
    // SAFETY: the caller's condition.
    unsafe {
        if rows == PANEL {
            vst1q_f32(output, accumulators[0]);
            vst1q_f32(output.add(4), accumulators[1]);
        } else {
            let mut all = [0.0f32; PANEL];
            vst1q_f32(all.as_mut_ptr(), accumulators[0]);
            vst1q_f32(all.as_mut_ptr().add(4), accumulators[1]);
            std::ptr::copy_nonoverlapping(all.as_ptr(), output, rows);
        }
    }
}
