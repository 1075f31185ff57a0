//! What several test files need: the demo model as f32, and the reference.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gpt2::convert::{ConvertOptions, FileType, convert};
use gpt2::session::{Model, ModelOptions};
use serde_json::Value;

/// A file of the project; `path` is relative to the workspace.
pub(crate) fn project(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors();
    let root = folders.find(|folder| folder.join("Cargo.lock").exists());
    root.unwrap_or(package).join(path)
}

/// What transformers computed with the demo model.
pub(crate) fn reference() -> Value {
    let path = project("tests/data/austen/reference.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A list of ids in the reference.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

/// The demo model converted to a type, once a test program. The folder is the build's, so that the
/// next run writes over what this one leaves.
pub(crate) fn austen(file_type: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        std::fs::create_dir_all(&folder).unwrap();
        let output = folder.join(format!("austen-{file_type}.gguf"));
        let options = ConvertOptions {
            overwrite: true,
            ..ConvertOptions::new(FileType::from_name(file_type).unwrap())
        };
        convert(&project("models/austen-gpt2"), &output, &options, &()).unwrap();
        output
    };
    made.entry(file_type.to_owned())
        .or_insert_with(make)
        .clone()
}

/// The demo model as f32, loaded once a test program.
pub(crate) fn austen_f32() -> Arc<Model> {
    static MODEL: LazyLock<Arc<Model>> =
        LazyLock::new(|| Model::open(austen("f32"), &ModelOptions::default()).unwrap());
    Arc::clone(&MODEL)
}

/// Held by a test while it computes: sessions of several tests at once would want more cores than
/// there are, and threads that wait for each other then take many times as long.
pub(crate) fn cores() -> MutexGuard<'static, ()> {
    static CORES: Mutex<()> = Mutex::new(());
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}
