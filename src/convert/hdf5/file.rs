//! The bytes of an HDF5 file: checked reads, the superblock, the budget.

use std::cell::Cell;
use std::ops::Range;

use crate::error::{Error, Result};

/// How the format begins.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Structures read in one file; GPT-2 of 48 layers needs about 20,000.
const BUDGET: usize = 1 << 20;
/// The address of what is not there.
const UNDEFINED: u64 = u64::MAX;

/// A file in memory.
pub(super) struct File<'a> {
    bytes: &'a [u8],
    budget: Cell<usize>,
}

impl<'a> File<'a> {
    /// Checks that the file is of the kind that is read.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(SIGNATURE) {
            return Err(Error::format(
                "HDF5",
                "the signature is missing; the file is broken or of another format",
            ));
        }
        let file = Self {
            bytes,
            budget: Cell::new(BUDGET),
        };
        let version = file.unsigned(8, 1)?;
        if version != 0 {
            return Err(Error::Unsupported(format!(
                "HDF5 superblock version {version}; expected 0, which h5py writes by default"
            )));
        }
        let sizes = (file.unsigned(13, 1)?, file.unsigned(14, 1)?);
        let base = file.unsigned(24, 8)?;
        if sizes != (8, 8) || base != 0 {
            return Err(Error::Unsupported(format!(
                "HDF5 with addresses and lengths of {sizes:?} bytes from {base}; expected (8, 8) \
                 from 0"
            )));
        }
        let end = file.unsigned(40, 8)?;
        if end > bytes.len() as u64 {
            return Err(Error::format(
                "HDF5",
                format!(
                    "announces {end} bytes, {} are there; it is truncated",
                    bytes.len()
                ),
            ));
        }
        Ok(file)
    }

    /// The address of the root group's header.
    pub(super) fn root(&self) -> Result<u64> {
        self.unsigned(64, 8)
    }

    /// Pays for looking at `count` structures.
    pub(super) fn spend(&self, count: usize) -> Result<()> {
        let left = self.budget.get().checked_sub(count).ok_or_else(|| {
            Error::format(
                "HDF5",
                format!("more than {BUDGET} structures; its addresses may lead in a circle"),
            )
        })?;
        self.budget.set(left);
        Ok(())
    }

    /// The place of `length` bytes at `address`.
    pub(super) fn range(&self, address: u64, length: u64) -> Result<Range<usize>> {
        address
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len() as u64)
            .map(|end| address as usize..end as usize)
            .ok_or_else(|| {
                let message = if address == UNDEFINED {
                    "an address is missing".to_owned()
                } else {
                    format!(
                        "{length} bytes are outside the file of {}; it is truncated or broken",
                        self.bytes.len()
                    )
                };
                broken(address, message)
            })
    }

    /// `length` bytes at `address`.
    pub(super) fn take(&self, address: u64, length: u64) -> Result<&'a [u8]> {
        let range = self.range(address, length)?;
        Ok(self.bytes.get(range).unwrap_or_default())
    }

    /// The little-endian integer of at most 8 bytes at `address`.
    pub(super) fn unsigned(&self, address: u64, bytes: u64) -> Result<u64> {
        self.take(address, bytes).map(little_endian)
    }

    /// Checks that a structure begins as it must.
    pub(super) fn expect(&self, address: u64, signature: &[u8], what: &str) -> Result<()> {
        if self.take(address, signature.len() as u64)? == signature {
            return Ok(());
        }
        Err(broken(address, format!("expected {what}")))
    }
}

/// An error at an address.
pub(super) fn broken(address: u64, message: impl Into<String>) -> Error {
    Error::format(format!("HDF5, byte {address}"), message)
}

/// A little-endian integer of at most 8 bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
