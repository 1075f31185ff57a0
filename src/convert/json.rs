//! Reading the small JSON files of a checkpoint.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::input::read_small;

/// Reads a JSON file into `T`.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is too large, no UTF-8, no JSON
/// or not of the expected form.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_small(path)?;
    let bytes = without_mark(&bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(Error::format(
            path.display().to_string(),
            "the file is empty; download it again",
        ));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::format(path.display().to_string(), error.to_string()))
}

/// Reads a JSON file if it exists.
///
/// # Errors
/// Those of [`read_json`], except for a missing file.
pub(super) fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() {
        read_json(path).map(Some)
    } else {
        Ok(None)
    }
}

/// A text without the byte order mark that some editors put before it.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
