//! The head of a classifier, of question answering or of double heads: a small linear layer, computed in
//! f32 from hidden states, outside the graph.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::quant::dequantize_rows;
use crate::spec::hyperparameters::Hyperparameters;
use crate::spec::in_gguf::find_in;
use crate::spec::tensor_table::Role;

/// y = Wx + b for each row x of hidden states.
#[derive(Debug)]
pub(crate) struct TaskHead {
    width: usize,
    /// Row-major `[outputs, width]`.
    weight: Vec<f32>,
    /// `[outputs]`; zeros for a head without.
    bias: Vec<f32>,
}

impl TaskHead {
    /// Reads the head of `gguf`, if its class has one.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor of it is missing or of another shape; [`Error::Ggml`] for a type
    /// that cannot be expanded.
    pub(crate) fn load(gguf: &Gguf, hyperparameters: &Hyperparameters) -> Result<Option<Self>> {
        let (mut weight, mut bias) = (Vec::new(), vec![0.0; hyperparameters.head.outputs]);
        let parts = find_in(gguf, hyperparameters)?;
        let parts = parts
            .into_iter()
            .filter(|(spec, _)| spec.entry.role == Role::TaskHead);
        for (spec, info) in parts {
            let elements = usize::try_from(spec.elements())
                .map_err(|_| Error::format(&*spec.name, "is too large"))?;
            let mut values = vec![0.0; elements];
            let columns = spec.columns() as usize;
            dequantize_rows(
                info.tensor_type,
                gguf.tensor_data(info),
                columns,
                &mut values,
            )?;
            if spec.shape.len() == 1 {
                bias = values;
            } else {
                weight = values;
            }
        }
        let head = Self {
            width: hyperparameters.n_embd,
            weight,
            bias,
        };
        Ok((!head.weight.is_empty()).then_some(head))
    }

    /// Numbers it gives for a row.
    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The outputs for `rows` (row-major `[n, width]`): row-major `[n, outputs]`. Sums are made in f64, so
    /// that their order does not show.
    pub(crate) fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32], weights: &[f32], bias: &f32| {
            let products = row
                .iter()
                .zip(weights)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            (products.sum::<f64>() + f64::from(*bias)) as f32
        };
        rows.chunks_exact(self.width)
            .flat_map(|row| {
                let matrix = self.weight.chunks_exact(self.width);
                matrix
                    .zip(&self.bias)
                    .map(move |(weights, bias)| dot(row, weights, bias))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_row() {
        let head = TaskHead {
            width: 2,
            weight: vec![1.0, 2.0, 3.0, 4.0, 0.5, 0.0],
            bias: vec![10.0, 0.0, -1.0],
        };
        assert_eq!(head.outputs(), 3);
        assert_eq!(
            head.apply(&[1.0, 1.0, 0.0, -1.0]),
            [13.0, 7.0, -0.5, 8.0, -4.0, -1.0]
        );
    }
}
