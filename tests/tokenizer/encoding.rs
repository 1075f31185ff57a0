//! The tokenizer against what Hugging Face's library gives for the same files, and against broken
//! files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use gpt2::gguf::{Gguf, GgufHeader};
use gpt2::tokenizer::checkpoint::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use gpt2::tokenizer::{DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer};
use gpt2::{Result, TokenId};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<TokenId>,
    offsets: Option<Vec<(usize, usize)>>,
    decoded: String,
    decoded_skip_special: Option<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn data(name: &str) -> PathBuf {
    root().join("tests/data/tokenizers").join(name)
}

fn austen() -> PathBuf {
    root().join("models/austen-gpt2")
}

fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).expect("test data");
    serde_json::from_str(&text).expect("test data is JSON")
}

fn convert(folder: &Path) -> Result<GgufTokenizer> {
    let config = json(&folder.join("config.json"));
    let id = |name: &str| config[name].as_u64();
    TokenizerFiles::read(folder)?.to_gguf(&ConfigTokens {
        vocabulary_size: id("vocab_size").expect("vocab_size") as usize,
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        padding: id("pad_token_id"),
    })
}

/// The metadata of a file with `keep` of the tokenizer's keys.
fn read(tokenizer: GgufTokenizer, keep: impl Fn(&str) -> bool) -> Result<Tokenizer> {
    let mut header = GgufHeader::new();
    for (key, value) in tokenizer.entries {
        if keep(&key) {
            header.set(key, value)?;
        }
    }
    let file = Gguf::parse(Arc::new(header.encode()))?;
    Tokenizer::from_metadata(file.metadata())
}

fn load(folder: &Path) -> Tokenizer {
    let converted = convert(folder).expect("the folder converts");
    assert_eq!(converted.warnings, Vec::<String>::new());
    read(converted, |_| true).expect("the file loads")
}

/// As [`load`], from a file such as llama.cpp writes.
fn load_as_llama_cpp(folder: &Path) -> Tokenizer {
    let converted = convert(folder).expect("the folder converts");
    read(converted, |key| key.starts_with("tokenizer.ggml.")).expect("the file loads")
}

fn check(tokenizer: &Tokenizer, name: &str, case: &Case) {
    let text = &case.text;
    let ids = tokenizer.encode(text).expect("a short text");
    assert_eq!(ids, case.ids, "{name}: ids of {text:?}");
    if let Some(expected) = &case.offsets {
        let spans = tokenizer
            .encode_with_offsets(text, EncodeOptions::default())
            .expect("a short text");
        let offsets: Vec<_> = spans
            .into_iter()
            .map(|span| (span.characters.start, span.characters.end))
            .collect();
        assert_eq!(&offsets, expected, "{name}: offsets of {text:?}");
    }
    assert_eq!(
        tokenizer.decode(&ids),
        case.decoded,
        "{name}: {text:?} decoded"
    );
    if let Some(expected) = &case.decoded_skip_special {
        let skipping = DecodeOptions {
            skip_special_tokens: true,
            ..DecodeOptions::default()
        };
        assert_eq!(
            &tokenizer.decode_with(&ids, skipping),
            expected,
            "{name}: {text:?} decoded without special tokens"
        );
    }
}

fn cases(path: &Path) -> Vec<Case> {
    let expected: Expected =
        serde_json::from_value(json(path)).expect("test data has the known form");
    assert!(expected.cases.len() > 5, "{}", path.display());
    expected.cases
}

#[test]
fn every_kind_of_folder_gives_the_reference_tokens() {
    for name in ["tok_added", "tok_prefix", "tok_slow_only", "tok_chat"] {
        let tokenizer = load(&data(name));
        for case in cases(&data(name).join("expected.json")) {
            check(&tokenizer, name, &case);
        }
    }
}

#[test]
fn files_of_llama_cpp_give_the_reference_tokens() {
    for name in ["tok_prefix", "tok_slow_only", "tok_chat"] {
        let tokenizer = load_as_llama_cpp(&data(name));
        for case in cases(&data(name).join("expected.json")) {
            check(&tokenizer, name, &case);
        }
    }
}

#[test]
fn the_demo_model_gives_the_reference_tokens() {
    let reference = json(&root().join("tests/data/austen/reference.json"));
    let listed: Vec<Case> = serde_json::from_value(reference["tokenization"].clone())
        .expect("test data has the known form");
    let difficult = cases(&data("austen.json"));
    for tokenizer in [load(&austen()), load_as_llama_cpp(&austen())] {
        for case in listed.iter().chain(&difficult) {
            check(&tokenizer, "austen-gpt2", case);
        }
        assert_eq!(tokenizer.vocabulary_size(), 4096);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(4095), Some(4095)));
        assert_eq!(tokenizer.padding(), None);
    }
}

#[test]
fn rows_without_a_token_are_filled_and_decode_to_nothing() {
    let tokenizer = load(&data("tok_added"));
    assert_eq!(tokenizer.vocabulary_size(), 320);
    assert_eq!(tokenizer.token_text(305).as_deref(), Some("New York City"));
    assert_eq!(tokenizer.token_text(306), None);
    assert_eq!(tokenizer.decode(&[64, 306, 319, 320, 65]), "ab");
    let ordinary = tokenizer
        .encode_ordinary("<|user|>cat")
        .expect("a short text");
    assert!(
        !ordinary.contains(&300) && ordinary.contains(&303),
        "{ordinary:?}"
    );
}

static AUSTEN: LazyLock<Tokenizer> = LazyLock::new(|| load(&austen()));
static ADDED: LazyLock<Tokenizer> = LazyLock::new(|| load(&data("tok_added")));

/// Words, spaces, marks, and what tokenizers treat apart.
const WRITING: &str = "([A-Za-z]{1,8}|[ \t\n'.,!?0-9]|<\\|endoftext\\|>|é|日本){0,60}";

proptest! {
    #[test]
    fn decoding_gives_the_text_back(text in any::<String>()) {
        let ids = AUSTEN.encode(&text)?;
        prop_assert_eq!(AUSTEN.decode(&ids), text);
    }

    #[test]
    fn text_like_writing_comes_back(text in WRITING) {
        let ids = AUSTEN.encode(&text)?;
        prop_assert_eq!(AUSTEN.decode(&ids), text.as_str());
        prop_assert_eq!(AUSTEN.decode(&AUSTEN.encode_ordinary(&text)?), text.as_str());
    }

    #[test]
    fn a_stream_gives_what_decoding_gives(
        ids in prop::collection::vec(0_u32..330, 0..80),
        skip_special_tokens in any::<bool>(),
    ) {
        let options = DecodeOptions { skip_special_tokens, ..DecodeOptions::default() };
        let mut decoder = StreamDecoder::new(&ADDED, options);
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        prop_assert_eq!(text, ADDED.decode_with(&ids, options));
    }

    #[test]
    fn spans_cover_the_text_in_order(text in any::<String>()) {
        let spans = AUSTEN.encode_with_offsets(&text, EncodeOptions::default())?;
        let mut end = 0;
        for span in &spans {
            prop_assert!(span.characters.start <= end && end <= span.characters.end);
            end = span.characters.end;
        }
        prop_assert_eq!(end, text.chars().count());
    }
}

#[test]
fn a_megabyte_without_a_break_is_encoded_in_good_time() {
    let started = std::time::Instant::now();
    for text in ["a", "e", "the", "=", " "] {
        let text = text.repeat((1 << 20) / text.len());
        let ids = AUSTEN.encode(&text).expect("a text under 4 GiB");
        assert_eq!(AUSTEN.decode(&ids), text);
    }
    // Quadratic time would take hours.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// A small generator of numbers (Marsaglia's xorshift), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// Breaks `bytes` in one of the ways files break.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: [&[u8]; 16] = [
            b"null",
            b"-1",
            b"4294967296",
            b"99999999999999999999",
            b"1e400",
            b"[",
            b"}",
            b"\"\"",
            b"\\u0000",
            b"\xFF",
            b",",
            b"true",
            b"{\"type\":\"BPE\"}",
            b" ",
            b"\n",
            b"\xC4\xA0",
        ];
        let start = self.below(bytes.len() + 1);
        let end = (start + 1 + self.below(12)).min(bytes.len());
        let piece = PIECES[self.below(PIECES.len())];
        match self.below(5) {
            0 => bytes.truncate(start),
            1 => drop(bytes.drain(start.min(end)..end)),
            2 => drop(bytes.splice(start..start, piece.iter().copied())),
            3 => drop(bytes.splice(start.min(end)..end, piece.iter().copied())),
            _ => {
                if let Some(byte) = bytes.get_mut(start) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }
}

#[test]
fn broken_files_give_an_error_or_a_tokenizer() {
    let folders = ["tok_added", "tok_slow_only"].map(|name| {
        let size = json(&data(name).join("config.json"))["vocab_size"].as_u64();
        let files = TokenizerFiles::read(&data(name)).expect("test data");
        (files, size.expect("vocab_size") as usize)
    });
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let (mut converted, mut refused) = (0, 0);
    for round in 0..10_000 {
        let (mut files, vocabulary_size) = folders[round % 2].clone();
        let parts = [
            &mut files.tokenizer,
            &mut files.vocabulary,
            &mut files.merges,
            &mut files.added_tokens,
            &mut files.special_tokens_map,
            &mut files.tokenizer_config,
        ];
        let mut present: Vec<&mut Vec<u8>> = parts.into_iter().flatten().collect();
        let chosen = numbers.below(present.len());
        for _ in 0..=numbers.below(3) {
            numbers.mutate(present[chosen]);
        }
        let config = ConfigTokens {
            vocabulary_size,
            ..ConfigTokens::default()
        };
        match files
            .to_gguf(&config)
            .and_then(|tokenizer| read(tokenizer, |_| true))
        {
            Ok(tokenizer) => {
                converted += 1;
                let text = "Hello <|user|> the cat\n日本 New York City";
                let ids = tokenizer.encode(text).expect("a short text");
                tokenizer.decode(&ids);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        converted > 500 && refused > 500,
        "{converted} converted, {refused} refused"
    );
}

#[test]
fn broken_metadata_gives_an_error_or_a_tokenizer() {
    let mut header = GgufHeader::new();
    for (key, value) in convert(&data("tok_added"))
        .expect("the folder converts")
        .entries
    {
        if key != "tokenizer.huggingface.json" {
            header.set(key, value).expect("a key of ours");
        }
    }
    let whole = header.encode();
    let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
    let (mut loaded, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut bytes = whole.clone();
        for _ in 0..=numbers.below(3) {
            numbers.mutate(&mut bytes);
        }
        match Gguf::parse(Arc::new(bytes))
            .and_then(|file| Tokenizer::from_metadata(file.metadata()))
        {
            Ok(tokenizer) => {
                loaded += 1;
                let ids = tokenizer
                    .encode("Hello <|user|> the cat")
                    .expect("a short text");
                tokenizer.decode(&ids);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        loaded > 200 && refused > 200,
        "{loaded} loaded, {refused} refused"
    );
}

/// The message for the files of `tok_added` as `change` leaves them.
fn message(change: impl Fn(&mut TokenizerFiles)) -> String {
    let mut files = TokenizerFiles::read(&data("tok_added")).expect("test data");
    change(&mut files);
    let config = ConfigTokens {
        vocabulary_size: 320,
        ..ConfigTokens::default()
    };
    files.to_gguf(&config).map_or_else(
        |error| error.to_string(),
        |tokenizer| tokenizer.warnings.join("; "),
    )
}

fn edit(file: &mut Option<Vec<u8>>, from: &str, to: &str) {
    let text = String::from_utf8(file.take().expect("the file is there")).expect("UTF-8");
    assert!(text.contains(from), "{from} is in the file");
    *file = Some(text.replacen(from, to, 1).into_bytes());
}

#[test]
fn what_is_wrong_in_tokenizer_json_is_named_with_its_place() {
    let edits = [
        ("{", "[", "tokenizer.json: "),
        (
            r#""BPE""#,
            r#""Unigram""#,
            "tokenizer.json: model.type is Unigram",
        ),
        #[cfg(not(feature = "tokenizers"))]
        (
            r#""normalizer": null"#,
            r#""normalizer": {"type": "NFKC"}"#,
            "tokenizer.json: normalizer is NFKC; without the feature",
        ),
        #[cfg(not(feature = "tokenizers"))]
        (
            r#""type": "ByteLevel""#,
            r#""type": "Metaspace""#,
            "tokenizer.json: pre_tokenizer is Metaspace; without the feature",
        ),
        (
            r#""id": 305"#,
            r#""id": 304"#,
            r#"(the first: "New York City" with 304, which has 305)"#,
        ),
        (
            r##""#": 2,"##,
            r##""#": 3,"##,
            r##"tokenizer.json: model.vocab: the id 3 is given to both "#" and "$""##,
        ),
        (
            r##""#": 2,"##,
            r#""!": 2,"#,
            r#"the token "!" occurs twice"#,
        ),
        (
            r##""#": 2,"##,
            r##""#": -2,"##,
            "tokenizer.json: invalid value: integer `-2`",
        ),
        (
            r##""#": 2,"##,
            r##""#": 4000,"##,
            "1 tokens have no row in the model, which has 320, and are left out (the first: \"#\" \
             with id 4000)",
        ),
    ];
    for (from, to, expected) in edits {
        let message = message(|files| {
            files.tokenizer_config = None;
            edit(&mut files.tokenizer, from, to);
        });
        assert!(
            message.contains(expected),
            "expected {expected:?}, found {message:?}"
        );
    }
}

#[test]
fn what_is_wrong_without_tokenizer_json_is_named_with_its_place() {
    let slow_only = |change: &dyn Fn(&mut TokenizerFiles)| {
        message(|files| {
            files.tokenizer = None;
            change(files);
        })
    };
    assert_eq!(slow_only(&|_| ()), "");
    let three = slow_only(&|files| edit(&mut files.merges, "h e\n", "h e x\n"));
    assert_eq!(
        three,
        "merges.txt: merge [1]: expected two tokens with one space between, found \"h e x\""
    );
    let unknown = slow_only(&|files| edit(&mut files.merges, "h e\n", "zq e\n"));
    assert_eq!(
        unknown,
        "merges.txt: merge [1]: \"zq\" of the merge \"zq e\" is not in the vocabulary"
    );
    let missing = slow_only(&|files| files.merges = None);
    assert_eq!(
        missing,
        "merges.txt: expected beside vocab.json, found no such file"
    );
    let missing = slow_only(&|files| files.vocabulary = None);
    assert_eq!(
        missing,
        "vocab.json: expected beside merges.txt, found no such file"
    );
    let class = slow_only(&|files| {
        edit(
            &mut files.tokenizer_config,
            "\"GPT2Tokenizer\"",
            "\"CTRLTokenizer\"",
        );
    });
    assert!(
        class.contains("tokenizer_class \"CTRLTokenizer\" without"),
        "{class}"
    );
    let words = message(|files| {
        *files = TokenizerFiles {
            word_list: Some(Vec::new()),
            ..TokenizerFiles::default()
        };
    });
    assert!(
        words.contains("vocab.txt: a WordPiece vocabulary"),
        "{words}"
    );
}

#[test]
fn ids_of_the_config_outside_the_vocabulary_give_way_to_the_tokenizers() {
    let files = TokenizerFiles::read(&data("tok_added")).expect("test data");
    let converted = files
        .to_gguf(&ConfigTokens {
            vocabulary_size: 320,
            bos: Some(50256),
            eos: Some(300),
            padding: Some(50257),
        })
        .expect("the files convert");
    assert_eq!(
        converted.warnings,
        [
            "config.json: the id of bos_token is 50256, but the model has 320 tokens; taking the \
             tokenizer's, 299",
            "config.json: the id of pad_token is 50257, but the model has 320 tokens; left out",
        ]
    );
    let tokenizer = read(converted, |_| true).expect("the file loads");
    assert_eq!(tokenizer.bos(), Some(299));
    assert_eq!(tokenizer.eos(), Some(300));
    assert_eq!(tokenizer.padding(), None);
}
