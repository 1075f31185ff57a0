//! Models converted from other sources than a Hugging Face folder compute what transformers does
//! with the same weights.

use std::path::Path;
use std::sync::Arc;

use crate::common::{cores, ids, project};
use gpt2::convert::{ConvertOptions, FileType, Plan, convert};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use serde_json::Value;

/// Converts to f32; the model and what was planned.
fn model(source: &Path, options: ConvertOptions) -> (Arc<Model>, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.gguf");
    let report = convert(source, &output, &options, &()).unwrap();
    let model = Model::open(&output, &ModelOptions::default()).unwrap();
    (model, report.plan)
}

fn f32() -> ConvertOptions {
    ConvertOptions::new(FileType::from_name("f32").unwrap())
}

/// Compares the logits of the last positions with those of the file `expected`.
fn check(what: &str, model: &Arc<Model>, expected: &Path) {
    let _cores = cores();
    let expected = std::fs::read_to_string(expected).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let ids = ids(&expected["ids"]);
    let rows = expected["logits"].as_array().unwrap();
    let mut worst = 0.0_f64;
    for (index, row) in rows.iter().enumerate() {
        let mut session = Session::new(Arc::clone(model), SessionOptions::default()).unwrap();
        let known = ids.len() + 1 + index - rows.len();
        let logits = session.prefill(&ids[..known]).unwrap();
        let row = row.as_array().unwrap();
        assert_eq!(row.len(), logits.len(), "{what}");
        for (expected, found) in row.iter().zip(logits) {
            worst = worst.max((expected.as_f64().unwrap() - f64::from(*found)).abs());
        }
    }
    println!("{what}: largest difference of the logits {worst:.2e}");
    assert!(worst < 1e-4, "{what}: {worst:e}");
}

#[test]
fn openais_layout_computes_what_transformers_does() {
    for (name, given) in [
        ("release", ""),
        ("release", "model.ckpt"),
        ("release", "model.ckpt.data-00000-of-00001"),
        ("finetuned", ""),
        ("finetuned", "model-7.index"),
    ] {
        let folder = project("tests/data/openai").join(name);
        let source = if given.is_empty() {
            folder.clone()
        } else {
            folder.join(given)
        };
        let (model, plan) = model(&source, f32());
        let left_out = |warning: &&String| !warning.contains("tokenizer");
        let warnings: Vec<_> = plan.warnings.iter().filter(left_out).collect();
        assert!(warnings.is_empty(), "{warnings:?}");
        check(
            &format!("{name}/{given}"),
            &model,
            &folder.join("expected.json"),
        );
    }
}
