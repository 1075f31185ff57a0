//! Small checkpoints written by the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gpt2::spec::Hyperparameters;
use gpt2::spec::tensor_table::tensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

/// A tensor: shape, row-major, and f32 elements.
pub(crate) type Tensor = (Vec<usize>, Vec<f32>);

/// A checkpoint before it is written.
pub(crate) struct Checkpoint {
    pub(crate) config: serde_json::Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// A model of the given width with weights that differ from one another.
    pub(crate) fn new(width: usize, layers: usize, tied: bool) -> Self {
        let model = Hyperparameters {
            vocab_size: 37,
            n_positions: 16,
            n_embd: width,
            n_layer: layers,
            n_head: 2,
            n_inner: 2 * width,
            tied_head: tied,
            ..Hyperparameters::default()
        };
        let tensors = tensors(&model)
            .enumerate()
            .map(|(number, spec)| {
                let path = spec.checkpoint_paths().next().unwrap();
                let name = if path.starts_with("lm_head") {
                    path
                } else {
                    format!("transformer.{path}")
                };
                let shape: Vec<usize> = spec
                    .checkpoint_shape()
                    .iter()
                    .map(|axis| *axis as usize)
                    .collect();
                let elements = (0..spec.elements())
                    .map(|index| ((index as f32 + 1.3) * (number as f32 + 0.7) * 0.37).sin() * 0.1)
                    .collect();
                (name, (shape, elements))
            })
            .collect();
        Self {
            config: serde_json::json!({
                "model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": 2,
                "n_inner": 2 * width, "n_positions": 16, "vocab_size": 37,
                "tie_word_embeddings": tied, "bos_token_id": 36, "eos_token_id": 36,
            }),
            tensors,
        }
    }

    /// Writes it as one file.
    pub(crate) fn write(&self, folder: &Path) {
        self.write_config(folder);
        write_file(&folder.join("model.safetensors"), self.tensors.iter());
    }

    /// Writes it as two shards with an index.
    pub(crate) fn write_sharded(&self, folder: &Path) {
        self.write_config(folder);
        let half = self.tensors.len() / 2;
        let names = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        write_file(&folder.join(names[0]), self.tensors.iter().take(half));
        write_file(&folder.join(names[1]), self.tensors.iter().skip(half));
        let map: serde_json::Map<String, serde_json::Value> = self
            .tensors
            .keys()
            .enumerate()
            .map(|(number, name)| (name.clone(), names[usize::from(number >= half)].into()))
            .collect();
        let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
        fs::write(
            folder.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
    }

    fn write_config(&self, folder: &Path) {
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }
}

/// Writes tensors into one file.
pub(crate) fn write_file<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, (shape, elements))| {
            let bytes = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap(),
        )
    });
    serialize_to_file(views, None, path).unwrap();
}
