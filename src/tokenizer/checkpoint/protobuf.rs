//! The fields of a message in the encoding of protocol buffers: as much as `SentencePiece`'s file
//! needs. Groups, which it has not, are refused.

use crate::{Error, Result};

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// A number, a truth value or one of several names.
    Number(u64),
    /// Eight bytes that no field here needs.
    Wide,
    /// A text, bytes or a message within.
    Bytes(&'a [u8]),
    /// A number with a fraction.
    Float(f32),
}

/// The fields of a message, by number, in their order.
pub(super) struct Fields<'a> {
    place: &'a str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`; `place` begins the messages of errors.
    pub(super) fn of(place: &'a str, message: &'a [u8]) -> Self {
        Self {
            place,
            rest: message,
        }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Wide
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A number of seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing after it can be found.
            self.rest = &[];
        }
        Some(field.ok_or_else(|| {
            Error::format(
                self.place,
                "expected a message of protocol buffers, found one that is cut or broken",
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_cut_ones_refused() {
        let message = [
            b"\x08\x96\x01".as_slice(),
            b"\x12\x02hi",
            b"\x1D\0\0\x80\x3F",
            b"\x21\0\0\0\0\0\0\0\0",
        ]
        .concat();
        let fields = |bytes: &[u8]| -> Option<Vec<u64>> {
            let fields = Fields::of("f", bytes).map(|field| field.ok().map(|(number, _)| number));
            fields.collect()
        };
        assert_eq!(fields(&message), Some(vec![1, 2, 3, 4]));
        let first = Fields::of("f", &message).next().unwrap().unwrap();
        assert_eq!(first, (1, Value::Number(150)));
        let ends = [0, 3, 7, 12, message.len()];
        for length in 0..message.len() {
            let whole = ends.contains(&length);
            assert_eq!(fields(&message[..length]).is_some(), whole, "{length}");
        }
        for broken in [
            b"\x0B".as_slice(),
            b"\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
        ] {
            assert_eq!(fields(broken), None);
        }
    }
}
