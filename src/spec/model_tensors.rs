//! The tensors of a model in a GGUF file, found once and checked against the table.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{TensorId, TensorSpec, tensors};

/// A tensor of a model in a file.
#[derive(Debug, Clone)]
pub struct ModelTensor<'file> {
    /// What the model says of it.
    pub spec: TensorSpec,
    /// What the file says of it.
    pub info: &'file TensorInfo,
}

/// Every tensor of a model in a file, in the table's order.
#[derive(Debug, Clone)]
pub struct ModelTensors<'file> {
    all: Vec<ModelTensor<'file>>,
}

impl<'file> ModelTensors<'file> {
    /// Finds the tensors and checks their shapes. Of the others, those of a head that the model's
    /// class does not use are ignored.
    ///
    /// # Errors
    /// [`Error::Format`] naming the first tensor that is missing or has another shape;
    /// [`Error::Unsupported`] for one that no GPT-2 has: without it the model would be another
    /// function.
    pub fn find(gguf: &'file Gguf, hyperparameters: &Hyperparameters) -> Result<Self> {
        let all: Vec<ModelTensor<'file>> = tensors(hyperparameters)
            .map(|spec| {
                let info = gguf
                    .tensor(&spec.name)
                    .ok_or_else(|| Error::format(format!("tensor {}", spec.name), "missing"))?;
                if without_trailing_ones(&info.shape) != without_trailing_ones(&spec.shape) {
                    return Err(Error::format(
                        format!("tensor {}", spec.name),
                        format!("expected shape {:?}, found {:?}", spec.shape, info.shape),
                    ));
                }
                Ok(ModelTensor { spec, info })
            })
            .collect::<Result<_>>()?;
        if all.len() < gguf.tensors().len() {
            let known: HashSet<&str> = all.iter().map(|one| one.spec.name.as_str()).collect();
            let is_head = |name: &str| name == "output.weight" || name.starts_with("cls.");
            let mut names = gguf.tensors().iter().map(|info| info.name.as_str());
            if let Some(other) = names.find(|name| !known.contains(name) && !is_head(name)) {
                return Err(Error::Unsupported(format!(
                    "tensor {other}: no GPT-2 has it, and without it the results would be others"
                )));
            }
        }
        Ok(Self { all })
    }

    /// The tensors in the table's order.
    pub fn all(&self) -> &[ModelTensor<'file>] {
        &self.all
    }

    /// The tensor with this id, if the model has it.
    pub fn get(&self, id: TensorId) -> Option<&ModelTensor<'file>> {
        self.all.iter().find(|tensor| tensor.spec.id == id)
    }
}

/// A shape without its trailing axes of size 1: some writers keep them, some do not.
fn without_trailing_ones(shape: &[u64]) -> &[u64] {
    let significant = shape
        .iter()
        .rposition(|&size| size != 1)
        .map_or(0, |last| last + 1);
    shape.get(..significant).unwrap_or(shape)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gguf::{GgufHeader, TensorType};
    use crate::spec::tensor_table::Module;

    fn small() -> Hyperparameters {
        Hyperparameters {
            vocab_size: 5,
            n_positions: 4,
            n_embd: 6,
            n_layer: 2,
            n_head: 2,
            n_inner: 8,
            tied_head: false,
            ..Hyperparameters::default()
        }
    }

    /// A file of the model with all weights zero.
    fn file() -> Gguf {
        let mut header = GgufHeader::new();
        for spec in tensors(&small()) {
            header
                .tensor(spec.name, &spec.shape, TensorType::F32)
                .unwrap();
        }
        let mut bytes = header.encode();
        bytes.resize(header.total_bytes() as usize, 0);
        Gguf::parse(Arc::new(bytes)).unwrap()
    }

    #[test]
    fn every_tensor_is_found_by_its_id() {
        let gguf = file();
        let found = ModelTensors::find(&gguf, &small()).unwrap();
        assert_eq!(found.all().len(), 4 + 2 * 12 + 1);
        let up = found.get(TensorId::weight(Some(1), Module::FfnUp)).unwrap();
        assert_eq!(up.info.name, "blk.1.ffn_up.weight");
        assert!(found.get(TensorId::TASK_HEAD).is_none());
    }

    #[test]
    fn a_tensor_of_another_shape_is_named() {
        let wider = Hyperparameters {
            n_inner: 16,
            ..small()
        };
        let message = ModelTensors::find(&file(), &wider).unwrap_err().to_string();
        assert!(message.contains("blk.0.ffn_up.weight"), "{message}");
    }

    #[test]
    fn a_tensor_that_no_gpt2_has_is_refused_and_another_head_is_not() {
        for (name, taken) in [
            ("cls.output.weight", true),
            ("token_embd_norm.weight", false),
        ] {
            let mut header = GgufHeader::new();
            for spec in tensors(&small()) {
                header
                    .tensor(spec.name, &spec.shape, TensorType::F32)
                    .unwrap();
            }
            header.tensor(name, &[6], TensorType::F32).unwrap();
            let mut bytes = header.encode();
            bytes.resize(header.total_bytes() as usize, 0);
            let gguf = Gguf::parse(Arc::new(bytes)).unwrap();
            let found = ModelTensors::find(&gguf, &small());
            assert_eq!(found.is_ok(), taken, "{name}");
            if let Err(error) = found {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn trailing_ones_do_not_count() {
        assert_eq!(without_trailing_ones(&[768, 1, 1]), [768]);
        assert_eq!(without_trailing_ones(&[1, 768]), [1, 768]);
        assert!(without_trailing_ones(&[1]).is_empty());
    }
}
