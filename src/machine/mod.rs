//! The machine this runs on, as far as defaults depend on it: its cores, its memory, and what of
//! both this process may use. Read from what Linux says about itself; on other systems little is
//! known, and nothing is refused for it.

pub(crate) mod memory;
pub(crate) mod parallel;
mod threads;

use std::path::{Path, PathBuf};

pub use threads::default_threads;

/// Where the system describes itself; the root folder, and another in tests.
#[derive(Debug, Clone)]
struct System {
    root: PathBuf,
}

impl System {
    fn real() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }

    /// A file's text without the space around it; `None` when there is no such file.
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds a number.
    fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// What follows `name` on its line of a file.
    fn field(&self, path: impl AsRef<Path>, name: &str) -> Option<String> {
        let text = self.read(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim_start_matches(':').trim().to_owned())
    }

    /// A number of KiB in a file such as `/proc/meminfo`, in bytes.
    fn kibibytes(&self, path: impl AsRef<Path>, name: &str) -> Option<u64> {
        let value = self.field(path, name)?;
        let number: u64 = value.trim_end_matches("kB").trim().parse().ok()?;
        number.checked_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::System;

    /// A system that describes itself by these files.
    pub(super) fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = folder.path().to_path_buf();
        (folder, System { root })
    }
}
