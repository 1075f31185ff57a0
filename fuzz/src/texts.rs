//! Tokenizers of folders, and chat templates.

use std::sync::Arc;

use gpt2::chat::{ChatFormat, Message};
use gpt2::gguf::{Gguf, GgufHeader};
use gpt2::tokenizer::Tokenizer;
use gpt2::tokenizer::checkpoint::{ConfigTokens, TokenizerFiles};

use crate::files::{parts, path, write};
use crate::hostile::tiny;

/// Rows of the model that the tokenizers are for.
const VOCABULARY: usize = 320;

/// A file with the tokenizer of the folder.
fn file() -> gpt2::Result<Gguf> {
    let tokens = ConfigTokens {
        vocabulary_size: VOCABULARY,
        bos: Some(u64::from(tiny::END)),
        eos: Some(u64::from(tiny::END)),
        padding: None,
    };
    let tokenizer = TokenizerFiles::read(&path("tokenizer"))?.to_gguf(&tokens)?;
    let mut header = GgufHeader::new();
    for (key, value) in tokenizer.entries {
        header.set(&key, value)?;
    }
    Gguf::parse(Arc::new(header.encode()))
}

/// The first byte says whether the first part is a `tokenizer.json` or a `vocab.json` with
/// `merges.txt`; the last part is a text.
pub fn tokenizer(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let [first, second, config, special, text] = parts(rest);
    let _ = std::fs::remove_dir_all(path("tokenizer"));
    if kind % 2 == 0 {
        write("tokenizer/tokenizer.json", first);
        write("tokenizer/added_tokens.json", second);
    } else {
        write("tokenizer/vocab.json", first);
        write("tokenizer/merges.txt", second);
    }
    write("tokenizer/tokenizer_config.json", config);
    write("tokenizer/special_tokens_map.json", special);
    let Ok(file) = file() else {
        return;
    };
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("what was converted loads");
    let text = String::from_utf8_lossy(text);
    let Ok(ids) = tokenizer.encode(&text) else {
        return;
    };
    let _ = tokenizer.decode(&ids);
    let _ = tokenizer.words(&text);
}

/// A template and the messages of a conversation.
pub fn chat(data: &[u8]) {
    let [template, first, second, third] = parts(data);
    let (Ok(template), [first, second, third]) = (
        str::from_utf8(template),
        [first, second, third].map(String::from_utf8_lossy),
    ) else {
        return;
    };
    let mut header = GgufHeader::new();
    for (key, value) in tiny::tokenizer_pairs() {
        header.set(&key, value).expect("a key that stands once");
    }
    let file = Gguf::parse(Arc::new(header.encode())).expect("what was written can be read");
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("a tokenizer of ours");
    let Ok(format) = ChatFormat::template(template, file.metadata(), &tokenizer) else {
        return;
    };
    let messages = [
        Message::system(first),
        Message::user(second),
        Message::assistant(third),
    ];
    for count in 0..=messages.len() {
        let _ = format.text(&messages[..count], count % 2 == 0);
    }
    let _ = format.encode(&tokenizer, &messages);
    let _ = format.stop_strings();
}
