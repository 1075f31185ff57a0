//! A bounds-checked, little-endian walk over the bytes of a header.

use crate::error::{Error, Result};

/// A position in `bytes` that only moves over what is there.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes from the beginning of the file.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes left to the end of the file.
    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// An error at the current position.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::format(format!("byte {}", self.position), message)
    }

    /// The next `count` bytes, which hold `what`.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.position.checked_add(count))
            .and_then(|end| Some((end, self.bytes.get(self.position..end)?)));
        let Some((end, taken)) = taken else {
            return Err(self.error(format!(
                "{what} needs {count} bytes, {} are left; the file is truncated or this length is \
                 wrong",
                self.remaining()
            )));
        };
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        Ok(*taken.first_chunk::<N>().unwrap_or(&[0; N]))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Steps over a string (`u64` length, then its bytes) and returns the bytes.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// Steps over `count` strings. Vocabularies have 100,000 of them in all, so the way without
    /// errors is short.
    pub(super) fn skip_strings(&mut self, count: usize) -> Result<()> {
        for place in 0..count {
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            match split_string(rest) {
                Some((_, rest)) => self.position = self.bytes.len() - rest.len(),
                None => {
                    self.string("the string")
                        .map_err(|error| error.within(format!("element {place}")))?;
                }
            }
        }
        Ok(())
    }

    /// A key or tensor name: UTF-8, not empty, without NUL, at most `longest` bytes.
    pub(super) fn name(&mut self, what: &str, longest: u64) -> Result<&'a str> {
        let start = self.position;
        let error = |message| Error::format(format!("byte {start}"), message);
        let bytes = self.string(what)?;
        let name = str::from_utf8(bytes).map_err(|reason| {
            error(format!(
                "{what} {} is not UTF-8: {reason}",
                super::quoted(&String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)))
            ))
        })?;
        super::check_name(name, longest)
            .map_err(|message| error(format!("{what} {} {message}", super::quoted(name))))?;
        Ok(name)
    }

    /// A count of things of at least `smallest` bytes each; refused if the bytes left cannot hold
    /// them, so that whatever is allocated by a count is justified by the file.
    pub(super) fn check_count(&self, count: u64, smallest: u64, what: &str) -> Result<usize> {
        let most = self.remaining() / smallest;
        match usize::try_from(count) {
            Ok(count) if count as u64 <= most => Ok(count),
            _ => Err(self.error(format!(
                "{count} {what} are announced, the {} bytes left hold at most {most}; \
                 the file is truncated or the count is wrong",
                self.remaining()
            ))),
        }
    }
}

/// The string `bytes` begin with and what follows; `None` if it is longer than they are.
pub(super) fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_is_there() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2, 0]);
        assert_eq!(cursor.u32("a number").unwrap(), 1);
        let message = cursor.u32("a number").unwrap_err().to_string();
        assert!(message.contains("byte 4: a number needs 4 bytes, 2 are left"));
        assert_eq!(cursor.position(), 4);
        assert!(cursor.take(u64::MAX, "data").is_err());
        assert_eq!(cursor.take(2, "data").unwrap(), &[2, 0]);
        assert_eq!(cursor.remaining(), 0);
    }

    #[test]
    fn counts_are_bounded_by_the_bytes_left() {
        let cursor = Cursor::new(&[0; 30]);
        assert_eq!(cursor.check_count(3, 10, "things").unwrap(), 3);
        assert!(cursor.check_count(4, 10, "things").is_err());
        assert!(cursor.check_count(1 << 60, 10, "things").is_err());
    }
}
