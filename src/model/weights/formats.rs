//! The tensor types that this library has kernels for.

use crate::gguf::TensorType;
use crate::spec::tensor_table::Module;
use crate::spec::{Hyperparameters, ModelTensors};
use gpt2_kernels::linear;

/// The tensor types that the kernels multiply, and their names there.
const FORMATS: [(TensorType, linear::Format); 15] = [
    (TensorType::F32, linear::Format::F32),
    (TensorType::BF16, linear::Format::Bf16),
    (TensorType::F16, linear::Format::F16),
    (TensorType::Q4_0, linear::Format::Q4_0),
    (TensorType::Q4_1, linear::Format::Q4_1),
    (TensorType::Q5_0, linear::Format::Q5_0),
    (TensorType::Q5_1, linear::Format::Q5_1),
    (TensorType::Q8_0, linear::Format::Q8_0),
    (TensorType::Q2_K, linear::Format::Q2K),
    (TensorType::Q3_K, linear::Format::Q3K),
    (TensorType::Q4_K, linear::Format::Q4K),
    (TensorType::Q5_K, linear::Format::Q5K),
    (TensorType::Q6_K, linear::Format::Q6K),
    (TensorType::IQ4_NL, linear::Format::Iq4Nl),
    (TensorType::IQ4_XS, linear::Format::Iq4Xs),
];

/// The kernels' format of a type, if they have one.
pub(super) fn format_of(tensor_type: TensorType) -> Option<linear::Format> {
    let found = FORMATS.iter().find(|(known, _)| *known == tensor_type);
    found.map(|(_, format)| *format)
}

/// The tensor type of a format of the kernels.
pub(in crate::model) fn type_of(format: linear::Format) -> TensorType {
    let found = FORMATS.iter().find(|(_, known)| *known == format);
    found.map_or(TensorType::F32, |(tensor_type, _)| *tensor_type)
}

/// Whether this library has kernels for every matrix that is multiplied.
pub(crate) fn all_can_be_packed(
    tensors: &ModelTensors<'_>,
    hyperparameters: &Hyperparameters,
) -> bool {
    let tied = hyperparameters.predicts_tokens() && hyperparameters.tied_head;
    tensors.all().iter().all(|tensor| {
        let multiplied = match tensor.spec.id.module {
            Module::PositionEmbedding | Module::TaskHead => false,
            Module::TokenEmbedding => tied,
            _ => !tensor.spec.is_vector(),
        };
        let columns = tensor.spec.columns() as usize;
        let format = format_of(tensor.info.tensor_type);
        !multiplied || format.is_some_and(|format| format.is_fast(columns))
    })
}
