//! Weights as TensorFlow 1 saved them: `PREFIX.index` beside `PREFIX.data-00000-of-00001`.
//!
//! The index is a [`table`] of protobuf messages: under the empty key the number of data files and
//! their byte order, under each variable's name its type, shape, data file, place and checksum. The
//! data files are the variables' elements, end to end.
//!
//! `OpenAI` released GPT-2 in this form. What optimizers keep beside each variable is left out.

mod crc32c;
pub(super) mod folder;
mod table;

use std::collections::HashSet;
use std::ops::Range;

use super::element_type::ElementType;
use super::framework_names::OPENAI;
use super::stored_tensor::{Location, MAX_TENSORS, StoredTensor};
use crate::error::{Error, Result};
use crate::protobuf::{Fields, Wire};
pub(super) use crc32c::masked_crc32c;

/// Axes of a tensor accepted; TensorFlow has no more.
const MAX_AXES: usize = 8;
/// Names of variables that count the steps of a training run.
const TRAINING_STATE: &[&str] = &["beta1_power", "beta2_power", "global_step"];
/// The key under which TensorFlow 2 keeps how a program's objects hang together.
const OBJECT_GRAPH: &[u8] = b"_CHECKPOINTABLE_OBJECT_GRAPH";

/// TensorFlow's numbers of element types (`DataType`).
const DATA_TYPES: &[(u64, &str)] = &[
    (1, "F32"),
    (2, "F64"),
    (3, "I32"),
    (4, "U8"),
    (5, "I16"),
    (6, "I8"),
    (9, "I64"),
    (10, "BOOL"),
    (14, "BF16"),
    (17, "U16"),
    (19, "F16"),
    (22, "U32"),
    (23, "U64"),
    (24, "F8_E5M2"),
    (25, "F8_E4M3"),
];

/// What an index says.
pub(super) struct BundleIndex {
    /// The number of data files.
    pub shards: u32,
    /// The tensors, each with the number of its data file, which is below `shards`.
    pub tensors: Vec<(u32, StoredTensor)>,
}

/// Reads the bytes of an index.
///
/// # Errors
/// [`Error::Format`] naming what is broken; [`Error::Unsupported`] for what TensorFlow 1's Saver
/// does not write, and for variables in slices.
pub(super) fn parse_index(bytes: &[u8]) -> Result<BundleIndex> {
    let mut shards = None;
    let mut entries = Vec::new();
    table::for_each_entry(bytes, |key, value| {
        if key.is_empty() {
            if shards.replace(header(value)?).is_some() {
                return Err(broken("the index", "its header appears twice"));
            }
            return Ok(());
        }
        // A slice of a variable has a name in bytes, which begins with this.
        if key.starts_with(&[0]) {
            return Err(sliced("the checkpoint"));
        }
        if key == OBJECT_GRAPH {
            return Err(Error::Unsupported(
                "a TensorFlow 2 checkpoint of objects; expected one of variables, as TensorFlow \
                 1's Saver writes it"
                    .to_owned(),
            ));
        }
        if entries.len() == MAX_TENSORS {
            return Err(broken("the index", "it has more variables than a GPT-2"));
        }
        let name = str::from_utf8(key)
            .map_err(|error| broken("the index", &format!("a name is not UTF-8: {error}")))?;
        let entry = Entry::parse(value).map_err(|error| error.within(format!("'{name}'")))?;
        entries.push((name.to_owned(), entry));
        Ok(())
    })?;
    let shards = shards.ok_or_else(|| broken("the index", "it has no header"))?;
    let names: HashSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let mut tensors = Vec::new();
    for (name, entry) in &entries {
        // An optimizer's slot is called after its variable: model/wte/Adam.
        let is_slot = name
            .rsplit_once('/')
            .is_some_and(|(variable, _)| names.contains(variable));
        if is_slot || TRAINING_STATE.contains(&name.as_str()) {
            continue;
        }
        if let Some(element) = entry.element(name)? {
            tensors.push((entry.shard, entry.tensor(name, element, shards)?));
        }
    }
    Ok(BundleIndex { shards, tensors })
}

/// The number of data files, from the message `BundleHeaderProto`.
fn header(message: &[u8]) -> Result<u32> {
    let mut shards = 1;
    for field in Fields::of(message) {
        match field? {
            (1, Wire::Varint(count)) => {
                shards = u32::try_from(count)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or_else(|| broken("the index", &format!("{count} data files")))?;
            }
            (2, Wire::Varint(1)) => {
                return Err(Error::Unsupported(
                    "a TensorFlow checkpoint written on a big-endian machine".to_owned(),
                ));
            }
            // The version of the format, which has not changed since 2016.
            _ => {}
        }
    }
    Ok(shards)
}

/// A variable: the message `BundleEntryProto`.
#[derive(Default)]
struct Entry {
    data_type: u64,
    shape: Vec<u64>,
    shard: u32,
    offset: u64,
    size: u64,
    masked_crc: u32,
    sliced: bool,
}

impl Entry {
    fn parse(message: &[u8]) -> Result<Self> {
        let mut entry = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Wire::Varint(number)) => entry.data_type = number,
                (2, Wire::Bytes(shape)) => entry.shape = parse_shape(shape)?,
                (3, Wire::Varint(number)) => {
                    entry.shard = u32::try_from(number).unwrap_or(u32::MAX);
                }
                (4, Wire::Varint(number)) => entry.offset = number,
                (5, Wire::Varint(number)) => entry.size = number,
                (6, Wire::Four(bytes)) => entry.masked_crc = u32::from_le_bytes(bytes),
                (7, Wire::Bytes(_)) => entry.sliced = true,
                _ => {}
            }
        }
        Ok(entry)
    }

    /// The type of the elements; `None` for strings and the like, which are not weights.
    fn element(&self, name: &str) -> Result<Option<&'static ElementType>> {
        if self.sliced {
            return Err(sliced(&format!("variable '{name}'")));
        }
        let known = DATA_TYPES
            .iter()
            .find(|(number, _)| *number == self.data_type);
        Ok(known.and_then(|(_, name)| ElementType::from_name(name)))
    }

    fn tensor(
        &self,
        name: &str,
        element: &'static ElementType,
        shards: u32,
    ) -> Result<StoredTensor> {
        let place = format!("variable '{name}'");
        if self.shard >= shards {
            return Err(broken(
                &place,
                &format!("it is in data file {} of {shards}", self.shard),
            ));
        }
        let range = self.range().ok_or_else(|| {
            broken(
                &place,
                &format!("no file has {} bytes at byte {}", self.size, self.offset),
            )
        })?;
        // The scope of all of OpenAI's variables.
        let path: Vec<&str> = name
            .strip_prefix("model/")
            .unwrap_or(name)
            .split('/')
            .collect();
        let (name, swapped) = OPENAI.translate(&path);
        Ok(StoredTensor {
            name,
            element,
            shape: self.shape.clone(),
            swapped,
            location: Location::Summed(range, self.masked_crc),
        })
    }

    fn range(&self) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.size).ok()?)?;
        Some(start..end)
    }
}

/// The axes of a `TensorShapeProto`.
fn parse_shape(message: &[u8]) -> Result<Vec<u64>> {
    let mut axes = Vec::new();
    for field in Fields::of(message) {
        let (2, Wire::Bytes(axis)) = field? else {
            continue;
        };
        // A size of 0 is not written.
        let mut size = 0;
        for field in Fields::of(axis) {
            if let (1, Wire::Varint(number)) = field? {
                size = number;
            }
        }
        if axes.len() == MAX_AXES {
            return Err(broken("its shape", &format!("more than {MAX_AXES} axes")));
        }
        axes.push(size);
    }
    Ok(axes)
}

fn sliced(what: &str) -> Error {
    Error::Unsupported(format!(
        "{what}: variables in slices; save the model without a partitioner"
    ))
}

fn broken(place: &str, message: &str) -> Error {
    Error::format(place, message)
}
