//! Broken weights in safetensors, in one file and in shards.

use serde_json::{Value as Json, json};

use super::tiny::{Files, TinySafetensors, with_header};
use super::{FolderCase, HostileFolder, folders, lacking, with};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "wte.weight";
const POSITIONS: &str = "wpe.weight";
const FINAL_NORM: &str = "ln_f.weight";

/// Folders whose weights are refused.
pub(crate) fn safetensors_cases() -> Vec<HostileFolder> {
    let tables = [
        headers(),
        entries(),
        places(),
        tensors(),
        numbers(),
        shards(),
    ];
    folders(tables.into_iter().flatten())
}

fn tiny() -> TinySafetensors {
    TinySafetensors::tiny()
}

fn file(bytes: impl Into<Vec<u8>>) -> Files {
    with(WEIGHTS, bytes)
}

/// The valid file with its header's text edited.
fn edited(edit: impl FnOnce(String) -> String) -> Files {
    let file = tiny();
    let header = edit(Json::Object(file.header).to_string());
    with(WEIGHTS, with_header(header.as_bytes(), &file.data))
}

/// A field of the token embedding's entry replaced.
fn field(name: &str, value: Json) -> Files {
    file(tiny().entry(EMBEDDING, name, value).bytes())
}

fn headers() -> Vec<FolderCase> {
    let length = |length: u64| {
        let mut bytes = tiny().bytes();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        file(bytes)
    };
    let header = |header: &[u8]| file(with_header(header, &tiny().data));
    let whole = tiny().bytes().len() as u64;
    let nested = "[".repeat(100_000);
    vec![
        ("no bytes", file([]), "the file is empty"),
        (
            "seven bytes",
            file([0; 7]),
            "expected at least 8 bytes, found 7",
        ),
        ("header of length 0", length(0), "safetensors header: EOF"),
        (
            "header of length 2^64-1",
            length(u64::MAX),
            "announces 18446744073709551615 bytes",
        ),
        (
            "header of length 2^63",
            length(1 << 63),
            "announces 9223372036854775808 bytes",
        ),
        (
            "header of 99 MB that are not there",
            length(99_000_000),
            "announces 99000000 bytes",
        ),
        (
            "header one byte longer than the file",
            length(whole - 7),
            "announces",
        ),
        (
            "header cut in the middle",
            length(100),
            "safetensors header: ",
        ),
        (
            "header that reaches into the data",
            length(whole - 8),
            "safetensors header: ",
        ),
        (
            "header that is no JSON",
            header(b"weights follow"),
            "safetensors header: expected value",
        ),
        (
            "header that is a list",
            header(b"[]"),
            "an object of tensors",
        ),
        (
            "header nested 100000 times",
            header(nested.as_bytes()),
            "safetensors header: ",
        ),
        (
            "metadata nested 100000 times",
            header(format!("{{\"__metadata__\":{nested}").as_bytes()),
            "safetensors header: ",
        ),
        (
            "name that is not UTF-8",
            header(b"{\"wte\xFF\": 0}"),
            "safetensors header: ",
        ),
        (
            "zip archive",
            file(*b"PK\x03\x04 and so on and so on"),
            "invalid Zip archive",
        ),
    ]
}

fn entries() -> Vec<FolderCase> {
    let without = |name: &str| {
        let mut file = tiny();
        if let Some(entry) = file.header.get_mut(EMBEDDING).and_then(Json::as_object_mut) {
            entry.remove(name);
        }
        with(WEIGHTS, file.bytes())
    };
    vec![
        (
            "unknown dtype",
            field("dtype", json!("F31")),
            "unknown dtype 'F31'",
        ),
        (
            "dtype of integers",
            field("dtype", json!("I32")),
            "elements of type I32",
        ),
        (
            "dtype of another size",
            field("dtype", json!("F16")),
            "of F16 needs",
        ),
        (
            "dtype that is a number",
            field("dtype", json!(32)),
            "invalid type",
        ),
        (
            "dtype with control characters",
            field("dtype", json!("\u{1b}[2J\nF32")),
            "unknown dtype",
        ),
        ("no dtype", without("dtype"), "missing field `dtype`"),
        ("no shape", without("shape"), "missing field `shape`"),
        (
            "no offsets",
            without("data_offsets"),
            "missing field `data_offsets`",
        ),
        (
            "shape that is a number",
            field("shape", json!(5)),
            "invalid type",
        ),
        (
            "shape of minus one",
            field("shape", json!([-1, 32])),
            "invalid value",
        ),
        (
            "shape of a fraction",
            field("shape", json!([0.5, 32])),
            "invalid type",
        ),
        (
            "shape whose elements overflow",
            field("shape", json!([1_u64 << 32, 1_u64 << 32])),
            "is too large",
        ),
        (
            "shape whose bytes overflow",
            field("shape", json!([1_u64 << 61, 2])),
            "is too large",
        ),
        (
            "shape of other size",
            field("shape", json!([260, 33])),
            "the offsets hold 33280",
        ),
        (
            "entry that is a string",
            edited(|header| header.replacen("{\"wte", "{\"x\":\"y\",\"wte", 1)),
            "safetensors header: ",
        ),
        (
            "name twice",
            edited(|header| {
                let entry = r#"{"wte.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#;
                header.replacen('{', entry, 1)
            }),
            "appears twice",
        ),
    ]
}

fn places() -> Vec<FolderCase> {
    let offsets = |offsets: Json| field("data_offsets", offsets);
    let bytes = tiny().bytes();
    let cut = |missing: usize| file(&bytes[..bytes.len() - missing]);
    vec![
        (
            "offsets behind the file",
            offsets(json!([1_u64 << 40, (1_u64 << 40) + 33280])),
            "outside the",
        ),
        (
            "offsets one byte behind the file",
            {
                let end = tiny().data.len();
                file(
                    tiny()
                        .entry("ln_f.bias", "data_offsets", json!([end - 127, end + 1]))
                        .bytes(),
                )
            },
            "outside the",
        ),
        (
            "reversed offsets",
            offsets(json!([33280, 0])),
            "offsets 33280 to 0",
        ),
        (
            "offsets at the end of numbers",
            offsets(json!([u64::MAX - 1, u64::MAX])),
            "outside the",
        ),
        (
            "negative offsets",
            offsets(json!([-33280, 0])),
            "invalid value",
        ),
        ("one offset", offsets(json!([0])), "invalid length 1"),
        (
            "three offsets",
            offsets(json!([0, 33280, 66560])),
            "safetensors header: ",
        ),
        (
            "offsets too near",
            offsets(json!([0, 4])),
            "the offsets hold 4",
        ),
        (
            "two tensors in one place",
            file(
                tiny()
                    .entry(POSITIONS, "data_offsets", json!([0, 2048]))
                    .bytes(),
            ),
            "overlaps that of",
        ),
        (
            "two tensors that overlap by one number",
            file(
                tiny()
                    .entry(POSITIONS, "data_offsets", json!([33276, 35324]))
                    .bytes(),
            ),
            "overlaps that of 'wte.weight'",
        ),
        (
            "data without its last byte",
            cut(1),
            "the file is truncated or broken",
        ),
        (
            "no data at all",
            cut(tiny().data.len()),
            "outside the 0 bytes of data",
        ),
    ]
}

fn tensors() -> Vec<FolderCase> {
    let without = |name: &str| {
        let mut weights = tiny();
        weights.header.remove(name);
        file(weights.bytes())
    };
    let renamed = |from: &str, to: &str| file(tiny().rename(from, to).bytes());
    let added = |name: &str, shape: &[u64]| file(tiny().add(name, shape).bytes());
    let reshaped = |name: &str, shape: Json| file(tiny().entry(name, "shape", shape).bytes());
    vec![
        (
            "no tensors",
            file(with_header(b"{}", &[])),
            "is this a GPT-2 checkpoint?",
        ),
        (
            "no embedding",
            without(EMBEDDING),
            "is this a GPT-2 checkpoint?",
        ),
        (
            "no positions",
            without(POSITIONS),
            "'wpe.weight': missing from the checkpoint",
        ),
        (
            "no final norm",
            without(FINAL_NORM),
            "missing from the checkpoint",
        ),
        (
            "a bias missing",
            without("h.1.mlp.c_proj.bias"),
            "'h.1.mlp.c_proj.bias': missing",
        ),
        (
            "a name in capitals",
            renamed(POSITIONS, "WPE.weight"),
            "'wpe.weight': missing",
        ),
        (
            "an empty name",
            renamed(POSITIONS, ""),
            "'wpe.weight': missing",
        ),
        (
            "a name twice by its prefix",
            added("transformer.wpe.weight", &[16, 32]),
            "with and without the prefix",
        ),
        (
            "a name twice by its old form",
            added("ln_f.gamma", &[32]),
            "appears under both names",
        ),
        (
            "a layer too many",
            added("h.2.ln_1.weight", &[32]),
            "has no such tensor",
        ),
        (
            "a classifier's head of another width",
            added("score.weight", &[2, 31]),
            "expected shape [2, 32]",
        ),
        (
            "an embedding of one axis",
            reshaped(EMBEDDING, json!([8320])),
            "expected two axes",
        ),
        (
            "an embedding of three axes",
            reshaped(EMBEDDING, json!([260, 8, 4])),
            "expected two axes",
        ),
        (
            "an embedding of another width",
            reshaped(EMBEDDING, json!([130, 64])),
            "expected shape [130, 32]",
        ),
        (
            "an embedding without rows",
            {
                let weights = tiny().entry(EMBEDDING, "data_offsets", json!([0, 0]));
                file(weights.entry(EMBEDDING, "shape", json!([0, 32])).bytes())
            },
            "expected two axes, found shape [0, 32]",
        ),
        (
            "positions of another shape",
            reshaped(POSITIONS, json!([32, 16])),
            "expected shape [16, 32]",
        ),
        (
            "a matrix stored as a linear layer's",
            reshaped("h.0.attn.c_attn.weight", json!([96, 32])),
            "stored the other way round than the first layer's c_attn",
        ),
        (
            "a vector with two axes",
            reshaped(FINAL_NORM, json!([4, 8])),
            "does config.json belong",
        ),
        (
            "a scalar for a vector",
            {
                let weights = tiny().entry(FINAL_NORM, "shape", json!([]));
                let start = weights.header[FINAL_NORM]["data_offsets"][0]
                    .as_u64()
                    .unwrap();
                file(
                    weights
                        .entry(FINAL_NORM, "data_offsets", json!([start, start + 4]))
                        .bytes(),
                )
            },
            "expected shape [32], found []",
        ),
    ]
}

fn numbers() -> Vec<FolderCase> {
    let number = |name: &str, number: f32| file(tiny().number(name, number).bytes());
    vec![
        (
            "a weight that is not a number",
            number("h.0.mlp.c_fc.weight", f32::NAN),
            "the source has NaN in row 0, column 0",
        ),
        (
            "an infinite weight",
            number(EMBEDDING, f32::INFINITY),
            "has inf in row 0",
        ),
        (
            "an infinite bias",
            number("ln_f.bias", f32::NEG_INFINITY),
            "the source has -inf",
        ),
        (
            "a weight too large for f16",
            number("h.1.mlp.c_fc.weight", 1e10),
            "too large for f16",
        ),
        (
            "a weight whose square overflows",
            number(POSITIONS, 1e30),
            "squares overflow",
        ),
    ]
}

/// The checkpoint in two shards, the embedding in the first.
fn sharded(change: impl FnOnce(&mut Json)) -> Files {
    let mut second = tiny();
    let embedding = second.header.remove(EMBEDDING).unwrap();
    let mut first = tiny();
    first.header.clear();
    first.header.insert(EMBEDDING.to_owned(), embedding);
    let mut index = json!({"metadata": {}, "weight_map": {EMBEDDING: "a.safetensors"}});
    for name in second.header.keys() {
        index["weight_map"][name] = json!("b.safetensors");
    }
    change(&mut index);
    let mut files = lacking(WEIGHTS);
    files.insert("a.safetensors".to_owned(), first.bytes());
    files.insert("b.safetensors".to_owned(), second.bytes());
    files.insert(INDEX.to_owned(), index.to_string().into_bytes());
    files
}

fn shards() -> Vec<FolderCase> {
    let home =
        |shard: &'static str| sharded(move |index| index["weight_map"][EMBEDDING] = json!(shard));
    let without = |name: &str| {
        let mut files = sharded(|_| ());
        files.remove(name);
        files
    };
    let replaced = |name: &str, bytes: &[u8]| {
        let mut files = sharded(|_| ());
        files.insert(name.to_owned(), bytes.to_vec());
        files
    };
    let mut pickle = lacking(WEIGHTS);
    pickle.insert("pytorch_model.bin".to_owned(), b"\x80\x02}".to_vec());
    vec![
        (
            "no weights",
            lacking(WEIGHTS),
            "no weights: expected one of",
        ),
        (
            "weights that run code",
            pickle,
            "expected a zip archive or PyTorch's older stream",
        ),
        (
            "a shard that is missing",
            without("b.safetensors"),
            "'b.safetensors' is missing",
        ),
        (
            "a shard above the folder",
            home("../a.safetensors"),
            "expected shards beside the index",
        ),
        (
            "a shard anywhere",
            home("/etc/passwd"),
            "expected shards beside the index",
        ),
        ("a shard without a name", home(""), "is missing"),
        (
            "a shard that is the index itself",
            home(INDEX),
            "found a JSON text",
        ),
        (
            "a shard name with control characters",
            home("\u{1b}[2J\n"),
            "is missing",
        ),
        (
            "a tensor in another shard than listed",
            home("b.safetensors"),
            "is not in its shard 'b.safetensors'",
        ),
        (
            "a tensor listed but absent",
            sharded(|index| {
                index["weight_map"]["h.2.ln_1.weight"] = json!("b.safetensors");
            }),
            "'h.2.ln_1.weight' is not in its shard",
        ),
        (
            "a tensor there but not listed",
            sharded(|index| {
                if let Some(map) = index["weight_map"].as_object_mut() {
                    map.remove(POSITIONS);
                }
            }),
            "a shard other than the one in the index",
        ),
        (
            "a tensor in both shards",
            replaced("a.safetensors", &tiny().bytes()),
            "appears twice",
        ),
        (
            "a shard cut short",
            replaced("a.safetensors", &tiny().bytes()[..20]),
            "a.safetensors: safetensors header",
        ),
        (
            "an index that is no JSON",
            replaced(INDEX, b"{"),
            "index.json: EOF",
        ),
        (
            "an index without the map",
            replaced(INDEX, b"{}"),
            "missing field `weight_map`",
        ),
        (
            "an index with a list for the map",
            replaced(INDEX, br#"{"weight_map": []}"#),
            "invalid type",
        ),
        (
            "an index with a number for a shard",
            replaced(INDEX, br#"{"weight_map": {"x": 1}}"#),
            "invalid type",
        ),
        (
            "an index of nothing",
            replaced(INDEX, br#"{"weight_map": {}}"#),
            "is this a GPT-2 checkpoint?",
        ),
        (
            "an index nested 100000 times",
            replaced(INDEX, "[".repeat(100_000).as_bytes()),
            "index.json: ",
        ),
    ]
}

/// The folder the sharded cases are made from: valid.
pub(crate) fn valid_shards() -> Files {
    sharded(|_| ())
}
