//! Broken tokenizer files of a checkpoint.

use serde_json::{Value as Json, json};

use super::tiny::{END, Files, checkpoint, merges_txt, tokenizer_json, vocabulary_json};
use super::{FolderCase, HostileFolder, folders, with};

const TOKENIZER: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const CONFIG: &str = "tokenizer_config.json";
const ADDED: &str = "added_tokens.json";
const SPECIAL: &str = "special_tokens_map.json";

/// Folders whose tokenizer is refused.
pub(crate) fn tokenizer_cases() -> Vec<HostileFolder> {
    let tables = [
        files(),
        vocabularies(),
        merges(),
        parts(),
        other_kinds(),
        added_tokens(),
        vocabulary_files(),
    ];
    folders(tables.into_iter().flatten())
}

fn file(bytes: impl Into<Vec<u8>>) -> Files {
    with(TOKENIZER, bytes)
}

/// The valid tokenizer with the value at `pointer` replaced.
fn at(pointer: &str, value: Json) -> Files {
    let mut tokenizer = tokenizer_json();
    *tokenizer.pointer_mut(pointer).expect("a part of it") = value;
    file(tokenizer.to_string())
}

/// The valid tokenizer with its text edited.
fn edited(from: &str, to: &str) -> Files {
    let text = tokenizer_json().to_string();
    assert!(text.contains(from), "{from}");
    file(text.replacen(from, to, 1))
}

/// The valid tokenizer as `vocab.json` and `merges.txt`.
fn in_two_files() -> Files {
    let mut files = checkpoint();
    files.remove(TOKENIZER);
    files.insert(VOCABULARY.to_owned(), vocabulary_json().to_string().into());
    files.insert(MERGES.to_owned(), merges_txt().into());
    files
}

fn one_of_two(name: &str, bytes: impl Into<Vec<u8>>) -> Files {
    let mut files = in_two_files();
    files.insert(name.to_owned(), bytes.into());
    files
}

fn without(mut files: Files, name: &str) -> Files {
    files.remove(name);
    files
}

fn files() -> Vec<FolderCase> {
    let nested = "[".repeat(100_000);
    vec![
        (
            "empty tokenizer",
            file(""),
            "tokenizer.json: the file is empty",
        ),
        (
            "tokenizer that is no JSON",
            file("!\"#$%"),
            "tokenizer.json: expected",
        ),
        ("tokenizer that is a list", file("[]"), "tokenizer.json: "),
        (
            "tokenizer that is empty braces",
            file("{}"),
            "missing field `model`",
        ),
        (
            "tokenizer cut in the middle",
            file(&tokenizer_json().to_string()[..999]),
            "tokenizer.json: EOF",
        ),
        (
            "tokenizer not in UTF-8",
            file(*b"{\"version\": \"\xFF\"}"),
            "tokenizer.json: ",
        ),
        (
            "tokenizer nested 100000 times",
            file(nested.as_str()),
            "tokenizer.json: ",
        ),
        (
            "decoder nested 100000 times",
            edited("{\"type\":\"ByteLevel\"}", &nested),
            "recursion limit",
        ),
        (
            "tokenizer of zeros",
            file([0; 4096]),
            "tokenizer.json: found nothing but zeros",
        ),
    ]
}

fn vocabularies() -> Vec<FolderCase> {
    vec![
        (
            "vocabulary as a list",
            at("/model/vocab", json!([["a", 0]])),
            "model.type is BPE",
        ),
        (
            "vocabulary as a number",
            at("/model/vocab", json!(7)),
            "an object of tokens and their ids",
        ),
        (
            "id as text",
            at("/model/vocab/a", json!("64")),
            "invalid type",
        ),
        (
            "id as a fraction",
            at("/model/vocab/a", json!(64.5)),
            "invalid type",
        ),
        (
            "negative id",
            at("/model/vocab/a", json!(-1)),
            "invalid value: integer `-1`",
        ),
        (
            "id beyond 32 bits",
            at("/model/vocab/a", json!(1_u64 << 32)),
            "invalid value",
        ),
        (
            "two tokens of one id",
            at("/model/vocab/a", json!(65)),
            "the id 65 is given to both",
        ),
        (
            "one token twice",
            edited("\"a\":64,", "\"b\":64,"),
            "the token \"b\" occurs twice",
        ),
    ]
}

fn merges() -> Vec<FolderCase> {
    let merges = |merges: Json| at("/model/merges", merges);
    vec![
        ("merges as text", merges(json!("t h")), "invalid type"),
        ("merge as a number", merges(json!([7])), "expected a merge"),
        (
            "merge of one part",
            merges(json!([["t"]])),
            "invalid length 1",
        ),
        (
            "merge of three parts",
            merges(json!([["t", "h", "e"]])),
            "invalid length 3",
        ),
        (
            "merge without a space",
            merges(json!(["th"])),
            "expected two tokens with one space between",
        ),
        (
            "merge of two spaces",
            merges(json!(["t  h"])),
            "expected two tokens with one space between",
        ),
        (
            "merge of a space within",
            merges(json!([["t h", "e"]])),
            "a space within a token",
        ),
        (
            "merge of an unknown token",
            merges(json!(["zq e"])),
            "\"zq\" of the merge",
        ),
        (
            "merge whose result is unknown",
            merges(json!(["h t"])),
            "makes is not in the vocabulary",
        ),
        (
            "merge of itself",
            merges(json!(["the the"])),
            "makes is not in the vocabulary",
        ),
        (
            "merge with control characters",
            merges(json!(["\u{1b}[2J h"])),
            "is not in the vocabulary",
        ),
    ]
}

/// Parts that no GPT-2 tokenizer has.
fn parts() -> Vec<FolderCase> {
    let processor = |part: Json| at("/post_processor", part);
    vec![
        (
            "another kind of model",
            at("/model/type", json!("Unigram")),
            "model.type is Unigram",
        ),
        (
            "a normalizer that is a number",
            at("/normalizer", json!(3)),
            "normalizer is unnamed",
        ),
        (
            "another post-processor",
            processor(json!({"type": "Mystery"})),
            "post_processor is Mystery",
        ),
        (
            "a template without ids",
            processor(json!({"type": "TemplateProcessing"})),
            "names no ids",
        ),
        (
            "a template of an unknown token",
            processor(
                json!({"type": "RobertaProcessing", "cls": ["<s>", 9999], "sep": ["</s>", 1]}),
            ),
            "puts the token 9999 around a text",
        ),
        (
            "an unknown token that is unknown",
            edited(
                "\"type\":\"BPE\"",
                "\"type\":\"BPE\",\"unk_token\":\"<unk>\"",
            ),
            "\"<unk>\" is not in the vocabulary",
        ),
    ]
}

/// Tokenizers of other kinds, where only byte-level BPE is known.
fn other_kinds() -> Vec<FolderCase> {
    if cfg!(feature = "tokenizers") {
        return Vec::new();
    }
    vec![
        (
            "no pre-tokenizer",
            at("/pre_tokenizer", Json::Null),
            "there is no pre_tokenizer",
        ),
        (
            "another pre-tokenizer",
            at("/pre_tokenizer/type", json!("Metaspace")),
            "pre_tokenizer is Metaspace",
        ),
        (
            "another pattern",
            at(
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"},
                    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
                ]}),
            ),
            "pre_tokenizer is Split, then ByteLevel",
        ),
        (
            "a normalizer",
            at("/normalizer", json!({"type": "NFKC"})),
            "normalizer is NFKC",
        ),
        (
            "another decoder",
            at("/decoder/type", json!("WordPiece")),
            "decoder is WordPiece",
        ),
        (
            "byte fallback",
            edited(
                "\"type\":\"BPE\"",
                "\"type\":\"BPE\",\"byte_fallback\":true",
            ),
            "byte_fallback is true",
        ),
    ]
}

fn added_tokens() -> Vec<FolderCase> {
    vec![
        (
            "added tokens as an object",
            at("/added_tokens", json!({})),
            "invalid type",
        ),
        (
            "added token without an id",
            at("/added_tokens/0", json!({"content": "x"})),
            "missing field `id`",
        ),
        (
            "added token of a negative id",
            at("/added_tokens/0/id", json!(-1)),
            "invalid value",
        ),
        (
            "added token without content",
            at("/added_tokens/0/content", Json::Null),
            "invalid type",
        ),
        (
            "list of added tokens that is a list",
            with(ADDED, "[]"),
            "added_tokens.json: invalid type",
        ),
        (
            "list of added tokens with text for ids",
            with(ADDED, r#"{"<x>": "y"}"#),
            "added_tokens.json",
        ),
        (
            "list of added tokens that is no JSON",
            with(ADDED, "<x> 1"),
            "added_tokens.json: expected",
        ),
        (
            "special tokens that are a list",
            with(SPECIAL, "[]"),
            "special_tokens_map.json: invalid type",
        ),
        (
            "special token that is a number",
            with(SPECIAL, r#"{"bos_token": 5}"#),
            "special_tokens_map.json",
        ),
        (
            "settings that are no JSON",
            with(CONFIG, "{\"a\":"),
            "tokenizer_config.json: EOF",
        ),
        (
            "settings that are a list",
            with(CONFIG, "[]"),
            "tokenizer_config.json: invalid type",
        ),
        (
            "settings with words for ids",
            with(
                CONFIG,
                r#"{"added_tokens_decoder": {"one": {"content": "<x>"}}}"#,
            ),
            "expected ids for names, found \"one\"",
        ),
        (
            "settings with a token without content",
            with(CONFIG, r#"{"added_tokens_decoder": {"5": {}}}"#),
            "added_tokens_decoder",
        ),
        (
            "chat template not in UTF-8",
            with("chat_template.jinja", *b"{{ \xFF }}"),
            "chat_template.jinja: not UTF-8",
        ),
    ]
}

fn vocabulary_files() -> Vec<FolderCase> {
    let mut twice = vocabulary_json();
    twice["a"] = json!(65);
    let mut words = without(in_two_files(), VOCABULARY);
    words.insert("vocab.txt".to_owned(), b"[PAD]\n[UNK]\n".to_vec());
    let mut other = in_two_files();
    other.insert(
        CONFIG.to_owned(),
        br#"{"tokenizer_class": "CTRLTokenizer"}"#.to_vec(),
    );
    vec![
        (
            "merges that are missing",
            without(in_two_files(), MERGES),
            "merges.txt: expected beside vocab.json",
        ),
        (
            "a word list instead of a vocabulary",
            words,
            "vocab.json: expected beside merges.txt",
        ),
        (
            "another class of tokenizer",
            other,
            "tokenizer_class \"CTRLTokenizer\"",
        ),
        (
            "vocabulary file that is empty",
            one_of_two(VOCABULARY, ""),
            "vocab.json: the file is empty",
        ),
        (
            "vocabulary file that is a list",
            one_of_two(VOCABULARY, "[]"),
            "vocab.json: expected an object",
        ),
        (
            "vocabulary file of two equal ids",
            one_of_two(VOCABULARY, twice.to_string()),
            "vocab.json: the id 65",
        ),
        (
            "merges not in UTF-8",
            one_of_two(MERGES, *b"t h\n\xFF e\n"),
            "merges.txt: not UTF-8",
        ),
        (
            "merges that are JSON",
            one_of_two(MERGES, "[\"t h\"]"),
            "merges.txt: merge [0]",
        ),
        (
            "merges file of an unknown token",
            one_of_two(MERGES, "t h\nzq e\n"),
            "merges.txt: merge [1]: \"zq\"",
        ),
        (
            "merges file of one word",
            one_of_two(MERGES, "the\n"),
            "expected two tokens with one space",
        ),
    ]
}

/// The folder the cases in two files are made from: valid, with an id more than the model has.
pub(crate) fn valid_in_two_files() -> Files {
    let mut vocabulary = vocabulary_json();
    vocabulary["<more>"] = json!(END + 1);
    one_of_two(VOCABULARY, vocabulary.to_string())
}
