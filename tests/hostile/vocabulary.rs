//! GGUF files of a model that is sound and a tokenizer that is not.

use super::model::{Case, Refuser};
use super::tiny::{TinyModel, tokens};

const TOKENIZING: &[Refuser] = &[Refuser::Generate, Refuser::Tokenize];

fn tiny() -> TinyModel {
    TinyModel::tiny()
}

/// Files that are refused when text is to become tokens, or the other way round.
pub(super) fn tokenizers() -> Vec<Case> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let set_ids = |name: &str, id: u32| tiny().set(&key(name), id).bytes();
    let tokens_of = |tokens: Vec<String>| tiny().set(&key("tokens"), tokens).bytes();
    let merges = |merges: &[&str]| {
        let merges: Vec<String> = merges.iter().map(|&merge| merge.to_owned()).collect();
        tiny().set(&key("merges"), merges).bytes()
    };
    let settings = |json: &str| tiny().set("gpt2_edge.tokenizer.settings", json).bytes();
    // The library writes no such string, so it is put in afterwards.
    let mut not_utf8 = tiny().bytes();
    let end = b"<|endoftext|>";
    let place = not_utf8
        .windows(end.len())
        .position(|bytes| bytes == end)
        .unwrap();
    not_utf8[place] = 0xFF;
    vec![
        (
            "no tokenizer",
            tiny().without(&key("model")).bytes(),
            // Ids need no tokenizer.
            &[Refuser::Tokenize],
            "tokenizer.ggml.model",
        ),
        (
            "another tokenizer",
            tiny().set(&key("model"), "llama").bytes(),
            TOKENIZING,
            "only \"gpt2\"",
        ),
        (
            "another pre-tokenizer",
            tiny().set(&key("pre"), "qwen2").bytes(),
            TOKENIZING,
            "only \"gpt-2\"",
        ),
        (
            "no tokens",
            tiny().without(&key("tokens")).bytes(),
            TOKENIZING,
            "tokenizer.ggml.tokens",
        ),
        (
            "no merges",
            tiny().without(&key("merges")).bytes(),
            TOKENIZING,
            "tokenizer.ggml.merges",
        ),
        (
            "an empty list of tokens",
            tokens_of(vec![]),
            TOKENIZING,
            "expected 0 types",
        ),
        (
            "fewer tokens than types",
            tokens_of(tokens()[..100].to_vec()),
            TOKENIZING,
            "expected 100 types",
        ),
        (
            "tokens as numbers",
            tiny().set(&key("tokens"), vec![1_i32; 260]).bytes(),
            TOKENIZING,
            "tokenizer.ggml.tokens",
        ),
        (
            "a token that is not UTF-8",
            not_utf8,
            TOKENIZING,
            "not UTF-8",
        ),
        (
            "types as text",
            tiny().set(&key("token_type"), "normal").bytes(),
            TOKENIZING,
            "token_type",
        ),
        (
            "types that are negative",
            tiny().set(&key("token_type"), vec![-1_i32; 260]).bytes(),
            TOKENIZING,
            "token_type",
        ),
        (
            "a merge of three tokens",
            merges(&["t h e"]),
            TOKENIZING,
            "expected two tokens",
        ),
        (
            "a merge into nothing",
            merges(&["q q"]),
            TOKENIZING,
            "not in the vocabulary",
        ),
        (
            "a begin token beyond the vocabulary",
            set_ids("bos_token_id", 260),
            TOKENIZING,
            "one of 260 tokens, found 260",
        ),
        (
            "a pad token beyond the vocabulary",
            set_ids("padding_token_id", 1 << 31),
            TOKENIZING,
            "found 2147483648",
        ),
        (
            "settings that are no JSON",
            settings("{"),
            TOKENIZING,
            "EOF",
        ),
        (
            "settings nested deeply",
            settings(&"[".repeat(10_000)),
            TOKENIZING,
            "gpt2_edge.tokenizer.settings",
        ),
        (
            "settings of unknown tokens",
            settings(r#"{"tokens_before": [260]}"#),
            TOKENIZING,
            "found 260",
        ),
        (
            "settings with an unknown token",
            settings(r#"{"unk_token": "<unk>"}"#),
            TOKENIZING,
            "not in the vocabulary",
        ),
    ]
}
