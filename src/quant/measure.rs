//! How far quantized weights are from their source: the relative root mean square error.

use crate::gguf::TensorType;

/// Sums of squares over elements, from which the relative error follows. Sums of parts add up to
/// that of the whole.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SquaredError {
    /// Σ(source − result)².
    pub(crate) difference: f64,
    /// Σsource².
    pub(crate) source: f64,
}

impl SquaredError {
    /// The sums over both parts.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            difference: self.difference + other.difference,
            source: self.source + other.source,
        }
    }

    /// √(Σ(source − result)² / Σsource²); 0 for a tensor of zeros.
    pub(crate) fn relative(self) -> f64 {
        if self.source > 0.0 {
            (self.difference / self.source).sqrt()
        } else {
            0.0
        }
    }
}

/// The largest relative error a type may show on weights before the result is taken for broken:
/// about three times what weights drawn from a normal distribution give.
pub(crate) fn error_bound(tensor_type: TensorType) -> f64 {
    use TensorType as T;
    match tensor_type {
        T::F32 => 0.0,
        T::F16 => 0.002,
        T::BF16 => 0.01,
        T::Q8_0 => 0.05,
        T::Q6_K => 0.1,
        T::Q5_0 | T::Q5_1 | T::Q5_K => 0.2,
        T::Q4_0 | T::Q4_1 | T::Q4_K | T::IQ4_NL | T::IQ4_XS => 0.4,
        T::Q3_K => 0.6,
        other if other.is_quantized() => 0.9,
        _ => 0.0,
    }
}

/// Lanes of partial sums, so that the loops become vector instructions.
const LANES: usize = 16;
/// Elements summed in f32 before they go to f64.
const RUN: usize = 1024;

/// Σx² over `values`; NaN or infinite when one of them is.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    values
        .chunks(RUN)
        .map(|run| {
            let mut lanes = [0.0_f32; LANES];
            let (chunks, rest) = run.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += x * x;
                }
            }
            let sum: f32 = lanes.iter().sum();
            f64::from(sum + rest.iter().map(|x| x * x).sum::<f32>())
        })
        .sum()
}

/// Σ(a − b)² over two slices of one length.
pub(crate) fn squared_difference(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(RUN)
        .zip(b.chunks(RUN))
        .map(|(a, b)| {
            let mut lanes = [0.0_f32; LANES];
            let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a.iter().zip(b) {
                for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                    *lane += (a - b) * (a - b);
                }
            }
            let rest: f32 = rest_a
                .iter()
                .zip(rest_b)
                .map(|(a, b)| (a - b) * (a - b))
                .sum();
            f64::from(lanes.iter().sum::<f32>() + rest)
        })
        .sum()
}
