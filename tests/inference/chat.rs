//! Conversations: the prompts that chat templates make, against transformers'
//! `apply_chat_template`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gpt2::TokenId;
use gpt2::chat::{ChatFormat, Conversation, Message, Room};
use gpt2::convert::{ConvertOptions, FileType, convert};
use gpt2::session::{Model, ModelOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{austen, ids, project};

/// `tests/data/heads/tok_chat`, with other files over it, converted.
fn converted(files: &[(&str, &str)]) -> Arc<Model> {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(project("tests/data/heads/tok_chat")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    // Once more from the GGUF file: what a model says of conversations goes with it.
    let first = folder.path().join("first.gguf");
    let second = folder.path().join("second.gguf");
    write(folder.path(), &first, "f32");
    write(&first, &second, "f16");
    let options = ModelOptions {
        map: false,
        ..ModelOptions::default()
    };
    Model::open(second, &options).unwrap()
}

fn write(source: &Path, output: &Path, file_type: &str) {
    let options = ConvertOptions::new(FileType::from_name(file_type).unwrap());
    convert(source, output, &options, &()).unwrap();
}

fn format(model: &Model) -> ChatFormat {
    ChatFormat::of_model(model.gguf().metadata(), model.tokenizer().unwrap()).unwrap()
}

/// The text that a model's template makes of one question.
fn text(model: &Model) -> String {
    format(model).text(&[Message::user("hi")], true).unwrap()
}

/// `tokenizer_config.json` with other values.
fn configuration(changes: &Value) -> String {
    let path = project("tests/data/heads/tok_chat/tokenizer_config.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        json[name] = value.clone();
    }
    json.to_string()
}

#[test]
fn prompts_are_those_of_transformers() {
    let path = project("tests/data/heads/tok_chat/expected.json");
    let expected: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let model = converted(&[]);
    let tokenizer = model.tokenizer().unwrap();
    let metadata = model.gguf().metadata();
    let chats = expected["chats"].as_array().unwrap();
    assert!(chats.len() >= 3);
    // DialoGPT's form asked for by name is what this template says.
    let by_name = ChatFormat::eos_joined(metadata, tokenizer).unwrap();
    assert_eq!(format(&model).name(), "chat template");
    for format in [format(&model), by_name] {
        for chat in chats {
            let messages: Vec<Message> = serde_json::from_value(chat["messages"].clone()).unwrap();
            assert_eq!(format.text(&messages, false).unwrap(), chat["text"]);
            assert_eq!(
                format.text(&messages, true).unwrap(),
                chat["text_add_generation_prompt"]
            );
            assert_eq!(
                format.encode(tokenizer, &messages).unwrap(),
                ids(&chat["ids"])
            );
        }
        assert_eq!(format.end_tokens(tokenizer), [299]);
        assert!(format.stop_strings().is_empty());
    }
}

#[test]
fn the_template_is_found_where_transformers_finds_it() {
    let named = json!([
        {"name": "rag", "template": "no"},
        {"name": "default", "template": "{{ messages[0].content }} by name"},
    ]);
    let model = converted(&[(
        "tokenizer_config.json",
        &configuration(&json!({"chat_template": named})),
    )]);
    assert_eq!(text(&model), "hi by name");
    // A file of its own wins.
    let model = converted(&[("chat_template.jinja", "{{ bos_token }}of a file\n")]);
    assert_eq!(text(&model), "<|endoftext|>of a file");
    let none = configuration(&json!({"chat_template": null}));
    let model = converted(&[("tokenizer_config.json", &none)]);
    assert_eq!(format(&model).name(), "transcript");
    assert_eq!(text(&model), "User: hi\nAssistant:");
}

#[test]
fn templates_see_the_special_tokens_of_the_tokenizer() {
    let template = "{{ bos_token }}{{ eos_token }}|{{ pad_token }}|{{ unk_token is defined }}";
    let tokens =
        json!({"chat_template": template, "eos_token": "he", "bos_token": {"content": "he"}});
    let config = fs::read_to_string(project("tests/data/heads/tok_chat/config.json")).unwrap();
    // The model's own end of text is another one.
    assert!(config.contains("\"eos_token_id\": 299"));
    let model = converted(&[("tokenizer_config.json", &configuration(&tokens))]);
    assert_eq!(text(&model), "hehe||True");
}

#[test]
fn the_token_after_a_reply_ends_it() {
    let template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}";
    let changes = json!({"chat_template": template, "eos_token": "he"});
    let model = converted(&[("tokenizer_config.json", &configuration(&changes))]);
    let ends = format(&model).end_tokens(model.tokenizer().unwrap());
    assert!(ends.contains(&299), "{ends:?}");
}

#[test]
fn a_broken_template_is_refused_where_it_is_used() {
    let broken = configuration(&json!({"chat_template": "a\n{% if %}"}));
    let model = converted(&[("tokenizer_config.json", &broken)]);
    let error =
        ChatFormat::of_model(model.gguf().metadata(), model.tokenizer().unwrap()).unwrap_err();
    assert!(
        error.to_string().starts_with("chat template: line 2: "),
        "{error}"
    );
}

const ROOM: Room = Room {
    context: 64,
    model_limit: 64,
    reply: 128,
};

#[test]
fn what_is_held_is_kept_even_if_cut_in_another_way() {
    let model = converted(&[]);
    let tokenizer = model.tokenizer().unwrap();
    let format = format(&model);
    let mut conversation = Conversation::default();
    conversation.ask("Hello").unwrap();
    let first = format
        .prompt(tokenizer, &mut conversation, &[], ROOM)
        .unwrap();
    assert_eq!(first.ids, [39, 68, 287, 78, 299]);
    // The tokenizer would write "hello" as 257, 287, 78; the model chose single letters.
    let reply: [TokenId; 5] = [71, 68, 75, 75, 78];
    assert_eq!(tokenizer.decode(&reply), "hello");
    conversation.answer("hello").unwrap();
    conversation.ask("Hello").unwrap();
    // The end of text that ended the reply was chosen, and not computed.
    let held = [&first.ids[..], &reply].concat();
    let second = format
        .prompt(tokenizer, &mut conversation, &held, ROOM)
        .unwrap();
    assert_eq!(
        second.ids,
        [&held[..], &[299, 39, 68, 287, 78, 299]].concat()
    );
    // What is not the conversation's text is not kept.
    conversation.undo();
    conversation.undo();
    conversation.ask("hello").unwrap();
    let other = format
        .prompt(tokenizer, &mut conversation, &held, ROOM)
        .unwrap();
    assert_eq!(other.ids, [257, 287, 78, 299]);
    assert_eq!(
        other.ids,
        format.encode(tokenizer, &conversation.messages()).unwrap()
    );
}

#[test]
fn a_transcript_keeps_what_is_held_up_to_the_line() {
    let model = Model::open(austen("q8_0"), &ModelOptions::default()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let format = format(&model);
    let room = Room {
        context: 256,
        ..ROOM
    };
    let mut conversation = Conversation::default();
    conversation.ask("Who is she?").unwrap();
    let first = format
        .prompt(tokenizer, &mut conversation, &[], room)
        .unwrap();
    // " Anne" letter by letter, and the beginning of the stop string.
    let reply: Vec<TokenId> = [" ", "A", "n", "n", "e", "\n", "User"]
        .iter()
        .flat_map(|part| tokenizer.encode(part).unwrap())
        .collect();
    conversation.answer("Anne").unwrap();
    conversation.ask("Why?").unwrap();
    let held = [&first.ids[..], &reply].concat();
    let second = format
        .prompt(tokenizer, &mut conversation, &held, room)
        .unwrap();
    let kept = first.ids.len() + 5;
    assert_eq!(second.ids[..kept], held[..kept]);
    let rest = tokenizer.encode("\nUser: Why?\nAssistant:").unwrap();
    assert_eq!(second.ids[kept..], rest);
}

#[test]
fn the_oldest_exchanges_go_when_the_context_is_full() {
    let model = converted(&[]);
    let tokenizer = model.tokenizer().unwrap();
    let format = format(&model);
    let mut conversation = Conversation::new(Some("s".to_owned()));
    let mut hidden = Vec::new();
    for _ in 0..8 {
        // Four tokens and an end of text.
        conversation.ask("Hello").unwrap();
        let prompt = format
            .prompt(tokenizer, &mut conversation, &[], ROOM)
            .unwrap();
        // A quarter of the context stays for the reply.
        assert!(prompt.ids.len() <= 48, "{}", prompt.ids.len());
        assert!(
            prompt.ids.starts_with(&[82, 299, 39]),
            "the system prompt stays"
        );
        hidden.push(prompt.newly_hidden);
        conversation.answer("Hello").unwrap();
    }
    // 2 + 5 + 10 n tokens: 57 would be too many, and then at most 32 are left.
    assert_eq!(hidden, [0, 0, 0, 0, 0, 6, 0, 0]);
    assert_eq!((conversation.hidden(), conversation.turns().len()), (6, 16));

    conversation.ask("H".repeat(64)).unwrap();
    let error = format
        .prompt(tokenizer, &mut conversation, &[], ROOM)
        .unwrap_err();
    assert!(error.to_string().contains("the context is full"), "{error}");
    assert_eq!(conversation.hidden(), 6, "nothing was hidden for it");
    conversation.undo();
    // As much as fits when nothing else does.
    conversation.ask("H".repeat(60)).unwrap();
    let prompt = format
        .prompt(tokenizer, &mut conversation, &[], ROOM)
        .unwrap();
    assert_eq!(prompt.ids.len(), 63);
}
