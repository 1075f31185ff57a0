//! Which file of a folder is read.

use std::path::{Path, PathBuf};

use super::formats::WEIGHTS;
use super::missing::no_weights;
use super::tensorflow::folder::index_in;
use crate::error::Result;

/// The file of a folder that is read.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) when there is none.
pub(super) fn weights_in(folder: &Path) -> Result<PathBuf> {
    let mut files = WEIGHTS.iter().map(|name| folder.join(name));
    if let Some(file) = files.find(|file| file.is_file()) {
        return Ok(file);
    }
    index_in(folder)?.ok_or_else(|| no_weights(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_preference_is_transformers() {
        let folder = tempfile::tempdir().unwrap();
        let message = weights_in(folder.path()).unwrap_err().to_string();
        assert!(message.contains("flax_model.msgpack"), "{message}");
        for name in WEIGHTS.iter().rev() {
            std::fs::write(folder.path().join(name), "x").unwrap();
            assert_eq!(weights_in(folder.path()).unwrap(), folder.path().join(name));
        }
    }
}
