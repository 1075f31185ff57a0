//! The key-value pairs of a file, read in place.
//!
//! Parsing notes where each value begins and ends and checks that this is inside the file; values
//! are decoded when they are read. A vocabulary of 50,000 strings costs a walk over its
//! lengths, a text of megabytes is not touched.

use std::ops::Range;

use super::cursor::Cursor;
use super::value::{Array, ArrayRef, Strings, Value, ValueRef, ValueType};
use super::{Bytes, MAX_KEY_BYTES, quoted};
use crate::error::{Error, Result};

/// The smallest pair: length and one byte of key, type, one byte of value.
const SMALLEST_PAIR: u64 = 8 + 1 + 4 + 1;

/// The metadata of a file, in the file's order.
#[derive(Clone)]
pub struct Metadata {
    bytes: Bytes,
    entries: Vec<Entry>,
    /// Places in `entries`, sorted by key.
    by_key: Vec<u32>,
}

/// One pair: the key and the position of its value.
#[derive(Debug, Clone)]
struct Entry {
    key: String,
    form: Form,
    /// The value's bytes in the file; of a string without its length, of an array its elements
    /// only.
    payload: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// A number, bool or string.
    Single(ValueType),
    /// An array of numbers, bools or strings.
    Array { element: ValueType, count: usize },
}

impl Metadata {
    /// Walks over `count` pairs at `cursor`, which goes over `bytes`.
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64, bytes: Bytes) -> Result<Self> {
        let count = cursor.check_count(count, SMALLEST_PAIR, "metadata keys")?;
        // Not reserved by `count`: memory follows what was read.
        let mut entries = Vec::new();
        for number in 0..count {
            let key = cursor
                .name("the key", MAX_KEY_BYTES)
                .map_err(|error| error.within(format!("key {number}")))?;
            let (form, payload) =
                read_value(cursor).map_err(|error| error.within(format!("key {}", quoted(key))))?;
            entries.push(Entry {
                key: key.to_owned(),
                form,
                payload,
            });
        }
        let by_key = sorted_by(&entries, |entry| &entry.key)
            .map_err(|key| Error::format(format!("key {}", quoted(key)), "it is there twice"))?;
        Ok(Self {
            bytes,
            entries,
            by_key,
        })
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys in the file's order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The value of `key`, nothing of it checked beyond its bounds.
    pub fn get(&self, key: &str) -> Option<ValueRef<'_>> {
        self.view(self.entry(key)?)
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.key.as_str(), self.view(entry)?)))
    }

    /// An integer of any width that fits.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not an integer or not in the range of `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |value| {
            value.to_u64()?.try_into().ok()
        })
    }

    /// An integer of any width that is not negative.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not an integer or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", ValueRef::to_u64)
    }

    /// A float; a 64-bit one is rounded.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not a float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a float", ValueRef::to_f32)
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not a bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |value| match value {
            ValueRef::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not a string or not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        let bytes = self.typed(key, "a string", |value| match value {
            ValueRef::String(bytes) => Some(bytes),
            _ => None,
        })?;
        bytes.map(|bytes| text(key, bytes)).transpose()
    }

    /// The texts of an array, each checked to be UTF-8 as it is reached; their number is known.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not an array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<Strings<'_>>> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        let array = self.array(key, "an array of strings", |element| {
            element == ValueType::String
        })?;
        Ok(array.map(|array| Strings::new(&entry.key, array)))
    }

    /// An array of integers of any width, each in the range of `u32`.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not an array of integers or one of them does not fit.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.elements(key, "an array of integers from 0 to 4294967295", |value| {
            value.to_u64()?.try_into().ok()
        })
    }

    /// An array of floats; 64-bit ones are rounded.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not an array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.elements(key, "an array of floats", ValueRef::to_f32)
    }

    /// [`Self::u32`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_u32(&self, key: &str) -> Result<u32> {
        required(key, self.u32(key)?)
    }

    /// [`Self::u64`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_u64(&self, key: &str) -> Result<u64> {
        required(key, self.u64(key)?)
    }

    /// [`Self::f32`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_f32(&self, key: &str) -> Result<f32> {
        required(key, self.f32(key)?)
    }

    /// [`Self::bool`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_bool(&self, key: &str) -> Result<bool> {
        required(key, self.bool(key)?)
    }

    /// [`Self::str`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_str(&self, key: &str) -> Result<&str> {
        required(key, self.str(key)?)
    }

    /// [`Self::strings`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_strings(&self, key: &str) -> Result<Strings<'_>> {
        required(key, self.strings(key)?)
    }

    /// [`Self::u32s`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_u32s(&self, key: &str) -> Result<Vec<u32>> {
        required(key, self.u32s(key)?)
    }

    /// [`Self::f32s`] of a key that must be there.
    ///
    /// # Errors
    /// [`Error::Format`] also if it is not.
    pub fn required_f32s(&self, key: &str) -> Result<Vec<f32>> {
        required(key, self.f32s(key)?)
    }

    /// An owned copy of the value of `key`, for another file.
    ///
    /// # Errors
    /// [`Error::Format`] if the key is not there, a string is not UTF-8 or a bool neither 0 nor 1.
    pub fn to_value(&self, key: &str) -> Result<Value> {
        let value = required(key, self.get(key))?;
        Ok(match value {
            ValueRef::U8(value) => value.into(),
            ValueRef::I8(value) => value.into(),
            ValueRef::U16(value) => value.into(),
            ValueRef::I16(value) => value.into(),
            ValueRef::U32(value) => value.into(),
            ValueRef::I32(value) => value.into(),
            ValueRef::F32(value) => value.into(),
            ValueRef::U64(value) => value.into(),
            ValueRef::I64(value) => value.into(),
            ValueRef::F64(value) => value.into(),
            ValueRef::Bool(value) => value.into(),
            ValueRef::String(bytes) => text(key, bytes)?.into(),
            ValueRef::Array(array) => Array::into(array.to_array(key)?),
        })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        find(&self.entries, &self.by_key, key, |entry| &entry.key)
    }

    fn view(&self, entry: &Entry) -> Option<ValueRef<'_>> {
        let payload = self.bytes.as_ref().as_ref().get(entry.payload.clone())?;
        match entry.form {
            Form::Single(value_type) => ValueRef::decode(value_type, payload),
            Form::Array { element, count } => Some(ValueRef::Array(ArrayRef {
                element_type: element,
                count,
                payload,
            })),
        }
    }

    /// The value of `key` through `convert`, which returns `None` if it is not `expected`.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(ValueRef<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(unexpected(key, expected, &value.described())),
        }
    }

    /// The array of `key`, if it is one of elements that `accepts` allows.
    fn array(
        &self,
        key: &str,
        expected: &str,
        accepts: impl FnOnce(ValueType) -> bool,
    ) -> Result<Option<ArrayRef<'_>>> {
        self.typed(key, expected, |value| match value {
            // Writers that cannot know the type of nothing choose any.
            ValueRef::Array(array) if array.is_empty() || accepts(array.element_type()) => {
                Some(array)
            }
            _ => None,
        })
    }

    /// The elements of the array of `key` through `convert`.
    fn elements<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(ValueRef<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(array) = self.array(key, expected, |element| {
            !matches!(element, ValueType::String | ValueType::Bool)
        })?
        else {
            return Ok(None);
        };
        let converted = array.map(|place, value| {
            convert(value).ok_or_else(|| {
                let found = format!("{} at place {place}", value.described());
                unexpected(key, expected, &found)
            })
        })?;
        Ok(Some(converted))
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.iter().map(|(key, value)| (key, value.to_string()));
        formatter.debug_map().entries(pairs).finish()
    }
}

/// Steps over a type and a value; returns what and where it is.
fn read_value(cursor: &mut Cursor<'_>) -> Result<(Form, Range<usize>)> {
    let value_type = read_type(cursor)?;
    if value_type == ValueType::Array {
        return read_array(cursor);
    }
    let payload = match value_type.fixed_bytes() {
        Some(bytes) => cursor.take(bytes as u64, value_type.name())?,
        None => cursor.string("the string")?,
    };
    let end = cursor.position();
    if ValueRef::decode(value_type, payload).is_none() {
        return Err(cursor.error(format!(
            "a bool must be stored as 0 or 1, found {payload:?}"
        )));
    }
    Ok((Form::Single(value_type), end - payload.len()..end))
}

/// Steps over an array behind its type; returns what and where its elements are.
fn read_array(cursor: &mut Cursor<'_>) -> Result<(Form, Range<usize>)> {
    let element = read_type(cursor)?;
    if element == ValueType::Array {
        return Err(cursor.error("arrays of arrays are not supported"));
    }
    let count = cursor.u64("the count of the array")?;
    // An empty string still has its length.
    let smallest = element.fixed_bytes().unwrap_or(8) as u64;
    let count = cursor.check_count(count, smallest, "array elements")?;
    let start = cursor.position();
    if element == ValueType::String {
        cursor.skip_strings(count)?;
    } else {
        cursor.take(count as u64 * smallest, "the array")?;
    }
    Ok((Form::Array { element, count }, start..cursor.position()))
}

fn read_type(cursor: &mut Cursor<'_>) -> Result<ValueType> {
    let id = cursor.u32("the value's type")?;
    ValueType::from_id(id)
        .ok_or_else(|| cursor.error(format!("{id} is no type of a value; they go from 0 to 12")))
}

/// The indices of `items` sorted by name; a name that appears twice, if there is one.
pub(super) fn sorted_by<T>(items: &[T], name: impl Fn(&T) -> &str) -> Result<Vec<u32>, &str> {
    let name_at = |place: u32| items.get(place as usize).map(&name);
    let mut places: Vec<u32> = (0..items.len() as u32).collect();
    places.sort_unstable_by_key(|&place| name_at(place));
    let mut names = places.iter().map(|&place| name_at(place));
    let mut previous = names.next();
    for name in names {
        if let Some(name) = name
            && previous == Some(Some(name))
        {
            return Err(name);
        }
        previous = Some(name);
    }
    Ok(places)
}

/// The item called `wanted`, by the places [`sorted_by`] made.
pub(super) fn find<'a, T>(
    items: &'a [T],
    places: &[u32],
    wanted: &str,
    name: impl Fn(&T) -> &str,
) -> Option<&'a T> {
    let found = places
        .binary_search_by(|&place| items.get(place as usize).map(&name).cmp(&Some(wanted)))
        .ok()?;
    items.get(*places.get(found)? as usize)
}

fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::format(format!("key {}", quoted(key)), "it is missing"))
}

fn unexpected(key: &str, expected: &str, found: &str) -> Error {
    Error::format(
        format!("key {}", quoted(key)),
        format!("expected {expected}, found {found}"),
    )
}

fn text<'a>(key: &str, bytes: &'a [u8]) -> Result<&'a str> {
    str::from_utf8(bytes).map_err(|reason| {
        Error::format(
            format!("key {}", quoted(key)),
            format!("the string is not UTF-8: {reason}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gguf::{Gguf, GgufHeader};

    fn metadata() -> Metadata {
        let mut header = GgufHeader::new();
        header.set("u8", 7u8).unwrap();
        header.set("i32", -7i32).unwrap();
        header.set("u64", 1u64 << 40).unwrap();
        header.set("f64", 0.5f64).unwrap();
        header.set("yes", true).unwrap();
        header.set("text", "Emma").unwrap();
        header.set("types", vec![1i32, 3]).unwrap();
        header.set("negative", vec![1i64, -3]).unwrap();
        header.set("nothing", Vec::<i32>::new()).unwrap();
        header
            .set("words", ["Emma", "Woodhouse"].as_slice())
            .unwrap();
        let file = Gguf::parse(Arc::new(header.encode())).unwrap();
        file.metadata().clone()
    }

    #[test]
    fn integers_are_widened_and_checked() {
        let metadata = metadata();
        assert_eq!(metadata.u32("u8").unwrap(), Some(7));
        assert_eq!(metadata.u64("u64").unwrap(), Some(1 << 40));
        assert_eq!(metadata.u32("missing").unwrap(), None);
        let message = metadata.u64("i32").unwrap_err().to_string();
        assert_eq!(
            message,
            "key \"i32\": expected a non-negative integer, found i32 -7"
        );
        let message = metadata.u32("u64").unwrap_err().to_string();
        assert!(
            message.contains("to 4294967295, found u64 1099511627776"),
            "{message}"
        );
        let message = metadata.required_u32("missing").unwrap_err().to_string();
        assert_eq!(message, "key \"missing\": it is missing");
    }

    #[test]
    fn other_types_are_named() {
        let metadata = metadata();
        assert_eq!(metadata.f32("f64").unwrap(), Some(0.5));
        assert_eq!(metadata.bool("yes").unwrap(), Some(true));
        assert_eq!(metadata.str("text").unwrap(), Some("Emma"));
        let message = metadata.f32("text").unwrap_err().to_string();
        assert_eq!(
            message,
            "key \"text\": expected a float, found string \"Emma\""
        );
        let message = metadata.str("words").unwrap_err().to_string();
        assert_eq!(
            message,
            "key \"words\": expected a string, found array of 2 string"
        );
    }

    #[test]
    fn arrays_are_converted_and_checked() {
        let metadata = metadata();
        assert_eq!(metadata.u32s("types").unwrap(), Some(vec![1, 3]));
        assert!(metadata.u32s("words").is_err());
        assert!(metadata.f32s("types").is_err());
        let message = metadata.u32s("negative").unwrap_err().to_string();
        assert!(message.ends_with("found i64 -3 at place 1"), "{message}");
        let words = metadata.required_strings("words").unwrap();
        assert_eq!(words.len(), 2);
        assert_eq!(words.last().unwrap().unwrap(), "Woodhouse");
        // An empty array has no type to speak of.
        assert_eq!(metadata.required_strings("nothing").unwrap().len(), 0);
        assert_eq!(metadata.f32s("nothing").unwrap(), Some(vec![]));
    }

    #[test]
    fn order_is_kept_and_keys_are_found() {
        let metadata = metadata();
        assert_eq!(metadata.len(), 10);
        assert_eq!(metadata.keys().next(), Some("u8"));
        assert_eq!(metadata.iter().last().unwrap().0, "words");
        assert!(metadata.keys().all(|key| metadata.contains(key)));
        assert!(!metadata.contains("u9"));
    }
}
