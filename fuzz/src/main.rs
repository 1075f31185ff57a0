//! Fuzz targets: one program, in which `GPT2_FUZZ_TARGET` names the target. `.ci/fuzz.sh` builds it
//! with coverage and AddressSanitizer, and runs each. With `GPT2_FUZZ_SEEDS` it only writes the
//! inputs to start from into that folder.
//!
//! A target takes any bytes. A panic, an abort, a hang, a leak or too much memory is a finding;
//! an error that is returned is none.

#![no_main]

mod checkpoints;
mod commands;
mod files;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;
mod models;
mod seeds;
mod texts;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// What is done with the bytes.
type Target = fn(&[u8]);

/// Every target by its name.
const TARGETS: &[(&str, Target)] = &[
    ("gguf", models::gguf),
    ("model", models::model),
    ("safetensors", checkpoints::safetensors),
    ("pickle", checkpoints::pickle),
    ("nanogpt", checkpoints::nanogpt),
    ("llm_c", checkpoints::llm_c),
    ("hdf5", checkpoints::hdf5),
    ("msgpack", checkpoints::msgpack),
    ("tensorflow", checkpoints::tensorflow),
    ("config", checkpoints::config),
    ("lora", checkpoints::lora),
    ("tokenizer", texts::tokenizer),
    ("chat", texts::chat),
    ("generate_command", commands::gpt2),
    ("convert_command", commands::gpt2_convert),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("GPT2_FUZZ_TARGET").unwrap_or_default();
    let known = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    known
        .unwrap_or_else(|| panic!("GPT2_FUZZ_TARGET must be one of {}", names.join(", ")))
        .1
});

fuzz_target!(
    init: if let Some(folder) = std::env::var_os("GPT2_FUZZ_SEEDS") {
        seeds::write(Path::new(&folder));
        std::process::exit(0);
    },
    |data: &[u8]| TARGET(data)
);
