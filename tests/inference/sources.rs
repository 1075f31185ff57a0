//! Models converted from other sources than a Hugging Face folder compute what transformers does
//! with the same weights.

use std::path::Path;
use std::sync::Arc;

use crate::common::{cores, ids, project};
use gpt2::convert::{ConvertOptions, FileType, LoraAdapter, Plan, convert};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use serde_json::Value;

/// Converts to f32; the model and what was planned.
fn model(source: &Path, options: &ConvertOptions) -> (Arc<Model>, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.gguf");
    let report = convert(source, &output, options, &()).unwrap();
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
        let (model, plan) = model(&source, &f32());
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        check(
            &format!("{name}/{given}"),
            &model,
            &folder.join("expected.json"),
        );
    }
}

/// The adapters and scales that a folder of the test data is for.
fn adapters(folder: &Path) -> Vec<LoraAdapter> {
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let adapters = expected["adapters"].as_object().unwrap().iter();
    adapters
        .map(|(name, scale)| LoraAdapter {
            path: project("tests/data/lora").join(name),
            scale: scale.as_f64().unwrap() as f32,
        })
        .collect()
}

#[test]
fn a_merged_adapter_computes_what_peft_does() {
    let base = project("tests/data/heads/lm_sharded");
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("base.gguf");
    convert(&base, &gguf, &f32(), &()).unwrap();
    for name in [
        "plain",
        "patterns",
        "dora",
        "embeddings",
        "head",
        "resized",
        "biases",
        "together",
    ] {
        let folder = project("tests/data/lora").join(name);
        let options = ConvertOptions {
            adapters: adapters(&folder),
            ..f32()
        };
        let expected = folder.join("expected.json");
        let (merged, plan) = model(&base, &options);
        let told = plan.warnings.iter().filter(|line| line.contains("merged"));
        assert_eq!(told.count(), options.adapters.len(), "{:?}", plan.warnings);
        check(name, &merged, &expected);
        if name == "resized" {
            let output = folder.with_file_name("none.gguf");
            let refused = convert(&gguf, &output, &options, &()).unwrap_err();
            assert!(refused.to_string().contains("expected shape"), "{refused}");
            continue;
        }
        let (merged, _) = model(&gguf, &options);
        check(&format!("{name} into a GGUF file"), &merged, &expected);
    }
}

#[test]
fn an_adapter_of_a_classifier_makes_one() {
    let folder = project("tests/data/lora/classifier");
    let options = ConvertOptions {
        adapters: adapters(&folder),
        ..f32()
    };
    let (merged, _) = model(&project("tests/data/heads/lm_sharded"), &options);
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let _cores = cores();
    let mut session = Session::new(Arc::clone(&merged), SessionOptions::default()).unwrap();
    let ids = ids(&expected["ids"]);
    let scores = session.classify(&ids).unwrap();
    let expected = expected["scores"].as_array().unwrap();
    assert_eq!(scores.len(), expected.len());
    let differences = scores.iter().zip(expected);
    let worst = differences
        .map(|(found, expected)| (f64::from(*found) - expected.as_f64().unwrap()).abs())
        .fold(0.0, f64::max);
    println!("classifier: largest difference of the scores {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}
