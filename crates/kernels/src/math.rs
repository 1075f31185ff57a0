//! Elementary functions that compile to vector instructions: no branches, no table, no call.

/// e^x for finite x, within 2 units in the last place; 0 below −87.3 and the largest finite power
/// above 88.3, so that no infinity arises.
///
/// Cody and Waite's reduction to |r| ≤ ½ ln 2 and a polynomial of degree 6 (minimax coefficients as
/// in the Cephes library's expf).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // The nearest integer falls out of adding 1.5 · 2²³, where the spacing of f32 is 1.
    const TO_INTEGER: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped * std::f32::consts::LOG2_E + TO_INTEGER;
    let power = shifted - TO_INTEGER;
    let r = clamped - power * LN2_HIGH - power * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5.000_000_3e-1;
    let mantissa = p * r * r + r + 1.0;
    // The integer is in the low bits of the shifted sum.
    let exponent = shifted
        .to_bits()
        .wrapping_sub(TO_INTEGER.to_bits())
        .wrapping_add(127)
        << 23;
    mantissa * f32::from_bits(exponent)
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x = 2σ(2x) − 1, with its series near 0 where that difference loses digits.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let series =
        x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 + square * (-17.0 / 315.0))));
    let far = 2.0 * sigmoid(2.0 * x) - 1.0;
    if square < 0.02 { series } else { far }
}

/// The error function, within 4 · 10⁻⁷: a rational minimax approximation on [−4, 4], outside of
/// which f32 knows only ±1 (the one used by Eigen and XNNPACK).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut p = -2.726_142_3e-10;
    p = p * square + 2.770_681_5e-8;
    p = p * square - 2.101_024e-6;
    p = p * square - 5.692_506_4e-5;
    p = p * square - 7.349_906_2e-4;
    p = p * square - 2.954_6e-3;
    p = p * square - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * square - 2.133_740_5e-4;
    q = q * square - 1.682_827e-3;
    q = q * square - 7.373_329e-3;
    q = q * square - 1.426_473_9e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=20_000).map(move |step| from + (to - from) * step as f32 / 20_000.0)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for x in range(-87.0, 88.0) {
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        println!("largest relative difference of exp: {worst:.2e}");
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert!(exp(-1e30) >= 0.0 && exp(-1e30) < 1e-37);
        assert!(exp(1e30).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_and_erf_are_close() {
        let mut worst = 0.0f64;
        for x in range(-12.0, 12.0) {
            worst = worst.max((f64::from(tanh(x)) - f64::from(x).tanh()).abs());
        }
        println!("largest difference of tanh: {worst:.2e}");
        assert!(worst < 5e-7, "{worst:e}");
        // erf at points computed independently to 16 digits.
        for (x, exact) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (1.5, 0.966_105_146_475_310_8),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (5.0, 1.0),
        ] {
            for sign in [1.0f32, -1.0] {
                let difference = (f64::from(erf(sign * x)) - f64::from(sign) * exact).abs();
                assert!(difference < 4e-7, "erf({x}): {difference:e}");
            }
        }
    }
}
