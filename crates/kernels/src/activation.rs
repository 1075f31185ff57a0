//! The functions between the two matrices of a feed-forward part, as transformers defines them.

use super::math::{erf, exp, sigmoid, tanh};
use crate::simd::{Task, autovectorize};

/// Applies a function to each element, in place.
pub type Elementwise = fn(&mut [f32]);

/// Declares an elementwise function from its formula.
macro_rules! elementwise {
    ($($(#[$attribute:meta])* $name:ident($x:ident) = $formula:expr;)*) => {
        $(
            $(#[$attribute])*
            pub fn $name(values: &mut [f32]) {
                struct Apply<'a>(&'a mut [f32]);

                impl<S> Task<S> for Apply<'_> {
                    type Output = ();

                    #[inline(always)]
                    fn run(self, _: S) {
                        for value in self.0 {
                            let $x = *value;
                            *value = $formula;
                        }
                    }
                }

                autovectorize(Apply(values));
            }
        )*
    };
}

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// 2√(2/π): ½(1 + tanh u) is σ(2u).
const GELU_SLOPE: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.044_715;
/// As transformers writes it, which is not quite √½.
#[expect(clippy::approx_constant, reason = "the function's own constant")]
const LAPLACE_MEAN: f32 = 0.707_107;

elementwise! {
    /// x · ½(1 + erf(x/√2)).
    gelu(x) = x * 0.5 * (1.0 + erf(x * SQRT_HALF));
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
    gelu_tanh(x) = x * sigmoid(GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
    /// gelu clipped to [−10, 10].
    gelu_10(x) = (x * 0.5 * (1.0 + erf(x * SQRT_HALF))).clamp(-10.0, 10.0);
    /// x · σ(1.702x).
    quick_gelu(x) = x * sigmoid(1.702 * x);
    /// max(0, x).
    relu(x) = x.max(0.0);
    /// max(0, x)².
    relu_squared(x) = x.max(0.0) * x.max(0.0);
    /// min(6, max(0, x)).
    relu_6(x) = x.clamp(0.0, 6.0);
    /// x, or 0.01x below 0.
    leaky_relu(x) = if x >= 0.0 { x } else { 0.01 * x };
    /// x · σ(x).
    silu(x) = x * sigmoid(x);
    /// tanh x.
    hyperbolic_tangent(x) = tanh(x);
    /// σ(x).
    logistic(x) = sigmoid(x);
    /// x · tanh(ln(1 + eˣ)) = x · (n² + 2n)/(n² + 2n + 2) with n = eˣ, clamped where the ratio is
    /// 1.
    mish(x) = {
        let n = exp(x.min(20.0));
        let m = n * (n + 2.0);
        x * m / (m + 2.0)
    };
    /// ½(1 + erf((x − 0.707107)/(0.282095√2))).
    laplace(x) = 0.5 * (1.0 + erf((x - LAPLACE_MEAN) / 0.282_095 * SQRT_HALF));
    /// x · min(6, max(0, x + 3))/6.
    hard_swish(x) = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
}

/// x.
pub fn identity(_: &mut [f32]) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values worked out from the formulas with 16 digits at x = −3, −1, −0.5, 0, 0.5, 1, 3.
    const AT: [f32; 7] = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0];

    fn check(function: Elementwise, expected: [f64; 7]) {
        let mut values = AT;
        function(&mut values);
        for ((x, value), expected) in AT.iter().zip(values).zip(expected) {
            let difference = (f64::from(value) - expected).abs();
            assert!(
                difference < 1e-6,
                "at {x}: expected {expected}, found {value}"
            );
        }
    }

    #[test]
    fn functions_agree_with_their_formulas() {
        check(
            gelu,
            [
                -0.004_049_694,
                -0.158_655_254,
                -0.154_268_769,
                0.0,
                0.345_731_231,
                0.841_344_746,
                2.995_950_306,
            ],
        );
        check(
            gelu_tanh,
            [
                -0.003_637_392,
                -0.158_808_009,
                -0.154_285_988,
                0.0,
                0.345_714_012,
                0.841_191_991,
                2.996_362_608,
            ],
        );
        check(
            silu,
            [
                -0.142_277_620,
                -0.268_941_421,
                -0.188_770_334,
                0.0,
                0.311_229_666,
                0.731_058_579,
                2.857_722_380,
            ],
        );
        check(relu, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 3.0]);
        check(relu_squared, [0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 9.0]);
        check(leaky_relu, [-0.03, -0.01, -0.005, 0.0, 0.5, 1.0, 3.0]);
        check(
            hard_swish,
            [
                0.0,
                -1.0 / 3.0,
                -0.208_333_333,
                0.0,
                0.291_666_667,
                2.0 / 3.0,
                3.0,
            ],
        );
        check(
            mish,
            [
                -0.145_647_461,
                -0.303_401_461,
                -0.220_744_166,
                0.0,
                0.375_245_194,
                0.865_098_388,
                2.986_535_066,
            ],
        );
        check(
            hyperbolic_tangent,
            [
                -0.995_054_754,
                -0.761_594_156,
                -0.462_117_157,
                0.0,
                0.462_117_157,
                0.761_594_156,
                0.995_054_754,
            ],
        );
    }

    #[test]
    fn nan_stays_nan() {
        for function in [gelu, gelu_tanh, silu, logistic, hyperbolic_tangent] {
            let mut values = [f32::NAN; 9];
            function(&mut values);
            assert!(values.iter().all(|value| value.is_nan()));
        }
    }
}
