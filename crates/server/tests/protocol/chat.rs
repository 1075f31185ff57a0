//! `/v1/chat/completions`.

use serde_json::{Value as Json, json};

use crate::server::{austen, model};

const PATH: &str = "/v1/chat/completions";

fn body() -> Json {
    json!({
        "messages": [
            { "role": "developer", "content": "A talk in Bath." },
            { "role": "user", "content": [{ "type": "text", "text": "Who is " },
                                          { "type": "text", "text": "there?" }] },
        ],
        "max_completion_tokens": 12, "temperature": 0,
    })
}

#[test]
fn a_conversation_is_the_transcript_that_the_model_continues() {
    let document = austen().ok(PATH, &body());
    assert_eq!(document["object"], "chat.completion");
    let message = &document["choices"][0]["message"];
    let prompt = "A talk in Bath.\n\nUser: Who is there?\nAssistant:";
    let completion = json!({
        "prompt": prompt, "max_tokens": 12, "temperature": 0,
        "stop": ["\nUser:", "\nAssistant:"],
    });
    let completion = austen().ok("/v1/completions", &completion);
    let text = completion["choices"][0]["text"].as_str().unwrap();
    assert_eq!(
        *message,
        json!({ "role": "assistant", "content": text.trim(), "refusal": null })
    );
    assert_eq!(
        document["usage"]["prompt_tokens"],
        completion["usage"]["prompt_tokens"]
    );
    // Without a limit a reply may fill the context.
    let mut body = body();
    body.as_object_mut()
        .unwrap()
        .remove("max_completion_tokens");
    let finish = austen().ok(PATH, &body)["choices"][0]["finish_reason"].clone();
    assert!(finish == "stop" || finish == "length");
}

#[test]
fn a_stream_begins_with_the_role_and_ends_with_nothing() {
    let mut body = body();
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let whole = austen().ok(PATH, &body);
    body["stream"] = json!(true);
    let events = austen().events(PATH, &body);
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk")
    );
    let deltas: Vec<&Json> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"])
        .collect();
    assert_eq!(*deltas[0], json!({ "role": "assistant", "content": "" }));
    assert_eq!(**deltas.last().unwrap(), json!({}));
    let text: String = deltas
        .iter()
        .filter_map(|delta| delta["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    let scores: Vec<Json> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(whole["choices"][0]["logprobs"]["content"], json!(scores));
    let first = &scores[0];
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(first["logprob"], first["top_logprobs"][0]["logprob"]);
    let bytes = first["bytes"].as_array().unwrap();
    assert_eq!(bytes.len(), first["token"].as_str().unwrap().len());
    let finish = &events.last().unwrap()["choices"][0]["finish_reason"];
    assert_eq!(*finish, whole["choices"][0]["finish_reason"]);
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn what_gpt2_cannot_do_is_refused() {
    for (field, value, code) in [
        (
            "tools",
            json!([{ "type": "function" }]),
            "unsupported_parameter",
        ),
        ("functions", json!([{}]), "unsupported_parameter"),
        ("modalities", json!(["audio"]), "unsupported_parameter"),
        (
            "response_format",
            json!({ "type": "json_schema" }),
            "invalid_value",
        ),
        ("messages", json!([]), "invalid_value"),
        (
            "messages",
            json!([{ "role": "tool", "content": "x" }]),
            "invalid_value",
        ),
        (
            "messages",
            json!([{ "role": "user", "content": 1 }]),
            "invalid_value",
        ),
        (
            "messages",
            json!([{ "role": "user", "content": "she ".repeat(2000) }]),
            "context_length_exceeded",
        ),
        ("top_logprobs", json!(3), "invalid_value"),
        ("max_tokens", json!(0), "invalid_value"),
        (
            "max_completion_tokens",
            json!(100_000),
            "context_length_exceeded",
        ),
        ("logprobs", json!(2), "invalid_value"),
        ("prompt", json!("x"), "unknown_parameter"),
    ] {
        let mut body = body();
        body[field] = value;
        let error = austen().refused(PATH, &body);
        assert_eq!(error["code"], code, "{body}: {error}");
    }
    let error = austen().refused(PATH, &json!({}));
    assert_eq!(error["param"], "messages");
}

#[test]
fn models_tell_the_form_of_their_conversations() {
    let (status, text) = austen().send(axum::http::Method::GET, "/v1/models", Vec::new());
    let list: Json = serde_json::from_str(&text).unwrap();
    let entry = json!({
        "id": "austen", "object": "model", "created": 1_700_000_000, "owned_by": "gpt2-edge",
        "max_model_len": model().hyperparameters().n_positions, "class": "GPT2LMHeadModel",
        "chat_format": "transcript",
    });
    assert_eq!(
        (status.as_u16(), list),
        (200, json!({ "object": "list", "data": [&entry] }))
    );
    let get = |id: &str| {
        let path = format!("/v1/models/{id}");
        let (status, text) = austen().send(axum::http::Method::GET, &path, Vec::new());
        (
            status.as_u16(),
            serde_json::from_str::<Json>(&text).unwrap(),
        )
    };
    assert_eq!(get("austen"), (200, entry));
    let (status, error) = get("gpt-4");
    assert_eq!(
        (status, &error["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert_eq!(get("openai-community/gpt2").0, 404);
}
