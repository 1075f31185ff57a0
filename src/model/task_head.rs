//! The head of a classifier, of question answering or of double heads: a small linear layer,
//! computed in f32 from hidden states, outside the graph.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::quant::dequantize_rows;
use crate::spec::tensor_table::Module;
use crate::spec::{Hyperparameters, ModelTensor, ModelTensors};

/// y = Wx + b for each row x of hidden states.
#[derive(Debug)]
pub(crate) struct TaskHead {
    n_embd: usize,
    /// Row-major `[outputs, n_embd]`.
    weight: Vec<f32>,
    /// `[outputs]`; zeros for a head without.
    bias: Vec<f32>,
}

impl TaskHead {
    /// Reads the head of `gguf`, if its class has one.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor is too large; [`Error::Ggml`] for a type that cannot be
    /// dequantized.
    pub(crate) fn load(
        gguf: &Gguf,
        tensors: &ModelTensors<'_>,
        hyperparameters: &Hyperparameters,
    ) -> Result<Option<Self>> {
        let (mut weight, mut bias) = (Vec::new(), vec![0.0; hyperparameters.head.outputs]);
        let parts = tensors
            .all()
            .iter()
            .filter(|tensor| tensor.spec.id.module == Module::TaskHead);
        for ModelTensor { spec, info } in parts {
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
            if spec.is_vector() {
                bias = values;
            } else {
                weight = values;
            }
        }
        let head = Self {
            n_embd: hyperparameters.n_embd,
            weight,
            bias,
        };
        Ok((!head.weight.is_empty()).then_some(head))
    }

    /// Outputs for a row.
    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The outputs for `rows` (row-major `[n, n_embd]`): row-major `[n, outputs]`. Sums are in f64,
    /// so that their order does not matter.
    pub(crate) fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32], weights: &[f32], bias: &f32| {
            let products = row
                .iter()
                .zip(weights)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            (products.sum::<f64>() + f64::from(*bias)) as f32
        };
        rows.chunks_exact(self.n_embd)
            .flat_map(|row| {
                let matrix = self.weight.chunks_exact(self.n_embd);
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
    fn outputs_of_each_row() {
        let head = TaskHead {
            n_embd: 2,
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
