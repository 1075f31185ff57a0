//! Reads the bytes of a pickle: integers, strings, lines, each checked against what is left.

use crate::error::{Error, Result};

/// The pickle being read.
pub(super) struct Code<'a> {
    bytes: &'a [u8],
    /// How far it is read.
    pub position: usize,
}

impl<'a> Code<'a> {
    /// Begins to read.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// An error at this position.
    pub(super) fn broken(&self, message: impl std::fmt::Display) -> Error {
        Error::format(
            format!("pickle, byte {}", self.position),
            message.to_string(),
        )
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        let taken = taken.ok_or_else(|| {
            self.broken(format!(
                "{count} bytes are announced; the file is truncated"
            ))
        })?;
        self.position += count;
        Ok(taken)
    }

    /// A little-endian unsigned integer of `bytes` bytes, at most 8.
    pub(super) fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        Ok(little_endian(self.take(bytes)?))
    }

    /// A length, stored in `bytes` bytes.
    pub(super) fn length(&mut self, bytes: usize) -> Result<usize> {
        let length = self.unsigned(bytes)?;
        usize::try_from(length).map_err(|_| self.broken(format!("a length of {length}")))
    }

    /// A string after its length, which is stored in `length_bytes` bytes.
    pub(super) fn text(&mut self, length_bytes: usize) -> Result<&'a str> {
        let length = self.length(length_bytes)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.broken("a string is not UTF-8"))
    }

    /// A text up to the end of its line.
    pub(super) fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| self.broken("a name without an end"))?;
        let bytes = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(bytes).map_err(|_| self.broken("a name is no UTF-8"))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A little-endian number in two's complement.
pub(super) fn signed(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let unused = 64 - 8 * bytes.len() as u32;
    // Shifting by all 64 bits is not defined, and there is nothing to shift.
    let number = little_endian(bytes).checked_shl(unused).unwrap_or(0);
    Some((number as i64).checked_shr(unused).unwrap_or(0))
}
