//! Broken `config.json` and `generation_config.json`.

use serde_json::{Value as Json, json};

use super::tiny::{Files, config};
use super::{FolderCase, HostileFolder, folders, lacking, with};

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// Folders whose configuration is refused.
pub(crate) fn config_cases() -> Vec<HostileFolder> {
    let tables = [files(), types(), values(), weights()];
    folders(tables.into_iter().flatten())
}

fn file(bytes: impl Into<Vec<u8>>) -> Files {
    with(CONFIG, bytes)
}

/// The valid configuration with one field set.
fn field(name: &str, value: Json) -> Files {
    let mut config = config();
    config[name] = value;
    file(config.to_string())
}

/// The valid configuration with one field set to JSON that need not be valid.
fn raw_field(name: &str, value: &str) -> Files {
    let config = config().to_string();
    file(config.replacen('{', &format!("{{\"{name}\": {value},"), 1))
}

fn files() -> Vec<FolderCase> {
    let mut zeros = config().to_string().into_bytes();
    zeros.extend_from_slice(&[0; 64]);
    vec![
        (
            "no configuration",
            lacking(CONFIG),
            "no config.json beside the weights",
        ),
        (
            "empty configuration",
            file(""),
            "config.json: the file is empty",
        ),
        (
            "configuration of spaces",
            file(" \n "),
            "config.json: the file is empty",
        ),
        (
            "configuration that is no JSON",
            file("n_embd = 32"),
            "config.json: expected",
        ),
        (
            "configuration that is a list",
            file("[]"),
            "expected a JSON object, found an array",
        ),
        (
            "configuration that is null",
            file("null"),
            "expected a JSON object, found null",
        ),
        (
            "configuration that is a number",
            file("1e3"),
            "expected a JSON object, found a number",
        ),
        (
            "configuration cut in the middle",
            file(&config().to_string()[..40]),
            "config.json: EOF",
        ),
        (
            "configuration with zeros behind",
            file(zeros),
            "config.json: trailing characters",
        ),
        (
            "configuration not in UTF-8",
            file(*b"{\"n_embd\xFF\": 32}"),
            "config.json: ",
        ),
        (
            "configuration in UTF-16",
            file(*b"\xFF\xFE{\0}\0"),
            "byte order mark of UTF-16",
        ),
        (
            "configuration nested 100000 times",
            file("[".repeat(100_000)),
            "recursion limit",
        ),
        (
            "objects nested 100000 times",
            file("{\"a\":".repeat(100_000)),
            "recursion limit",
        ),
        (
            "a field nested 100000 times",
            raw_field("id2label", &"[".repeat(100_000)),
            "recursion limit",
        ),
        (
            "generation settings that are no JSON",
            with(GENERATION, "{"),
            "generation_config.json: EOF",
        ),
        (
            "generation settings that are a list",
            with(GENERATION, "[]"),
            "found an array",
        ),
        (
            "generation settings that end with text",
            with(GENERATION, r#"{"eos_token_id": "the end"}"#),
            "eos_token_id: expected a token id",
        ),
    ]
}

fn types() -> Vec<FolderCase> {
    let long = "x".repeat(1 << 20);
    vec![
        (
            "layers as text",
            field("n_layer", json!("2")),
            "n_layer: expected a positive integer",
        ),
        (
            "width as a fraction",
            field("n_embd", json!(32.5)),
            "n_embd: expected a positive integer, found 32.5",
        ),
        (
            "heads as a list",
            field("n_head", json!([2])),
            "n_head: expected a positive integer",
        ),
        (
            "positions as an object",
            field("n_positions", json!({})),
            "n_positions: expected",
        ),
        (
            "vocabulary as true",
            field("vocab_size", json!(true)),
            "vocab_size: expected",
        ),
        (
            "width as a text of a megabyte",
            field("n_embd", json!(long)),
            "n_embd: expected",
        ),
        (
            "width as text with control characters",
            field("n_embd", json!("\u{7}\u{1b}[2J\r\n")),
            "n_embd: expected",
        ),
        (
            "epsilon as text",
            field("layer_norm_epsilon", json!("1e-5")),
            "layer_norm_epsilon: expected a number",
        ),
        (
            "activation as a list",
            field("activation_function", json!(["gelu"])),
            "activation_function: expected a string",
        ),
        (
            "model type as a number",
            field("model_type", json!(2)),
            "model_type: expected a string",
        ),
        (
            "scaling as text",
            field("scale_attn_weights", json!("yes")),
            "expected true or false",
        ),
        (
            "end token as text",
            field("eos_token_id", json!("end")),
            "eos_token_id: expected a token id",
        ),
        (
            "end token of minus two",
            field("eos_token_id", json!(-2)),
            "expected a token id, found -2",
        ),
        (
            "end token beyond 32 bits",
            field("eos_token_id", json!(1_u64 << 32)),
            "expected a token id",
        ),
        (
            "end tokens in lists",
            field("eos_token_id", json!([[1]])),
            "expected a token id, found [1]",
        ),
    ]
}

fn values() -> Vec<FolderCase> {
    vec![
        (
            "three heads of 32",
            field("n_head", json!(3)),
            "n_embd 32 is not a multiple of n_head 3",
        ),
        (
            "no heads",
            field("n_head", json!(0)),
            "n_head: expected a positive integer, found 0",
        ),
        ("no layers", field("n_layer", json!(0)), "n_layer: expected"),
        ("negative layers", field("n_layer", json!(-2)), "found -2"),
        ("no width", field("n_embd", json!(0)), "n_embd: expected"),
        (
            "no positions",
            field("n_positions", json!(0)),
            "n_positions: expected",
        ),
        (
            "inner width of 0",
            field("n_inner", json!(0)),
            "n_inner: expected",
        ),
        (
            "2^40 layers",
            field("n_layer", json!(1_u64 << 40)),
            "n_layer: expected 1 to 4096",
        ),
        (
            "width of 2^60",
            field("n_embd", json!(1_u64 << 60)),
            "n_embd: expected 1 to 16777216",
        ),
        (
            "positions of 2^64-1",
            field("n_positions", json!(u64::MAX)),
            "n_positions: expected",
        ),
        (
            "heads of 2^63",
            field("n_head", json!(1_u64 << 63)),
            "n_head: expected",
        ),
        (
            "width of 10^30",
            raw_field("hidden_size", &format!("1{}", "0".repeat(30))),
            "its other name hidden_size is 1e+30",
        ),
        (
            "width of 10^400",
            raw_field("hidden_size", "1e400"),
            "number out of range",
        ),
        (
            "width under two names",
            field("hidden_size", json!(64)),
            "but its other name hidden_size is 64",
        ),
        (
            "epsilon 0",
            field("layer_norm_epsilon", json!(0)),
            "layer_norm_epsilon",
        ),
        (
            "negative epsilon",
            field("layer_norm_epsilon", json!(-1e-5)),
            "layer_norm_epsilon",
        ),
        (
            "epsilon too small for f32",
            field("layer_norm_epsilon", json!(1e-60)),
            "layer_norm_epsilon",
        ),
        (
            "epsilon too large for f32",
            field("layer_norm_epsilon", json!(1e60)),
            "layer_norm_epsilon",
        ),
        (
            "unknown activation",
            field("activation_function", json!("geglu")),
            "geglu",
        ),
        (
            "another model",
            field("model_type", json!("llama")),
            "model_type 'llama'; only 'gpt2'",
        ),
        (
            "cross-attention",
            field("add_cross_attention", json!(true)),
            "add_cross_attention (cross-attention layers)",
        ),
        (
            "pruned heads",
            field("pruned_heads", json!({"0": [1]})),
            "pruned_heads",
        ),
        (
            "weights quantized by another program",
            field("quantization_config", json!({"bits": 4})),
            "weights quantized by another library",
        ),
    ]
}

/// Configurations of other weights.
fn weights() -> Vec<FolderCase> {
    vec![
        (
            "one layer more than there is",
            field("n_layer", json!(3)),
            "missing from the checkpoint",
        ),
        (
            "4096 layers",
            field("n_layer", json!(4096)),
            "missing from the checkpoint",
        ),
        (
            "one layer less than there is",
            field("n_layer", json!(1)),
            "has no such tensor",
        ),
        (
            "twice the width",
            field("n_embd", json!(64)),
            "expected shape [260, 64]",
        ),
        (
            "fewer positions",
            field("n_positions", json!(8)),
            "expected shape [8, 32]",
        ),
        (
            "16777216 positions",
            field("n_positions", json!(1 << 24)),
            "expected shape [16777216, 32]",
        ),
        (
            "another inner width",
            field("n_inner", json!(128)),
            "expected shape [32, 128]",
        ),
        (
            "a head of its own",
            field("tie_word_embeddings", json!(false)),
            "lm_head.weight",
        ),
    ]
}
