//! Reads small files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::recognize::recognize;

/// The largest file that is read; a checkpoint's JSON files are far below.
const MAX_BYTES: u64 = 64 << 20;

/// The contents of a file of at most 64 MiB.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is too large, not a file, or
/// something that stands in for one.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::io(path, source);
    let refused = |message: String| Error::format(path.display().to_string(), message);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("expected a file, found something else".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refused(format!(
            "larger than {MAX_BYTES} bytes, which no such file is"
        )));
    }
    if let Some(kind) = recognize(&bytes).filter(|kind| kind.is_stand_in()) {
        return Err(refused(format!("found {}", kind.what())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| read_small(path).unwrap_err().to_string();
        assert!(message(folder.path()).contains("expected a file"));
        let path = folder.path().join("large");
        // The file is sparse: none of its bytes are on disk.
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(message(&path).contains("larger than 67108864 bytes"));
        std::fs::write(&path, "small").unwrap();
        assert_eq!(read_small(&path).unwrap(), b"small");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
        assert!(message(&path).contains("Git LFS pointer"));
    }
}
