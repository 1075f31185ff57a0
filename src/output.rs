//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

/// Bytes that are buffered before a write.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file under construction: a temporary file in the folder of its target, which
/// [`finish`](Self::finish) renames. Dropped before that, it is removed and the target is not
/// changed.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    overwrite: bool,
}

impl AtomicFile {
    /// Begins a file that will be at `path`. With `overwrite`, a regular file there is replaced
    /// (behind a symbolic link, the file it points to).
    ///
    /// # Errors
    /// [`Error::Exists`] if `path` exists and `overwrite` is false; [`Error::Argument`] if it is
    /// not a regular file; [`Error::Io`] if the folder does not exist or cannot be written to.
    pub fn create(path: impl AsRef<Path>, overwrite: bool) -> Result<Self> {
        let path = path.as_ref();
        let target = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(Error::Argument(format!(
                    "{}: the output must be a regular file, found {}",
                    path.display(),
                    if found.is_dir() {
                        "a folder"
                    } else {
                        "a device or pipe"
                    }
                )));
            }
            Ok(_) if !overwrite => return Err(exists(path)),
            Ok(_) => fs::canonicalize(path).map_err(|error| Error::io(path, error))?,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_path_buf(),
            Err(error) => return Err(Error::io(path, error)),
        };
        let mut builder = Builder::new();
        builder.prefix(".gpt2-").suffix(".part");
        // The mode of an ordinary new file; the operating system takes the umask off.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder(&target))
            .map_err(|error| Error::io(path, plain(error)))?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            target,
            overwrite,
        })
    }

    /// Where the unfinished file is, with everything written so far in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn partial(&mut self) -> Result<&Path> {
        self.file
            .flush()
            .map_err(|error| Error::io(&self.target, error))?;
        Ok(self.file.get_ref().path())
    }

    /// Syncs the contents to disk and renames the file to its target.
    ///
    /// # Errors
    /// [`Error::Exists`] if a file appeared there meanwhile and was not to be overwritten;
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        let Self {
            file,
            target,
            overwrite,
        } = self;
        let io = |error| Error::io(&target, error);
        let file = file.into_inner().map_err(|error| io(error.into_error()))?;
        file.as_file().sync_all().map_err(io)?;
        if overwrite {
            file.persist(&target).map_err(|error| io(error.error))?;
        } else {
            file.persist_noclobber(&target)
                .map_err(|error| match error.error.kind() {
                    ErrorKind::AlreadyExists => exists(&target),
                    _ => io(error.error),
                })?;
        }
        sync_folder(&target).map_err(io)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error without the temporary file's name, which is of no use to anyone.
fn plain(error: io::Error) -> io::Error {
    // Its text is all that the crate gives of the system's error.
    match error.to_string().split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause),
        None => error,
    }
}

/// The folder of `target`.
fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Syncs the folder's entry for `target` to disk, so that the rename survives a power failure.
/// Folders that cannot be opened or synchronized (some network file systems) are left to
/// themselves.
#[cfg(unix)]
fn sync_folder(target: &Path) -> io::Result<()> {
    let synchronized = File::open(folder(target)).and_then(|folder| folder.sync_all());
    match synchronized.as_ref().map_err(io::Error::kind) {
        Err(ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        _ => synchronized,
    }
}

#[cfg(not(unix))]
fn sync_folder(_target: &Path) -> io::Result<()> {
    Ok(())
}

fn exists(path: &Path) -> Error {
    Error::Exists(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn appears_when_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = AtomicFile::create(&path, false).unwrap();
        file.write_all(b"whole").unwrap();
        file.flush().unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn leaves_nothing_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "before").unwrap();
        let mut file = AtomicFile::create(&path, true).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(file);
        assert_eq!(names(folder.path()), ["out"]);
        assert_eq!(fs::read(&path).unwrap(), b"before");
    }

    #[test]
    fn replaces_only_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "before").unwrap();
        let error = AtomicFile::create(&path, false).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
        let mut file = AtomicFile::create(&path, true).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
    }

    #[test]
    fn a_file_that_appeared_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let file = AtomicFile::create(&path, false).unwrap();
        fs::write(&path, "theirs").unwrap();
        let error = file.finish().unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn folders_and_missing_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let message = AtomicFile::create(folder.path(), true).unwrap_err();
        assert!(message.to_string().contains("a folder"), "{message}");
        let message = AtomicFile::create(folder.path().join("no/out"), false).unwrap_err();
        let text = message.to_string();
        assert!(text.contains("no/out") && !text.contains(".part"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn has_the_mode_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        AtomicFile::create(&ours, false).unwrap().finish().unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[cfg(unix)]
    #[test]
    fn devices_stay_and_links_are_followed() {
        assert!(AtomicFile::create("/dev/null", true).is_err());

        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link"), folder.path().join("out"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = AtomicFile::create(&link, true).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"after");
    }
}
