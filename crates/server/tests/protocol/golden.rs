//! Whole bodies and events, as they stand in `tests/golden`.
//!
//! What changes from response to response (ids, times, timings) is left out, and so are numbers
//! with a fraction, whose last digits differ between processors. Texts are the demo model's.

use std::path::Path;

use axum::http::Method;
use serde_json::{Value as Json, json};

use crate::server::austen;

/// Requests, by the name of their file.
fn requests() -> Vec<(&'static str, &'static str, Json)> {
    let short = json!({ "prompt": "She was", "max_tokens": 3, "temperature": 0 });
    let with = |more: Json| {
        let mut body = short.clone();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let chat = json!({
        "messages": [{ "role": "user", "content": "How do you do?" }], "max_tokens": 3,
        "temperature": 0, "logprobs": true, "top_logprobs": 1,
    });
    let mut chat_stream = chat.clone();
    chat_stream["stream"] = json!(true);
    chat_stream["stream_options"] = json!({ "include_usage": true });
    let llama = json!({ "prompt": "She was", "n_predict": 2, "temperature": 0, "n_probs": 1 });
    let mut llama_stream = llama.clone();
    llama_stream["stream"] = json!(true);
    vec![
        ("completion", "/v1/completions", short.clone()),
        (
            "completion-echo",
            "/v1/completions",
            with(json!({ "echo": true, "logprobs": 2 })),
        ),
        (
            "completion-ids",
            "/v1/completions",
            with(json!({ "return_token_ids": true, "n": 2 })),
        ),
        (
            "completion-stream",
            "/v1/completions",
            with(json!({
                "stream": true, "logprobs": 1, "stream_options": { "include_usage": true },
            })),
        ),
        ("chat", "/v1/chat/completions", chat),
        ("chat-stream", "/v1/chat/completions", chat_stream),
        ("llama", "/completion", llama),
        ("llama-stream", "/completion", llama_stream),
        ("tokenize", "/tokenize", json!({ "prompt": "She was" })),
        ("error-json", "/v1/completions", json!("no object")),
        ("error-type", "/v1/completions", with(json!({ "n": "1" }))),
        (
            "error-name",
            "/v1/completions",
            with(json!({ "max_token": 1 })),
        ),
        (
            "error-unsupported",
            "/v1/completions",
            with(json!({ "suffix": "." })),
        ),
        (
            "error-model",
            "/v1/completions",
            with(json!({ "model": "davinci" })),
        ),
        (
            "error-length",
            "/v1/completions",
            with(json!({ "max_tokens": 5000 })),
        ),
        (
            "error-tools",
            "/v1/chat/completions",
            json!({ "messages": [], "tools": [{}] }),
        ),
        ("error-ids", "/v1/embeddings", json!({ "input": [100_000] })),
    ]
}

#[test]
fn bodies_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for (name, path, body) in requests() {
        let (status, text) = austen().send(Method::POST, path, body.to_string().into_bytes());
        let shown = format!(
            "POST {path}\n{body}\n\n{}\n{}",
            status.as_u16(),
            steadied(&text)
        );
        let file = folder.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &shown).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", file.display()));
        }
    }
    let wrong = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "{wrong}\nif this is as meant, run with UPDATE_SNAPSHOTS=1"
    );
}

/// A body, or events, without what is never the same.
fn steadied(text: &str) -> String {
    let steady_part = |part: &str| {
        let (mark, json) = part.split_at(part.find('{').unwrap_or(part.len()));
        match serde_json::from_str(json) {
            Ok(json) => format!("{mark}{:#}\n", steady(json)),
            Err(_) => format!("{part}\n"),
        }
    };
    text.split_terminator("\n\n").map(steady_part).collect()
}

fn steady(json: Json) -> Json {
    match json {
        Json::Object(map) => map
            .into_iter()
            .map(|(name, value)| {
                let changes = matches!(
                    name.as_str(),
                    "id" | "created"
                        | "system_fingerprint"
                        | "timings"
                        | "cached_tokens"
                        | "tokens_cached"
                );
                let is_token = name == "id" && value.is_number();
                let value = if changes && !is_token {
                    json!("…")
                } else {
                    steady(value)
                };
                (name, value)
            })
            .collect(),
        Json::Array(items) => items.into_iter().map(steady).collect(),
        Json::Number(number) if number.is_f64() => json!("a number"),
        other => other,
    }
}
