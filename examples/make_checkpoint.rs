//! Makes a GPT-2 checkpoint with random weights, for measurements: speed and memory do not depend
//! on what the weights are.
//!
//! ```text
//! cargo run --release --example make_checkpoint -- gpt2-xl /tmp/gpt2-xl [FOLDER WITH TOKENIZER]
//! ```

use std::error::Error;
use std::f32::consts::TAU;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use gpt2::spec::Hyperparameters;
use gpt2::spec::tensor_table::{Module, Part, TensorSpec, tensors};
use serde_json::{Map, json};

/// Name, layers, width and heads of the models that can be made.
const SHAPES: &[(&str, usize, usize, usize)] = &[
    ("distilgpt2", 6, 768, 12),
    ("gpt2", 12, 768, 12),
    ("gpt2-medium", 24, 1024, 16),
    ("gpt2-large", 36, 1280, 20),
    ("gpt2-xl", 48, 1600, 25),
];

/// Files of a tokenizer, copied as they are.
const TOKENIZER_FILES: &[&str] = &[
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Standard deviation of GPT-2's initial weights.
const DEVIATION: f32 = 0.02;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (shape, folder, tokenizer) = match arguments.as_slice() {
        [shape, folder] => (shape, Path::new(folder), None),
        [shape, folder, tokenizer] => (shape, Path::new(folder), Some(Path::new(tokenizer))),
        _ => return Err("usage: make_checkpoint SHAPE FOLDER [TOKENIZER_FOLDER]".into()),
    };
    let (_, layers, width, heads) = SHAPES
        .iter()
        .find(|(name, ..)| name == shape)
        .ok_or_else(|| format!("unknown shape '{shape}'"))?;
    let model = Hyperparameters {
        vocab_size: 50257,
        n_positions: 1024,
        n_embd: *width,
        n_layer: *layers,
        n_head: *heads,
        n_inner: 4 * width,
        ..Hyperparameters::default()
    };
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), configuration(&model))?;
    if let Some(tokenizer) = tokenizer {
        for name in TOKENIZER_FILES {
            if tokenizer.join(name).exists() {
                fs::write(folder.join(name), fs::read(tokenizer.join(name))?)?;
            }
        }
    }
    write_weights(&folder.join("model.safetensors"), &model)
}

fn configuration(model: &Hyperparameters) -> String {
    format!(
        "{:#}\n",
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": model.activation_function.name(),
            "layer_norm_epsilon": 1e-5,
            "vocab_size": model.vocab_size,
            "n_positions": model.n_positions,
            "n_embd": model.n_embd,
            "n_layer": model.n_layer,
            "n_head": model.n_head,
            "bos_token_id": 50256,
            "eos_token_id": 50256,
        })
    )
}

fn write_weights(path: &Path, model: &Hyperparameters) -> Result<(), Box<dyn Error>> {
    let mut header = Map::new();
    let mut offset = 0;
    for spec in tensors(model) {
        let end = offset + 4 * spec.elements();
        header.insert(
            name(&spec),
            json!({
                "dtype": "F32",
                "shape": spec.checkpoint_shape(),
                "data_offsets": [offset, end],
            }),
        );
        offset = end;
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    file.write_all(&(json.len() as u64).to_le_bytes())?;
    file.write_all(&json)?;
    let mut random = Random(0x0123_4567_89ab_cdef);
    for spec in tensors(model) {
        let is_norm = matches!(
            spec.id.module,
            Module::AttnNorm | Module::FfnNorm | Module::OutputNorm
        );
        let is_scale = is_norm && spec.id.part == Part::Weight;
        let mean = if is_scale { 1.0 } else { 0.0 };
        for _ in 0..spec.elements().div_ceil(2) {
            for number in random.normal_pair() {
                file.write_all(&(mean + DEVIATION * number).to_le_bytes())?;
            }
        }
    }
    file.flush()?;
    Ok(())
}

fn name(spec: &TensorSpec) -> String {
    let path = spec.checkpoint_paths().next().unwrap_or_default();
    format!("transformer.{path}")
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    /// A number above 0 and at most 1.
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) + 1) as f32 / (1 << 24) as f32
    }

    /// Two numbers of a standard normal distribution (Box and Muller).
    fn normal_pair(&mut self) -> [f32; 2] {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sine, cosine) = (TAU * self.uniform()).sin_cos();
        [radius * cosine, radius * sine]
    }
}
