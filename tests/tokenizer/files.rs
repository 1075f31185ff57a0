//! Tokenizers of every kind: from their folder, and from the files that are written out of a GGUF
//! file.

use std::fs;
use std::path::Path;

use crate::folders::{convert, data, file};
use gpt2::gguf::Gguf;
use gpt2::tokenizer::{
    DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer, save_vocabulary_files,
};
use gpt2::{Error, TokenId};
use serde_json::Value;
use tempfile::TempDir;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    serde_json::from_value(value.clone()).unwrap()
}

fn tokenizer(file: &Gguf) -> Tokenizer {
    Tokenizer::from_metadata(file.metadata()).unwrap()
}

/// Compares with what transformers gave for the folder `name`.
fn check(what: &str, tokenizer: &Tokenizer, name: &str) {
    let expected = json(&data(name).join("expected.json"));
    for case in expected["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let spans = tokenizer
            .encode_with_offsets(text, EncodeOptions::default())
            .unwrap();
        let found: Vec<TokenId> = spans.iter().map(|span| span.id).collect();
        assert_eq!(found, ids(&case["ids"]), "{what}: {text:?}");
        assert_eq!(tokenizer.encode(text).unwrap(), found, "{what}: {text:?}");
        let offsets: Vec<[usize; 2]> = spans
            .iter()
            .map(|span| [span.characters.start, span.characters.end])
            .collect();
        assert_eq!(
            serde_json::to_value(offsets).unwrap(),
            case["offsets"],
            "{what}: {text:?}"
        );
        for (key, skip, clean) in [
            ("decoded", false, false),
            ("decoded_skip_special", true, false),
            ("decoded_clean_up", true, true),
        ] {
            let options = DecodeOptions {
                skip_special_tokens: skip,
                clean_up_spaces: clean,
            };
            let decoded = tokenizer.decode_with(&found, options);
            if let Some(expected) = case[key].as_str() {
                assert_eq!(decoded, expected, "{what}: {key} of {text:?}");
            }
            let mut stream = StreamDecoder::new(tokenizer, options);
            let mut streamed: String = found.iter().map(|&id| stream.push(id)).collect();
            streamed.push_str(&stream.finish());
            if !clean {
                assert_eq!(streamed, decoded, "{what}: {text:?} as a stream");
            }
        }
    }
}

/// Writes the files of `file` out and converts them again.
fn again(file: &Gguf, name: &str, without: &[&str]) -> Tokenizer {
    let folder = TempDir::new().unwrap();
    let written = save_vocabulary_files(file.metadata(), folder.path(), false).unwrap();
    assert!(written.len() >= 3);
    for name in without {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    fs::copy(
        data(name).join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    tokenizer(&crate::folders::file(
        convert(folder.path()).unwrap(),
        |_| true,
    ))
}

const BYTE_LEVEL: [&str; 4] = ["tok_added", "tok_prefix", "tok_slow_only", "tok_chat"];

#[test]
fn what_is_written_out_converts_to_the_same_ids() {
    for name in BYTE_LEVEL {
        let ours = file(convert(&data(name)).unwrap(), |_| true);
        check(name, &tokenizer(&ours), name);
        check("all files", &again(&ours, name, &[]), name);
        let slow = again(&ours, name, &["tokenizer.json"]);
        check("vocab.json and merges.txt", &slow, name);
        let fast = again(&ours, name, &["vocab.json", "merges.txt"]);
        check("tokenizer.json", &fast, name);
    }
}

#[test]
fn files_of_llama_cpp_are_written_out_too() {
    // How added tokens take in spaces is not said there.
    for name in ["tok_prefix", "tok_slow_only", "tok_chat"] {
        let converted = convert(&data(name)).unwrap();
        let bare = file(converted, |key| key.starts_with("tokenizer.ggml."));
        check("all files", &again(&bare, name, &[]), name);
        let slow = again(&bare, name, &["tokenizer.json"]);
        check("vocab.json and merges.txt", &slow, name);
    }
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let ours = file(convert(&data("tok_chat")).unwrap(), |_| true);
    let inner = folder.path().join("a/b");
    save_vocabulary_files(ours.metadata(), &inner, false).unwrap();
    fs::remove_file(inner.join("vocab.json")).unwrap();
    let refused = save_vocabulary_files(ours.metadata(), &inner, false);
    assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
    let mut names: Vec<_> = fs::read_dir(&inner)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "merges.txt",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    save_vocabulary_files(ours.metadata(), &inner, true).unwrap();
    assert!(inner.join("vocab.json").exists());
    let vocabulary = json(&inner.join("vocab.json"));
    assert_eq!(vocabulary, json(&data("tok_chat").join("vocab.json")));
}

/// Tokenizers that are not byte-level BPE.
#[cfg(feature = "tokenizers")]
mod whole {
    use super::*;

    #[test]
    fn word_pieces_and_characters_give_the_reference_tokens() {
        for name in ["tok_wordpiece", "tok_charbpe"] {
            let ours = file(convert(&data(name)).unwrap(), |_| true);
            check(name, &tokenizer(&ours), name);
            check("written out", &again(&ours, name, &[]), name);
        }
    }

    #[test]
    fn a_word_list_alone_is_enough() {
        let folder = TempDir::new().unwrap();
        for name in ["config.json", "vocab.txt"] {
            fs::copy(data("tok_wordpiece").join(name), folder.path().join(name)).unwrap();
        }
        let from_words = tokenizer(&file(convert(folder.path()).unwrap(), |_| true));
        check("vocab.txt", &from_words, "tok_wordpiece");
        // Flags of its own.
        let config = folder.path().join("tokenizer_config.json");
        fs::write(
            &config,
            r#"{"do_lower_case": false, "tokenize_chinese_chars": false}"#,
        )
        .unwrap();
        let cased = tokenizer(&file(convert(folder.path()).unwrap(), |_| true));
        let unknown = cased.token_id("[UNK]").unwrap();
        let around = [cased.token_id("[CLS]"), cased.token_id("[SEP]")].map(Option::unwrap);
        assert_eq!(
            cased.encode("HELLO").unwrap(),
            [around[0], unknown, around[1]]
        );
        assert_ne!(
            cased.encode("世界").unwrap(),
            from_words.encode("世界").unwrap()
        );
        for (words, missing) in [("[UNK]\n[CLS]\n", "[SEP]"), ("a\nb", "[UNK]")] {
            fs::write(folder.path().join("vocab.txt"), words).unwrap();
            let message = convert(folder.path()).unwrap_err().to_string();
            assert!(message.contains(missing), "{message}");
        }
    }

    #[test]
    fn two_texts_are_put_together_as_the_template_says() {
        let ours = tokenizer(&file(convert(&data("tok_wordpiece")).unwrap(), |_| true));
        let expected = json(&data("tok_wordpiece").join("expected.json"));
        for case in expected["pairs"].as_array().unwrap() {
            let (text, pair) = (case["text"].as_str().unwrap(), case["pair"].as_str());
            let found = ours
                .encode_pair(text, pair, EncodeOptions::default(), None)
                .unwrap();
            assert_eq!(found.ids, ids(&case["input_ids"]));
            assert_eq!(found.type_ids, ids(&case["token_type_ids"]));
        }
        for case in expected["without_special_tokens"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(ours.encode_ordinary(text).unwrap(), ids(&case["ids"]));
        }
    }

    #[test]
    fn long_streams_forget_what_is_given() {
        for name in ["tok_wordpiece", "tok_charbpe"] {
            let ours = tokenizer(&file(convert(&data(name)).unwrap(), |_| true));
            let rows = ours.vocabulary_size() as TokenId;
            let ids: Vec<TokenId> = (0..2000).map(|number| number * 7919 % rows).collect();
            for skip_special_tokens in [false, true] {
                let options = DecodeOptions {
                    skip_special_tokens,
                    ..DecodeOptions::default()
                };
                let mut stream = StreamDecoder::new(&ours, options);
                let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
                text.push_str(&stream.finish());
                assert_eq!(text, ours.decode_with(&ids, options), "{name}");
            }
        }
    }

    #[test]
    fn definitions_that_make_no_sense_are_refused() {
        for (from, to) in [
            ("\"BertPreTokenizer\"", "\"NoSuchPreTokenizer\""),
            (
                "\"WordPiece\",\"unk_token\"",
                "\"WordNothing\",\"unk_token\"",
            ),
            ("\"ids\": [\n          7", "\"ids\": [\n          70000"),
        ] {
            let folder = TempDir::new().unwrap();
            for name in ["config.json", "tokenizer.json"] {
                let text = fs::read_to_string(data("tok_wordpiece").join(name)).unwrap();
                fs::write(folder.path().join(name), text.replace(from, to)).unwrap();
            }
            let changed = fs::read(folder.path().join("tokenizer.json")).unwrap();
            if changed != fs::read(data("tok_wordpiece").join("tokenizer.json")).unwrap() {
                let message = convert(folder.path()).unwrap_err().to_string();
                assert!(message.starts_with("tokenizer.json"), "{message}");
            }
        }
    }
}
