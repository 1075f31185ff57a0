//! Weights in one or several mapped files of the same or of different formats.
//!
//! A format's part is a [`Parser`]: from a file's bytes to names, shapes and places. Everything else is
//! done here once for all: mapping, shards with an index, names that stand there twice, handing out
//! elements, giving pages back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path};

use serde::Deserialize;

use super::checkpoint::{CheckpointReader, CheckpointTensor};
use super::elements::ElementType;
use super::formats::parser_for;
use super::json::read_json;
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;

/// The most tensors accepted; a model of the most layers accepted has fewer.
pub(super) const MAX_TENSORS: usize = 1 << 17;
/// The longest name, or part of one, that is accepted from formats in which many tensors can share the
/// bytes of a name.
#[cfg(any(feature = "pickle", feature = "hdf5", feature = "msgpack"))]
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Finds the tensors in the bytes of a file. Reads no elements.
pub(super) type Parser = fn(&[u8]) -> Result<Vec<StoredTensor>>;

/// A tensor as a parser finds it.
pub(super) struct StoredTensor {
    /// Its name, as a `PyTorch` checkpoint would have it.
    pub name: String,
    /// The type of its elements.
    pub element: &'static ElementType,
    /// Its shape as stored, slowest axis first.
    pub shape: Vec<u64>,
    /// See [`CheckpointTensor::swapped`].
    pub swapped: bool,
    /// Where its elements are.
    pub place: Place,
}

/// Where the elements of a tensor are.
pub(super) enum Place {
    /// One after another in these bytes of the file.
    Together(Range<usize>),
    /// Elsewhere: they are put together when asked for.
    #[cfg_attr(
        not(any(feature = "pickle", feature = "msgpack")),
        expect(dead_code, reason = "the formats that need it are left out")
    )]
    Apart(Box<dyn Gather>),
}

/// Elements that do not lie together.
pub(super) trait Gather: Send + Sync {
    /// The bytes of the file they come from, first to last.
    fn range(&self) -> Range<usize>;

    /// Puts the elements together.
    ///
    /// # Errors
    /// [`Error::Format`] when the file does not hold what it announced; [`Error::Memory`].
    fn gather(&self, file: &[u8]) -> Result<Vec<u8>>;
}

/// One or several files.
#[derive(Default)]
pub(super) struct MappedCheckpoint {
    maps: Vec<MappedFile>,
    tensors: Vec<CheckpointTensor>,
    /// For each tensor its file's number in `maps` and its place there.
    places: Vec<(usize, Place)>,
}

/// The one part of an index file that matters: tensor to shard.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl MappedCheckpoint {
    /// Opens a single file.
    ///
    /// # Errors
    /// Those of opening it and of its format.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut all = Self::default();
        all.add(path, &mut HashSet::new(), |_| true)?;
        Ok(all)
    }

    /// Opens the shards an index names. Each tensor must be in the shard the index says and in no
    /// other.
    ///
    /// # Errors
    /// Those of [`MappedCheckpoint::open`]; [`Error::Format`] when index and shards do not agree.
    pub(super) fn open_sharded(index_path: &Path) -> Result<Self> {
        let index: Index = read_json(index_path)?;
        let place = || index_path.display().to_string();
        let mut shards: Vec<&str> = index.weight_map.values().map(String::as_str).collect();
        shards.sort_unstable();
        shards.dedup();
        let folder = index_path.parent().unwrap_or(Path::new(""));
        let mut all = Self::default();
        let mut names = HashSet::new();
        for shard in shards {
            // An index must not lead out of its folder.
            if Path::new(shard)
                .components()
                .any(|component| !matches!(component, Component::Normal(_)))
            {
                return Err(Error::format(
                    place(),
                    format!("expected shards beside the index, found '{shard}'"),
                ));
            }
            let path = folder.join(shard);
            if !path.is_file() {
                return Err(Error::format(
                    place(),
                    format!("shard '{shard}' is missing; download the checkpoint's missing file"),
                ));
            }
            all.add(&path, &mut names, |name| {
                index.weight_map.get(name).is_some_and(|home| home == shard)
            })?;
        }
        for (name, shard) in &index.weight_map {
            if !names.contains(name) {
                return Err(Error::format(
                    place(),
                    format!("tensor '{name}' is not in its shard '{shard}'"),
                ));
            }
        }
        Ok(all)
    }

    /// Adds the tensors of one file; `names` are those there already, `belongs` says whether a
    /// tensor's home is this file.
    fn add(
        &mut self,
        path: &Path,
        names: &mut HashSet<String>,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let parse = parser_for(path)?;
        let map = MappedFile::open(path)?;
        let place = || path.display().to_string();
        let found = parse(map.as_ref()).map_err(|error| error.within(place()))?;
        if found.len() > MAX_TENSORS.saturating_sub(self.tensors.len()) {
            return Err(Error::format(
                place(),
                format!("more than {MAX_TENSORS} tensors, which no GPT-2 has"),
            ));
        }
        for tensor in found {
            let tensor_place = || format!("{}: tensor '{}'", place(), tensor.name);
            if !belongs(&tensor.name) || !names.insert(tensor.name.clone()) {
                return Err(Error::format(
                    tensor_place(),
                    "is there a second time, or in a shard where the index does not have it",
                ));
            }
            check_place(&tensor, map.as_ref().len())
                .map_err(|message| Error::format(tensor_place(), message))?;
            self.tensors.push(CheckpointTensor {
                name: tensor.name,
                dtype: tensor.element.name.to_owned(),
                tensor_type: tensor.element.tensor_type,
                shape: tensor.shape,
                swapped: tensor.swapped,
            });
            self.places.push((self.maps.len(), tensor.place));
        }
        self.maps.push(map);
        Ok(())
    }

    fn place(&self, index: usize) -> Option<(&MappedFile, &Place)> {
        let (file, place) = self.places.get(index)?;
        Some((self.maps.get(*file)?, place))
    }
}

/// Whether a tensor lies in the file and is as long as its shape says.
fn check_place(tensor: &StoredTensor, file_bytes: usize) -> Result<(), String> {
    let needed = tensor
        .element
        .tensor_bytes(&tensor.shape)
        .ok_or_else(|| format!("shape {:?} is too large", tensor.shape))?;
    let range = match &tensor.place {
        Place::Together(range) if range.len() as u64 != needed => {
            return Err(format!(
                "shape {:?} of {} needs {needed} bytes, the file has {} for it",
                tensor.shape,
                tensor.element.name,
                range.len()
            ));
        }
        Place::Together(range) => range.clone(),
        Place::Apart(parts) => parts.range(),
    };
    if range.start > range.end || range.end > file_bytes {
        return Err(format!(
            "bytes {} to {} are outside the file of {file_bytes}; it is truncated or broken",
            range.start, range.end
        ));
    }
    Ok(())
}

impl CheckpointReader for MappedCheckpoint {
    fn tensors(&self) -> &[CheckpointTensor] {
        &self.tensors
    }

    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let lost = || Error::Argument(format!("the checkpoint has no tensor number {index}"));
        let (map, place) = self.place(index).ok_or_else(lost)?;
        match place {
            Place::Together(range) => map
                .as_ref()
                .get(range.clone())
                .map(Cow::Borrowed)
                .ok_or_else(lost),
            Place::Apart(parts) => {
                let name = self.tensors.get(index).map_or("", |tensor| &tensor.name);
                parts
                    .gather(map.as_ref())
                    .map(Cow::Owned)
                    .map_err(|error| error.within(format!("tensor '{name}'")))
            }
        }
    }

    fn release(&self, index: usize) {
        if let Some((map, place)) = self.place(index) {
            map.release(match place {
                Place::Together(range) => range.clone(),
                Place::Apart(parts) => parts.range(),
            });
        }
    }
}

/// An empty vector with room for `bytes`.
///
/// # Errors
/// [`Error::Memory`] when the system has not that much.
#[cfg(any(feature = "pickle", feature = "msgpack"))]
pub(super) fn room_for(bytes: usize) -> Result<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(bytes)
        .map_err(|error| Error::Memory(format!("{bytes} bytes for one tensor: {error}")))?;
    Ok(room)
}
