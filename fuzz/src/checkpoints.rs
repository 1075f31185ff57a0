//! Sources of a conversion: the weights of each format, their configuration, adapters.

use std::path::Path;

use gpt2::convert::{ConvertOptions, FileType, LoraAdapter, convert, plan};

use crate::files::{parts, path, with_zeros, write, write_once};
use crate::hostile::{bundle, hdf5, tiny};

/// Plans the conversion of a source, and does it when it can be.
fn attempt(source: &Path, adapters: Vec<LoraAdapter>) {
    let file_type = FileType::from_name("q8_0").expect("a type of ours");
    let options = ConvertOptions {
        threads: Some(1),
        overwrite: true,
        adapters,
        ..ConvertOptions::new(file_type)
    };
    if plan(source, &options).is_ok() {
        let _ = convert(source, &path("output.gguf"), &options, &());
    }
}

/// Puts the weights into a folder with the tiny model's configuration.
fn weights(name: &str, bytes: &[u8]) {
    write_once("source/config.json", tiny::config().to_string().as_bytes());
    write(&format!("source/{name}"), bytes);
    attempt(&path("source"), Vec::new());
}

pub fn safetensors(data: &[u8]) {
    weights("model.safetensors", &with_zeros(data));
}

pub fn pickle(data: &[u8]) {
    weights("pytorch_model.bin", data);
}

pub fn msgpack(data: &[u8]) {
    weights("flax_model.msgpack", data);
}

pub fn hdf5(data: &[u8]) {
    let files = hdf5::valid_hdf5();
    write_once("source/config.json", &files["config.json"]);
    write("source/tf_model.h5", data);
    attempt(&path("source"), Vec::new());
}

pub fn nanogpt(data: &[u8]) {
    write("source/ckpt.pt", data);
    attempt(&path("source/ckpt.pt"), Vec::new());
}

pub fn llm_c(data: &[u8]) {
    write("source/model.bin", &with_zeros(data));
    attempt(&path("source/model.bin"), Vec::new());
}

/// The first byte says whether the rest is a block of the index, which gets its checksum, or the
/// whole index.
pub fn tensorflow(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    write_once("source/config.json", tiny::config().to_string().as_bytes());
    write_once(
        "source/model.ckpt.data-00000-of-00001",
        &bundle::variables().1,
    );
    let index = if kind % 2 == 0 {
        bundle::seal(rest)
    } else {
        rest.to_vec()
    };
    write("source/model.ckpt.index", &index);
    attempt(&path("source"), Vec::new());
}

pub fn config(data: &[u8]) {
    let [config, generation, tokenizer, special] = parts(data);
    let files = tiny::checkpoint();
    for (name, bytes) in &files {
        write_once(&format!("source/{name}"), bytes);
    }
    write("source/config.json", config);
    write("source/generation_config.json", generation);
    write("source/tokenizer_config.json", tokenizer);
    write("source/special_tokens_map.json", special);
    attempt(&path("source"), Vec::new());
}

pub fn lora(data: &[u8]) {
    let [config, weights] = parts(data);
    for (name, bytes) in &tiny::checkpoint() {
        write_once(&format!("source/{name}"), bytes);
    }
    write("adapter/adapter_config.json", config);
    write("adapter/adapter_model.safetensors", &with_zeros(weights));
    let adapter = LoraAdapter {
        path: path("adapter"),
        scale: 0.5,
    };
    attempt(&path("source"), vec![adapter]);
}
