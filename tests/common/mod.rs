//! What several test files need: the demo model as f32, and the reference.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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

/// The demo model converted to a type, in a folder that goes with the process.
pub(crate) fn austen(file_type: &str, folder: &Path) -> PathBuf {
    let output = folder.join(format!("austen-{file_type}.gguf"));
    let options = ConvertOptions::new(FileType::from_name(file_type).unwrap());
    convert(&project("models/austen-gpt2"), &output, &options, &()).unwrap();
    output
}

/// The demo model as f32, converted once a test program.
pub(crate) fn austen_f32() -> Arc<Model> {
    static MODEL: OnceLock<(Arc<Model>, tempfile::TempDir)> = OnceLock::new();
    let (model, _) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = austen("f32", folder.path());
        (Model::open(file, &ModelOptions::default()).unwrap(), folder)
    });
    Arc::clone(model)
}

/// Held by a test while it computes: sessions of several tests at once would want more cores than there
/// are, and threads that wait for each other by spinning then take a hundred times as long.
pub(crate) fn cores() -> MutexGuard<'static, ()> {
    static CORES: Mutex<()> = Mutex::new(());
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}
