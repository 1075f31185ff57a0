//! The global heap, which has the strings of variable length.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::file::{File, broken};
use crate::error::Result;

/// Bytes before a collection's first object, and before each object's own.
const HEAD: u64 = 16;

/// The collections read so far, by address: for each object its bytes.
#[derive(Default)]
pub(super) struct Heaps<'a>(HashMap<u64, HashMap<u64, &'a [u8]>>);

impl<'a> Heaps<'a> {
    /// The bytes of object `number` in the collection at `address`.
    pub(super) fn object(
        &mut self,
        file: &File<'a>,
        address: u64,
        number: u64,
    ) -> Result<&'a [u8]> {
        let objects = match self.0.entry(address) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(collection(file, address)?),
        };
        objects
            .get(&number)
            .copied()
            .ok_or_else(|| broken(address, format!("the heap has no object {number}")))
    }
}

/// Every object of a collection.
fn collection<'a>(file: &File<'a>, address: u64) -> Result<HashMap<u64, &'a [u8]>> {
    file.expect(address, b"GCOL\x01", "a global heap")?;
    let length = file.unsigned(address + 8, 8)?;
    file.range(address, length)?;
    let end = address + length;
    let mut objects = HashMap::new();
    let mut next = address + HEAD;
    while end.saturating_sub(next) >= HEAD {
        file.spend(1)?;
        let number = file.unsigned(next, 2)?;
        // Object 0 is the free space.
        if number == 0 {
            break;
        }
        let size = file.unsigned(next + 8, 8)?;
        let start = next + HEAD;
        if size > end - start {
            return Err(broken(next, "an object is longer than its heap"));
        }
        objects.insert(number, file.take(start, size)?);
        next = start + size.next_multiple_of(8);
    }
    Ok(objects)
}
