//! Broken `tf_model.h5` files: one that Keras wrote, changed.

use super::tiny::Files;
use super::{FolderCase, HostileFolder, folders};

/// The file all cases are made from.
pub(crate) const VALID: &[u8] = include_bytes!("../data/heads/lm_tf/tf_model.h5");
const CONFIG: &[u8] = include_bytes!("../data/heads/lm_tf/config.json");

/// Folders whose weights are refused.
pub(crate) fn hdf5_cases() -> Vec<HostileFolder> {
    let tables = [superblocks(), objects(), groups(), names(), data_sets()];
    folders(tables.into_iter().flatten())
}

/// The folder the cases are made from.
pub(crate) fn valid_hdf5() -> Files {
    folder(VALID.to_vec())
}

fn folder(bytes: Vec<u8>) -> Files {
    Files::from([
        ("config.json".to_owned(), CONFIG.to_vec()),
        ("tf_model.h5".to_owned(), bytes),
    ])
}

/// The first place of `pattern`.
fn find(pattern: &[u8]) -> usize {
    VALID
        .windows(pattern.len())
        .position(|window| window == pattern)
        .unwrap_or_else(|| panic!("{pattern:x?} is in the file"))
}

/// The valid file with bytes replaced.
fn put(place: usize, bytes: &[u8]) -> Files {
    let mut file = VALID.to_vec();
    file[place..place + bytes.len()].copy_from_slice(bytes);
    folder(file)
}

/// The valid file with a number of 8 bytes replaced.
fn word(place: usize, number: u64) -> Files {
    put(place, &number.to_le_bytes())
}

/// Every occurrence of a text replaced by another of the same length.
fn text(from: &str, to: &str) -> Files {
    assert_eq!(from.len(), to.len());
    let mut file = VALID.to_vec();
    while let Some(place) = file
        .windows(from.len())
        .position(|window| window == from.as_bytes())
    {
        file[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    folder(file)
}

fn root() -> usize {
    let word: [u8; 8] = VALID[64..72].try_into().unwrap();
    u64::from_le_bytes(word) as usize
}

fn superblocks() -> Vec<FolderCase> {
    let end = VALID.len() as u64;
    let cut = |length: usize| folder(VALID[..length].to_vec());
    vec![
        ("no bytes", folder(Vec::new()), "the file is empty"),
        ("the signature alone", cut(8), "outside the file"),
        (
            "a superblock cut in the middle",
            cut(30),
            "outside the file",
        ),
        (
            "a file cut after its superblock",
            cut(96),
            "it is truncated",
        ),
        (
            "a file cut in the middle",
            cut(VALID.len() / 2),
            "it is truncated",
        ),
        (
            "a file without its end",
            cut(VALID.len() - 64),
            "it is truncated",
        ),
        (
            "another signature",
            put(0, b"\x89PNG"),
            "the signature is missing",
        ),
        (
            "a superblock of version 2",
            put(8, &[2]),
            "superblock version 2",
        ),
        (
            "addresses of 4 bytes",
            put(13, &[4]),
            "addresses and lengths of (4, 8) bytes",
        ),
        ("lengths of 255 bytes", put(14, &[255]), "(8, 255)"),
        ("addresses that begin at 512", word(24, 512), "from 512"),
        ("a root beyond the file", word(64, end), "outside the file"),
        (
            "a root at 2^64-1",
            word(64, u64::MAX),
            "an address is missing",
        ),
        (
            "a root at 2^64-2",
            word(64, u64::MAX - 1),
            "outside the file",
        ),
        (
            "a root at the superblock",
            word(64, 0),
            "expected the header of an object",
        ),
    ]
}

fn objects() -> Vec<FolderCase> {
    let continuation = find(&[0x10, 0, 0x10, 0, 0, 0, 0, 0]);
    let around = [continuation as u64, 24].map(u64::to_le_bytes).concat();
    vec![
        (
            "an object in the newer form",
            put(root(), b"OHDR"),
            "newer form",
        ),
        (
            "an object of version 7",
            put(root(), &[7]),
            "expected the header of an object",
        ),
        (
            "a header longer than the file",
            put(root() + 8, &[0xff; 4]),
            "outside the file",
        ),
        (
            "a header of no bytes",
            put(root() + 8, &[0; 4]),
            "no attribute layer_names",
        ),
        (
            "a header that goes on in itself",
            put(continuation + 8, &around),
            "may lead in a circle",
        ),
        (
            "a header that goes on beyond the file",
            word(continuation + 8, u64::MAX - 8),
            "outside the file",
        ),
        (
            "a continuation of 2^64-1 bytes",
            word(continuation + 16, u64::MAX),
            "outside the file",
        ),
        (
            "a message longer than its block",
            put(continuation + 2, &[0xff, 0xff]),
            "longer than its block",
        ),
        (
            "a continuation without an address",
            put(continuation + 2, &[8, 0]),
            "too short",
        ),
    ]
}

fn groups() -> Vec<FolderCase> {
    let tree = find(b"TREE");
    let table = find(b"SNOD");
    let heap = find(b"HEAP");
    vec![
        (
            "a tree without its signature",
            put(tree, b"TREF"),
            "expected a tree",
        ),
        (
            "a tree of another kind",
            put(tree + 4, &[1]),
            "expected a tree",
        ),
        (
            "a tree of 255 levels",
            put(tree + 5, &[255]),
            "levels do not go down",
        ),
        (
            "a tree above tables of one level more",
            put(tree + 5, &[1]),
            "expected a tree",
        ),
        (
            "a tree that is its own child",
            word(tree + 32, tree as u64),
            "expected a table",
        ),
        (
            "a tree of 65535 children",
            put(tree + 6, &[0xff, 0xff]),
            "HDF5, byte",
        ),
        (
            "a tree whose child is beyond the file",
            word(tree + 32, 1 << 40),
            "outside the file",
        ),
        (
            "a tree whose child is not there",
            word(tree + 32, u64::MAX),
            "an address is missing",
        ),
        (
            "a tree without children",
            put(tree + 6, &[0, 0]),
            "has no member",
        ),
        (
            "a table without its signature",
            put(table, b"SNOE"),
            "expected a table",
        ),
        (
            "a table of 65535 members",
            put(table + 6, &[0xff, 0xff]),
            "HDF5, byte",
        ),
        (
            "a table of no members",
            put(table + 6, &[0, 0]),
            "has no member",
        ),
        (
            "a member with a name beyond its heap",
            word(table + 8, 1 << 50),
            "outside its heap",
        ),
        (
            "a member beyond the file",
            word(table + 16 + 40, 1 << 50),
            "outside the file",
        ),
        (
            "a heap without its signature",
            put(heap, b"HEAQ"),
            "expected a heap",
        ),
        (
            "a heap of 2^63 bytes",
            word(heap + 8, 1 << 63),
            "outside the file",
        ),
        ("a heap of no bytes", word(heap + 8, 0), "outside its heap"),
        (
            "a heap beyond the file",
            word(heap + 24, u64::MAX - 4),
            "outside the file",
        ),
    ]
}

fn names() -> Vec<FolderCase> {
    let heap = find(b"GCOL");
    let list = find(b"layer_names");
    vec![
        (
            "no list of layers",
            text("layer_names", "layer_namez"),
            "no attribute layer_names",
        ),
        (
            "a list of names that are not there",
            text("h_._1", "h_._9"),
            "missing from the checkpoint",
        ),
        (
            "a member under another name",
            put(find(b"h_._1\0"), b"h_._7"),
            "has no member 'h_._1'",
        ),
        (
            "two members of one name",
            put(find(b"h_._1\0"), b"h_._0"),
            "twice",
        ),
        (
            "weights listed twice",
            text("/h_._1/", "/h_._0/"),
            "appears twice",
        ),
        (
            "names that are numbers",
            put(list - 8 + 8 + 16, &[0x11]),
            "layer_names",
        ),
        (
            "a heap of texts without its signature",
            put(heap, b"GCOM"),
            "expected a global heap",
        ),
        (
            "a heap of texts of another version",
            put(heap + 4, &[2]),
            "expected a global heap",
        ),
        (
            "a heap of texts of 2^64-1 bytes",
            word(heap + 8, u64::MAX),
            "outside the file",
        ),
        (
            "a heap of texts of no bytes",
            word(heap + 8, 0),
            "the heap has no object",
        ),
        (
            "a text longer than its heap",
            word(heap + 24, 1 << 40),
            "longer than its heap",
        ),
        (
            "a text without a number",
            put(heap + 16, &[0, 0]),
            "the heap has no object",
        ),
        (
            "a text not in UTF-8",
            put(find(b"transformer"), &[0xff]),
            "HDF5",
        ),
    ]
}

fn data_sets() -> Vec<FolderCase> {
    let float = find(&[0x11, 0x20, 0x1f, 0, 4, 0, 0, 0]);
    let layout = find(&[8, 0, 0x18, 0, 0, 0, 0, 0, 3, 1]) + 8;
    // 300 rows of 64.
    let sizes = find(&[0x2c, 1, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
    let turned = [64_u64.to_le_bytes(), 300_u64.to_le_bytes()].concat();
    vec![
        (
            "floats in the other byte order",
            put(float + 1, &[0x21]),
            "expected little-endian floats",
        ),
        ("integers", put(float, &[0x10]), "elements of class 0"),
        ("texts", put(float, &[0x13]), "elements of class 3"),
        ("floats of 3 bytes", put(float + 4, &[3]), "and 3 bytes"),
        (
            "floats of 4 GB",
            put(float + 4, &[0xff; 4]),
            "expected little-endian floats",
        ),
        (
            "floats with another exponent",
            put(float + 12, &[22]),
            "expected little-endian floats",
        ),
        ("numbers in chunks", put(layout + 1, &[2]), "in chunks"),
        (
            "numbers laid out in an unknown way",
            put(layout, &[4]),
            "of an unknown layout",
        ),
        (
            "numbers inside the header that are not",
            put(layout + 1, &[0]),
            "HDF5, byte",
        ),
        (
            "numbers beyond the file",
            word(layout + 2, 1 << 40),
            "outside the file",
        ),
        (
            "numbers at 2^64-2",
            word(layout + 2, u64::MAX - 1),
            "outside the file",
        ),
        (
            "numbers that are not there",
            word(layout + 2, u64::MAX),
            "an address is missing",
        ),
        (
            "fewer numbers than the shape says",
            word(layout + 10, 4),
            "the file has 4 for it",
        ),
        (
            "2^63 numbers",
            word(layout + 10, 1 << 63),
            "outside the file",
        ),
        (
            "a matrix the other way round",
            put(sizes, &turned),
            "found [64, 300]",
        ),
        (
            "a matrix of one row more",
            word(sizes, 301),
            "needs 77056 bytes",
        ),
        (
            "a matrix of 2^62 rows",
            word(sizes, 1 << 62),
            "is too large",
        ),
        (
            "a matrix of 9 axes",
            put(sizes - 7, &[9]),
            "a shape of 9 axes",
        ),
        (
            "a matrix of an unknown shape",
            put(sizes - 8, &[9]),
            "unknown version",
        ),
    ]
}
