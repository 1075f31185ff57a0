//! Folders as strangers' programs leave them, against what transformers makes of them: random ones
//! in `folders.json`, and one for each kind of file that is read in other ways than it was.
//!
//! `GPT2_EDGE_FOLDERS=FILE` names another file of random folders, by
//! `tests/data/tokenizers/make_folders.py`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::folders::file;
use gpt2::tokenizer::checkpoint::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use gpt2::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer, save_vocabulary_files};
use gpt2::{Result, TokenId};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Folders {
    vocabulary: Vec<String>,
    merges: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    without: Vec<String>,
    files: HashMap<String, Value>,
    whole: Option<Value>,
    merges: Option<String>,
    marked: Vec<String>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    rows: usize,
    roles: HashMap<String, Option<TokenId>>,
    texts: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<TokenId>,
    pair: Vec<TokenId>,
    decoded: String,
    decoded_skip_special: String,
}

const MARK: &[u8] = b"\xEF\xBB\xBF";

impl Folders {
    fn read(path: &Path) -> Self {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn own() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
        Self::read(&data.join("folders.json"))
    }

    fn vocabulary(&self, without: &[String]) -> Value {
        let tokens = self.vocabulary.iter().enumerate();
        let kept = tokens.filter(|(_, token)| !without.contains(token));
        kept.map(|(id, token)| (token.clone(), Value::from(id)))
            .collect()
    }

    fn tokenizer_json(&self, vocabulary: &Value, part: &Value) -> Value {
        let byte_level = |prefix: &Value| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true});
        json!({
            "version": "1.0",
            "added_tokens": part["added_tokens"],
            "pre_tokenizer": byte_level(&part["add_prefix_space"]),
            "post_processor": part["post_processor"],
            "decoder": byte_level(&json!(true)),
            "model": {"type": "BPE", "vocab": vocabulary, "merges": self.merges},
        })
    }

    fn write(&self, case: &Case) -> TempDir {
        let folder = TempDir::new().unwrap();
        let put = |name: &str, contents: &[u8]| {
            let is_marked = case.marked.iter().any(|marked| marked == name);
            let mark = if is_marked { MARK } else { b"" };
            fs::write(folder.path().join(name), [mark, contents].concat()).unwrap();
        };
        let vocabulary = self.vocabulary(&case.without);
        for (name, contents) in &case.files {
            put(name, contents.to_string().as_bytes());
        }
        if let Some(part) = &case.whole {
            let whole = self.tokenizer_json(&vocabulary, part);
            put("tokenizer.json", whole.to_string().as_bytes());
        }
        if let Some(merges) = &case.merges {
            put("vocab.json", vocabulary.to_string().as_bytes());
            put("merges.txt", merges.as_bytes());
        }
        folder
    }
}

fn convert(folder: &Path, rows: usize) -> Result<GgufTokenizer> {
    TokenizerFiles::read(folder)?.to_gguf(&ConfigTokens {
        vocabulary_size: rows,
        ..ConfigTokens::default()
    })
}

fn load(folder: &Path, rows: usize) -> Tokenizer {
    let file = file(convert(folder, rows).unwrap(), |_| true);
    Tokenizer::from_metadata(file.metadata()).unwrap()
}

/// What differs from transformers, a line each.
fn differences(ours: &Tokenizer, expected: &Expected) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what}: {ours}, expected {theirs}"));
        }
    };
    for (role, id) in [
        ("bos_token", ours.bos()),
        ("eos_token", ours.eos()),
        ("unk_token", ours.unknown()),
        ("pad_token", ours.padding()),
    ] {
        compare(
            role,
            format!("{id:?}"),
            format!("{:?}", expected.roles[role]),
        );
    }
    for case in &expected.texts {
        let text = &case.text;
        let ids = ours.encode(text).unwrap();
        compare(
            &format!("{text:?}"),
            format!("{ids:?}"),
            format!("{:?}", case.ids),
        );
        let pair = ours.encode_pair(text, Some("the"), EncodeOptions::default(), None);
        let pair = pair.unwrap().ids;
        compare(
            "with \"the\"",
            format!("{pair:?}"),
            format!("{:?}", case.pair),
        );
        for (skip_special_tokens, theirs) in
            [(false, &case.decoded), (true, &case.decoded_skip_special)]
        {
            let options = DecodeOptions {
                skip_special_tokens,
                ..DecodeOptions::default()
            };
            let decoded = ours.decode_with(&case.ids, options);
            let what = format!("{text:?} decoded, special tokens skipped: {skip_special_tokens}");
            compare(&what, decoded, theirs.clone());
        }
    }
    found
}

#[test]
fn random_folders_give_what_transformers_gives() {
    let (folders, from) = match env::var_os("GPT2_EDGE_FOLDERS").map(PathBuf::from) {
        Some(path) => (Folders::read(&path), path),
        None => (Folders::own(), PathBuf::from("folders.json")),
    };
    assert!(folders.cases.len() > 20);
    let mut wrong = 0;
    for (number, case) in folders.cases.iter().enumerate() {
        let folder = folders.write(case);
        let differences = differences(&load(folder.path(), case.expected.rows), &case.expected);
        if !differences.is_empty() {
            wrong += 1;
            println!("case {number} of {}: {:#?}", from.display(), case.files);
            println!("{:?} {:?} {:?}", case.without, case.whole, case.merges);
            println!("{differences:#?}");
        }
    }
    assert_eq!(wrong, 0, "folders that differ");
}

/// A folder of these files, with vocab.json and merges.txt of the random ones or the tokenizer.json
/// that `whole` says.
fn folder(files: &Value, whole: Option<Value>) -> TempDir {
    let own = Folders::own();
    let files: HashMap<String, Value> = serde_json::from_value(files.clone()).unwrap();
    let merges = whole.is_none().then(|| own.merges.join("\n"));
    own.write(&Case {
        without: Vec::new(),
        files,
        whole,
        merges,
        marked: Vec::new(),
        expected: Expected {
            rows: 0,
            roles: HashMap::new(),
            texts: Vec::new(),
        },
    })
}

/// As many as the vocabulary has tokens.
fn size() -> usize {
    Folders::own().vocabulary.len()
}

fn whole(added: &Value) -> Value {
    json!({"added_tokens": added, "post_processor": null, "add_prefix_space": false})
}

fn special(id: usize, content: &str) -> Value {
    json!({
        "id": id, "content": content, "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false,
    })
}

#[test]
fn special_tokens_map_goes_before_an_older_configuration_alone() {
    let map = json!({"bos_token": "<s>", "pad_token": {"content": "<pad>", "lstrip": true}});
    let decoder = json!({(size()).to_string(): {"content": "<pad>", "special": true}});
    for (config, bos, has_map) in [
        (json!({"bos_token": "hello"}), "<s>", true),
        (json!({}), "<s>", true),
        (
            json!({"bos_token": "hello", "added_tokens_decoder": decoder}),
            "hello",
            false,
        ),
        (json!({"added_tokens_decoder": {}}), "<|endoftext|>", false),
    ] {
        let files = json!({"special_tokens_map.json": map, "tokenizer_config.json": config});
        let tokenizer = load(folder(&files, None).path(), size() + 4);
        assert_eq!(tokenizer.bos(), tokenizer.token_id(bos), "{config}");
        assert!(tokenizer.bos().is_some_and(|id| tokenizer.is_special(id)));
        assert_eq!(tokenizer.padding().is_some(), has_map, "{config}");
    }
}

#[test]
fn a_vocabulary_without_the_marker_gets_it_behind() {
    let folder = folder(&json!({}), None);
    let path = folder.path().join("vocab.json");
    let mut vocabulary = Folders::own().vocabulary(&["<|endoftext|>".to_owned()]);
    fs::write(&path, vocabulary.to_string()).unwrap();
    let end = (size() - 1) as TokenId;
    let tokenizer = load(folder.path(), size());
    assert_eq!(tokenizer.eos(), Some(end));
    assert_eq!(tokenizer.encode("<|endoftext|>").unwrap(), [end]);
    // A model without a row for it has no such token.
    assert_eq!(load(folder.path(), size() - 1).eos(), None);
    // Its id is none that the vocabulary has.
    vocabulary["hello"] = (size() - 1).into();
    fs::write(&path, vocabulary.to_string()).unwrap();
    assert_eq!(load(folder.path(), size() + 1).eos(), Some(end + 1));
    // Other classes do not append it.
    let files = json!({"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}});
    let other = self::folder(&files, Some(whole(&json!([]))));
    assert_eq!(load(other.path(), size() + 1).eos(), None);
}

#[test]
fn add_bos_token_counts_where_no_tokenizer_json_says_it() {
    let config = json!({"add_bos_token": true, "bos_token": "<s>", "add_eos_token": true});
    let files = json!({"tokenizer_config.json": config});
    let tokenizer = load(folder(&files, None).path(), size() + 1);
    let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
    let hello = tokenizer.token_id("hello").unwrap();
    assert_eq!(tokenizer.encode("hello").unwrap(), [bos, hello, eos]);
    let pair = tokenizer.encode_pair("hello", Some("hello"), EncodeOptions::default(), None);
    assert_eq!(pair.unwrap().ids, [bos, hello, eos, bos, hello, eos]);
    let whole = folder(&files, Some(whole(&json!([]))));
    assert_eq!(
        load(whole.path(), size() + 1).encode("hello").unwrap(),
        [hello]
    );
}

#[test]
fn special_tokens_are_split_where_the_configuration_says_so() {
    let config = json!({"split_special_tokens": true});
    let files = json!({"tokenizer_config.json": config});
    for whole in [
        None,
        Some(whole(&json!([special(size() - 1, "<|endoftext|>")]))),
    ] {
        let folder = folder(&files, whole);
        let tokenizer = load(folder.path(), size());
        let ids = tokenizer.encode("hello<|endoftext|>").unwrap();
        assert_eq!(
            ids,
            tokenizer.encode_ordinary("hello<|endoftext|>").unwrap()
        );
        assert!(ids.len() > 2);
        // What is written out says it too.
        let written = TempDir::new().unwrap();
        let ours = file(convert(folder.path(), size()).unwrap(), |_| true);
        save_vocabulary_files(ours.metadata(), written.path(), false).unwrap();
        let again = load(written.path(), size());
        assert_eq!(again.encode("hello<|endoftext|>").unwrap(), ids);
    }
}

#[test]
fn added_tokens_have_the_ids_that_the_library_gives_them() {
    let end = size() - 1;
    for (added, token, id) in [
        // The vocabulary has it.
        (
            json!([special(end + 1, "<|endoftext|>")]),
            "<|endoftext|>",
            end,
        ),
        // Twice: the first counts.
        (
            json!([special(end + 1, "[PAD]"), special(end + 2, "[PAD]")]),
            "[PAD]",
            end + 1,
        ),
        // Numbered on from the vocabulary.
        (json!([special(end + 3, "[PAD]")]), "[PAD]", end + 1),
    ] {
        let folder = folder(&json!({}), Some(whole(&added)));
        let converted = convert(folder.path(), size() + 4).unwrap();
        let warnings = converted.warnings.join("; ");
        assert!(
            warnings.contains("1 added tokens are listed with other ids"),
            "{warnings}"
        );
        let file = file(converted, |_| true);
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        assert_eq!(tokenizer.encode(token).unwrap(), [id as TokenId], "{added}");
        let theirs = fs::read(folder.path().join("tokenizer.json")).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(theirs).unwrap();
        let expected = theirs.encode(format!("hello{token}x"), false).unwrap();
        assert_eq!(
            tokenizer.encode(&format!("hello{token}x")).unwrap(),
            expected.get_ids()
        );
    }
}

#[test]
fn byte_order_marks_change_nothing_and_are_told() {
    let files = json!({
        "tokenizer_config.json": {"bos_token": "<s>"},
        "special_tokens_map.json": {"pad_token": "<pad>"},
        "added_tokens.json": {"<pad>": size()},
        "chat_template.jinja": "x",
    });
    for whole in [
        None,
        Some(whole(&json!([special(size() - 1, "<|endoftext|>")]))),
    ] {
        let folder = folder(&files, whole);
        let before = convert(folder.path(), size() + 2).unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let contents = fs::read(&path).unwrap();
            fs::write(&path, [MARK, &contents].concat()).unwrap();
            let after = convert(folder.path(), size() + 2).unwrap();
            assert_eq!(after.entries, before.entries, "{}", path.display());
            let name = path.file_name().unwrap().to_str().unwrap();
            let warnings = after.warnings.join("; ");
            assert!(
                warnings.contains(name) && warnings.contains("byte order mark"),
                "{warnings}"
            );
            fs::write(&path, contents).unwrap();
        }
        // Bytes that a caller has read count alike.
        let mut read = TokenizerFiles::read(folder.path()).unwrap();
        let files = [&mut read.tokenizer, &mut read.merges, &mut read.vocabulary];
        for bytes in files.into_iter().flatten() {
            bytes.splice(0..0, MARK.iter().copied());
        }
        let config = ConfigTokens {
            vocabulary_size: size() + 2,
            ..ConfigTokens::default()
        };
        assert_eq!(read.to_gguf(&config).unwrap().entries, before.entries);
    }
}

#[test]
fn lines_of_merges_may_end_in_any_way() {
    let folder = folder(&json!({}), None);
    let path = folder.path().join("merges.txt");
    let before = convert(folder.path(), size()).unwrap().entries;
    let merges = Folders::own().merges;
    for (start, between, end) in [
        ("", "\n", ""),
        ("#version: 0.2\n", "\n", "\n"),
        (
            "#version: 0.2 - Trained by `huggingface/tokenizers`\r\n",
            "\r\n",
            "\r\n\r\n",
        ),
        ("#version: 0.2\n", " \n", "\t\n\n\n"),
    ] {
        fs::write(&path, format!("{start}{}{end}", merges.join(between))).unwrap();
        assert_eq!(
            convert(folder.path(), size()).unwrap().entries,
            before,
            "{start:?} {end:?}"
        );
    }
}

#[test]
fn openais_names_and_single_files_give_the_same_tokenizer() {
    let folder = folder(&json!({}), None);
    let before = convert(folder.path(), size()).unwrap().entries;
    let at = |name: &str| folder.path().join(name);
    for names in [
        ["vocab.json", "merges.txt"],
        ["gpt2-vocab.json", "gpt2-merges.txt"],
        ["encoder.json", "vocab.bpe"],
    ] {
        if !at(names[0]).exists() {
            fs::rename(at("vocab.json"), at(names[0])).unwrap();
            fs::rename(at("merges.txt"), at(names[1])).unwrap();
        }
        for name in names {
            assert_eq!(
                convert(&at(name), size()).unwrap().entries,
                before,
                "{name}"
            );
        }
        if names[0] == "gpt2-vocab.json" {
            fs::rename(at(names[0]), at("vocab.json")).unwrap();
            fs::rename(at(names[1]), at("merges.txt")).unwrap();
        }
    }
    assert_eq!(convert(folder.path(), size()).unwrap().entries, before);
    // A tokenizer.json alone says everything itself.
    let mut part = whole(&json!([special(size() - 1, "<|endoftext|>")]));
    part["add_prefix_space"] = true.into();
    let whole = self::folder(&json!({}), Some(part));
    let alone = load(&whole.path().join("tokenizer.json"), size());
    assert_eq!(alone.eos(), Some((size() - 1) as TokenId));
    assert!(alone.settings().add_prefix_space);
}

#[test]
fn what_is_no_tokenizer_is_named() {
    let folder = folder(&json!({}), None);
    let at = |name: &str| folder.path().join(name);
    let message = |path: &Path| convert(path, size()).unwrap_err().to_string();
    fs::write(at("notes.txt"), "x").unwrap();
    assert!(message(&at("notes.txt")).contains("expected a tokenizer"));
    assert!(message(&at("nothing.json")).contains("nothing.json"));
    fs::remove_file(at("vocab.json")).unwrap();
    assert!(message(folder.path()).starts_with("vocab.json: expected beside merges.txt"));
    assert!(message(&at("merges.txt")).contains("vocab.json"));
    fs::rename(at("merges.txt"), at("vocab.bpe")).unwrap();
    assert!(message(folder.path()).starts_with("encoder.json: expected beside vocab.bpe"));
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(at("tokenizer.json"), pointer).unwrap();
    let found = message(folder.path());
    assert!(
        found.contains("tokenizer.json") && found.contains("Git LFS"),
        "{found}"
    );
}

/// `SentencePiece`'s files.
#[cfg(feature = "tokenizers")]
mod pieces {
    use super::*;

    fn data() -> PathBuf {
        match env::var_os("GPT2_EDGE_PIECES").map(PathBuf::from) {
            Some(folder) => folder,
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers"),
        }
    }

    /// The models with what `SentencePiece` makes of texts.
    fn models() -> HashMap<String, Value> {
        serde_json::from_slice(&fs::read(data().join("pieces.json")).unwrap()).unwrap()
    }

    fn rows(model: &Value) -> usize {
        model["rows"].as_u64().unwrap() as usize
    }

    #[test]
    fn a_lone_spiece_model_gives_the_ids_of_sentencepiece() {
        let mut wrong = Vec::new();
        for (name, model) in models() {
            let tokenizer = load(&data().join(format!("pieces_{name}")), rows(&model));
            for case in model["texts"].as_array().unwrap() {
                let (text, ids) = (case[0].as_str().unwrap(), case[1].clone());
                let expected: Vec<TokenId> = serde_json::from_value(ids).unwrap();
                let found = tokenizer.encode_ordinary(text).unwrap();
                if found != expected {
                    wrong.push(format!(
                        "{name}: {text:?}: {found:?}, expected {expected:?}"
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_class_of_a_spiece_model_says_what_goes_behind() {
        let model = &models()["unigram"];
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::copy(
            data().join("pieces_unigram/spiece.model"),
            at("spiece.model"),
        )
        .unwrap();
        let plain = load(&at("spiece.model"), rows(model));
        let end = plain.eos().unwrap();
        let ids = plain.encode("a truth").unwrap();
        fs::write(at("config.json"), r#"{"tokenizer_class": "T5Tokenizer"}"#).unwrap();
        fs::write(at("tokenizer_config.json"), r#"{"extra_ids": 2}"#).unwrap();
        let t5 = load(folder.path(), rows(model) + 3);
        assert_eq!(
            t5.encode("a truth").unwrap(),
            [ids.as_slice(), &[end]].concat()
        );
        assert_eq!(
            t5.token_id("<extra_id_0>"),
            Some(rows(model) as TokenId + 1)
        );
        assert_eq!(t5.encode("</s>").unwrap(), [end, end]);
        assert_eq!(t5.decode(&ids), "a truth");
        fs::write(
            at("config.json"),
            r#"{"tokenizer_class": "XLNetTokenizer"}"#,
        )
        .unwrap();
        let message = convert(folder.path(), rows(model)).unwrap_err().to_string();
        assert!(
            message.contains("spiece.model") && message.contains("XLNet"),
            "{message}"
        );
    }

    #[test]
    fn what_is_cut_or_cannot_be_exact_is_refused() {
        let model = fs::read(data().join("pieces_unigram/spiece.model")).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("spiece.model");
        for length in (0..model.len()).step_by(7) {
            fs::write(&path, &model[..length]).unwrap();
            if let Err(error) = convert(&path, 200) {
                assert!(error.to_string().contains("spiece.model"), "{error}");
            }
        }
        // Field 2 (training), 24 (treat_whitespace_as_suffix): true.
        fs::write(&path, [&model, b"\x12\x03\xC0\x01\x01".as_slice()].concat()).unwrap();
        let message = convert(&path, 200).unwrap_err().to_string();
        assert!(message.contains("treat_whitespace_as_suffix"), "{message}");
    }
}
