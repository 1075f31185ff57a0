//! Reading the small JSON files of a checkpoint.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::input::{is_there, read_text};

/// Reads a JSON file into `T`; `notes` gets what the user should know about it.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is too large, no UTF-8, no JSON
/// or not of the expected form.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<T> {
    let bytes = read_text(path, notes)?;
    if bytes.trim_ascii().is_empty() {
        return Err(Error::format(
            path.display().to_string(),
            "the file is empty; download it again",
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::format(path.display().to_string(), error.to_string()))
}

/// Reads a JSON file if it exists.
///
/// # Errors
/// Those of [`read_json`], except for a missing file; a link that leads nowhere.
pub(super) fn read_json_if_present<T: DeserializeOwned>(
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<T>> {
    if is_there(path)? {
        read_json(path, notes).map(Some)
    } else {
        Ok(None)
    }
}
