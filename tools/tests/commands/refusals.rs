//! What is refused, by the programs as they are: status 1, one clear line, no output file.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoints::{Converted, folder};
use crate::run::run_with;

/// A copy of a checkpoint with its configuration changed.
fn changed(name: &str, change: impl Fn(&mut Value)) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    copy
}

/// The one line with which a folder is refused.
fn refusal(source: &Path) -> String {
    let to = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
        .arg(source)
        .args(["--type", "f32", "-o"])
        .arg(to.path().join("model.gguf"))
        .output()
        .expect("gpt2-convert starts");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("error: "), "{error}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "{error}");
    error
}

fn expect(source: &TempDir, words: &[&str]) {
    let line = refusal(source.path());
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line}");
    }
}

#[test]
fn other_models_are_refused() {
    expect(
        &changed("lm_sharded", |config| {
            config["add_cross_attention"] = true.into();
        }),
        &["cross-attention"],
    );
    expect(
        &changed("lm_sharded", |config| {
            config["activation_function"] = "geglu".into();
        }),
        &["geglu", "gelu_new"],
    );
}

#[test]
fn a_claimed_head_without_its_tensor_is_refused() {
    for (class, tensor) in [
        ("GPT2ForSequenceClassification", "score.weight"),
        ("GPT2ForTokenClassification", "classifier.weight"),
        ("GPT2ForQuestionAnswering", "qa_outputs.weight"),
        (
            "GPT2DoubleHeadsModel",
            "multiple_choice_head.summary.weight",
        ),
    ] {
        expect(
            &changed("bare", |config| {
                config["architectures"] = vec![class].into();
            }),
            &[tensor],
        );
    }
}

#[test]
fn as_many_labels_as_outputs_are_wanted() {
    expect(
        &changed("seqcls", |config| {
            config["id2label"] = serde_json::json!({"0": "a", "1": "b"});
        }),
        &["id2label", "2 labels", "3 outputs"],
    );
}

#[cfg(feature = "pickle")]
#[test]
fn a_pickle_that_asks_for_more_than_tensors_is_refused() {
    let source = changed("lm_bin", |_| ());
    let marker = source.path().join("ran");
    let command = format!("touch {}", marker.display());
    let pickle = format!("\u{80}\u{2}cposix\nsystem\n(S'{command}'\ntR.");
    // Latin-1: each character is a byte.
    let bytes: Vec<u8> = pickle.chars().map(|c| c as u8).collect();
    fs::write(source.path().join("pytorch_model.bin"), bytes).unwrap();
    let line = refusal(source.path());
    assert!(line.contains("pytorch_model.bin"), "{line}");
    assert!(!marker.exists());
}

#[cfg(feature = "hdf5")]
#[test]
fn hdf5_of_another_shape_is_refused() {
    expect(
        &changed("lm_tf", |config| config["n_inner"] = 200.into()),
        &["mlp", "200", "256"],
    );
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    let model = Converted::new("lm_sharded");
    let to = TempDir::new().unwrap();
    let output = to.path().join("out.safetensors");
    let output = output.to_str().unwrap();
    for arguments in [
        &["forward", "--ids", "1,300", "--output", output][..],
        &[
            "forward",
            "--ids",
            "1,2",
            "--token-type-ids",
            "1,300",
            "--output",
            output,
        ],
        &["generate", "--ids", "1,300"],
        &["detokenize", "1,300"],
    ] {
        let done = run_with(&[arguments, &["-m", model.path()]].concat());
        let line = done.error(2);
        assert!(line.contains("300"), "{line}");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    for (name, command) in [
        ("seqcls", "classify"),
        ("tokencls", "tag"),
        ("bare", "embed"),
    ] {
        let model = Converted::new(name);
        let done = run_with(&[command, "--ids", "1,300", "-m", model.path()]);
        // Tags are of texts alone.
        let said = if name == "tokencls" { "--ids" } else { "300" };
        assert_eq!(done.status, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
    }
}

/// What a command says of a model that is none.
fn no_model(path: &Path) -> String {
    let path = path.to_str().unwrap();
    let done = run_with(&["generate", "-m", path, "-p", "a", "-n", "1"]);
    done.error(1).to_owned()
}

#[test]
fn a_model_that_is_something_else_says_what_it_is_and_what_to_do() {
    let checkpoint = folder("lm_bf16");
    for source in [
        checkpoint.clone(),
        checkpoint.join("model.safetensors"),
        folder("lm_bin").join("pytorch_model.bin"),
        folder("lm_tf").join("tf_model.h5"),
    ] {
        let message = no_model(&source);
        let advice = format!("gpt2-convert {} -o", source.display());
        assert!(message.contains(&advice), "{message}");
    }
    let here = TempDir::new().unwrap();
    let file = here.path().join("model.gguf");
    for (bytes, word) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\n"[..],
            "git lfs pull",
        ),
        (b"<!doctype html><html>", "web page"),
        (&0x6767_6a74_u32.to_le_bytes(), "before GGUF"),
        (b"", "the file is empty"),
        (b"GGUF\x03\0\0", "truncated"),
        (b"{\"error\": 404}", "JSON"),
        (b"\x1f\x8b\x08\0", "gunzip"),
    ] {
        fs::write(&file, bytes).unwrap();
        let message = no_model(&file);
        assert!(
            message.contains(word) && message.contains("model.gguf"),
            "{message}"
        );
    }
    // A folder of models, one without any, a link that leads nowhere.
    let message = no_model(here.path());
    assert!(
        message.contains("model.gguf; name one of its files"),
        "{message}"
    );
    #[cfg(unix)]
    {
        let link = here.path().join("link.gguf");
        std::os::unix::fs::symlink("nowhere.gguf", &link).unwrap();
        let message = no_model(&link);
        assert!(message.contains("a link to nowhere.gguf"), "{message}");
        // A pipe whose other end nobody opens.
        let pipe = here.path().join("pipe.gguf");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for message in [no_model(&pipe), refusal(&pipe)] {
            assert!(message.contains("expected a file"), "{message}");
        }
    }
}

#[test]
fn a_folder_of_checkpoints_names_them() {
    let here = TempDir::new().unwrap();
    for name in ["checkpoint-500", "checkpoint-1500"] {
        let inside = here.path().join(name);
        fs::create_dir(&inside).unwrap();
        let weights = folder("lm_bf16").join("model.safetensors");
        fs::copy(weights, inside.join("model.safetensors")).unwrap();
    }
    let line = refusal(here.path());
    assert!(
        line.contains("checkpoint-500, checkpoint-1500")
            && line.contains("such as")
            && line.contains("/checkpoint-1500"),
        "{line}"
    );
}
