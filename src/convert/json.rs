//! Reading the small JSON files of a checkpoint.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The largest JSON file read; an index of a sharded checkpoint is far below.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Reads a JSON file into `T`.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is too large, no UTF-8, no JSON or
/// not of the expected form.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let place = || path.display().to_string();
    let file = std::fs::File::open(path).map_err(|source| Error::io(path, source))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io(path, source))?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::format(
            place(),
            format!("larger than {MAX_JSON_BYTES} bytes, which no such file is"),
        ));
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::format(place(), error.to_string()))
}

/// Reads a JSON file if it is there.
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
