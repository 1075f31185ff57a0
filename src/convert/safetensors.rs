//! Weights in safetensors: one file, or several with an index.
//!
//! Format: a little-endian u64 with the header's length, a JSON object that gives each tensor its
//! `dtype`, `shape` and `data_offsets` (relative to the end of the header), then the data.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::checkpoint::{CheckpointReader, CheckpointTensor};
use super::json::read_json;
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::gguf::TensorType;

/// The longest header accepted, the same as the reference implementation's.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Element types: the name in a header, bytes each, and ggml's type when it has the same one.
const DTYPES: &[(&str, u64, Option<TensorType>)] = &[
    ("F64", 8, Some(TensorType::F64)),
    ("F32", 4, Some(TensorType::F32)),
    ("F16", 2, Some(TensorType::F16)),
    ("BF16", 2, Some(TensorType::BF16)),
    ("I64", 8, None),
    ("U64", 8, None),
    ("I32", 4, None),
    ("U32", 4, None),
    ("I16", 2, None),
    ("U16", 2, None),
    ("I8", 1, None),
    ("U8", 1, None),
    ("BOOL", 1, None),
    ("F8_E4M3", 1, None),
    ("F8_E5M2", 1, None),
];

/// One or several safetensors files, mapped.
#[derive(Default)]
pub(super) struct Safetensors {
    maps: Vec<MappedFile>,
    tensors: Vec<CheckpointTensor>,
    /// For each tensor its file's place in `maps` and its bytes there.
    places: Vec<(usize, Range<usize>)>,
}

/// A tensor as the header has it.
#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header, in file order. Unlike a map it can tell that a name stands there twice.
struct Header(Vec<(String, HeaderEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Safetensors {
    /// Opens a single file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut all = Self::default();
        all.add(path, &mut HashSet::new(), |_| true)?;
        Ok(all)
    }

    /// Opens the shards an index names. Each tensor must be in the shard the index says and in no
    /// other.
    pub(super) fn open_sharded(index_path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
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
        let map = MappedFile::open(path)?;
        let place = || path.display().to_string();
        let (entries, data_start) =
            parse_header(map.as_ref()).map_err(|error| error.within(place()))?;
        for (name, tensor_type, entry, range) in entries {
            if !belongs(&name) || !names.insert(name.clone()) {
                return Err(Error::format(
                    format!("{}: tensor '{name}'", place()),
                    "is there a second time, or in a shard where the index does not have it",
                ));
            }
            self.tensors.push(CheckpointTensor {
                name,
                dtype: entry.dtype,
                tensor_type,
                shape: entry.shape,
            });
            self.places.push((
                self.maps.len(),
                data_start + range.start..data_start + range.end,
            ));
        }
        self.maps.push(map);
        Ok(())
    }
}

type Parsed = (String, Option<TensorType>, HeaderEntry, Range<usize>);

/// The tensors of a file and where its data begins. Every range is inside the data and as long as
/// shape and type say, and none overlap.
fn parse_header(bytes: &[u8]) -> Result<(Vec<Parsed>, usize)> {
    let header_error = |message: String| Error::format("safetensors header", message);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(header_error(format!(
            "expected at least 8 bytes, found {}",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
        return Err(header_error(format!(
            "announces {length} bytes, at most {} can be there; the file is truncated or no safetensors",
            MAX_HEADER_BYTES.min(rest.len() as u64)
        )));
    }
    let (json, data) = rest.split_at(length as usize);
    let Header(entries) =
        serde_json::from_slice(json).map_err(|error| header_error(error.to_string()))?;
    let mut parsed = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (tensor_type, range) = check_entry(&entry, data.len() as u64)
            .map_err(|message| Error::format(format!("tensor '{name}'"), message))?;
        parsed.push((name, tensor_type, entry, range));
    }
    check_overlaps(&parsed)?;
    Ok((parsed, 8 + length as usize))
}

/// Type and byte range of an entry, checked against the size of the data.
fn check_entry(
    entry: &HeaderEntry,
    data_bytes: u64,
) -> Result<(Option<TensorType>, Range<usize>), String> {
    let (_, element_bytes, tensor_type) = DTYPES
        .iter()
        .find(|(name, ..)| *name == entry.dtype)
        .ok_or_else(|| format!("unknown dtype '{}'", entry.dtype))?;
    let needed = entry
        .shape
        .iter()
        .try_fold(*element_bytes, |bytes, axis| bytes.checked_mul(*axis))
        .ok_or_else(|| format!("shape {:?} is too large", entry.shape))?;
    let (begin, end) = entry.data_offsets;
    if begin > end || end > data_bytes {
        return Err(format!(
            "offsets {begin} to {end} are outside the {data_bytes} bytes of data; \
             the file is truncated or broken"
        ));
    }
    if end - begin != needed {
        return Err(format!(
            "shape {:?} of {} needs {needed} bytes, the offsets hold {}",
            entry.shape,
            entry.dtype,
            end - begin
        ));
    }
    Ok((*tensor_type, begin as usize..end as usize))
}

fn check_overlaps(parsed: &[Parsed]) -> Result<()> {
    let mut ranges: Vec<(&Range<usize>, &str)> = parsed
        .iter()
        .filter(|(.., range)| !range.is_empty())
        .map(|(name, _, _, range)| (range, name.as_str()))
        .collect();
    ranges.sort_unstable_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        if let [(first, first_name), (second, second_name)] = pair
            && second.start < first.end
        {
            return Err(Error::format(
                format!("tensor '{second_name}'"),
                format!("its data overlaps that of '{first_name}'"),
            ));
        }
    }
    Ok(())
}

impl CheckpointReader for Safetensors {
    fn tensors(&self) -> &[CheckpointTensor] {
        &self.tensors
    }

    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.places
            .get(index)
            .and_then(|(file, range)| self.maps.get(*file)?.as_ref().get(range.clone()))
            .map(Cow::Borrowed)
            .ok_or_else(|| Error::Argument(format!("the checkpoint has no tensor number {index}")))
    }

    fn release(&self, index: usize) {
        if let Some((file, range)) = self.places.get(index)
            && let Some(map) = self.maps.get(*file)
        {
            map.release(range.clone());
        }
    }
}
