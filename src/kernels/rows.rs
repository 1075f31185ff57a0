//! Work on whole rows: layer normalization, and what follows a matrix product.

use super::activation::Elementwise;
use super::wide;

/// Sums run in this many independent lanes: vector instructions, and a smaller rounding error than
/// one running sum.
const LANES: usize = 16;

/// `output[row] = (x − mean) / √(variance + epsilon) · weight + bias` for each row of `x`; `x` and
/// `output` are `[rows, columns]`, `weight` and `bias` `[columns]`; the variance is the biased one.
pub(crate) struct LayerNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

wide! {
    /// Normalizes every row, see [`LayerNorm`].
    pub(crate) fn layer_norm(norm: &LayerNorm<'_>, output: &mut [f32]) = layer_norm_body
}

#[inline(always)]
fn layer_norm_body(norm: &LayerNorm<'_>, output: &mut [f32]) {
    let columns = norm.weight.len();
    for (x, output) in norm
        .x
        .chunks_exact(columns)
        .zip(output.chunks_exact_mut(columns))
    {
        let mean = lane_sum(x, |x| x) / columns as f32;
        let variance = lane_sum(x, |x| (x - mean) * (x - mean)) / columns as f32;
        let scale = 1.0 / (variance + norm.epsilon).sqrt();
        for (((output, x), weight), bias) in
            output.iter_mut().zip(x).zip(norm.weight).zip(norm.bias)
        {
            *output = (x - mean) * scale * weight + bias;
        }
    }
}

/// The sum of `term` over `values`, in [`LANES`] lanes.
#[inline(always)]
fn lane_sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    let rest: f32 = rest.iter().map(|&value| term(value)).sum();
    lanes.iter().sum::<f32>() + rest
}

wide! {
    /// Adds `bias` (`[columns]`) to each row of `values` (`[rows, columns]`).
    pub(crate) fn add_bias(values: &mut [f32], bias: &[f32]) = add_bias_body
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
    pub(crate) fn add_bias_and_residual(values: &mut [f32], bias: &[f32], residual: &[f32])
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

/// Adds `bias` to each row of `values` and applies `activation`, while the row is in the cache.
pub(crate) fn add_bias_and_activate(values: &mut [f32], bias: &[f32], activation: Elementwise) {
    for row in values.chunks_exact_mut(bias.len()) {
        add_bias(row, bias);
        activation(row);
    }
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
    fn bias_residual_and_activation_are_added_row_by_row() {
        let mut values = vec![1.0, -2.0, 3.0, -4.0];
        add_bias_and_residual(&mut values, &[0.5, 0.25], &[10.0, 20.0, 30.0, 40.0]);
        assert_eq!(values, [11.5, 18.25, 33.5, 36.25]);
        let mut values = vec![1.0, -2.0, 3.0, -4.0];
        add_bias_and_activate(&mut values, &[1.0, 1.0], super::super::activation::relu);
        assert_eq!(values, [2.0, 0.0, 4.0, 0.0]);
    }
}
