//! A tiny valid GPT-2, as a GGUF file and as a checkpoint's folder. Hostile files are this one,
//! changed.

use std::collections::BTreeMap;

use gpt2::gguf::{GgufHeader, TensorType, Value};
use gpt2::quant::quantize_rows;
use gpt2::spec::Hyperparameters;
use gpt2::spec::tensor_table::{TensorSpec, tensors};
use serde_json::{Map, Value as Json, json};

use super::random::Random;

/// The id of `<|endoftext|>`; before it are 256 bytes and three merged tokens.
pub(crate) const END: u32 = 259;
/// Merges, and so tokens 256 to 258.
const MERGES: [&str; 3] = ["t h", "th e", "Ġ the"];

/// Sizes that take every path: heads of 16, rows of one block of 32.
pub(crate) fn hyperparameters() -> Hyperparameters {
    Hyperparameters {
        vocab_size: END as usize + 1,
        n_positions: 16,
        n_embd: 32,
        n_layer: 2,
        n_head: 2,
        n_inner: 64,
        bos: Some(END),
        eos: vec![END],
        ..Hyperparameters::default()
    }
}

/// A GGUF file in parts.
#[derive(Debug, Clone)]
pub(crate) struct TinyModel {
    pub(crate) pairs: Vec<(String, Value)>,
    pub(crate) tensors: Vec<TinyTensor>,
}

#[derive(Debug, Clone)]
pub(crate) struct TinyTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) tensor_type: TensorType,
    pub(crate) data: Vec<u8>,
}

impl TinyModel {
    /// Random weights; matrices of `matrix_type` where their columns are whole blocks of it.
    pub(crate) fn new(hyperparameters: &Hyperparameters, matrix_type: TensorType) -> Self {
        let mut header = GgufHeader::new();
        hyperparameters.write_to(&mut header).unwrap();
        let mut random = Random(1);
        let mut pairs = header.pairs().to_vec();
        pairs.extend(tokenizer_pairs());
        let tensor = |spec: TensorSpec| {
            let fits = spec
                .columns()
                .is_multiple_of(matrix_type.block_size() as u64);
            let is_matrix = spec.shape.len() > 1 && spec.name != "position_embd.weight";
            let tensor_type = if is_matrix && fits {
                matrix_type
            } else {
                TensorType::F32
            };
            let numbers = weights(&spec, &mut random);
            TinyTensor {
                data: encode(tensor_type, &numbers, spec.columns() as usize),
                name: spec.name,
                shape: spec.shape,
                tensor_type,
            }
        };
        Self {
            pairs,
            tensors: tensors(hyperparameters).map(tensor).collect(),
        }
    }

    pub(crate) fn tiny() -> Self {
        Self::new(&hyperparameters(), TensorType::Q8_0)
    }

    /// Gives `key` another value, or one it had not.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.pairs.retain(|(known, _)| known != key);
        self.pairs.push((key.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.pairs.retain(|(known, _)| known != key);
        self
    }

    pub(crate) fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub(crate) fn change(mut self, name: &str, change: impl FnOnce(&mut TinyTensor)) -> Self {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        change(tensor.expect("a tensor of the model"));
        self
    }

    /// Stores a tensor as another type: of the same numbers nothing is left but how many there are.
    pub(crate) fn retype(self, name: &str, tensor_type: TensorType) -> Self {
        self.change(name, |tensor| {
            tensor.tensor_type = tensor_type;
            tensor.data = zeros(tensor_type, &tensor.shape);
        })
    }

    /// Gives a tensor another shape, with as much data as that needs.
    pub(crate) fn reshape(self, name: &str, shape: &[u64]) -> Self {
        self.change(name, |tensor| {
            tensor.shape = shape.to_vec();
            tensor.data = zeros(tensor.tensor_type, shape);
        })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = GgufHeader::new();
        for (key, value) in &self.pairs {
            header.set(key.as_str(), value.clone()).unwrap();
        }
        for tensor in &self.tensors {
            header
                .tensor(tensor.name.as_str(), &tensor.shape, tensor.tensor_type)
                .unwrap();
        }
        let alignment = header.alignment() as usize;
        let mut bytes = header.encode();
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
            bytes.extend_from_slice(&tensor.data);
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        bytes
    }
}

fn zeros(tensor_type: TensorType, shape: &[u64]) -> Vec<u8> {
    let row = tensor_type.row_bytes(shape[0]).unwrap();
    vec![0; (row * shape[1..].iter().product::<u64>()) as usize]
}

fn weights(spec: &TensorSpec, random: &mut Random) -> Vec<f32> {
    let mean = if spec.name.ends_with("norm.weight") {
        1.0
    } else {
        0.0
    };
    (0..spec.elements())
        .map(|_| mean + 0.3 * random.number())
        .collect()
}

fn encode(tensor_type: TensorType, numbers: &[f32], columns: usize) -> Vec<u8> {
    let row = tensor_type.row_bytes(columns as u64).unwrap() as usize;
    let mut bytes = vec![0; numbers.len() / columns * row];
    quantize_rows(tensor_type, numbers, columns, None, &mut bytes).unwrap();
    bytes
}

/// The 256 bytes in GPT-2's alphabet, the merged tokens, the end.
pub(crate) fn tokens() -> Vec<String> {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printed = (0..=255)
        .filter(printable)
        .map(|byte| char::from(byte).to_string());
    let shifted = (256..324).filter_map(char::from_u32).map(String::from);
    printed
        .chain(shifted)
        .chain(MERGES.map(|merge| merge.replace(' ', "")))
        .chain(["<|endoftext|>".to_owned()])
        .collect()
}

pub(crate) fn tokenizer_pairs() -> Vec<(String, Value)> {
    let mut types = vec![1_i32; END as usize];
    types.push(3);
    let pair = |key: &str, value: Value| (format!("tokenizer.ggml.{key}"), value);
    vec![
        pair("model", "gpt2".into()),
        pair("pre", "gpt-2".into()),
        pair("tokens", tokens().into()),
        pair("token_type", types.into()),
        pair("merges", MERGES.map(str::to_owned).to_vec().into()),
    ]
}

/// Files of a folder by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The same model as a checkpoint.
pub(crate) fn checkpoint() -> Files {
    let files = [
        ("config.json", config().to_string().into_bytes()),
        ("model.safetensors", TinySafetensors::tiny().bytes()),
        ("tokenizer.json", tokenizer_json().to_string().into_bytes()),
    ];
    files
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into_iter()
        .collect()
}

pub(crate) fn config() -> Json {
    let model = hyperparameters();
    json!({
        "model_type": "gpt2",
        "vocab_size": model.vocab_size,
        "n_positions": model.n_positions,
        "n_embd": model.n_embd,
        "n_layer": model.n_layer,
        "n_head": model.n_head,
        "n_inner": model.n_inner,
        "bos_token_id": END,
        "eos_token_id": END,
    })
}

pub(crate) fn vocabulary_json() -> Json {
    let ids: Map<String, Json> = tokens().into_iter().zip((0..).map(Json::from)).collect();
    Json::Object(ids)
}

pub(crate) fn merges_txt() -> String {
    format!("#version: 0.2\n{}\n", MERGES.join("\n"))
}

pub(crate) fn tokenizer_json() -> Json {
    json!({
        "version": "1.0",
        "added_tokens": [{
            "id": END, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "trim_offsets": false},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "vocab": vocabulary_json(),
            "merges": MERGES,
        },
    })
}

/// A safetensors file in parts.
#[derive(Debug, Clone)]
pub(crate) struct TinySafetensors {
    pub(crate) header: Map<String, Json>,
    pub(crate) data: Vec<u8>,
}

impl TinySafetensors {
    pub(crate) fn tiny() -> Self {
        let mut random = Random(1);
        let mut file = Self {
            header: Map::new(),
            data: Vec::new(),
        };
        for spec in tensors(&hyperparameters()) {
            let numbers = weights(&spec, &mut random);
            let start = file.data.len();
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            file.data.extend(bytes);
            let path = spec.checkpoint_paths().next().unwrap();
            let entry = json!({
                "dtype": "F32",
                "shape": spec.checkpoint_shape(),
                "data_offsets": [start, file.data.len()],
            });
            file.header.insert(path, entry);
        }
        file
    }

    pub(crate) fn entry(mut self, name: &str, field: &str, value: Json) -> Self {
        self.header[name][field] = value;
        self
    }

    pub(crate) fn rename(mut self, from: &str, to: &str) -> Self {
        let entry = self.header.remove(from).unwrap();
        self.header.insert(to.to_owned(), entry);
        self
    }

    /// Describes another tensor, whose data is put behind the others'.
    pub(crate) fn add(mut self, name: &str, shape: &[u64]) -> Self {
        let start = self.data.len();
        let bytes = 4 * shape.iter().product::<u64>() as usize;
        self.data.resize(start + bytes, 0);
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + bytes]});
        self.header.insert(name.to_owned(), entry);
        self
    }

    /// Overwrites the first number of a tensor.
    pub(crate) fn number(mut self, name: &str, number: f32) -> Self {
        let start = self.header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        self.data[start..start + 4].copy_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        with_header(
            Json::Object(self.header.clone()).to_string().as_bytes(),
            &self.data,
        )
    }
}

/// A safetensors file of any header.
pub(crate) fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}
