//! Every format of the same weights gives the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use gpt2::gguf::Gguf;
use tempfile::TempDir;

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
    let mut compared = 0;
    for entry in fs::read_dir(heads("")).unwrap() {
        let folder = entry.unwrap().path();
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        // Classifiers have their own test.
        if let Some(original) = expected["same_weights_as"].as_str()
            && expected["class"] == "GPT2LMHeadModel"
        {
            for type_name in ["f32", "q8_0"] {
                assert_same_tensors(
                    &format!("{} as {type_name}", folder.display()),
                    &gguf(&heads(original), type_name),
                    &gguf(&folder, type_name),
                );
            }
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared} folders compared");
}
