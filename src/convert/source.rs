//! Opens the source of a conversion: which reader a path gets, and where its configuration is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::checkpoint_reader::CheckpointReader;
use super::find_weights::weights_in;
use super::gguf_source::GgufSource;
use super::mapped_checkpoint::MappedCheckpoint;
use super::tensorflow::folder::index_of;
use crate::error::{Error, Result};
use crate::recognize::{FileKind, LOOKED_AT, recognize};

/// A source found at a path.
pub(super) struct Source {
    /// The weights.
    pub reader: Box<dyn CheckpointReader>,
    /// The folder with configuration and tokenizer.
    pub folder: PathBuf,
    /// What messages call the source, and what the model is named after.
    pub name: String,
}

impl Source {
    /// Opens a Hugging Face folder, a weights file, a TensorFlow checkpoint, or a GGUF file.
    ///
    /// # Errors
    /// [`Error::Io`] when nothing is there; [`Error::Unsupported`] for a format that is not read;
    /// [`Error::Format`] for a broken file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => weights_in(path)?,
            // A TensorFlow checkpoint may be meant by a prefix that is no file.
            found => match (index_of(path), found) {
                (Some(index), _) => index,
                (None, Ok(_)) => path.to_path_buf(),
                (None, Err(source)) => return Err(Error::io(path, source)),
            },
        };
        let folder = match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let file_name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let kind = beginning(&file)?;
        let reader: Box<dyn CheckpointReader> = match (extension(&file_name), kind) {
            (_, Some(FileKind::Gguf)) => Box::new(GgufSource::open(&file)?),
            // Weights under a wrong name are read as what they are.
            ("gguf", kind) if !kind.is_some_and(FileKind::is_checkpoint) => {
                Box::new(GgufSource::open(&file)?)
            }
            ("index", _) => Box::new(MappedCheckpoint::open_bundle(&file)?),
            ("json", _) if !file_name.ends_with(".index.json") => {
                return Err(Error::Argument(format!(
                    "{}: expected weights or their index, found a file beside them; name the \
                     folder",
                    file.display()
                )));
            }
            ("json", _) => Box::new(MappedCheckpoint::open_sharded(&file)?),
            _ => Box::new(MappedCheckpoint::open(&file)?),
        };
        let name = if reader.gguf().is_some() {
            file_name.trim_end_matches(".gguf").to_owned()
        } else {
            folder_name(&folder)
        };
        Ok(Self {
            reader,
            folder,
            name,
        })
    }
}

/// What the file is by its first bytes.
fn beginning(path: &Path) -> Result<Option<FileKind>> {
    let failed = |source| Error::io(path, source);
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LOOKED_AT as u64).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(recognize(&bytes))
}

fn extension(file_name: &str) -> &str {
    file_name
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension)
}

/// The last component of the folder's full path.
fn folder_name(folder: &Path) -> String {
    folder
        .canonicalize()
        .ok()
        .and_then(|full| {
            full.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "gpt2".to_owned())
}
