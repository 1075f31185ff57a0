//! Groups: members by name, in a tree of tables whose names are in a heap.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::file::{File, broken};
use super::object::Object;
use crate::convert::stored_tensor::MAX_NAME_BYTES;
use crate::error::{Error, Result};

/// Names of a path accepted.
const MAX_LEVELS: usize = 16;
/// Levels of a group's tree accepted; at two entries a node the least, that is far above any group.
const MAX_TREE_LEVEL: u64 = 16;
/// Bytes of a tree's node before its entries, and of an entry (name, then child).
const NODE_HEAD: u64 = 24;
const NODE_ENTRY: u64 = 16;
/// Bytes of a table before its entries, and of an entry.
const TABLE_HEAD: u64 = 8;
const TABLE_ENTRY: u64 = 40;

/// The groups looked into so far, by the address of their header: for each member its own.
#[derive(Default)]
pub(super) struct Groups<'a>(HashMap<u64, HashMap<&'a str, u64>>);

impl<'a> Groups<'a> {
    /// The address of the object at `path`, which begins in the group at `address`.
    pub(super) fn find(&mut self, file: &File<'a>, address: u64, path: &str) -> Result<u64> {
        if path.split('/').count() > MAX_LEVELS {
            return Err(broken(
                address,
                format!("a path of more than {MAX_LEVELS} names"),
            ));
        }
        path.split('/').try_fold(address, |group, name| {
            file.spend(1)?;
            let members = match self.0.entry(group) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => free.insert(members(file, group)?),
            };
            members
                .get(name)
                .copied()
                .ok_or_else(|| broken(group, format!("the group has no member '{name}'")))
        })
    }
}

/// Every member of the group whose header is at `address`.
fn members<'a>(file: &File<'a>, address: u64) -> Result<HashMap<&'a str, u64>> {
    let (tree, heap) = Object::read(file, address)?.symbol_table()?;
    file.expect(heap, b"HEAP\0", "a heap of names")?;
    let length = file.unsigned(heap + 8, 8)?;
    let names = file.take(file.unsigned(heap + 24, 8)?, length)?;
    let mut members = HashMap::new();
    // Nodes to visit, each with the level it must have; the root's own is not checked.
    let mut nodes = vec![(tree, None)];
    while let Some((node, level)) = nodes.pop() {
        file.spend(1)?;
        if level == Some(0) {
            table(file, node, names, &mut members)?;
            continue;
        }
        file.expect(node, b"TREE\0", "a tree of a group's members")?;
        let own = file.unsigned(node + 5, 1)? + 1;
        if own > MAX_TREE_LEVEL || level.is_some_and(|level| level != own) {
            return Err(broken(node, "a tree whose levels do not go down by one"));
        }
        let entries = file.unsigned(node + 6, 2)?;
        file.spend(entries as usize)?;
        for entry in 0..entries {
            let child = node + NODE_HEAD + entry * NODE_ENTRY + 8;
            nodes.push((file.unsigned(child, 8)?, Some(own - 1)));
        }
    }
    Ok(members)
}

/// Adds the members a table lists.
fn table<'a>(
    file: &File<'a>,
    address: u64,
    names: &'a [u8],
    members: &mut HashMap<&'a str, u64>,
) -> Result<()> {
    file.expect(address, b"SNOD\x01", "a table of members")?;
    for number in 0..file.unsigned(address + 6, 2)? {
        file.spend(1)?;
        let entry = address + TABLE_HEAD + number * TABLE_ENTRY;
        let offset = file.unsigned(entry, 8)?;
        let object = file.unsigned(entry + 8, 8)?;
        let name = usize::try_from(offset)
            .ok()
            .and_then(|at| name_at(names.get(at..)?))
            .ok_or_else(|| broken(entry, "a name is outside its heap, too long or no UTF-8"))?;
        if members.insert(name, object).is_some() {
            return Err(Error::format(
                format!("HDF5, byte {entry}"),
                format!("the group has '{name}' twice"),
            ));
        }
    }
    Ok(())
}

/// The name at the start of `bytes`, up to a NUL.
fn name_at(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.get(..=MAX_NAME_BYTES).unwrap_or(bytes);
    let length = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(bytes.get(..length)?).ok()
}
