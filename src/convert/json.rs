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
    serde_json::from_slice(&bytes)
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
