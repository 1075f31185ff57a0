//! Work on whole rows: layer normalization, and what follows a matrix product.

use super::wide;
#[cfg(target_arch = "x86_64")]
use crate::processor;

/// `output[row] = (x − mean) / √(variance + epsilon) · weight + bias` for each row of `x`; `x` and
/// `output` are `[rows, columns]`, `weight` and `bias` `[columns]`; the variance is the biased one.
pub struct LayerNorm<'a> {
    /// Rows to normalize, `[rows, width]`.
    pub x: &'a [f32],
    /// `[width]`.
    pub weight: &'a [f32],
    /// `[width]`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalizes every row, see [`LayerNorm`]. Every operation is in the order in which ggml does it on this processor,
/// so that the bits are the same: an activation that is quantized next must not fall to the other side of a
/// rounding.
pub fn layer_norm(norm: &LayerNorm<'_>, output: &mut [f32]) {
    match squares_together() {
        16 => layer_norm_by_16(norm, output),
        8 => layer_norm_by_8(norm, output),
        _ => layer_norm_by_4(norm, output),
    }
}

/// How many squares ggml adds as single numbers before the sum takes them as a double one: as many as a vector has.
fn squares_together() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if processor::may_use("avx512f") && processor::may_use("avx512dq") {
            return 16;
        }
        if processor::may_use("avx2") && processor::may_use("fma") {
            return 8;
        }
    }
    4
}

wide! {
    /// [`layer_norm`] with sixteen squares together.
    fn layer_norm_by_16(norm: &LayerNorm<'_>, output: &mut [f32]) = layer_norm_body::<16>
}

wide! {
    /// [`layer_norm`] with eight squares together.
    fn layer_norm_by_8(norm: &LayerNorm<'_>, output: &mut [f32]) = layer_norm_body::<8>
}

wide! {
    /// [`layer_norm`] with four squares together.
    fn layer_norm_by_4(norm: &LayerNorm<'_>, output: &mut [f32]) = layer_norm_body::<4>
}

#[inline(always)]
fn layer_norm_body<const GROUP: usize>(norm: &LayerNorm<'_>, output: &mut [f32]) {
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

/// The sum of a vector: halves are added until four numbers are left, and of those each to its neighbour in NEON's
/// order, else to the next but one.
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

wide! {
    /// Adds `bias` (`[columns]`) to each row of `values` (`[rows, columns]`).
    pub fn add_bias(values: &mut [f32], bias: &[f32]) = add_bias_body
}

#[inline(always)]
fn add_bias_body(values: &mut [f32], bias: &[f32]) {
    for row in values.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

wide! {
    /// Adds `bias` (`[columns]`) and `residual` (`[rows, columns]`) to `values` (`[rows, columns]`).
    pub fn add_bias_and_residual(values: &mut [f32], bias: &[f32], residual: &[f32])
        = add_bias_and_residual_body
}

#[inline(always)]
fn add_bias_and_residual_body(values: &mut [f32], bias: &[f32], residual: &[f32]) {
    let columns = bias.len();
    for (row, residual) in values
        .chunks_exact_mut(columns)
        .zip(residual.chunks_exact(columns))
    {
        for ((value, bias), residual) in row.iter_mut().zip(bias).zip(residual) {
            *value = *value + bias + residual;
        }
    }
}

wide! {
    /// Whether no number is NaN or infinite: without an early end, which would look at one after the other.
    pub fn all_finite(numbers: &[f32]) -> bool = all_finite_body
}

#[inline(always)]
fn all_finite_body(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let is_special = |number: &f32| number.to_bits() & EXPONENT == EXPONENT;
    !numbers
        .iter()
        .fold(false, |any, number| any | is_special(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect()
    }

    #[test]
    fn what_is_no_number_is_found_at_every_place() {
        let largest = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0];
        for count in 0..40 {
            let mut row = numbers(count, 5);
            for (place, &number) in row.iter_mut().zip(&largest) {
                *place = number;
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
    fn layer_norm_agrees_with_its_formula_at_any_width() {
        let mut worst = 0.0f64;
        for columns in [1, 7, 16, 64, 100, 768] {
            let (x, weight, bias) = (
                numbers(3 * columns, 1),
                numbers(columns, 2),
                numbers(columns, 3),
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
