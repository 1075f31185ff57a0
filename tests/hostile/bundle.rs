//! Checkpoints of TensorFlow 1, put together byte by byte: the reader's opponent. It shares no code
//! with the library's reader.

use super::tiny::{Files, checkpoint, vocabulary_json};
use super::writers::weights;
use super::{FolderCase, HostileFolder, folders};

const INDEX: &str = "model.ckpt.index";
const DATA: &str = "model.ckpt.data-00000-of-00001";
/// TensorFlow's number of f32.
const F32: u64 = 1;

/// CRC-32C, bit by bit, masked.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field that is a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

/// A field that is a message.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    [
        vec![field << 3 | 2],
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

/// An index's header.
pub(crate) fn header(shards: u64) -> Vec<u8> {
    [number(1, shards), message(3, &number(1, 1))].concat()
}

/// A variable's entry.
#[derive(Clone)]
pub(crate) struct Variable {
    pub(crate) data_type: u64,
    pub(crate) shape: Vec<u64>,
    pub(crate) shard: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
}

impl Variable {
    fn bytes(&self) -> Vec<u8> {
        let axes = self.shape.iter().map(|&axis| message(2, &number(1, axis)));
        [
            number(1, self.data_type),
            message(2, &axes.collect::<Vec<_>>().concat()),
            number(3, self.shard),
            number(4, self.offset),
            number(5, self.size),
            [vec![6 << 3 | 5], self.crc.to_le_bytes().to_vec()].concat(),
        ]
        .concat()
    }
}

/// Entries as a block, each key beginning where it differs from the one before.
pub(crate) fn block(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before: &[u8] = &[];
    for (key, value) in entries {
        let key = key.as_bytes();
        let pairs = key.iter().zip(before);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        bytes.extend(varint(shared as u64));
        bytes.extend(varint((key.len() - shared) as u64));
        bytes.extend(varint(value.len() as u64));
        bytes.extend(&key[shared..]);
        bytes.extend(value);
        before = key;
    }
    // One place where a whole key begins: the first.
    bytes.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    bytes
}

/// A table of one block: its bytes with a checksum, and what leads to it.
pub(crate) fn seal(block_bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut add = |contents: &[u8]| {
        let place = [varint(file.len() as u64), varint(contents.len() as u64)].concat();
        file.extend(contents);
        // Not compressed.
        file.push(0);
        let sum = checksum(&file[file.len() - contents.len() - 1..]);
        file.extend(sum.to_le_bytes());
        place
    };
    let data = add(block_bytes);
    let metaindex = add(&block(&[]));
    let index = add(&block(&[("~".to_owned(), data)]));
    let mut footer = [metaindex, index].concat();
    footer.resize(40, 0);
    file.extend(footer);
    file.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    file
}

/// Variables by name, in the order of the index.
type Variables = Vec<(String, Variable)>;

/// The tiny model's variables, sorted by name, and their elements.
pub(crate) fn variables() -> (Variables, Vec<u8>) {
    let mut all: Vec<_> = weights()
        .into_iter()
        .map(|weight| {
            let path = weight.name.replace("h.", "h");
            let (module, leaf) = path.rsplit_once('.').unwrap();
            let leaf = match leaf {
                "bias" => "/b",
                _ if module.contains("ln_") => "/g",
                _ if module.len() == 3 => "",
                _ => "/w",
            };
            (format!("model/{}{leaf}", module.replace('.', "/")), weight)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut data = Vec::new();
    let variables = all.into_iter().map(|(name, weight)| {
        let bytes: Vec<u8> = weight
            .numbers
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let mut shape = weight.shape.clone();
        if name.ends_with("/w") {
            shape.insert(0, 1);
        }
        let variable = Variable {
            data_type: F32,
            shape,
            shard: 0,
            offset: data.len() as u64,
            size: bytes.len() as u64,
            crc: checksum(&bytes),
        };
        data.extend(bytes);
        (name, variable)
    });
    let variables = variables.collect();
    (variables, data)
}

/// The block of an index.
pub(crate) fn block_of(shards: u64, variables: &[(String, Variable)]) -> Vec<u8> {
    let entries = variables.iter();
    let entries = entries.map(|(name, variable)| (name.clone(), variable.bytes()));
    let header = (String::new(), header(shards));
    block(&std::iter::once(header).chain(entries).collect::<Vec<_>>())
}

fn folder(index: Vec<u8>, data: Vec<u8>) -> Files {
    let mut files = checkpoint();
    files.retain(|name, _| ["config.json", "merges.txt"].contains(&name.as_str()));
    let merges = files.remove("merges.txt").unwrap_or_default();
    files.insert("vocab.bpe".to_owned(), merges);
    files.insert(
        "encoder.json".to_owned(),
        vocabulary_json().to_string().into_bytes(),
    );
    files.insert(INDEX.to_owned(), index);
    files.insert(DATA.to_owned(), data);
    files
}

/// The folder that the cases are made from.
pub(crate) fn valid_bundle() -> Files {
    let (variables, data) = variables();
    folder(seal(&block_of(1, &variables)), data)
}

/// Folders that are refused.
pub(crate) fn bundle_cases() -> Vec<HostileFolder> {
    let (variables, data) = variables();
    let whole = seal(&block_of(1, &variables));
    let with = |index: Vec<u8>| folder(index, data.clone());
    let changed = |change: &dyn Fn(&mut Variables)| {
        let mut variables = variables.clone();
        change(&mut variables);
        with(seal(&block_of(1, &variables)))
    };
    let first = |change: fn(&mut Variable)| {
        changed(&move |variables: &mut Variables| change(&mut variables[0].1))
    };
    let spoiled = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        with(bytes)
    };
    let end = whole.len();
    let unordered = [("", header(1)), ("b", vec![]), ("a", vec![])];
    let entries = |entries: &[(&str, Vec<u8>)]| {
        let owned = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        with(seal(&block(&owned.collect::<Vec<_>>())))
    };
    let mut missing = with(whole.clone());
    missing.remove(DATA);
    let mut without_sizes = with(whole.clone());
    without_sizes.remove("config.json");
    let mut damaged = data.clone();
    damaged[8] ^= 1;
    let cases: Vec<FolderCase> = vec![
        ("empty index", with(vec![]), "expected 48 bytes or more"),
        (
            "index without its end",
            with(whole[..end - 1].to_vec()),
            "magic number",
        ),
        ("index of another kind", spoiled(end - 1), "magic number"),
        ("changed block", spoiled(20), "checksum"),
        (
            "another place of the index block",
            spoiled(end - 45),
            "checksum",
        ),
        ("no entries", entries(&[]), "no header"),
        ("no header", entries(&[("a", vec![])]), "no header"),
        (
            "several headers",
            entries(&[("", header(1)), ("", header(1))]),
            "twice",
        ),
        (
            "no data files",
            entries(&[("", number(1, 0))]),
            "0 data files",
        ),
        ("big-endian", entries(&[("", number(2, 1))]), "big-endian"),
        ("descending names", entries(&unordered), "ascending"),
        (
            "entry that is no message",
            entries(&[("", header(1)), ("a", vec![7])]),
            "protobuf",
        ),
        (
            "objects of TensorFlow 2",
            entries(&[("", header(1)), ("_CHECKPOINTABLE_OBJECT_GRAPH", vec![])]),
            "TensorFlow 2",
        ),
        (
            "slices",
            entries(&[("", header(1)), ("model/wte", message(7, &[]))]),
            "slices",
        ),
        (
            "name of many bytes",
            entries(&[("", header(1)), (&"n".repeat(300), vec![])]),
            "at most 256 bytes",
        ),
        ("missing data file", missing, "is missing"),
        ("no configuration", without_sizes, "hparams.json"),
        ("damaged data", folder(whole.clone(), damaged), "checksum"),
        (
            "truncated data",
            folder(whole.clone(), data[..100].to_vec()),
            "outside the file",
        ),
        (
            "data file that is not there",
            first(|one| one.shard = 1),
            "data file 1 of 1",
        ),
        (
            "offset beyond the file",
            first(|one| one.offset = 1 << 40),
            "outside the file",
        ),
        (
            "offset that overflows",
            first(|one| one.offset = u64::MAX),
            "no file has",
        ),
        ("another size", first(|one| one.size += 4), "needs"),
        (
            "shape that overflows",
            first(|one| one.shape = vec![1 << 63; 3]),
            "too large",
        ),
        ("many axes", first(|one| one.shape = vec![1; 9]), "axes"),
        ("integers", first(|one| one.data_type = 3), "I32"),
        ("strings", first(|one| one.data_type = 7), "missing"),
        (
            "missing variable",
            changed(&|variables: &mut Variables| drop(variables.remove(3))),
            "missing",
        ),
    ];
    folders(cases)
}
