//! Models converted from other sources than a Hugging Face folder compute what transformers does
//! with the same weights.

use std::path::{Path, PathBuf};
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
        // Only the tokenizer's files are told, by their names.
        let others = |line: &&String| !line.contains("encoder.json");
        let warnings: Vec<_> = plan.warnings.iter().filter(others).collect();
        assert!(warnings.is_empty(), "{warnings:?}");
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

/// The checkpoints that other training programs than transformers write.
fn checkpoints(file: &str) -> PathBuf {
    project("tests/data/checkpoints").join(file)
}

#[cfg(feature = "pickle")]
#[test]
fn nanogpts_checkpoints_compute_what_transformers_does() {
    for (name, words) in [
        (
            "nanogpt/ckpt.pt",
            &[
                "'model' was read",
                "_orig_mod.",
                "no biases",
                "linear layers",
            ][..],
        ),
        ("nanogpt/older.pt", &["'model' was read", "linear layers"]),
        ("nanogpt/object.pt", &["left aside: config, step, val_loss"]),
        (
            "lightning/last.ckpt",
            &["'state_dict' was read", "model.module."],
        ),
        ("lightning/state.pkl", &["linear layers"]),
    ] {
        let source = checkpoints(name);
        let (model, plan) = model(&source, &f32());
        let warnings = plan.warnings.join("\n");
        for word in words {
            assert!(warnings.contains(word), "{name}: {word}: {warnings}");
        }
        check(name, &model, &source.with_extension("json"));
    }
}

#[test]
fn llm_cs_files_compute_what_transformers_does() {
    for name in ["llm_c/f32.bin", "llm_c/bf16.bin"] {
        let source = checkpoints(name);
        let (model, plan) = model(&source, &f32());
        let warnings = plan.warnings.join("\n");
        assert!(
            warnings.contains("84 rows of the embedding are llm.c's padding"),
            "{warnings}"
        );
        check(name, &model, &source.with_extension("json"));
    }
}

#[test]
fn a_tokenizer_that_is_given_goes_before_the_sources_own() {
    let given = project("tests/data/tokenizers/tok_slow_only");
    let options = ConvertOptions {
        tokenizer: Some(given.clone()),
        ..f32()
    };
    // A source without a tokenizer, one with, and a GGUF file with another.
    let (plain, plan) = model(&checkpoints("llm_c/f32.bin"), &options);
    assert!(
        !plan.warnings.join("\n").contains("not the source's own"),
        "{:?}",
        plan.warnings
    );
    let text = "It is a truth";
    let ids = |model: &Model| model.tokenizer().unwrap().encode(text).unwrap();
    let expected = ids(&plain);
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.gguf");
    let heads = project("tests/data/heads/lm_bf16");
    convert(&heads, &first, &f32(), &()).unwrap();
    for source in [&heads, &first] {
        let (other, plan) = model(source, &options);
        assert_eq!(ids(&other), expected, "{}", source.display());
        let warnings = plan.warnings.join("\n");
        assert!(warnings.contains("not the source's own"), "{warnings}");
    }
    // The file's settings of another tokenizer went with it.
    let by_file = ConvertOptions {
        tokenizer: Some(given.join("vocab.json")),
        ..f32()
    };
    assert_eq!(ids(&model(&first, &by_file).0), expected);
    let missing = ConvertOptions {
        tokenizer: Some(folder.path().to_path_buf()),
        ..f32()
    };
    let output = folder.path().join("second.gguf");
    let error = convert(&heads, &output, &missing, &()).unwrap_err();
    assert!(error.to_string().contains("no tokenizer"), "{error}");
}

#[cfg(feature = "pickle")]
#[test]
fn nanogpts_characters_are_a_tokenizer() {
    let options = ConvertOptions {
        tokenizer: Some(checkpoints("nanogpt/meta.pkl")),
        ..f32()
    };
    let (model, plan) = model(&checkpoints("nanogpt/ckpt.pt"), &options);
    let tokenizer = model.tokenizer().unwrap();
    let text = "What's here?\n\nNothing, sir - no 'don't' at all; go!";
    let ids = tokenizer.encode(text).unwrap();
    let mut sorted: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
    sorted.extend("\n !,.:;?'-".chars());
    sorted.sort_unstable();
    let expected: Vec<u32> = text
        .chars()
        .map(|character| sorted.iter().position(|known| *known == character).unwrap() as u32)
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(tokenizer.decode(&ids), text);
    let warnings = plan.warnings.join("\n");
    assert!(warnings.contains("bytes have no token"), "{warnings}");
}
