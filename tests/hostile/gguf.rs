//! Broken GGUF files.

use super::HostileFile;
use super::raw::{ARRAY, BOOL, F32, I32, RawGguf, STRING, U8, U32, valid};

/// Tensor types by their numbers.
const TYPE_F32: u32 = 0;
const TYPE_Q4_0: u32 = 2;
const TYPE_Q4_K: u32 = 12;
const TYPE_F64: u32 = 28;

/// Files that [`Gguf::parse`](gpt2::gguf::Gguf::parse) refuses.
pub(crate) fn gguf_cases() -> Vec<HostileFile> {
    let tables = [
        beginnings(),
        counts(),
        keys(),
        values(),
        alignments(),
        tensor_names(),
        tensor_shapes(),
        tensor_data(),
    ];
    named(tables.into_iter().flatten())
}

/// Files that are refused when the value of the key `bad` is read: what a value contains is not
/// looked at before.
pub(crate) fn gguf_value_cases() -> Vec<HostileFile> {
    named(
        [
            (
                "string that is not UTF-8",
                RawGguf::new(0, 1).key(b"bad", STRING).string(b"ab\xFF"),
                "not UTF-8",
            ),
            (
                "array with a string that is not UTF-8",
                RawGguf::new(0, 1)
                    .array(b"bad", STRING, 2)
                    .string(b"good")
                    .string(b"\xC3"),
                "string 1 is not UTF-8",
            ),
            (
                "array with a bool of 7",
                RawGguf::new(0, 1).array(b"bad", BOOL, 3).raw(&[0, 1, 7]),
                "0 or 1",
            ),
        ]
        .into_iter(),
    )
}

/// What is wrong, the bytes, a phrase of the error.
type Case = (&'static str, RawGguf, &'static str);

fn named(cases: impl Iterator<Item = Case>) -> Vec<HostileFile> {
    let hostile = |(name, raw, expect): Case| HostileFile {
        name,
        file_name: format!(
            "{}.gguf",
            name.replace(|other: char| !other.is_alphanumeric(), "-")
        ),
        bytes: raw.bytes,
        expect,
    };
    cases.map(hostile).collect()
}

/// A file of one key, whose value `pair` writes.
fn one_key(pair: impl FnOnce(RawGguf) -> RawGguf) -> RawGguf {
    pair(RawGguf::new(0, 1))
}

/// A file of one tensor and 4096 bytes of data.
fn one_tensor(name: &[u8], shape: &[u64], tensor_type: u32, offset: u64) -> RawGguf {
    RawGguf::new(1, 0)
        .tensor(name, shape, tensor_type, offset)
        .data(4096)
}

/// The valid file without its last `missing` bytes.
fn cut(missing: usize) -> RawGguf {
    let mut raw = valid();
    raw.bytes.truncate(raw.bytes.len() - missing);
    raw
}

fn beginnings() -> Vec<Case> {
    let begins = |bytes: &[u8]| RawGguf::default().raw(bytes);
    let version = |version| RawGguf::with_version(version, 0, 0);
    vec![
        ("empty file", begins(b""), "4 bytes, 0 are left"),
        ("three bytes", begins(b"GGU"), "4 bytes, 3 are left"),
        (
            "text",
            begins(b"Emma Woodhouse, handsome, clever"),
            "not a GGUF file",
        ),
        (
            "zip archive",
            begins(b"PK\x03\x04 and so on and so on"),
            "zip archive",
        ),
        (
            "older ggml format",
            begins(b"tjgg\x01\x00\x00\x00 and so on"),
            "a ggml file from before GGUF",
        ),
        (
            "magic alone",
            begins(b"GGUF"),
            "the version needs 4 bytes, 0 are left",
        ),
        ("version 0", version(0), "GGUF version 0"),
        ("version 1", version(1), "GGUF version 1"),
        ("version 4", version(4), "GGUF version 4"),
        (
            "version of all ones",
            version(u32::MAX),
            "GGUF version 4294967295",
        ),
        ("big-endian file", version(3u32.swap_bytes()), "big-endian"),
        (
            "header that ends in the counts",
            begins(b"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"),
            "the count of metadata keys needs 8 bytes, 1 are left",
        ),
    ]
}

fn counts() -> Vec<Case> {
    vec![
        (
            "2^60 tensors",
            RawGguf::new(1 << 60, 0).data(512),
            "tensors are announced",
        ),
        (
            "minus one tensors",
            RawGguf::new(u64::MAX, 0).data(512),
            "tensors are announced",
        ),
        (
            "2^60 keys",
            RawGguf::new(0, 1 << 60).data(512),
            "metadata keys are announced",
        ),
        (
            "minus one keys",
            RawGguf::new(0, u64::MAX).data(512),
            "metadata keys are announced",
        ),
        (
            "one key more than there is",
            RawGguf::new(0, 2).key(b"only", U8).raw(&[1]),
            "2 metadata keys are announced",
        ),
        (
            "one key more than there is before the tensors",
            RawGguf::new(1, 2)
                .key(b"only", U8)
                .raw(&[1])
                .tensor(b"a tensor", &[1], TYPE_F32, 0)
                .data(64),
            "tensor 0: ",
        ),
        (
            "one tensor more than there is",
            RawGguf::new(2, 0).tensor(b"a", &[1], TYPE_F32, 0).data(256),
            "tensor 1: ",
        ),
    ]
}

fn keys() -> Vec<Case> {
    let long = vec![b'k'; 65_536];
    vec![
        (
            "key longer than the file",
            one_key(|raw| raw.u64(1000).raw(b"short").data(64)),
            "the key needs 1000 bytes",
        ),
        (
            "key whose end overflows",
            one_key(|raw| raw.u64(u64::MAX - 8).raw(b"key").data(64)),
            "the key needs 18446744073709551607 bytes",
        ),
        (
            "empty key",
            one_key(|raw| raw.key(b"", U8).raw(&[0; 9])),
            "the key \"\" is empty",
        ),
        (
            "key of 65536 bytes",
            one_key(|raw| raw.key(&long, U8).raw(&[0])),
            "65536 bytes long",
        ),
        (
            "key that is not UTF-8",
            one_key(|raw| raw.key(b"a\xFFb", U8).raw(&[0])),
            "not UTF-8",
        ),
        (
            "key with NUL",
            one_key(|raw| raw.key(b"a\0b", U8).raw(&[0])),
            "NUL",
        ),
        (
            "same key twice",
            RawGguf::new(0, 3)
                .key(b"a", U8)
                .raw(&[1])
                .key(b"b", U8)
                .raw(&[2])
                .key(b"a", U8)
                .raw(&[3]),
            "key \"a\": it is there twice",
        ),
        (
            "file that ends behind a key",
            one_key(|raw| raw.string(b"general.name")),
            "the value's type needs 4 bytes",
        ),
    ]
}

fn values() -> Vec<Case> {
    let key = b"some.key";
    vec![
        (
            "value of type 13",
            one_key(|raw| raw.key(key, 13).raw(&[0; 8])),
            "key \"some.key\": byte 44: 13 is no type",
        ),
        (
            "value of type minus one",
            one_key(|raw| raw.key(key, u32::MAX).raw(&[0; 8])),
            "4294967295 is no type",
        ),
        (
            "number that is cut",
            one_key(|raw| raw.key(key, U32).raw(&[0; 3])),
            "u32 needs 4 bytes, 3 are left",
        ),
        (
            "string longer than the file",
            one_key(|raw| raw.key(key, STRING).u64(1 << 40).raw(b"short")),
            "the string needs 1099511627776 bytes",
        ),
        (
            "string whose end overflows",
            one_key(|raw| raw.key(key, STRING).u64(u64::MAX).raw(b"short")),
            "the string needs 18446744073709551615 bytes",
        ),
        (
            "bool of 2",
            one_key(|raw| raw.key(key, BOOL).raw(&[2])),
            "0 or 1, found [2]",
        ),
        (
            "array of type 99",
            one_key(|raw| raw.array(key, 99, 1).raw(&[0; 8])),
            "99 is no type",
        ),
        (
            "array of arrays",
            one_key(|raw| raw.array(key, ARRAY, 1).u32(U8).u64(1).raw(&[1])),
            "arrays of arrays",
        ),
        (
            "ten thousand arrays in each other",
            one_key(|raw| {
                let outer = raw.key(key, ARRAY);
                (0..10_000).fold(outer, |inner, _| inner.u32(ARRAY).u64(1))
            }),
            "arrays of arrays",
        ),
        (
            "array whose bytes overflow",
            one_key(|raw| raw.array(key, U32, 1 << 62).raw(&[0; 64])),
            "4611686018427387904 array elements are announced",
        ),
        (
            "array of one element too many",
            one_key(|raw| raw.array(key, F32, 17).raw(&[0; 67])),
            "17 array elements are announced",
        ),
        (
            "array of 2^60 strings",
            one_key(|raw| raw.array(key, STRING, 1 << 60).raw(&[0; 64])),
            "1152921504606846976 array elements are announced",
        ),
        (
            "array with a string longer than the file",
            one_key(|raw| {
                raw.array(key, STRING, 2)
                    .string(b"good")
                    .u64(500)
                    .raw(b"bad")
            }),
            "element 1: byte 76: the string needs 500 bytes",
        ),
        (
            "array of strings that ends in a length",
            one_key(|raw| {
                raw.array(key, STRING, 2)
                    .string(b"a long string")
                    .raw(&[1, 0, 0])
            }),
            "element 1",
        ),
        (
            "array of bytes of minus one elements",
            one_key(|raw| raw.array(key, U8, u64::MAX).raw(&[0; 64])),
            "18446744073709551615 array elements are announced",
        ),
    ]
}

fn alignments() -> Vec<Case> {
    let aligned = |alignment: u32| one_key(|raw| raw.key(b"general.alignment", U32).u32(alignment));
    vec![
        ("alignment 0", aligned(0), "power of two"),
        ("alignment 1", aligned(1), "power of two from 8"),
        ("alignment 48", aligned(48), "power of two"),
        ("alignment 2^31", aligned(1 << 31), "found 2147483648"),
        (
            "alignment as text",
            one_key(|raw| raw.key(b"general.alignment", STRING).string(b"32")),
            "key \"general.alignment\": expected an integer",
        ),
        (
            "negative alignment",
            one_key(|raw| {
                raw.key(b"general.alignment", I32)
                    .raw(&(-32i32).to_le_bytes())
            }),
            "found i32 -32",
        ),
    ]
}

fn tensor_names() -> Vec<Case> {
    let named = |name: &[u8]| one_tensor(name, &[32], TYPE_F32, 0);
    vec![
        (
            "tensor without a name",
            named(b""),
            "tensor 0: byte 24: the name \"\" is empty",
        ),
        (
            "tensor with a name of 64 bytes",
            named(&[b'n'; 64]),
            "64 bytes long",
        ),
        (
            "tensor with a name that is not UTF-8",
            named(b"\xE9t\xE9"),
            "not UTF-8",
        ),
        (
            "tensor with NUL in its name",
            named(b"token_embd\0.weight"),
            "NUL",
        ),
        (
            "tensor name longer than the file",
            RawGguf::new(1, 0).u64(1 << 50).data(256),
            "the name needs 1125899906842624 bytes",
        ),
        (
            "same tensor twice",
            RawGguf::new(2, 0)
                .tensor(b"wte", &[8], TYPE_F32, 0)
                .tensor(b"wte", &[8], TYPE_F32, 32)
                .data(64),
            "tensor \"wte\": it is there twice",
        ),
        (
            "description that ends in the shape",
            RawGguf::new(1, 0)
                .string(b"a name of some length")
                .u32(2)
                .u64(3),
            "tensor \"a name of some length\": byte 65: the shape needs 8 bytes",
        ),
    ]
}

fn tensor_shapes() -> Vec<Case> {
    let shaped = |shape: &[u64]| one_tensor(b"t", shape, TYPE_F32, 0);
    let typed = |shape: &[u64], tensor_type| one_tensor(b"t", shape, tensor_type, 0);
    vec![
        (
            "tensor without dimensions",
            shaped(&[]),
            "1 to 4 dimensions, found 0",
        ),
        (
            "tensor of five dimensions",
            shaped(&[1; 5]),
            "1 to 4 dimensions, found 5",
        ),
        (
            "tensor of 2^32-1 dimensions",
            RawGguf::new(1, 0).string(b"t").u32(u32::MAX).data(512),
            "found 4294967295",
        ),
        ("tensor without columns", shaped(&[0, 4]), "dimension of 0"),
        ("tensor without rows", shaped(&[4, 0]), "dimension of 0"),
        (
            "tensor of minus one columns",
            shaped(&[u64::MAX]),
            "beyond 2^63",
        ),
        (
            "tensor whose elements overflow",
            shaped(&[1 << 32, 1 << 32]),
            "beyond 2^63",
        ),
        (
            "tensor whose elements overflow to one",
            // 2^64 + 1 = 274177 × 67280421310721.
            shaped(&[274_177, 67_280_421_310_721]),
            "beyond 2^63",
        ),
        (
            "tensor whose bytes overflow",
            typed(&[1 << 61], TYPE_F64),
            "beyond 2^63",
        ),
        (
            "tensor of a removed type",
            typed(&[32], 4),
            "4 is not a tensor type",
        ),
        (
            "tensor of type 44",
            typed(&[32], 44),
            "44 is not a tensor type",
        ),
        (
            "tensor of type minus one",
            typed(&[32], u32::MAX),
            "4294967295 is not a tensor type",
        ),
        (
            "tensor with half a block",
            typed(&[48, 2], TYPE_Q4_0),
            "blocks of 32",
        ),
        (
            "tensor with a row of 1600 in q4_k",
            typed(&[1600], TYPE_Q4_K),
            "blocks of 256",
        ),
    ]
}

fn tensor_data() -> Vec<Case> {
    let at = |offset| one_tensor(b"t", &[8], TYPE_F32, offset);
    let two = |first: u64, second: u64| {
        RawGguf::new(2, 0)
            .tensor(b"first", &[16], TYPE_F32, first)
            .tensor(b"second", &[16], TYPE_F32, second)
            .data(128)
    };
    vec![
        (
            "data that is not aligned",
            at(4),
            "multiple of the alignment 32",
        ),
        (
            "data behind the file",
            at(1 << 40),
            "tensor \"t\": its 32 bytes of data begin",
        ),
        (
            "data that ends one row behind the file",
            at(4096),
            "the file ends at byte",
        ),
        (
            "data whose offset overflows",
            at(u64::MAX - 31),
            "begin 18446744073709551584 bytes",
        ),
        (
            "tensor larger than the file",
            one_tensor(b"t", &[1 << 40], TYPE_F32, 0),
            "the file ends",
        ),
        (
            "data that is not there",
            RawGguf::new(1, 0).tensor(b"t", &[8], TYPE_F32, 0),
            "truncated",
        ),
        (
            "data without its last byte",
            cut(1),
            "tensor \"cube\": its 12 bytes",
        ),
        (
            "two tensors in one place",
            two(32, 32),
            "inside the data of tensor",
        ),
        (
            "two tensors that overlap",
            two(0, 32),
            "tensor \"second\": its data begins at byte",
        ),
        (
            "two tensors that overlap the other way",
            two(32, 0),
            "inside the data of tensor \"second\"",
        ),
    ]
}
