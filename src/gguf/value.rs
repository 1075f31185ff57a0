//! The values of metadata: their types, owned values for writing, borrowed ones for reading.

use super::cursor::split_string;
use crate::error::{Error, Result};

/// The type of a metadata value, as `gguf_type` in ggml's `gguf.h` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// 16-bit unsigned integer.
    U16,
    /// 16-bit signed integer.
    I16,
    /// 32-bit unsigned integer.
    U32,
    /// 32-bit signed integer.
    I32,
    /// 32-bit IEEE 754 float.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 text behind a 64-bit length.
    String,
    /// Elements of one type behind that type and a 64-bit count.
    Array,
    /// 64-bit unsigned integer.
    U64,
    /// 64-bit signed integer.
    I64,
    /// 64-bit IEEE 754 float.
    F64,
}

impl ValueType {
    /// Every type with its name and the bytes a value takes (`None`: it varies); the place in the
    /// table is the number in a file.
    const TABLE: [(Self, &'static str, Option<usize>); 13] = [
        (Self::U8, "u8", Some(1)),
        (Self::I8, "i8", Some(1)),
        (Self::U16, "u16", Some(2)),
        (Self::I16, "i16", Some(2)),
        (Self::U32, "u32", Some(4)),
        (Self::I32, "i32", Some(4)),
        (Self::F32, "f32", Some(4)),
        (Self::Bool, "bool", Some(1)),
        (Self::String, "string", None),
        (Self::Array, "array", None),
        (Self::U64, "u64", Some(8)),
        (Self::I64, "i64", Some(8)),
        (Self::F64, "f64", Some(8)),
    ];

    /// The type with this id in files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::TABLE
            .get(usize::try_from(id).ok()?)
            .map(|&(known, ..)| known)
    }

    /// The id of this type in files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The name in lower case: `u32`, `string`.
    pub const fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    /// Bytes a value takes; `None` for strings and arrays.
    pub const fn fixed_bytes(self) -> Option<usize> {
        Self::TABLE[self as usize].2
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// Declares the owned and borrowed value enums, and the code that differs only in the numeric type.
macro_rules! numbers {
    ($($variant:ident $rust:ty, $about:literal;)*) => {
        /// A metadata value to be written.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            $(#[doc = $about] $variant($rust),)*
            /// True or false.
            Bool(bool),
            /// Text.
            String(String),
            /// Elements of one type.
            Array(Array),
        }

        /// The elements of an array to be written. Arrays of arrays do not exist here: ggml refuses
        /// them.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array {
            $(#[doc = $about] $variant(Vec<$rust>),)*
            /// True or false.
            Bool(Vec<bool>),
            /// Texts.
            Strings(Vec<String>),
        }

        /// A metadata value in the encoding of a file.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum ValueRef<'a> {
            $(#[doc = $about] $variant($rust),)*
            /// True or false.
            Bool(bool),
            /// The bytes of a text, not yet checked to be UTF-8.
            String(&'a [u8]),
            /// Elements of one type.
            Array(ArrayRef<'a>),
        }

        $(
            impl From<$rust> for Value {
                fn from(value: $rust) -> Self {
                    Self::$variant(value)
                }
            }

            impl From<Vec<$rust>> for Value {
                fn from(values: Vec<$rust>) -> Self {
                    Self::Array(Array::$variant(values))
                }
            }
        )*

        impl Value {
            /// The type of the value.
            pub const fn value_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)*
                    Self::Bool(_) => ValueType::Bool,
                    Self::String(_) => ValueType::String,
                    Self::Array(_) => ValueType::Array,
                }
            }

            /// Appends the value in the encoding of a file, without its type (an array's element
            /// type and count are part of it).
            pub(super) fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => out.extend_from_slice(&value.to_le_bytes()),)*
                    Self::Bool(value) => out.push(u8::from(*value)),
                    Self::String(text) => encode_string(text, out),
                    Self::Array(array) => array.encode(out),
                }
            }
        }

        impl Array {
            /// The type of the elements.
            pub const fn element_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)*
                    Self::Bool(_) => ValueType::Bool,
                    Self::Strings(_) => ValueType::String,
                }
            }

            /// The number of elements.
            pub const fn len(&self) -> usize {
                match self {
                    $(Self::$variant(values) => values.len(),)*
                    Self::Bool(values) => values.len(),
                    Self::Strings(values) => values.len(),
                }
            }

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.element_type().id().to_le_bytes());
                out.extend_from_slice(&(self.len() as u64).to_le_bytes());
                match self {
                    $(Self::$variant(values) => {
                        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    })*
                    Self::Bool(values) => out.extend(values.iter().copied().map(u8::from)),
                    Self::Strings(values) => {
                        for text in values {
                            encode_string(text, out);
                        }
                    }
                }
            }
        }

        impl<'a> ValueRef<'a> {
            /// The type of the value.
            pub const fn value_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)*
                    Self::Bool(_) => ValueType::Bool,
                    Self::String(_) => ValueType::String,
                    Self::Array(_) => ValueType::Array,
                }
            }

            /// The number, truth value or text of type `value_type` that `payload` is; `None` if
            /// the length is not that type's, or a bool is neither 0 nor 1.
            pub(super) fn decode(value_type: ValueType, payload: &'a [u8]) -> Option<Self> {
                Some(match value_type {
                    $(ValueType::$variant => {
                        Self::$variant(<$rust>::from_le_bytes(payload.try_into().ok()?))
                    })*
                    ValueType::Bool => Self::Bool(match payload {
                        [0] => false,
                        [1] => true,
                        _ => return None,
                    }),
                    ValueType::String => Self::String(payload),
                    ValueType::Array => return None,
                })
            }
        }

        impl<'a> ArrayRef<'a> {
            /// The elements through `convert`, which gets the place and the element. The type is
            /// looked at once and not for every element.
            pub(super) fn map<T>(
                self,
                convert: impl Fn(usize, ValueRef<'a>) -> Result<T>,
            ) -> Result<Vec<T>> {
                // Not more than there are bytes, and exact: collecting results cannot know it.
                let mut converted = Vec::with_capacity(self.count.min(self.payload.len()));
                match self.element_type {
                    $(ValueType::$variant => {
                        let (elements, _) = self.payload.as_chunks::<{ size_of::<$rust>() }>();
                        for (place, bytes) in elements.iter().enumerate() {
                            let element = ValueRef::$variant(<$rust>::from_le_bytes(*bytes));
                            converted.push(convert(place, element)?);
                        }
                    })*
                    ValueType::Bool | ValueType::String | ValueType::Array => {
                        for (place, element) in self.iter().enumerate() {
                            converted.push(convert(place, element)?);
                        }
                    }
                }
                Ok(converted)
            }

            /// An owned copy; `key` is its place in messages.
            pub(super) fn to_array(self, key: &str) -> Result<Array> {
                Ok(match self.element_type {
                    $(ValueType::$variant => Array::$variant({
                        let (elements, _) = self.payload.as_chunks::<{ size_of::<$rust>() }>();
                        elements.iter().map(|bytes| <$rust>::from_le_bytes(*bytes)).collect()
                    }),)*
                    ValueType::Bool => {
                        let bools = self.payload.iter().map(|&byte| match byte {
                            0 | 1 => Ok(byte == 1),
                            _ => Err(not_a_bool(key)),
                        });
                        Array::Bool(bools.collect::<Result<_>>()?)
                    }
                    ValueType::String => {
                        let texts = Strings::new(key, self).map(|text| text.map(str::to_owned));
                        Array::Strings(texts.collect::<Result<_>>()?)
                    }
                    ValueType::Array => return Err(Error::format(key, "an array of arrays")),
                })
            }
        }

        impl std::fmt::Display for ValueRef<'_> {
            /// Numbers in full, texts quoted and cut after 80 characters, arrays as count and type.
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant(value) => write!(formatter, "{value}"),)*
                    Self::Bool(value) => write!(formatter, "{value}"),
                    Self::String(bytes) => {
                        // 80 characters are at most 320 bytes: a long text is not read through.
                        let start = bytes.get(..321).unwrap_or(bytes);
                        formatter.write_str(&super::quoted(&String::from_utf8_lossy(start)))
                    }
                    Self::Array(array) => {
                        write!(formatter, "array of {} {}", array.count, array.element_type)
                    }
                }
            }
        }
    };
}

numbers! {
    U8 u8, "8-bit unsigned integer.";
    I8 i8, "8-bit signed integer.";
    U16 u16, "16-bit unsigned integer.";
    I16 i16, "16-bit signed integer.";
    U32 u32, "32-bit unsigned integer.";
    I32 i32, "32-bit signed integer.";
    F32 f32, "32-bit float.";
    U64 u64, "64-bit unsigned integer.";
    I64 i64, "64-bit signed integer.";
    F64 f64, "64-bit float.";
}

impl Array {
    /// True without elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Vec<bool>> for Value {
    fn from(values: Vec<bool>) -> Self {
        Self::Array(Array::Bool(values))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Array(Array::Strings(texts))
    }
}

impl From<&[&str]> for Value {
    fn from(texts: &[&str]) -> Self {
        Self::Array(Array::Strings(
            texts.iter().copied().map(str::to_owned).collect(),
        ))
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

/// Appends `text` behind its length.
pub(super) fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl ValueRef<'_> {
    /// An integer of any width that is not negative; `None` for everything else.
    pub fn to_u64(self) -> Option<u64> {
        match self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// A float, a 64-bit one rounded; `None` for everything else.
    pub fn to_f32(self) -> Option<f32> {
        match self {
            Self::F32(value) => Some(value),
            Self::F64(value) => Some(value as f32),
            _ => None,
        }
    }

    /// What a message calls the value: its type and, where short, itself.
    pub(super) fn described(self) -> String {
        match self {
            Self::Array(_) => self.to_string(),
            _ => format!("{} {self}", self.value_type()),
        }
    }
}

/// An array in the encoding of a file. Its bounds were checked when the file was read, its texts
/// were not checked to be UTF-8, nor its bools to be 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArrayRef<'a> {
    pub(super) element_type: ValueType,
    pub(super) count: usize,
    /// The elements, one after the other, strings with their lengths.
    pub(super) payload: &'a [u8],
}

impl<'a> ArrayRef<'a> {
    /// The type of the elements; never [`ValueType::Array`].
    pub const fn element_type(self) -> ValueType {
        self.element_type
    }

    /// The number of elements.
    pub const fn len(self) -> usize {
        self.count
    }

    /// True without elements.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The elements in order. A bool that is neither 0 nor 1 ends the walk early.
    pub const fn iter(self) -> ArrayIter<'a> {
        ArrayIter {
            element_type: self.element_type,
            count: self.count,
            rest: self.payload,
        }
    }
}

impl<'a> IntoIterator for ArrayRef<'a> {
    type Item = ValueRef<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// The elements of an [`ArrayRef`].
#[derive(Debug, Clone)]
pub struct ArrayIter<'a> {
    element_type: ValueType,
    count: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        self.count = self.count.checked_sub(1)?;
        let (element, rest) = match self.element_type.fixed_bytes() {
            Some(bytes) => self.rest.split_at_checked(bytes)?,
            None => split_string(self.rest)?,
        };
        self.rest = rest;
        ValueRef::decode(self.element_type, element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }
}

/// The texts of an array of strings, each checked to be UTF-8 as it is reached.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    /// The array's key, for messages.
    key: &'a str,
    length: usize,
    left: usize,
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    /// The texts of `array`, whose elements are strings if it has any.
    pub(super) fn new(key: &'a str, array: ArrayRef<'a>) -> Self {
        Self {
            key,
            length: array.count,
            left: array.count,
            rest: array.payload,
        }
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.length - self.left;
        self.left = self.left.checked_sub(1)?;
        let (bytes, rest) = split_string(self.rest)?;
        self.rest = rest;
        Some(str::from_utf8(bytes).map_err(|reason| {
            Error::format(
                format!("key {}", super::quoted(self.key)),
                format!("string {place} is not UTF-8: {reason}"),
            )
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// The error for a byte that should be 0 or 1.
fn not_a_bool(key: &str) -> Error {
    Error::format(
        format!("key {}", super::quoted(key)),
        "a bool must be stored as 0 or 1, found another byte",
    )
}
