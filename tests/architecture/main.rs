//! What the documents say of the sources: which room imports which, which files there are, how they
//! are written.

mod documents;
mod imports;
mod source;
mod style;

use std::path::{Path, PathBuf};

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The project's files, relative to its root, without what was built.
fn files() -> impl Iterator<Item = String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let hidden = name.starts_with('.') && name != ".ci";
            // A build folder: cargo marks those that it made itself.
            let built = name == "target" || path.join("CACHEDIR.TAG").exists();
            if hidden || built || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                walk(&path, found);
            } else {
                let relative = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                found.push(relative.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    found.sort();
    found.into_iter()
}

/// Whether a file has one of these endings, such as `rs`.
fn is_of(file: &str, endings: &[&str]) -> bool {
    let ending = Path::new(file)
        .extension()
        .and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| endings.contains(&ending))
}
