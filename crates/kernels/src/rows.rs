//! Work on whole rows: layer normalization, and what is added to the results of a matrix product.

#[cfg(target_arch = "x86_64")]
use crate::cpu_features::Features;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Token};
use crate::simd::{Task, autovectorize};

/// `output[row] = (x − mean) / √(variance + epsilon) · weight + bias` for each row of `x`; `x` and
/// `output` are `[rows, columns]`, `weight` and `bias` `[columns]`; the variance is the biased one.
pub struct LayerNorm<'a> {
    /// The rows to normalize, `[rows, columns]`.
    pub x: &'a [f32],
    /// `[columns]`.
    pub weight: &'a [f32],
    /// `[columns]`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalizes every row, see [`LayerNorm`]. Every operation is in the order in which ggml does it
/// on this processor, so that results are bit-identical: an activation that is quantized next must
/// not be rounded to another integer.
pub fn layer_norm(norm: &LayerNorm<'_>, output: &mut [f32]) {
    match square_group() {
        16 => autovectorize(Normalize::<16> { norm, output }),
        8 => autovectorize(Normalize::<8> { norm, output }),
        _ => autovectorize(Normalize::<4> { norm, output }),
    }
}

/// How many squares ggml adds in f32 before their sum is added in f64: as many as a vector has
/// lanes.
fn square_group() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        const AVX512DQ: Features = Features::new(&["avx512dq"]);
        if Avx512::detect().is_some() && AVX512DQ.are_allowed() {
            return 16;
        }
        if Avx2::detect().is_some() {
            return 8;
        }
    }
    4
}

/// [`layer_norm`] with `GROUP` squares added in f32.
struct Normalize<'a, const GROUP: usize> {
    norm: &'a LayerNorm<'a>,
    output: &'a mut [f32],
}

impl<S, const GROUP: usize> Task<S> for Normalize<'_, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        let Self { norm, output } = self;
        let columns = norm.weight.len();
        for (x, output) in norm
            .x
            .chunks_exact(columns)
            .zip(output.chunks_exact_mut(columns))
        {
            let sum: f64 = x.iter().copied().map(f64::from).sum();
            let mean = sum as f32 / columns as f32;
            let variance = (sum_of_squares::<GROUP>(x, mean) / columns as f64) as f32;
            let scale = 1.0 / (variance + norm.epsilon).sqrt();
            for (((output, x), weight), bias) in
                output.iter_mut().zip(x).zip(norm.weight).zip(norm.bias)
            {
                *output = (x - mean) * scale * weight + bias;
            }
        }
    }
}

/// The sum of (x − mean)² over `values`.
#[inline(always)]
fn sum_of_squares<const GROUP: usize>(values: &[f32], mean: f32) -> f64 {
    let square = |x: f32| (x - mean) * (x - mean);
    let (groups, rest) = values.as_chunks::<GROUP>();
    let mut sum = 0.0;
    for group in groups {
        sum += f64::from(sum_of_group(group.map(square)));
    }
    for &x in rest {
        sum += f64::from(square(x));
    }
    sum
}

/// The sum of a vector's lanes: the upper half is added to the lower one until four lanes are left,
/// and of those each to its neighbour (NEON's order) or else to the next but one.
#[inline(always)]
fn sum_of_group<const GROUP: usize>(mut values: [f32; GROUP]) -> f32 {
    let mut half = GROUP / 2;
    while half >= 4 {
        for lane in 0..half {
            values[lane] += values[lane + half];
        }
        half /= 2;
    }
    let other = if cfg!(target_arch = "aarch64") { 1 } else { 2 };
    (values[0] + values[other]) + (values[3 - other] + values[3])
}

/// Adds `bias` (`[columns]`) to each row of `values` (`[rows, columns]`).
pub(crate) fn add_bias(values: &mut [f32], bias: &[f32]) {
    autovectorize(AddBias { values, bias });
}

/// [`add_bias`].
struct AddBias<'a> {
    values: &'a mut [f32],
    bias: &'a [f32],
}

impl<S> Task<S> for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        for row in self.values.chunks_exact_mut(self.bias.len()) {
            for (value, bias) in row.iter_mut().zip(self.bias) {
                *value += bias;
            }
        }
    }
}

/// Adds `bias` (`[columns]`) and `residual` (`[rows, columns]`) to `values` (`[rows, columns]`).
pub(crate) fn add_bias_and_residual(values: &mut [f32], bias: &[f32], residual: &[f32]) {
    autovectorize(AddBiasAndResidual {
        values,
        bias,
        residual,
    });
}

/// [`add_bias_and_residual`].
struct AddBiasAndResidual<'a> {
    values: &'a mut [f32],
    bias: &'a [f32],
    residual: &'a [f32],
}

impl<S> Task<S> for AddBiasAndResidual<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        let columns = self.bias.len();
        let rows = self.values.chunks_exact_mut(columns);
        for (row, residual) in rows.zip(self.residual.chunks_exact(columns)) {
            for ((value, bias), residual) in row.iter_mut().zip(self.bias).zip(residual) {
                *value = *value + bias + residual;
            }
        }
    }
}

/// Whether no value is NaN or infinite.
pub fn all_finite(values: &[f32]) -> bool {
    autovectorize(AllFinite(values))
}

/// [`all_finite`].
struct AllFinite<'a>(&'a [f32]);

impl<S> Task<S> for AllFinite<'_> {
    type Output = bool;

    /// Without an early exit, which would have to look at one value after the other.
    #[inline(always)]
    fn run(self, _: S) -> bool {
        const EXPONENT: u32 = 0x7f80_0000;
        let is_special = |value: &f32| value.to_bits() & EXPONENT == EXPONENT;
        !self
            .0
            .iter()
            .fold(false, |any, value| any | is_special(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect()
    }

    #[test]
    fn non_finite_values_are_found_at_every_place() {
        let largest = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0];
        for count in 0..40 {
            let mut row = values(count, 5);
            for (place, &value) in row.iter_mut().zip(&largest) {
                *place = value;
            }
            assert!(all_finite(&row), "{count}");
            for index in 0..count {
                for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let before = std::mem::replace(&mut row[index], special);
                    assert!(!all_finite(&row), "{special} at {index} of {count}");
                    row[index] = before;
                }
            }
        }
    }

    #[test]
    fn layer_norm_agrees_with_its_formula_for_any_number_of_columns() {
        let mut worst = 0.0f64;
        for columns in [1, 7, 16, 64, 100, 768] {
            let (x, weight, bias) = (
                values(3 * columns, 1),
                values(columns, 2),
                values(columns, 3),
            );
            let mut output = vec![0.0; 3 * columns];
            let norm = LayerNorm {
                x: &x,
                weight: &weight,
                bias: &bias,
                epsilon: 1e-5,
            };
            layer_norm(&norm, &mut output);
            for (x, output) in x.chunks(columns).zip(output.chunks(columns)) {
                let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mean = x.iter().sum::<f64>() / columns as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns as f64;
                for (index, output) in output.iter().enumerate() {
                    let expected = (x[index] - mean) / (variance + 1e-5).sqrt()
                        * f64::from(weight[index])
                        + f64::from(bias[index]);
                    worst = worst.max((f64::from(*output) - expected).abs());
                }
            }
        }
        println!("largest difference of layer norm: {worst:.2e}");
        assert!(worst < 3e-6, "{worst:e}");
    }

    #[test]
    fn bias_and_residual_are_added_row_by_row() {
        let mut values = vec![1.0, -2.0, 3.0, -4.0];
        add_bias_and_residual(&mut values, &[0.5, 0.25], &[10.0, 20.0, 30.0, 40.0]);
        assert_eq!(values, [11.5, 18.25, 33.5, 36.25]);
    }
}
