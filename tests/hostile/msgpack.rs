//! Broken `flax_model.msgpack` files.

use super::tiny::Files;
use super::writers::{ELEMENTS, msgpack, msgpack_array, msgpack_map, weights};
use super::{FolderCase, HostileFolder, folders, lacking};

/// Folders whose weights are refused.
pub(crate) fn msgpack_cases() -> Vec<HostileFolder> {
    let tables = [values(), arrays(), pieces()];
    folders(tables.into_iter().flatten())
}

/// The folder the cases are made from.
pub(crate) fn valid_msgpack() -> Files {
    file(msgpack(&weights(), ELEMENTS[0], 4096))
}

fn file(bytes: impl Into<Vec<u8>>) -> Files {
    let mut files = lacking("model.safetensors");
    files.insert("flax_model.msgpack".to_owned(), bytes.into());
    files
}

/// A file of the value at `wte/embedding`.
fn embedding(value: Vec<u8>) -> Files {
    file(msgpack_map(&[(
        "wte",
        msgpack_map(&[("embedding", value)]),
    )]))
}

fn values() -> Vec<FolderCase> {
    let valid = msgpack(&weights(), ELEMENTS[0], usize::MAX);
    let nested = |level: &[u8]| file(level.repeat(100_000));
    let twice = msgpack_map(&[
        ("a", msgpack_array(&[1], "float32", &[0; 4])),
        ("a", msgpack_array(&[1], "float32", &[0; 4])),
    ]);
    let flags = [&[0xdd, 0, 0x10, 0, 0][..], &vec![0xc3; 1 << 20]].concat();
    let many = [&[0xdf, 0, 0x10, 0, 0][..], &[0xa0, 0xc3].repeat(1 << 20)].concat();
    vec![
        ("no bytes", file([]), "the file is empty"),
        (
            "nil",
            file([0xc0]),
            "expected a map or an array of numbers, found Null",
        ),
        ("a list of flags", file(flags), "found Array32"),
        ("a number", file([7]), "expected a map of weights"),
        (
            "a map of nothing",
            file([0x80]),
            "is this a GPT-2 checkpoint?",
        ),
        (
            "a map of 2^32-1 that is not there",
            file([0xdf, 0xff, 0xff, 0xff, 0xff]),
            "msgpack, byte 5",
        ),
        ("a million flags", file(many), "at most 524288 values"),
        (
            "maps nested 100000 times",
            nested(&[0x81, 0xa1, b'a']),
            "16 deep",
        ),
        (
            "maps without names nested",
            nested(&[0x81, 0xa0]),
            "16 deep",
        ),
        (
            "a name that is a number",
            file([0x81, 1, 1]),
            "msgpack, byte",
        ),
        (
            "a name of 4 GB",
            file([0x81, 0xdb, 0xff, 0xff, 0xff, 0xff]),
            "a name of 4294967295 bytes",
        ),
        (
            "a name cut short",
            file([0x81, 0xa5, b'a']),
            "5 bytes are announced, 1 are there",
        ),
        (
            "a name not in UTF-8",
            file([0x81, 0xa1, 0xff, 0x80]),
            "no UTF-8",
        ),
        (
            "a value that is missing",
            file([0x81, 0xa1, b'a']),
            "the file ends inside a value",
        ),
        (
            "a value that is a text",
            file([0x81, 0xa1, b'a', 0xa0]),
            "expected a map or an array",
        ),
        (
            "a value that is a number",
            file([0x81, 0xa1, b'a', 7]),
            "'a': expected a map or an array",
        ),
        (
            "a reserved byte",
            file([0x81, 0xa1, b'a', 0xc1]),
            "found Reserved",
        ),
        (
            "bytes behind the end",
            file([&valid[..], &[0]].concat()),
            "expected the end of the file",
        ),
        (
            "a file cut in the middle",
            file(valid[..valid.len() / 2].to_vec()),
            "truncated",
        ),
        ("an array twice", file(twice), "appears twice"),
    ]
}

fn arrays() -> Vec<FolderCase> {
    let array = |shape: &[u64], numpy: &str, bytes: usize| {
        embedding(msgpack_array(shape, numpy, &vec![0; bytes]))
    };
    // Extension, its length, its code, then the array of three.
    let head = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = msgpack_array(&[260, 32], "float32", &vec![0; 260 * 32 * 4]);
        change(&mut bytes);
        embedding(bytes)
    };
    vec![
        (
            "an extension of another code",
            head(&|bytes| bytes[5] = 2),
            "found extension 2",
        ),
        (
            "an extension one byte longer",
            head(&|bytes| bytes[4] += 1),
            "not as long as it says",
        ),
        (
            "an extension of 4 GB",
            head(&|bytes| bytes[1..5].fill(0xff)),
            "not as long as it says",
        ),
        (
            "an array of four items",
            head(&|bytes| bytes[6] = 0x94),
            "found 4 items",
        ),
        (
            "an array of nine axes",
            array(&[1; 9], "float32", 4),
            "at most 8 axes",
        ),
        (
            "an array of complex numbers",
            array(&[1], "complex64", 8),
            "'complex64'",
        ),
        ("an array of a text", array(&[1], "<U3", 12), "'<U3'"),
        (
            "an array of an unknown type",
            array(&[1], "", 0),
            "elements of type ''",
        ),
        (
            "an array of integers",
            array(&[260, 32], "int32", 260 * 32 * 4),
            "elements of type I32",
        ),
        (
            "a shape of 2^64-1",
            array(&[u64::MAX], "float32", 4),
            "is too large",
        ),
        (
            "a shape of 2^128",
            array(&[u64::MAX, u64::MAX], "float32", 4),
            "is too large",
        ),
        (
            "a shape larger than the bytes",
            array(&[260, 33], "float32", 260 * 32 * 4),
            "needs 34320 bytes",
        ),
        (
            "a shape smaller than the bytes",
            array(&[260, 31], "float32", 260 * 32 * 4),
            "needs 32240 bytes",
        ),
        (
            "an array of one axis",
            array(&[8320], "float32", 260 * 32 * 4),
            "expected two axes",
        ),
        (
            "an array of another shape",
            array(&[32, 260], "float32", 260 * 32 * 4),
            "found [32, 260]",
        ),
        (
            "bytes beyond the file",
            head(&|bytes| bytes.truncate(1000)),
            "the file is truncated",
        ),
    ]
}

fn pieces() -> Vec<FolderCase> {
    const FLAG: [u8; 1] = [0xc3];
    let flag = ("__msgpack_chunked_array__", FLAG.to_vec());
    let piece = |numbers: usize| msgpack_array(&[numbers as u64], "float32", &vec![0; numbers * 4]);
    let shape = (
        "shape",
        msgpack_map(&[("0", vec![0xcd, 1, 4]), ("1", vec![32])]),
    );
    let whole = |shape: &(&str, Vec<u8>), chunks: &[(&str, Vec<u8>)]| {
        let chunks = ("chunks", msgpack_map(chunks));
        embedding(msgpack_map(&[flag.clone(), shape.clone(), chunks]))
    };
    let odd = msgpack_array(&[4160], "float16", &[0; 8320]);
    let texts = ("shape", msgpack_map(&[("0", FLAG.to_vec())]));
    let huge = (
        "shape",
        msgpack_map(&[("0", [&[0xcf][..], &[0xff; 8]].concat())]),
    );
    vec![
        (
            "pieces without a shape",
            embedding(msgpack_map(std::slice::from_ref(&flag))),
            "without 'shape'",
        ),
        (
            "pieces without pieces",
            embedding(msgpack_map(&[flag.clone(), shape.clone()])),
            "without 'chunks'",
        ),
        ("no piece", whole(&shape, &[]), "there are none"),
        (
            "a piece too few",
            whole(&shape, &[("0", piece(4160))]),
            "does not fit pieces of 16640 bytes",
        ),
        (
            "a piece that is left out",
            whole(&shape, &[("0", piece(4160)), ("2", piece(4160))]),
            "expected keys from 0 to 2",
        ),
        (
            "a piece twice",
            whole(&shape, &[("0", piece(4160)), ("0", piece(4160))]),
            "expected keys from 0 to 2",
        ),
        (
            "a piece with a name",
            whole(&shape, &[("first", piece(8320))]),
            "expected numbers for keys",
        ),
        (
            "pieces of two types",
            whole(&shape, &[("0", piece(4160)), ("1", odd)]),
            "arrays of one type",
        ),
        (
            "a piece that is a number",
            whole(&shape, &[("0", vec![7])]),
            "arrays of one type",
        ),
        (
            "a shape of strings",
            whole(&texts, &[("0", piece(4160))]),
            "expected numbers",
        ),
        (
            "a shape of 2^64-1",
            whole(&huge, &[("0", piece(4160))]),
            "does not fit pieces",
        ),
    ]
}
