//! Weights in safetensors.
//!
//! Format: a little-endian u64 with the header's length, a JSON object that gives each tensor its
//! `dtype`, `shape` and `data_offsets` (relative to the end of the header), then the data.

use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::element_type::ElementType;
use super::stored_tensor::{Location, Parsed, StoredTensor};
use crate::error::{Error, Result};

/// The longest header accepted, the same as the reference implementation's.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor as the header has it.
#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header, in file order. Unlike a map it shows that a name appears twice.
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

/// The tensors of a file, in its order. Every range is inside the data and as long as shape and
/// type say, and none overlap.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
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
            "announces {length} bytes, at most {} can be there; the file is truncated or no \
             safetensors",
            MAX_HEADER_BYTES.min(rest.len() as u64)
        )));
    }
    let (json, data) = rest.split_at(length as usize);
    let Header(entries) =
        serde_json::from_slice(json).map_err(|error| header_error(error.to_string()))?;
    let mut ranges = Vec::with_capacity(entries.len());
    for (name, entry) in &entries {
        let (element, range) = check_entry(entry, data.len() as u64)
            .map_err(|message| Error::format(format!("tensor '{name}'"), message))?;
        ranges.push((name.as_str(), element, range));
    }
    check_overlaps(&ranges)?;
    let data_start = 8 + length as usize;
    let places: Vec<_> = ranges
        .into_iter()
        .map(|(_, element, range)| (element, data_start + range.start..data_start + range.end))
        .collect();
    let tensor = |((name, entry), (element, range)): ((String, HeaderEntry), _)| StoredTensor {
        name,
        element,
        shape: entry.shape,
        swapped: false,
        location: Location::Contiguous(range),
    };
    let tensors: Vec<_> = entries.into_iter().zip(places).map(tensor).collect();
    Ok(tensors.into())
}

/// Type and byte range of an entry, checked against the size of the data.
fn check_entry(
    entry: &HeaderEntry,
    data_bytes: u64,
) -> Result<(&'static ElementType, Range<usize>), String> {
    let element = ElementType::from_name(&entry.dtype)
        .ok_or_else(|| format!("unknown dtype '{}'", entry.dtype))?;
    let needed = element
        .tensor_bytes(&entry.shape)
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
    Ok((element, begin as usize..end as usize))
}

fn check_overlaps(tensors: &[(&str, &ElementType, Range<usize>)]) -> Result<()> {
    let mut ranges: Vec<(&Range<usize>, &str)> = tensors
        .iter()
        .filter(|(.., range)| !range.is_empty())
        .map(|(name, _, range)| (range, *name))
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
