//! Every format of the same weights gives the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use gpt2::gguf::Gguf;
use tempfile::TempDir;

use crate::hostile::tiny::checkpoint;
use crate::hostile::writers::{Bin, ELEMENTS, Lie, Weight, msgpack, safetensors, weights};
use crate::{converted, data, options};

/// A folder of the test data.
pub(crate) fn heads(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/heads")
        .join(name)
}

/// Converts a folder or file to `type_name`.
pub(crate) fn gguf(source: &Path, type_name: &str) -> Gguf {
    let folder = TempDir::new().unwrap();
    converted(source, &folder.path().join("o.gguf"), &options(type_name)).1
}

/// Every tensor of both, byte for byte.
pub(crate) fn assert_same_tensors(name: &str, expected: &Gguf, found: &Gguf) {
    assert_eq!(expected.tensors().len(), found.tensors().len(), "{name}");
    for info in expected.tensors() {
        assert_eq!(
            data(expected, &info.name),
            data(found, &info.name),
            "{name}: {}",
            info.name
        );
    }
}

#[test]
fn every_format_of_the_same_weights_gives_the_same_bytes() {
    // PyTorch's two, and whatever says of itself whose weights it has.
    let mut pairs = vec![
        ("lm_bin".to_owned(), "lm_sharded".to_owned()),
        ("lm_bin_legacy".to_owned(), "lm_sharded".to_owned()),
    ];
    for entry in fs::read_dir(heads("")).unwrap() {
        let folder = entry.unwrap().path();
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        if let Some(original) = expected["same_weights_as"].as_str() {
            let name = folder.file_name().unwrap().to_str().unwrap();
            pairs.push((name.to_owned(), original.to_owned()));
        }
    }
    assert!(pairs.len() >= 7, "{pairs:?}");
    for (name, original) in &pairs {
        for type_name in ["f32", "q8_0"] {
            assert_same_tensors(
                &format!("{name} as {type_name}"),
                &gguf(&heads(original), type_name),
                &gguf(&heads(name), type_name),
            );
        }
    }
}

/// The tiny checkpoint with one file for its weights, converted to f32.
fn with_weights(name: &str, bytes: &[u8]) -> Gguf {
    let folder = TempDir::new().unwrap();
    for (file, bytes) in checkpoint() {
        if file != "model.safetensors" {
            fs::write(folder.path().join(file), bytes).unwrap();
        }
    }
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    // A file by its own name, where a folder would not be searched for it.
    let source = if name.starts_with("other") {
        &file
    } else {
        folder.path()
    };
    gguf(source, "f32")
}

#[test]
fn every_element_type_is_the_same_in_every_format() {
    let weights = weights();
    for element in ELEMENTS {
        let expected = with_weights("model.safetensors", &safetensors(&weights, element));
        let bin = |lie, legacy| Bin::new(&weights, element, lie, legacy);
        for (name, bytes) in [
            ("pytorch_model.bin", bin(Lie::Own, false).zip(false)),
            ("pytorch_model.bin", bin(Lie::Own, true).stream()),
            ("other.bin", bin(Lie::Shared, false).zip(false)),
            ("other.pt", bin(Lie::Shared, true).stream()),
            ("other.bin", bin(Lie::Turned, false).zip(false)),
            ("pytorch_model.bin", bin(Lie::Own, false).zip(true)),
            ("other.pth", bin(Lie::Turned, false).zip(true)),
            ("flax_model.msgpack", msgpack(&weights, element, usize::MAX)),
            ("flax_model.msgpack", msgpack(&weights, element, 1024)),
        ] {
            let what = format!("{name} of {}", element.safetensors);
            assert_same_tensors(&what, &expected, &with_weights(name, &bytes));
        }
    }
}

#[test]
fn a_sharded_pickle_is_one_checkpoint() {
    let weights = weights();
    let element = ELEMENTS[0];
    let expected = with_weights("model.safetensors", &safetensors(&weights, element));
    let folder = TempDir::new().unwrap();
    for (file, bytes) in checkpoint() {
        if file != "model.safetensors" {
            fs::write(folder.path().join(file), bytes).unwrap();
        }
    }
    let shards = [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ];
    let (first, second) = weights.split_at(7);
    let write = |name: &str, weights: &[Weight]| {
        let bin = Bin::new(weights, element, Lie::Own, false).zip(false);
        fs::write(folder.path().join(name), bin).unwrap();
    };
    write(shards[0], first);
    write(shards[1], second);
    let mut map = serde_json::Map::new();
    for (number, weight) in weights.iter().enumerate() {
        map.insert(weight.name.clone(), shards[usize::from(number >= 7)].into());
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(folder.path().join("pytorch_model.bin.index.json"), index).unwrap();
    assert_same_tensors("shards", &expected, &gguf(folder.path(), "f32"));
}

#[test]
fn a_head_that_flax_stores_apart_is_compared_number_by_number() {
    let mut weights = weights();
    let mut head = weights
        .iter()
        .find(|weight| weight.name == "wte.weight")
        .unwrap()
        .clone();
    head.name = "lm_head.weight".to_owned();
    weights.push(head);
    let element = ELEMENTS[0];
    let same = with_weights(
        "flax_model.msgpack",
        &msgpack(&weights, element, usize::MAX),
    );
    assert!(same.tensor("output.weight").is_none());
    let last = weights.last_mut().unwrap().numbers.last_mut().unwrap();
    *last += 0.25;
    let apart = with_weights(
        "flax_model.msgpack",
        &msgpack(&weights, element, usize::MAX),
    );
    let expected = with_weights("model.safetensors", &safetensors(&weights, element));
    assert_same_tensors("untied", &expected, &apart);
    assert!(apart.tensor("output.weight").is_some());
}
