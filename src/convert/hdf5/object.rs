//! Objects: groups and data sets. Each has a header, which is a list of messages in one or several
//! blocks.

use std::ops::Range;

use super::file::{File, broken, little_endian};
use super::message::{Attribute, Datatype, dataspace};
use crate::convert::element_type::ElementType;
use crate::error::{Error, Result};

/// Messages that are read; the others do not concern names and values.
mod message_type {
    pub(super) const DATASPACE: u64 = 0x01;
    pub(super) const DATATYPE: u64 = 0x03;
    pub(super) const LAYOUT: u64 = 0x08;
    pub(super) const ATTRIBUTE: u64 = 0x0c;
    pub(super) const CONTINUATION: u64 = 0x10;
    pub(super) const SYMBOL_TABLE: u64 = 0x11;
}

/// The flag of a message that is in another place of the file.
const SHARED: u64 = 1 << 1;

/// A message: its place and bytes.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: u64,
    address: u64,
    bytes: &'a [u8],
}

/// The header of an object.
pub(super) struct Object<'a> {
    address: u64,
    messages: Vec<Message<'a>>,
}

impl<'a> Object<'a> {
    /// Reads the header at `address`.
    pub(super) fn read(file: &File<'a>, address: u64) -> Result<Self> {
        if file.take(address, 4)? == b"OHDR" {
            return Err(Error::Unsupported(
                "HDF5 in its newer form (libver='latest'); expected the one h5py writes by default"
                    .to_owned(),
            ));
        }
        file.expect(address, &[1], "the header of an object")?;
        let length = file.unsigned(address + 8, 4)?;
        let mut blocks = vec![(address + 16, length)];
        let mut messages = Vec::new();
        while let Some((start, length)) = blocks.pop() {
            file.spend(1)?;
            file.range(start, length)?;
            let end = start + length;
            let mut next = start;
            // What is left of a block may be too small for a message.
            while end - next >= 8 {
                file.spend(1)?;
                let kind = file.unsigned(next, 2)?;
                let size = file.unsigned(next + 2, 2)?;
                let flags = file.unsigned(next + 4, 1)?;
                let address = next + 8;
                if size > end - address {
                    return Err(broken(next, "a message is longer than its block"));
                }
                let bytes = file.take(address, size)?;
                next = address + size;
                if kind == message_type::CONTINUATION {
                    let (start, length) = two_words(address, bytes)?;
                    blocks.push((start, length));
                } else if flags & SHARED != 0 {
                    return Err(Error::Unsupported(
                        "HDF5 with shared messages, which Keras does not write".to_owned(),
                    ));
                } else {
                    messages.push(Message {
                        kind,
                        address,
                        bytes,
                    });
                }
            }
        }
        Ok(Self { address, messages })
    }

    /// The one message of a kind.
    fn message(&self, kind: u64, what: &str) -> Result<Message<'a>> {
        let mut of_kind = self.messages.iter().filter(|message| message.kind == kind);
        match (of_kind.next(), of_kind.next()) {
            (Some(message), None) => Ok(*message),
            _ => Err(broken(
                self.address,
                format!("expected an object with one {what}"),
            )),
        }
    }

    /// The addresses of a group's tree of members and of its heap of names.
    pub(super) fn symbol_table(&self) -> Result<(u64, u64)> {
        let message = self.message(message_type::SYMBOL_TABLE, "symbol table (a group)")?;
        two_words(message.address, message.bytes)
    }

    /// The attribute of that name, if there is one.
    pub(super) fn attribute(&self, file: &File, name: &str) -> Result<Option<Attribute<'a>>> {
        file.spend(self.messages.len())?;
        let of_kind = |message: &&Message| message.kind == message_type::ATTRIBUTE;
        for message in self.messages.iter().filter(of_kind) {
            let attribute = Attribute::parse(message.address, message.bytes)?;
            if attribute.name == name.as_bytes() {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    /// Element type, shape and place of a data set of floats.
    pub(super) fn data_set(
        &self,
        file: &File,
    ) -> Result<(&'static ElementType, Vec<u64>, Range<usize>)> {
        let datatype = self.message(message_type::DATATYPE, "type (a data set)")?;
        let element = Datatype::parse(datatype.address, datatype.bytes)?.float()?;
        let space = self.message(message_type::DATASPACE, "shape (a data set)")?;
        let shape = dataspace(space.address, space.bytes)?;
        let layout = self.message(message_type::LAYOUT, "layout (a data set)")?;
        let unread = |what: &str| {
            Error::Unsupported(format!(
                "HDF5 data set {what}; expected one in one piece, as Keras writes them"
            ))
        };
        let range = match layout.bytes {
            // Version 3, class 1: contiguous.
            [3, 1, rest @ ..] if rest.len() >= 16 => {
                let (address, length) = two_words(layout.address + 2, rest)?;
                if length == 0 {
                    0..0
                } else {
                    file.range(address, length)?
                }
            }
            // Class 0: inside the message.
            [3, 0, rest @ ..] if rest.len() >= 2 => {
                let length = little_endian(rest.get(..2).unwrap_or_default());
                if length > rest.len() as u64 - 2 {
                    return Err(broken(layout.address, "data longer than its message"));
                }
                file.range(layout.address + 4, length)?
            }
            [3, 2, ..] => return Err(unread("in chunks")),
            _ => return Err(unread("of an unknown layout")),
        };
        Ok((element, shape, range))
    }
}

/// Two addresses or lengths.
fn two_words(address: u64, bytes: &[u8]) -> Result<(u64, u64)> {
    match bytes.as_chunks::<8>().0 {
        [first, second, ..] => Ok((u64::from_le_bytes(*first), u64::from_le_bytes(*second))),
        _ => Err(broken(address, "a message is too short")),
    }
}
