//! The files that a target writes: a folder in memory, made once a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    };
    made.expect("a folder for the inputs")
});

/// Where a file of that name is.
pub fn path(name: &str) -> PathBuf {
    FOLDER.path().join(name)
}

/// Writes a file, into a folder when the name has one.
pub fn write(name: &str, bytes: &[u8]) {
    let path = path(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("a folder for the inputs");
    }
    fs::write(path, bytes).expect("room for the inputs");
}

/// Writes a file unless it is there.
pub fn write_once(name: &str, bytes: &[u8]) {
    if !path(name).exists() {
        write(name, bytes);
    }
}

/// What is between the bytes that part an input; what is not there is empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The bytes followed by zeros, as weights that follow a header.
pub fn with_zeros(data: &[u8]) -> Vec<u8> {
    [data, &[0; 200 << 10]].concat()
}
