//! Reads small files: those of a checkpoint that hold text, and what is like them.
//!
//! What editors and downloads do to such files is dealt with here, for all of them: byte order
//! marks are taken off, and what stands in the place of a file that is not there is told by name.

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

/// What editors on Windows put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The contents of a text file, without a byte order mark; one that was there is told in `notes`.
///
/// # Errors
/// Those of [`read_small`]; [`Error::Format`] for a text in UTF-16, whose marks are others.
pub(crate) fn read_text(path: &Path, notes: &mut Vec<String>) -> Result<Vec<u8>> {
    let bytes = read_small(path)?;
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(Error::format(
            path.display().to_string(),
            "expected UTF-8, found the byte order mark of UTF-16; save the file as UTF-8",
        ));
    }
    let text = without_mark(&bytes);
    if text.len() == bytes.len() {
        return Ok(bytes);
    }
    notes.push(format!(
        "{} begins with a byte order mark, which is left out",
        path.display()
    ));
    Ok(text.to_vec())
}

/// As [`read_text`]; `None` where there is no such file.
///
/// # Errors
/// Those of [`read_text`]; a link that leads nowhere.
pub(crate) fn read_text_if_present(
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<u8>>> {
    if is_there(path)? {
        read_text(path, notes).map(Some)
    } else {
        Ok(None)
    }
}

/// Whether there is anything at `path`.
///
/// # Errors
/// [`Error::Format`] for a link that leads nowhere: that file was to be there.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    if path.exists() {
        return Ok(true);
    }
    match std::fs::read_link(path) {
        Err(_) => Ok(false),
        Ok(target) => Err(Error::format(
            path.display().to_string(),
            format!(
                "expected a file, found a link to {}, where there is none",
                target.display()
            ),
        )),
    }
}

/// `text` without a byte order mark.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
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

    #[test]
    fn byte_order_marks_are_taken_off_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut notes = Vec::new();
        assert_eq!(read_text_if_present(&path, &mut notes).unwrap(), None);
        for (written, read, noted) in [("a", "a", 0), ("\u{feff}a", "a", 1), ("\u{feff}", "", 1)] {
            std::fs::write(&path, written).unwrap();
            notes.clear();
            let bytes = read_text_if_present(&path, &mut notes).unwrap();
            assert_eq!(bytes.as_deref(), Some(read.as_bytes()));
            assert_eq!(notes.len(), noted);
        }
        for wide in [b"\xFF\xFE{\0", b"\xFE\xFF\0{"] {
            std::fs::write(&path, wide).unwrap();
            let message = read_text(&path, &mut notes).unwrap_err().to_string();
            assert!(message.contains("UTF-16"), "{message}");
        }
    }

    #[test]
    fn what_stands_in_for_a_file_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        std::fs::write(&path, pointer).unwrap();
        let message = read_small(&path).unwrap_err().to_string();
        assert!(message.contains("git lfs pull"), "{message}");
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("nowhere", &link).unwrap();
            let message = is_there(&link).unwrap_err().to_string();
            assert!(message.contains("a link to nowhere"), "{message}");
        }
    }
}
