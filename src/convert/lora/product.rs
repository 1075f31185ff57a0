//! The arithmetic of merging: a product of two thin matrices added to rows of a weight.

/// What an adapter adds to one weight, in GGUF's orientation: row `i` gets the sum over `k` of
/// `scale · left[i, k] · right[k, ..]`.
pub(crate) struct Product {
    /// `[rows, rank]`.
    pub left: Vec<f32>,
    /// `[rank, columns]`.
    pub right: Vec<f32>,
    /// The factor.
    pub scale: f32,
    /// For weights with magnitudes: the norm that each row of the result gets.
    pub magnitudes: Option<Vec<f32>>,
}

impl Product {
    /// What is added to row `row`, into `target`.
    fn row(&self, row: usize, target: &mut [f32]) {
        target.fill(0.0);
        let rank = self.right.len() / target.len().max(1);
        let factors = self.left.iter().skip(row * rank).take(rank);
        for (factor, line) in factors.zip(self.right.chunks_exact(target.len().max(1))) {
            for (sum, value) in target.iter_mut().zip(line) {
                *sum += factor * value;
            }
        }
        for sum in target {
            *sum *= self.scale;
        }
    }
}

/// Adds the products of several adapters to whole rows `first..` of `columns` elements. A magnitude
/// is relative to the base's row with its own product alone, as PEFT has it.
pub(in crate::convert) fn merge(
    products: &[Product],
    first: usize,
    columns: usize,
    rows: &mut [f32],
) {
    let mut added = vec![0.0; columns];
    let mut base = Vec::new();
    for (offset, row) in rows.chunks_exact_mut(columns.max(1)).enumerate() {
        base.clear();
        base.extend_from_slice(row);
        for product in products {
            product.row(first + offset, &mut added);
            for (value, addend) in row.iter_mut().zip(&added) {
                *value += addend;
            }
            let magnitude = product.magnitudes.as_ref();
            if let Some(magnitude) = magnitude.and_then(|all| all.get(first + offset)) {
                let squares = base.iter().zip(&added);
                let norm = squares
                    .map(|(value, addend)| f64::from(value + addend).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let factor = (f64::from(*magnitude) / norm) as f32;
                for value in &mut *row {
                    *value *= factor;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(magnitudes: Option<Vec<f32>>) -> Product {
        Product {
            left: vec![1.0, 2.0, 0.0, -1.0],
            right: vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0],
            scale: 0.5,
            magnitudes,
        }
    }

    #[test]
    fn products_are_added_to_the_rows_they_are_for() {
        let mut rows = vec![1.0; 6];
        merge(&[product(None)], 0, 3, &mut rows);
        assert_eq!(rows, [1.5, 2.0, 2.5, 1.0, 0.5, 0.5]);
        let mut second = vec![1.0; 3];
        merge(&[product(None)], 1, 3, &mut second);
        assert_eq!(second, rows[3..]);
    }

    #[test]
    fn a_row_with_a_magnitude_has_that_norm() {
        let mut rows = vec![1.0; 6];
        merge(&[product(Some(vec![2.0, 3.0]))], 0, 3, &mut rows);
        for (row, norm) in rows.chunks(3).zip([2.0_f32, 3.0]) {
            let found = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            assert!((found - norm).abs() < 1e-6, "{found}");
        }
    }
}
