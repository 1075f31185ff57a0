//! The whole way, checkpoint → `gpt2-convert` → `gpt2`, against transformers' results.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::run::run_with;

/// The demo checkpoint, converted to f32.
pub(crate) fn model() -> &'static str {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    let path = MODEL.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("austen-f32.gguf");
        let status = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../models/austen-gpt2"
            ))
            .args(["--type", "f32", "--force", "-o"])
            .arg(&path)
            .status();
        assert!(status.expect("gpt2-convert starts").success());
        path
    });
    path.to_str().expect("a path in UTF-8")
}

/// transformers' results for that checkpoint.
fn reference() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/austen/reference.json"
    );
    let text = std::fs::read_to_string(path).expect("the reference is there");
    serde_json::from_str(&text).expect("the reference is JSON")
}

/// Generates from each prompt of the reference and compares with its `entry`.
fn compare(entry: &str, arguments: &str) {
    for prompt in reference()["prompts"].as_array().unwrap() {
        let text = prompt["prompt"].as_str().unwrap();
        let mut all = vec!["generate", "-m", model(), "-p", text, "--json"];
        all.extend(arguments.split_whitespace());
        let document = run_with(&all).json();
        assert_eq!(document["prompt_ids"], prompt["ids"]);
        assert_eq!(
            document["sequences"][0]["ids"], prompt[entry]["ids"],
            "{text}"
        );
        // The reference decodes the end of the text too; here it is an id and no text.
        let expected = prompt[entry]["text"].as_str().unwrap();
        let expected = expected.strip_suffix("<|endoftext|>").unwrap_or(expected);
        assert_eq!(document["sequences"][0]["text"], expected, "{text}");
    }
}

#[test]
fn greedy_continuations_are_transformers() {
    compare("greedy", "-n 64");
}

#[test]
fn penalized_continuations_are_transformers() {
    compare(
        "greedy_repetition_penalty",
        "-n 32 --repetition-penalty 1.3",
    );
    compare("greedy_no_repeat_ngram", "-n 64 --no-repeat-ngram-size 3");
}

#[test]
fn hidden_states_are_transformers() {
    let reference = &reference()["hidden"];
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let prompt = reference["prompt"].as_str().unwrap();
    let document = run_with(&[
        "forward",
        "-m",
        model(),
        "-p",
        prompt,
        "--hidden-states",
        "-o",
        path,
        "--force",
        "--json",
    ])
    .json();
    assert_eq!(
        document["shapes"]["hidden_states.6"],
        serde_json::json!([1, 11, 256])
    );
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let last = |layer: usize| -> Vec<f64> {
        let tensor = tensors.tensor(&format!("hidden_states.{layer}")).unwrap();
        let values = tensor.data().chunks_exact(4);
        let values = values.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
        values.skip(10 * 256).collect()
    };
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let expected = |value: &Value| value.as_f64().unwrap();
    let mut largest = (norm(&last(6)) - expected(&reference["norm"])).abs();
    for (found, value) in last(6).iter().zip(reference["first8"].as_array().unwrap()) {
        largest = largest.max((found - expected(value)).abs());
    }
    let norms = reference["residual_norms_last_position"]["norms"]
        .as_array()
        .unwrap();
    for (layer, value) in norms.iter().enumerate() {
        largest = largest.max((norm(&last(layer)) - expected(value)).abs());
    }
    println!("largest difference: {largest:.2e}");
    assert!(largest < 1e-3, "{largest}");
}

#[test]
fn perplexity_is_transformers() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/austen/heldout.txt"
    );
    let document = run_with(&["perplexity", "-m", model(), "-f", path, "--json"]).json();
    let expected = &reference()["perplexity"];
    assert_eq!(document["tokens"], expected["count"]);
    let ratio = document["nll_sum"].as_f64().unwrap() / expected["nll_sum"].as_f64().unwrap();
    println!("nll_sum differs by {:.2e} of itself", ratio - 1.0);
    assert!((ratio - 1.0).abs() < 1e-4, "{ratio}");
}
