//! Weights that Flax wrote: `flax_model.msgpack`.
//!
//! One msgpack value: maps in maps, whose keys make a tensor's path. An array is an extension value
//! of code 1 (3 for a scalar) that holds a msgpack array of shape, the element type's numpy name,
//! and the bytes, little-endian in C order. An array above 2^30 bytes is a map with a marker, the
//! shape as a map `{"0": n, …}`, and flat pieces of it as a map `{"0": array, …}`.
//!
//! Only the above is read; everything else is refused. Depth and number of values are bounded.

use std::ops::Range;

use rmp::Marker;
use rmp::decode;

use super::element_type::ElementType;
use super::framework_names::FLAX;
use super::stored_tensor::{
    Gather, Location, MAX_NAME_BYTES, MAX_TENSORS, Parsed, StoredTensor, with_capacity,
};
use crate::error::{Error, Result};

/// Levels of maps accepted; a GPT-2's weights need six, pieces of an array one more.
const MAX_DEPTH: usize = 16;
/// Values accepted: each tensor, the maps it is in, pieces of large ones.
const MAX_VALUES: usize = 4 * MAX_TENSORS;
/// Axes of an array accepted.
const MAX_AXES: u32 = 8;

/// The key of a map that is an array in pieces.
const IN_PIECES: &str = "__msgpack_chunked_array__";
/// Codes of the extension values that are arrays.
const ARRAY_CODES: &[i8] = &[1, 3];

/// numpy's names of element types.
const NUMPY: &[(&str, &str)] = &[
    ("float64", "F64"),
    ("float32", "F32"),
    ("float16", "F16"),
    ("bfloat16", "BF16"),
    ("int64", "I64"),
    ("uint64", "U64"),
    ("int32", "I32"),
    ("uint32", "U32"),
    ("int16", "I16"),
    ("uint16", "U16"),
    ("int8", "I8"),
    ("uint8", "U8"),
    ("bool", "BOOL"),
];

/// The tensors of a file.
///
/// # Errors
/// [`Error::Format`] naming path or byte; [`Error::Unsupported`] for an unknown element type.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut reader = Reader {
        all: bytes,
        rest: bytes,
        values: 0,
    };
    let Node::Map(root) = reader.node(0)? else {
        return Err(reader.broken("expected a map of weights"));
    };
    if !reader.rest.is_empty() {
        return Err(reader.broken("expected the end of the file"));
    }
    let mut tensors = Vec::new();
    collect(&root, &mut Vec::new(), &mut tensors)?;
    Ok(tensors.into())
}

/// A value of the file.
enum Node<'a> {
    Map(Vec<(&'a str, Node<'a>)>),
    Array(Array),
    Number(u64),
    Flag,
}

/// A contiguous array.
struct Array {
    shape: Vec<u64>,
    element: &'static ElementType,
    range: Range<usize>,
}

/// The file and how far it is read.
struct Reader<'a> {
    all: &'a [u8],
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn position(&self) -> usize {
        self.all.len() - self.rest.len()
    }

    fn broken(&self, message: impl std::fmt::Display) -> Error {
        Error::format(
            format!("msgpack, byte {}", self.position()),
            message.to_string(),
        )
    }

    fn marker(&self) -> Result<Marker> {
        self.rest
            .first()
            .map(|byte| Marker::from_u8(*byte))
            .ok_or_else(|| self.broken("the file ends inside a value; it is truncated"))
    }

    /// Reads the next value; maps in it are at most `MAX_DEPTH` deep.
    fn node(&mut self, depth: usize) -> Result<Node<'a>> {
        self.values += 1;
        if self.values > MAX_VALUES || depth > MAX_DEPTH {
            return Err(self.broken(format!(
                "expected at most {MAX_VALUES} values, {MAX_DEPTH} deep"
            )));
        }
        match self.marker()? {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map(depth),
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => self.array().map(Node::Array),
            Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
                self.number().map(Node::Number)
            }
            Marker::True | Marker::False => {
                self.skip(1)?;
                Ok(Node::Flag)
            }
            other => Err(self.broken(format!(
                "expected a map or an array of numbers, found {other:?}"
            ))),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node<'a>> {
        let count = self.head(decode::read_map_len)?;
        // Grows with what is really there, not with what is announced.
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = self.text()?;
            entries.push((key, self.node(depth + 1)?));
        }
        Ok(Node::Map(entries))
    }

    /// An extension value: its own length is exact.
    fn array(&mut self) -> Result<Array> {
        let start = self.position();
        let meta = self.head(decode::read_ext_meta)?;
        if !ARRAY_CODES.contains(&meta.typeid) {
            return Err(self.broken(format!(
                "expected an array, found extension {}",
                meta.typeid
            )));
        }
        let end = self.position().checked_add(meta.size as usize);
        let axes = self.head(decode::read_array_len)?;
        if axes != 3 {
            return Err(self.broken(format!(
                "expected shape, type and bytes, found {axes} items"
            )));
        }
        let axes = self.head(decode::read_array_len)?;
        if axes > MAX_AXES {
            return Err(self.broken(format!("expected at most {MAX_AXES} axes, found {axes}")));
        }
        let shape = (0..axes).map(|_| self.number()).collect::<Result<_>>()?;
        let numpy = self.text()?;
        let element = NUMPY
            .iter()
            .find(|(name, _)| *name == numpy)
            .and_then(|(_, name)| ElementType::from_name(name))
            .ok_or_else(|| Error::Unsupported(format!("elements of type '{numpy}'")))?;
        let length = self.head(decode::read_bin_len)?;
        let first = self.position();
        self.skip(length as usize)?;
        if Some(self.position()) != end {
            return Err(self.broken(format!(
                "the array that begins at byte {start} is not as long as it says"
            )));
        }
        Ok(Array {
            shape,
            element,
            range: first..self.position(),
        })
    }

    /// Reads the start of a value.
    fn head<T, E: std::fmt::Display>(
        &mut self,
        read: impl FnOnce(&mut &'a [u8]) -> Result<T, E>,
    ) -> Result<T> {
        read(&mut self.rest).map_err(|error| self.broken(error))
    }

    fn number(&mut self) -> Result<u64> {
        self.head(decode::read_int)
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.head(decode::read_str_len)?;
        if length as usize > MAX_NAME_BYTES {
            return Err(self.broken(format!("a name of {length} bytes")));
        }
        let start = self.position();
        self.skip(length as usize)?;
        let all = self.all;
        all.get(start..self.position())
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| self.broken("a name is no UTF-8"))
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        let rest = self.rest;
        let Some(after) = rest.get(bytes..) else {
            return Err(self.broken(format!(
                "{bytes} bytes are announced, {} are there; the file is truncated",
                rest.len()
            )));
        };
        self.rest = after;
        Ok(())
    }
}

/// Walks the maps; `path` holds the keys that lead to `entries`.
fn collect<'a>(
    entries: &[(&'a str, Node<'a>)],
    path: &mut Vec<&'a str>,
    tensors: &mut Vec<StoredTensor>,
) -> Result<()> {
    for (key, node) in entries {
        path.push(key);
        let place = || format!("'{}'", path.join("/"));
        match node {
            Node::Map(inner) if inner.iter().any(|(key, _)| *key == IN_PIECES) => {
                let (array, pieces) =
                    in_pieces(inner).map_err(|message| Error::format(place(), message))?;
                tensors.push(stored(path, array, |_| {
                    Location::Scattered(Box::new(pieces))
                }));
            }
            Node::Map(inner) => collect(inner, path, tensors)?,
            Node::Array(array) => {
                let array = Array {
                    shape: array.shape.clone(),
                    element: array.element,
                    range: array.range.clone(),
                };
                tensors.push(stored(path, array, Location::Contiguous));
            }
            Node::Number(_) | Node::Flag => {
                return Err(Error::format(
                    place(),
                    "expected a map or an array, found a single value",
                ));
            }
        }
        path.pop();
    }
    Ok(())
}

fn stored(
    path: &[&str],
    array: Array,
    location: impl FnOnce(Range<usize>) -> Location,
) -> StoredTensor {
    let (name, swapped) = FLAX.translate(path);
    StoredTensor {
        name,
        element: array.element,
        shape: array.shape,
        swapped,
        location: location(array.range),
    }
}

/// An array in pieces.
struct Pieces(Vec<Range<usize>>);

/// The shape, type and pieces of a large array.
fn in_pieces(entries: &[(&str, Node)]) -> Result<(Array, Pieces), String> {
    let part = |name: &str| {
        let part = entries.iter().find(|(key, _)| *key == name);
        let Some((_, Node::Map(part))) = part else {
            return Err(format!("an array in pieces without '{name}'"));
        };
        // The keys count from 0, but are sorted as strings.
        let mut ordered = part
            .iter()
            .map(|(key, node)| Some((key.parse::<usize>().ok()?, node)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("'{name}': expected numbers for keys"))?;
        ordered.sort_unstable_by_key(|(number, _)| *number);
        if ordered
            .iter()
            .enumerate()
            .any(|(place, (number, _))| place != *number)
        {
            return Err(format!(
                "'{name}': expected keys from 0 to {}",
                ordered.len()
            ));
        }
        Ok(ordered.into_iter().map(|(_, node)| node))
    };
    let shape: Vec<u64> = part("shape")?
        .map(|node| match node {
            Node::Number(size) => Ok(*size),
            _ => Err("'shape': expected numbers".to_owned()),
        })
        .collect::<Result<_, _>>()?;
    let mut element = None;
    let mut ranges = Vec::new();
    for node in part("chunks")? {
        match node {
            Node::Array(piece) if element.is_none_or(|known| known == piece.element) => {
                element = Some(piece.element);
                ranges.push(piece.range.clone());
            }
            _ => return Err("'chunks': expected arrays of one type".to_owned()),
        }
    }
    let element = element.ok_or("'chunks': there are none")?;
    let bytes: u64 = ranges.iter().map(|range| range.len() as u64).sum();
    if element.tensor_bytes(&shape) != Some(bytes) {
        return Err(format!(
            "shape {shape:?} of {} does not fit pieces of {bytes} bytes",
            element.name
        ));
    }
    let array = Array {
        shape,
        element,
        range: 0..0,
    };
    Ok((array, Pieces(ranges)))
}

impl Gather for Pieces {
    fn range(&self) -> Range<usize> {
        let start = self.0.iter().map(|range| range.start).min();
        let end = self.0.iter().map(|range| range.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    fn gather(&self, file: &[u8]) -> Result<Vec<u8>> {
        let mut all = with_capacity(self.0.iter().map(Range::len).sum())?;
        for range in &self.0 {
            all.extend_from_slice(file.get(range.clone()).unwrap_or_default());
        }
        Ok(all)
    }
}
