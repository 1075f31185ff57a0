//! The form of a checkpoint's matrices and biases, which is not transformers' own in every one.

use super::checkpoint_reader::CheckpointTensor;
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{Module, Part, TensorSpec, tensors};

/// How a checkpoint that is not transformers' own differs from one that is.
pub(super) struct Form {
    /// Whether its matrices are those of linear layers, `[out, in]`, instead of `Conv1D`'s.
    pub linear: bool,
    /// Whether its normalizations have no biases, in any layer.
    plain_norms: bool,
    /// Whether its matrices have no biases, in any layer.
    plain_matrices: bool,
}

impl Form {
    /// The matrix whose shape alone tells the orientation decides for all; biases are missing in
    /// every layer or in none.
    pub(super) fn of<'a>(
        hyperparameters: &Hyperparameters,
        from_gguf: bool,
        find: impl Fn(&TensorSpec) -> Option<&'a CheckpointTensor>,
    ) -> Self {
        let mut form = Self {
            linear: false,
            plain_norms: !from_gguf,
            plain_matrices: !from_gguf,
        };
        for spec in tensors(hyperparameters) {
            let tensor = find(&spec);
            match (spec.id.part, spec.id.module) {
                (Part::Bias, _) if tensor.is_none() => {}
                (Part::Bias, Module::AttnNorm | Module::FfnNorm | Module::OutputNorm) => {
                    form.plain_norms = false;
                }
                (Part::Bias, _) => form.plain_matrices = false,
                (Part::Weight, Module::AttnQkv) if spec.id.layer == Some(0) => {
                    let shape = tensor.map(CheckpointTensor::torch_shape);
                    let [columns, rows] = [0, 1].map(|axis| spec.shape.get(axis).copied());
                    form.linear = !from_gguf
                        && shape.is_some_and(|shape| {
                            shape.first().copied() == rows && shape.get(1).copied() == columns
                        });
                }
                (Part::Weight, _) => {}
            }
        }
        form
    }

    /// Whether a tensor is a bias that the checkpoint has nowhere.
    pub(super) fn is_zero(&self, spec: &TensorSpec) -> bool {
        spec.id.part == Part::Bias
            && match spec.id.module {
                Module::AttnNorm | Module::FfnNorm | Module::OutputNorm => self.plain_norms,
                Module::TaskHead => false,
                _ => self.plain_matrices,
            }
    }

    /// What the user should know of it.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.linear {
            notes.push(
                "the matrices are those of linear layers, [out, in] where GPT-2's Conv1D has \
                 [in, out], and were read as such"
                    .to_owned(),
            );
        }
        let lacking = match (self.plain_norms, self.plain_matrices) {
            (true, true) => "normalizations and matrices have",
            (true, false) => "normalizations have",
            (false, true) => "matrices have",
            (false, false) => return notes,
        };
        notes.push(format!(
            "the {lacking} no biases, which were written as zeros"
        ));
        notes
    }
}
