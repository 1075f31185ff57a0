//! Broken `pytorch_model.bin` files whose pickle is not to blame: views outside their storages,
//! broken archives and streams.

use super::FolderCase;
use super::pickle::{bin, file, pickled};
use super::tiny::Files;
use super::writers::{Pickle, stream_head, zip};

/// A state dict of one tensor.
fn viewed(elements: i64, offset: i64, shape: &[u64], strides: &[u64]) -> Files {
    let storage = |pickle: Pickle| {
        pickle
            .storage("FloatStorage", "0", elements as u64)
            .raw(b"tQ")
    };
    let pickle = Pickle::new().raw(b"}").text("wte.weight");
    pickled(
        pickle
            .tensor(storage, offset as u64, shape, strides)
            .raw(b"s."),
    )
}

pub(super) fn views() -> Vec<FolderCase> {
    // The storage has 260 rows of 32.
    const ALL: i64 = 260 * 32;
    let huge = 1 << 62;
    vec![
        (
            "a storage longer than its member",
            viewed(ALL + 1, 0, &[260, 32], &[32, 1]),
            "expected 8321 elements",
        ),
        (
            "a storage of 2^62 elements",
            viewed(1 << 62, 0, &[260, 32], &[32, 1]),
            "expected 4611686018427387904 elements",
        ),
        (
            "a storage of less than nothing",
            viewed(-1, 0, &[260, 32], &[32, 1]),
            "no storage",
        ),
        (
            "an offset beyond",
            viewed(ALL, 1, &[260, 32], &[32, 1]),
            "outside its storage of 8320",
        ),
        (
            "an offset of 2^62",
            viewed(ALL, 1 << 62, &[1], &[1]),
            "outside its storage",
        ),
        (
            "an offset before",
            viewed(ALL, -1, &[260, 32], &[32, 1]),
            "a tensor of arguments",
        ),
        (
            "a stride beyond",
            viewed(ALL, 0, &[260, 32], &[33, 1]),
            "outside its storage",
        ),
        (
            "a stride of 2^62",
            viewed(ALL, 0, &[260, 32], &[huge, huge]),
            "outside its storage",
        ),
        (
            "a shape of 2^124",
            viewed(ALL, 0, &[huge, huge], &[0, 0]),
            "more elements than its storage",
        ),
        (
            "a shape that repeats an element",
            viewed(ALL, 0, &[8321], &[0]),
            "more elements than its storage",
        ),
        (
            "no elements far away",
            viewed(ALL, 8321, &[0], &[1]),
            "outside its storage",
        ),
        (
            "more sizes than strides",
            viewed(ALL, 0, &[260, 32], &[1]),
            "2 sizes and 1 strides",
        ),
        (
            "nine axes",
            viewed(ALL, 0, &[1; 9], &[1; 9]),
            "a tensor of arguments",
        ),
        (
            "a tensor of another shape",
            viewed(ALL, 0, &[32, 260], &[260, 1]),
            "found [32, 260]",
        ),
        (
            "a tensor of three axes",
            viewed(ALL, 0, &[260, 4, 8], &[32, 8, 1]),
            "expected two axes",
        ),
    ]
}

pub(super) fn archives() -> Vec<FolderCase> {
    let valid = bin(false).zip(false);
    let cut = |length: usize| file(&valid[..length]);
    let pickle = bin(false).pickle;
    let member = |name: &str| (format!("model/{name}"), pickle.clone());
    let mut less = bin(false);
    less.storages.pop();
    let mut short = bin(false);
    short.storages[0].2.truncate(100);
    let order = [
        member("data.pkl"),
        ("model/byteorder".to_owned(), b"big".to_vec()),
    ];
    // The method of the first member, in its own header and in the directory.
    let mut packed = bin(false).zip(false);
    let directory = packed
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .unwrap();
    packed[8] = 12;
    packed[directory + 10] = 12;
    let mut bomb = bin(false).zip(true);
    let directory = bomb
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .unwrap();
    bomb[directory + 24..directory + 28].copy_from_slice(&0x03ff_ffff_u32.to_le_bytes());
    let mut far = bin(false).zip(false);
    let directory = far
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .unwrap();
    far[directory + 20..directory + 28]
        .copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f, 0xfe, 0xff, 0xff, 0x7f]);
    let mut count = bin(false).zip(false);
    let end = count.len() - 14;
    count[end..end + 4].fill(0xff);
    vec![
        (
            "an archive cut in the middle",
            cut(valid.len() / 2),
            "zip archive",
        ),
        (
            "an archive without its last byte",
            cut(valid.len() - 1),
            "zip archive",
        ),
        ("the start of an archive", cut(4), "zip archive"),
        (
            "an archive of nothing",
            file(zip(&[], false)),
            "found neither",
        ),
        (
            "an archive without a pickle",
            file(zip(&[member("other")], false)),
            "expected one member 'data.pkl'",
        ),
        (
            "an archive of two pickles",
            file(zip(&[member("data.pkl"), member("a/data.pkl")], false)),
            "expected one member",
        ),
        (
            "an archive with a name twice",
            file(zip(&[member("data.pkl"), member("data.pkl")], false)),
            "different names",
        ),
        (
            "an archive without a storage",
            file(less.zip(false)),
            "is missing",
        ),
        (
            "an archive with a short storage",
            file(short.zip(false)),
            "has 100 bytes, expected 8320 elements",
        ),
        (
            "an archive in the other byte order",
            file(zip(&order, false)),
            "big-endian",
        ),
        (
            "a member packed in an unknown way",
            file(packed),
            "packed by",
        ),
        (
            "a deflated member that is shorter than said",
            file(bomb),
            "does not inflate to the 67108863 bytes",
        ),
        ("a member longer than the file", file(far), "zip archive"),
        ("more members than there are", file(count), "zip archive"),
        (
            "no archive and no stream",
            file(b"weights".to_vec()),
            "found neither",
        ),
        (
            "a tar",
            file([&[b'x'; 257][..], b"ustar\0"].concat()),
            "a tar archive",
        ),
    ]
}

pub(super) fn streams() -> Vec<FolderCase> {
    let valid = bin(true);
    let bytes = valid.stream();
    let storages: usize = valid.storages.iter().map(|(.., data)| data.len() + 8).sum();
    let counts = bytes.len() - storages;
    let count = |count: u64| {
        let mut bytes = bytes.clone();
        bytes[counts..counts + 8].copy_from_slice(&count.to_le_bytes());
        file(bytes)
    };
    let after_head = |rest: &[u8]| file([&stream_head()[..], rest].concat());
    let with_keys = |keys: Pickle| {
        let mut bytes = stream_head();
        bytes.extend(&valid.pickle);
        bytes.extend(keys.0);
        bytes.extend(&bytes.clone()[..64]);
        file(bytes)
    };
    let mut version = bytes.clone();
    version[18] = 1;
    let system = stream_head().len() - 3;
    let mut order = bytes.clone();
    order[system] = 0x89;
    let part = |first: i64| {
        let storage = |pickle: Pickle| {
            let pickle = pickle
                .storage("FloatStorage", "0", 8320)
                .raw(b"(")
                .text("part");
            pickle.integer(first).integer(8320).raw(b"ttQ")
        };
        let pickle = Pickle::new().raw(b"}").text("wte.weight");
        let mut other = bin(true);
        other.pickle = pickle.tensor(storage, 0, &[260, 32], &[32, 1]).raw(b"s.").0;
        other.storages.truncate(1);
        file(other.stream())
    };
    vec![
        (
            "a stream that is its start",
            file(bytes[..15].to_vec()),
            "version at byte 15",
        ),
        (
            "a stream cut in the state dict",
            file(bytes[..300].to_vec()),
            "state dict at byte",
        ),
        (
            "a stream without storages",
            file(bytes[..counts].to_vec()),
            "the file ends before it",
        ),
        (
            "a stream cut in the last storage",
            file(bytes[..bytes.len() - 1].to_vec()),
            "is longer than the file",
        ),
        (
            "a storage of 2^61 elements",
            count(1 << 61),
            "is longer than the file",
        ),
        (
            "a storage of 2^64-1 elements",
            count(u64::MAX),
            "is longer than the file",
        ),
        (
            "a storage of one element less",
            count(8319),
            "is longer than the file",
        ),
        (
            "a stream of another version",
            file(version),
            "expected 1001",
        ),
        (
            "a stream in the other byte order",
            file(order),
            "big-endian",
        ),
        (
            "a stream that runs a command",
            after_head(b"cos\nsystem\n."),
            "'os.system'",
        ),
        (
            "keys that are no list",
            with_keys(Pickle::new().raw(b"N.")),
            "expected a list",
        ),
        (
            "keys that are numbers",
            with_keys(Pickle::new().raw(b"](K\x01e.")),
            "expected texts",
        ),
        (
            "a key nobody refers to",
            with_keys(Pickle::new().raw(b"](").text("x").raw(b"e.")),
            "no tensor refers",
        ),
        ("no keys", with_keys(Pickle::new().raw(b"].")), "is missing"),
        (
            "a part of a storage beyond its end",
            part(1),
            "outside its storage",
        ),
        (
            "a part of a storage far beyond",
            part(i64::MAX),
            "outside its storage",
        ),
    ]
}
