//! Texts that keep to JSON, a schema or a grammar.

use serde_json::{Value as Json, json};

use crate::server::austen;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "happy": { "type": "boolean" },
            "name": { "enum": ["Emma", "Anne", "Élinor"] },
        },
        "required": ["happy", "name"],
        "additionalProperties": false,
    })
}

/// Whether `text` is what [`schema`] allows.
fn check(text: &str) {
    let value: Json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(value.as_object().unwrap().len(), 2, "{text}");
    assert!(value["happy"].is_boolean(), "{text}");
    let name = value["name"].as_str().unwrap();
    assert!(["Emma", "Anne", "Élinor"].contains(&name), "{text}");
}

fn of_schema() -> Json {
    let schema = json!({ "name": "a", "schema": schema(), "strict": true });
    json!({ "type": "json_schema", "json_schema": schema })
}

#[test]
fn completions_keep_to_a_schema() {
    for temperature in [0.0, 1.5] {
        let body = json!({
            "prompt": ["She was", "Is Emma happy?"], "n": 3, "seed": 5, "max_tokens": 300,
            "temperature": temperature, "response_format": of_schema(),
        });
        let document = austen().ok(COMPLETIONS, &body);
        let choices = document["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 6);
        for choice in choices {
            check(choice["text"].as_str().unwrap());
            assert_eq!(choice["finish_reason"], "stop");
        }
    }
    let guided = json!({ "prompt": "She was", "max_tokens": 300, "guided_json": schema() });
    let document = austen().ok(COMPLETIONS, &guided);
    check(document["choices"][0]["text"].as_str().unwrap());
}

#[test]
fn streamed_chats_keep_to_a_schema() {
    let body = json!({
        "messages": [{ "role": "user", "content": "Is Emma happy?" }], "max_tokens": 300,
        "seed": 3, "stream": true, "response_format": of_schema(),
    });
    let events = austen().events(CHAT, &body);
    let parts = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    check(&parts.collect::<String>());
}

#[test]
fn a_grammar_says_what_may_be_written() {
    let body = json!({
        "prompt": "Is Emma happy?", "seed": 1, "max_tokens": 20,
        "grammar": "start: \" yes\" | \" no, not at all\"",
    });
    let document = austen().ok(COMPLETIONS, &body);
    let text = document["choices"][0]["text"].as_str().unwrap();
    assert!([" yes", " no, not at all"].contains(&text), "{text:?}");
    // What is cut off says so.
    let object = json!({ "type": "json_object" });
    let body = json!({ "prompt": "x", "max_tokens": 1, "response_format": object });
    let document = austen().ok(COMPLETIONS, &body);
    assert_eq!(document["choices"][0]["finish_reason"], "length");
}

#[test]
fn what_no_text_can_keep_to_is_refused_by_its_field() {
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    let deep: Json = serde_json::from_str(&deep).unwrap();
    for (field, value) in [
        ("grammar", json!("start: nothing_like_this")),
        ("grammar", json!("")),
        ("grammar", json!(7)),
        ("guided_json", json!({ "type": "no type" })),
        (
            "guided_json",
            json!({ "$ref": "https://example.com/schema" }),
        ),
        ("guided_json", json!({ "enum": [] })),
        ("guided_json", deep),
        ("response_format", json!("json")),
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": {} }),
        ),
    ] {
        let mut body = json!({ "prompt": "x", "max_tokens": 4 });
        body[field] = value;
        let error = austen().refused(COMPLETIONS, &body);
        assert_eq!(error["param"], field, "{body}: {error}");
        assert!(error["message"].as_str().unwrap().len() < 1000, "{error}");
    }
    let both = json!({
        "prompt": "x", "max_tokens": 4, "guided_json": schema(), "response_format": of_schema(),
    });
    let message = austen().refused(COMPLETIONS, &both)["message"].to_string();
    assert!(message.contains("both"), "{message}");
    let beams = json!({ "prompt": "x", "num_beams": 2, "guided_json": schema() });
    austen().refused(COMPLETIONS, &beams);
}
