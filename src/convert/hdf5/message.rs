//! The messages of a header: types, shapes, attributes.

use super::file::{File, broken, little_endian};
use super::heap::Heaps;
use crate::convert::element_type::ElementType;
use crate::convert::stored_tensor::MAX_NAME_BYTES;
use crate::error::{Error, Result};

/// Axes accepted.
const MAX_AXES: usize = 8;
/// Bytes of a text accepted: a path.
const MAX_TEXT_BYTES: usize = 4 * MAX_NAME_BYTES;
/// Bytes of a reference to a text in the global heap.
const REFERENCE_BYTES: usize = 16;

/// Classes of types.
mod class {
    pub(super) const FLOAT: u8 = 1;
    pub(super) const TEXT: u8 = 3;
    pub(super) const VARIABLE: u8 = 9;
}

/// The floats of IEEE 754, little-endian: the name, bytes, and how the format describes the bits:
/// sign; offset, precision, exponent at, bits of it, mantissa at, bits of it; bias.
#[rustfmt::skip]
const FLOATS: &[(&str, u64, u8, [u8; 12])] = &[
    ("F16", 2, 15, [0, 0, 16, 0, 10, 5, 0, 10, 15, 0, 0, 0]),
    ("F32", 4, 31, [0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0]),
    ("F64", 8, 63, [0, 0, 64, 0, 52, 11, 0, 52, 0xff, 3, 0, 0]),
];

/// A type of element.
pub(super) struct Datatype<'a> {
    class: u8,
    /// Bits that say more, by class.
    bits: [u8; 3],
    /// Bytes of an element.
    size: u64,
    properties: &'a [u8],
}

impl<'a> Datatype<'a> {
    pub(super) fn parse(address: u64, bytes: &'a [u8]) -> Result<Self> {
        let [class, bits @ .., s0, s1, s2, s3] = bytes
            .first_chunk::<8>()
            .ok_or_else(|| broken(address, "a type is too short"))?;
        Ok(Self {
            class: class & 0x0f,
            bits: *bits,
            size: u64::from(u32::from_le_bytes([*s0, *s1, *s2, *s3])),
            properties: bytes.get(8..).unwrap_or_default(),
        })
    }

    /// The type of float it is.
    pub(super) fn float(&self) -> Result<&'static ElementType> {
        let [order, sign, _] = self.bits;
        // Bits 0 and 6 are the byte order.
        let little = order & 0b0100_0001 == 0;
        FLOATS
            .iter()
            .find(|(_, size, sign_at, layout)| {
                self.class == class::FLOAT
                    && little
                    && *size == self.size
                    && *sign_at == sign
                    && self.properties.starts_with(layout)
            })
            .and_then(|(name, ..)| ElementType::from_name(name))
            .ok_or_else(|| {
                Error::Unsupported(format!(
                    "HDF5 elements of class {} and {} bytes; expected little-endian floats of 2, \
                     4 or 8",
                    self.class, self.size
                ))
            })
    }
}

/// The shape a dataspace gives.
pub(super) fn dataspace(address: u64, bytes: &[u8]) -> Result<Vec<u64>> {
    let (axes, start) = match bytes {
        [1, axes, ..] => (*axes, 8),
        [2, axes, _, kind, ..] if *kind < 2 => (*axes, 4),
        _ => return Err(broken(address, "a shape of an unknown version")),
    };
    let axes = usize::from(axes);
    let sizes = bytes.get(start..).unwrap_or_default().as_chunks::<8>().0;
    let sizes = sizes.get(..axes).filter(|_| axes <= MAX_AXES);
    let sizes = sizes.ok_or_else(|| broken(address, format!("a shape of {axes} axes")))?;
    Ok(sizes.iter().map(|size| u64::from_le_bytes(*size)).collect())
}

/// An attribute: a small array with a name.
pub(super) struct Attribute<'a> {
    address: u64,
    /// Its name, without the NUL.
    pub name: &'a [u8],
    datatype: Datatype<'a>,
    elements: u64,
    data: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn parse(address: u64, bytes: &'a [u8]) -> Result<Self> {
        let short = || broken(address, "an attribute is too short");
        let [version, _, sizes @ ..] = bytes.first_chunk::<8>().ok_or_else(short)?;
        // Version 1 pads each part; version 3 has the character set of the name in one more byte.
        let (unit, mut position) = match version {
            1 => (8, 8),
            2 => (1, 8),
            3 => (1, 9),
            _ => return Err(broken(address, "an attribute of an unknown version")),
        };
        let mut parts = [[].as_slice(); 3];
        for (part, size) in parts.iter_mut().zip(sizes.as_chunks::<2>().0) {
            let size = usize::from(u16::from_le_bytes(*size));
            *part = bytes.get(position..position + size).ok_or_else(short)?;
            position += size.next_multiple_of(unit);
        }
        let [name, datatype, space] = parts;
        let shape = dataspace(address, space)?;
        let elements = shape
            .iter()
            .try_fold(1_u64, |elements, axis| elements.checked_mul(*axis));
        Ok(Self {
            address,
            name: until_nul(name),
            datatype: Datatype::parse(address, datatype)?,
            elements: elements.ok_or_else(|| broken(address, "an attribute is too large"))?,
            data: bytes.get(position..).unwrap_or_default(),
        })
    }

    /// Its elements, which must be texts, of fixed or variable length.
    pub(super) fn texts(&self, file: &File<'a>, heaps: &mut Heaps<'a>) -> Result<Vec<String>> {
        // Keras writes an empty list as numbers.
        if self.elements == 0 {
            return Ok(Vec::new());
        }
        let name = String::from_utf8_lossy(self.name);
        let wrong = |message: &str| broken(self.address, format!("attribute '{name}': {message}"));
        let width = self.datatype.size as usize;
        let variable = match (self.datatype.class, self.datatype.bits) {
            (class::TEXT, _) => false,
            (class::VARIABLE, [kind, ..]) if kind & 0x0f == 1 && width == REFERENCE_BYTES => true,
            _ => return Err(wrong("expected texts")),
        };
        let bytes = self.elements.checked_mul(width as u64);
        let data = bytes
            .filter(|_| width > 0)
            .and_then(|bytes| self.data.get(..usize::try_from(bytes).ok()?))
            .ok_or_else(|| wrong("longer than its message"))?;
        file.spend(data.len() / width)?;
        data.chunks_exact(width)
            .map(|element| {
                let text = if variable {
                    // Length, address of the heap, index in it.
                    let (length, rest) = element.split_at(4);
                    let (heap, number) = rest.split_at(8);
                    let object = heaps.object(file, little_endian(heap), little_endian(number))?;
                    object
                        .get(..little_endian(length) as usize)
                        .ok_or_else(|| wrong("a text is longer than its place"))?
                } else {
                    until_nul(element)
                };
                if text.len() > MAX_TEXT_BYTES {
                    return Err(wrong("a text is too long"));
                }
                String::from_utf8(text.to_vec()).map_err(|_| wrong("a text is no UTF-8"))
            })
            .collect()
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
