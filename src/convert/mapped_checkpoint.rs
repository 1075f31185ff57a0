//! Weights in one or several mapped files of the same or of different formats.
//!
//! A [`Parser`] knows one format: it finds names, shapes and locations in the bytes of a file. What
//! all formats share is here: mapping, shards with an index, duplicate names, access to the
//! elements, releasing pages.
//!
//! [`Parser`]: super::stored_tensor::Parser

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::checkpoint_reader::{CheckpointReader, CheckpointTensor};
use super::formats::parser_for;
use super::json::read_json;
use super::stored_tensor::{FileConfig, Location, MAX_TENSORS, StoredTensor};
use super::tensorflow::folder::config_of;
use super::tensorflow::{masked_crc32c, parse_index};
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::input::read_small;

/// The tensors of one or several mapped files.
#[derive(Default)]
pub(super) struct MappedCheckpoint {
    maps: Vec<MappedFile>,
    tensors: Vec<CheckpointTensor>,
    /// For each tensor the index of its file in `maps` and its location there.
    locations: Vec<(usize, Location)>,
    config: Option<FileConfig>,
    notes: Vec<String>,
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
        let index: Index = read_json(index_path, &mut Vec::new())?;
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
                index
                    .weight_map
                    .get(name)
                    .is_some_and(|named| named == shard)
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

    /// Opens the data files of the TensorFlow checkpoint that has this index.
    ///
    /// # Errors
    /// Those of [`MappedCheckpoint::open`]; [`Error::Format`] for a data file that is missing.
    pub(super) fn open_bundle(index_path: &Path) -> Result<Self> {
        let place = index_path.display().to_string();
        let index = parse_index(&read_small(index_path)?).map_err(|error| error.within(&place))?;
        let mut shards: BTreeMap<u32, Vec<StoredTensor>> = BTreeMap::new();
        for (shard, tensor) in index.tensors {
            shards.entry(shard).or_default().push(tensor);
        }
        let mut all = Self::default();
        all.config = config_of(index_path, &mut all.notes)?;
        let mut names = HashSet::new();
        for (shard, tensors) in shards {
            let path = index_path.with_extension(format!("data-{shard:05}-of-{:05}", index.shards));
            if !path.is_file() {
                let name = path.file_name().unwrap_or_default().display();
                return Err(Error::format(
                    place,
                    format!("data file '{name}' is missing; it must be beside the index"),
                ));
            }
            all.adopt(&path, MappedFile::open(&path)?, tensors, &mut names, |_| {
                true
            })?;
        }
        Ok(all)
    }

    /// Adds the tensors of one file. `names` has those of the files before; `belongs` says whether
    /// the index puts a tensor into this file.
    fn add(
        &mut self,
        path: &Path,
        names: &mut HashSet<String>,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let map = MappedFile::open(path)?;
        let parse = parser_for(path, map.as_ref())?;
        let parsed =
            parse(map.as_ref()).map_err(|error| error.within(path.display().to_string()))?;
        self.config = self.config.take().or(parsed.config);
        self.notes.extend(parsed.notes);
        self.adopt(path, map, parsed.tensors, names, belongs)
    }

    /// Adds the tensors that were found in the file `map`.
    fn adopt(
        &mut self,
        path: &Path,
        map: MappedFile,
        found: Vec<StoredTensor>,
        names: &mut HashSet<String>,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let place = || path.display().to_string();
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
                    "appears twice, or in a shard other than the one in the index",
                ));
            }
            check_location(&tensor, map.as_ref().len())
                .map_err(|message| Error::format(tensor_place(), message))?;
            self.tensors.push(CheckpointTensor {
                name: tensor.name,
                dtype: tensor.element.name.to_owned(),
                tensor_type: tensor.element.tensor_type,
                shape: tensor.shape,
                swapped: tensor.swapped,
            });
            self.locations.push((self.maps.len(), tensor.location));
        }
        self.maps.push(map);
        Ok(())
    }

    fn location(&self, index: usize) -> Option<(&MappedFile, &Location)> {
        let (file, location) = self.locations.get(index)?;
        Some((self.maps.get(*file)?, location))
    }
}

/// Checks that a tensor is within the file and as long as its shape says.
fn check_location(tensor: &StoredTensor, file_bytes: usize) -> Result<(), String> {
    let needed = tensor
        .element
        .tensor_bytes(&tensor.shape)
        .ok_or_else(|| format!("shape {:?} is too large", tensor.shape))?;
    let range = match &tensor.location {
        Location::Contiguous(range) | Location::Summed(range, _)
            if range.len() as u64 != needed =>
        {
            return Err(format!(
                "shape {:?} of {} needs {needed} bytes, the file has {} for it",
                tensor.shape,
                tensor.element.name,
                range.len()
            ));
        }
        Location::Contiguous(range) | Location::Summed(range, _) => range.clone(),
        Location::Scattered(parts) => parts.range(),
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
        let lost = || Error::Internal(format!("the checkpoint has no tensor {index}"));
        let (map, location) = self.location(index).ok_or_else(lost)?;
        match location {
            Location::Contiguous(range) => map
                .as_ref()
                .get(range.clone())
                .map(Cow::Borrowed)
                .ok_or_else(lost),
            Location::Summed(range, checksum) => {
                let elements = map.as_ref().get(range.clone()).ok_or_else(lost)?;
                if masked_crc32c(elements) != *checksum {
                    let name = self.tensors.get(index).map_or("", |tensor| &tensor.name);
                    return Err(Error::format(
                        format!("tensor '{name}'"),
                        "expected the checksum that the index has for it, found another; the data \
                         file is damaged or of another checkpoint",
                    ));
                }
                Ok(Cow::Borrowed(elements))
            }
            Location::Scattered(parts) => {
                let name = self.tensors.get(index).map_or("", |tensor| &tensor.name);
                parts
                    .gather(map.as_ref())
                    .map(Cow::Owned)
                    .map_err(|error| error.within(format!("tensor '{name}'")))
            }
        }
    }

    fn config(&self) -> Option<&FileConfig> {
        self.config.as_ref()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn release(&self, index: usize) {
        if let Some((map, location)) = self.location(index) {
            map.release(match location {
                Location::Contiguous(range) | Location::Summed(range, _) => range.clone(),
                Location::Scattered(parts) => parts.range(),
            });
        }
    }
}
