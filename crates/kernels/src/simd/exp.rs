//! e^x: the constants of two ways to compute it, and one of them for scalars.
//!
//! Both are Arm's (optimized routines): in f64 with a table of 2^(i/32), as the C libraries' `expf`
//! does; and in f32 with a polynomial of degree 5, as vector libraries and ggml do.

/// Steps between two powers of 2 in the table.
pub(super) const STEPS: f64 = 32.0;

/// log₂ e in steps.
pub(super) const STEPS_PER_UNIT: f64 = std::f64::consts::LOG2_E * STEPS;

/// Adding it rounds an f64 to the nearest integer, which then is in the low bits.
pub(super) const TO_INTEGER_F64: f64 = 6_755_399_441_055_744.0;

/// 2^(r/32) − 1 over r, from the highest power down.
pub(super) const STEP_POLYNOMIAL: [f64; 3] = [
    1.693_835_925_092_021_2e-6,
    2.345_980_978_950_900_4e-4,
    2.166_084_939_661_313_4e-2,
];

/// Below this, e^x is 0 in f32; the arithmetic stays within its range down to it.
pub(super) const LOWEST: f32 = -104.0;

/// The bits of 2^(i/32) minus i/32 in the exponent's place, so that adding an integer in that place
/// gives the power of 2 for it.
pub(super) const POWERS: [u64; 32] = [
    0x3ff0_0000_0000_0000,
    0x3fef_d9b0_d315_8574,
    0x3fef_b558_6cf9_890f,
    0x3fef_9301_d012_5b51,
    0x3fef_72b8_3c7d_517b,
    0x3fef_5487_3168_b9aa,
    0x3fef_387a_6e75_6238,
    0x3fef_1e9d_f51f_dee1,
    0x3fef_06fe_0a31_b715,
    0x3fee_f1a7_373a_a9cb,
    0x3fee_dea6_4c12_3422,
    0x3fee_ce08_6061_892d,
    0x3fee_bfda_d536_2a27,
    0x3fee_b42b_569d_4f82,
    0x3fee_ab07_dd48_5429,
    0x3fee_a47e_b03a_5585,
    0x3fee_a09e_667f_3bcd,
    0x3fee_9f75_e8ec_5f74,
    0x3fee_a114_73eb_0187,
    0x3fee_a589_994c_ce13,
    0x3fee_ace5_422a_a0db,
    0x3fee_b737_b0cd_c5e5,
    0x3fee_c491_82a3_f090,
    0x3fee_d503_b23e_255d,
    0x3fee_e89f_995a_d3ad,
    0x3fee_ff76_f2fb_5e47,
    0x3fef_199b_dd85_529c,
    0x3fef_3720_dcef_9069,
    0x3fef_5818_dcfb_a487,
    0x3fef_7c97_337b_9b5f,
    0x3fef_a4af_a2a4_90da,
    0x3fef_d076_5b6e_4540,
];

/// Adding it rounds an f32 to the nearest integer.
pub(super) const TO_INTEGER: f32 = 12_582_912.0;

/// ln 2 in two parts.
pub(super) const LN_2_HIGH: f32 = f32::from_bits(0x3f31_7200);
pub(super) const LN_2_LOW: f32 = f32::from_bits(0x35bf_be8e);

/// (e^r − 1) / r from the highest power down.
pub(super) const POLYNOMIAL: [f32; 5] = [
    f32::from_bits(0x3c07_2010),
    f32::from_bits(0x3d2b_9f17),
    f32::from_bits(0x3e2a_af33),
    f32::from_bits(0x3eff_fedb),
    f32::from_bits(0x3f7f_fff6),
];

/// A power of 2 that keeps the smallest results normal until the last step.
pub(super) const GUARD_POWER: u32 = 64;

/// 2^−[`GUARD_POWER`].
pub(super) const GUARD: f32 = 5.421_011e-20;

/// Arguments are not taken below it: e^x is 0 there.
pub(super) const CLAMP: f32 = -120.0;

/// e^x for x ≤ 0. `one_inside`: whether 1 is added before the power of 2 is multiplied, as with
/// vectors of 16, or after, as with vectors of 8.
#[inline(always)]
pub(super) fn exp(x: f32, one_inside: bool, fma: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let x = if CLAMP > x { CLAMP } else { x };
    let shifted = fma(x, std::f32::consts::LOG2_E, TO_INTEGER);
    let power = shifted - TO_INTEGER;
    let r = fma(-power, LN_2_LOW, fma(-power, LN_2_HIGH, x));
    let square = r * r;
    let [p5, p4, p3, p2, p1] = POLYNOMIAL;
    let upper = fma(fma(p5, r, p4), square, fma(p3, r, p2));
    let integer = shifted.to_bits().wrapping_sub(TO_INTEGER.to_bits());
    let scale = f32::from_bits(integer.wrapping_add(GUARD_POWER + 127) << 23);
    let guarded = if one_inside {
        fma(upper, square, fma(p1, r, 1.0)) * scale
    } else {
        fma(fma(upper, square, p1 * r), scale, scale)
    };
    guarded * GUARD
}
