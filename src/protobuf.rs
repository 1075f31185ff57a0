//! Reads messages of Protocol Buffers, field by field.
//!
//! What a field means is its reader's business. Safe on any bytes: a message is borrowed, nothing
//! is allocated, and every length is checked. Groups, which nobody writes any more, are refused.

use crate::error::{Error, Result};

/// The value of a field, as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wire<'a> {
    /// An integer, a boolean or an enum; negative numbers are in two's complement.
    Varint(u64),
    /// Four bytes: a `float` or `fixed32`.
    Four([u8; 4]),
    /// Eight bytes: a `double` or `fixed64`.
    Eight([u8; 8]),
    /// A string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order of the bytes; after an error there are no more.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Over the bytes of a whole message.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.rest)?),
            1 => Wire::Eight(*self.take(8)?.first_chunk()?),
            2 => {
                let length = varint(&mut self.rest)?;
                Wire::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Wire::Four(*self.take(4)?.first_chunk()?),
            _ => return None,
        };
        Some((number, value))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    /// The number of a field and its value.
    type Item = Result<(u32, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let left = self.rest.len();
        Some(self.field().ok_or_else(|| {
            self.rest = &[];
            Error::format(
                format!("a protobuf message, {left} bytes before its end"),
                "expected a field, found other bytes; the file is broken",
            )
        }))
    }
}

/// Takes a variable-length integer off the front; `None` when it does not end or has more than 64
/// bits.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_read() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x1d, 1, 2, 3, 4, // 3: four bytes
            0x21, 1, 2, 3, 4, 5, 6, 7, 8, // 4: eight bytes
        ];
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [
                (1, Wire::Varint(150)),
                (2, Wire::Bytes(b"hi")),
                (3, Wire::Four([1, 2, 3, 4])),
                (4, Wire::Eight([1, 2, 3, 4, 5, 6, 7, 8])),
            ]
        );
        for end in 1..message.len() {
            let whole = [3, 7, 12].contains(&end);
            let read = Fields::of(&message[..end]).all(|field| field.is_ok());
            assert_eq!(read, whole, "{end} bytes");
        }
    }

    #[test]
    fn numbers_without_an_end_or_of_too_many_bits_are_refused() {
        for bytes in [
            &[0x80][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(varint(&mut &*bytes), None);
        }
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&mut &largest[..]), Some(u64::MAX));
    }

    #[test]
    fn groups_and_the_field_zero_are_refused() {
        for message in [&[0x0b, 0x0c][..], &[0x00, 0x00]] {
            let fields: Vec<_> = Fields::of(message).collect();
            assert_eq!(fields.len(), 1);
            assert!(fields[0].is_err());
        }
    }
}
