//! Read-only files in memory, mapped where the system can.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
#[cfg(target_os = "linux")]
use rustix::param::page_size;

#[cfg(target_os = "linux")]
use super::cut_file::Entry;
use crate::error::{Error, Result};
use crate::gguf::{Bytes, Gguf};

/// A whole file, mapped read-only.
///
/// The file must not be shortened while it is mapped: reading past its new end ends the process
/// with a bus error, of which [`explain_cut_files`](crate::system::explain_cut_files) makes a
/// message. That is the one promise a caller gives by opening a map.
#[derive(Debug)]
pub(crate) struct MappedFile {
    /// Dropped first: what is said of the map when the file is cut.
    #[cfg(target_os = "linux")]
    _entry: Entry,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened or mapped; [`Error::Format`] when it is empty
    /// or not a regular file.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| Error::io(path, source);
        // Opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let place = || path.display().to_string();
        if !metadata.is_file() {
            let found = if metadata.is_dir() {
                "a folder"
            } else {
                "something else"
            };
            return Err(Error::format(
                place(),
                format!("expected a file, found {found}"),
            ));
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.len() == 0 {
            return Err(Error::format(
                place(),
                "the file is empty; is it an unfinished download?",
            ));
        }
        // SAFETY: the map is private to this process and never written; that nobody shortens the
        // file meanwhile is the documented condition of this type.
        let map = unsafe { MmapOptions::new().map(&file) };
        let map = map.map_err(|source| Error::io(path, source))?;
        #[cfg(target_os = "linux")]
        {
            // Where the system keeps the file in large pages, reading a bias would map two
            // megabytes of weights around it, which were released. Systems without large pages
            // refuse.
            let _ = map.advise(Advice::NoHugePage);
        }
        Ok(Self {
            #[cfg(target_os = "linux")]
            _entry: Entry::new(path, &map),
            map,
        })
    }

    /// Tells the system that the whole file is wanted soon, so that it reads ahead.
    pub(crate) fn prefetch(&self) {
        // Advice may be refused; nothing depends on it.
        let _ = self.map.advise(Advice::WillNeed);
    }

    /// Gives the memory of `range` back to the system. The bytes stay readable: the next access
    /// reads them from the file again. Partial pages at the ends are kept.
    pub(crate) fn release(&self, range: Range<usize>) {
        let Some((offset, length)) = whole_pages(range, self.map.len(), page_size()) else {
            return;
        };
        // SAFETY: the pages are those of a read-only file mapping. Dropping them is invisible to
        // readers, who get the same bytes from the file.
        let _ = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, offset, length)
        };
    }

    /// Keeps what is read of the file resident. Pages that were released with
    /// [`MappedFile::release`] are not read again for it (except where the system is not Linux,
    /// which locks the whole file).
    ///
    /// # Errors
    /// [`Error::Memory`] when the system refuses, usually because of `ulimit -l`.
    pub(crate) fn lock(&self) -> Result<()> {
        self.lock_pages().map_err(|source| Error::NotLocked {
            bytes: self.map.len(),
            source,
        })
    }

    #[cfg(target_os = "linux")]
    fn lock_pages(&self) -> std::io::Result<()> {
        use rustix::mm::{MlockFlags, mlock_with};
        let start = self.map.as_ptr().cast_mut().cast();
        // SAFETY: the range is this mapping's own; locking changes no byte of it.
        Ok(unsafe { mlock_with(start, self.map.len(), MlockFlags::ONFAULT) }?)
    }

    #[cfg(not(target_os = "linux"))]
    fn lock_pages(&self) -> std::io::Result<()> {
        self.map.lock()
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Maps a GGUF file and reads what it says of itself. Any file will do, of any kind of model.
///
/// # Errors
/// [`Error::Io`] when it cannot be read or mapped; [`Error::Format`] when it is broken.
pub fn open_gguf(path: impl AsRef<Path>) -> Result<Gguf> {
    let path = path.as_ref();
    let map: Bytes = Arc::new(open_model_file(path)?);
    Gguf::parse(map).map_err(|error| error.within(path.display().to_string()))
}

/// Maps what should be a GGUF file; a folder is a checkpoint, or has such files.
///
/// # Errors
/// Those of [`MappedFile::open`]; [`Error::NotGguf`] for a folder.
pub(crate) fn open_model_file(path: &Path) -> Result<MappedFile> {
    if !path.is_dir() {
        return MappedFile::open(path);
    }
    let entries = std::fs::read_dir(path).map_err(|source| Error::io(path, source))?;
    let is_model = |name: &String| name.rsplit_once('.').is_some_and(|(_, end)| end == "gguf");
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut models: Vec<String> = names.filter(is_model).take(MOST_NAMED).collect();
    models.sort_unstable();
    Err(Error::NotGguf {
        place: path.display().to_string(),
        convertible: models.is_empty(),
        found: if models.is_empty() {
            "a folder".to_owned()
        } else {
            format!("a folder with {}; name one of its files", models.join(", "))
        },
    })
}

/// Files of a folder that a message names.
const MOST_NAMED: usize = 5;

/// A multiple of the page of every system.
#[cfg(not(target_os = "linux"))]
fn page_size() -> usize {
    1 << 16
}

/// The part of `range` that covers whole pages of `page` bytes, as offset and length.
fn whole_pages(range: Range<usize>, file_bytes: usize, page: usize) -> Option<(usize, usize)> {
    let start = range.start.checked_next_multiple_of(page)?;
    let end = range.end.min(file_bytes) / page * page;
    (end > start).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole pages: 4 KiB mostly, up to 64 KiB on aarch64.
    const UNIT: usize = 1 << 16;

    #[test]
    fn only_whole_pages_are_released() {
        let unit = UNIT;
        assert_eq!(
            whole_pages(1..unit * 3 + 5, unit * 4, unit),
            Some((unit, unit * 2))
        );
        assert_eq!(whole_pages(1..unit + 5, unit * 4, unit), None);
        assert_eq!(whole_pages(usize::MAX - 1..usize::MAX, unit, unit), None);
    }

    #[test]
    fn released_bytes_read_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..UNIT * 3).map(|index| (index / 7) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let map = MappedFile::open(file.path()).unwrap();
        assert_eq!(map.as_ref(), &bytes[..]);
        map.release(0..bytes.len());
        assert_eq!(map.as_ref(), &bytes[..]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn locking_keeps_what_was_read_and_reads_nothing_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Large enough that what the system reads around a byte is a small part of it.
        let bytes = UNIT * 256;
        std::fs::write(file.path(), vec![7u8; bytes]).unwrap();
        let map = MappedFile::open(file.path()).unwrap();
        map.release(0..bytes);
        let first = map.as_ref()[0];
        if let Err(error) = map.lock() {
            // The limit of this machine; the message is what the user needs.
            assert!(error.to_string().contains("ulimit -l"), "{error}");
            return;
        }
        assert_eq!(first, 7);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", map.as_ref().as_ptr().addr());
        let own = smaps.split_once(&start).unwrap().1;
        let locked = own.lines().find_map(|line| line.strip_prefix("Locked:"));
        let locked: usize = locked
            .unwrap()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .unwrap();
        assert!((1..=bytes / 1024 / 4).contains(&locked), "{locked} kB");
    }

    #[test]
    fn an_empty_file_and_a_folder_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(
            MappedFile::open(file.path())
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        assert!(MappedFile::open(std::env::temp_dir()).is_err());
    }
}
