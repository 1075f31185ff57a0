//! `/completion`.

use serde_json::{Value as Json, json};

use crate::server::austen;

const PATH: &str = "/completion";

#[test]
fn an_editors_request_is_continued() {
    let body = json!({
        "prompt": "She was", "n_predict": 6, "temperature": 0, "n_probs": 2, "return_tokens": true,
        "cache_prompt": true, "mirostat": 0, "samplers": ["top_k"],
    });
    let document = austen().ok(PATH, &body);
    let openai = json!({ "prompt": "She was", "max_tokens": 6, "temperature": 0, "logprobs": 2,
        "return_token_ids": true });
    let openai = austen().ok("/v1/completions", &openai);
    let choice = &openai["choices"][0];
    assert_eq!(document["content"], choice["text"]);
    assert_eq!(document["tokens"], choice["token_ids"]);
    assert_eq!(
        (&document["stop"], &document["stop_type"]),
        (&json!(true), &json!("limit"))
    );
    assert_eq!(document["tokens_predicted"], 6);
    let probabilities = document["completion_probabilities"].as_array().unwrap();
    let own: Vec<Json> = probabilities
        .iter()
        .map(|entry| entry["logprob"].clone())
        .collect();
    assert_eq!(json!(own), choice["logprobs"]["token_logprobs"]);

    let mut body = body;
    body["stream"] = json!(true);
    let (status, text) = austen().send(
        axum::http::Method::POST,
        PATH,
        body.to_string().into_bytes(),
    );
    assert_eq!(status, 200);
    let events: Vec<Json> = text
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let streamed: String = events
        .iter()
        .filter_map(|event| event["content"].as_str())
        .collect();
    assert_eq!(document["content"], streamed);
    let (last, events) = events.split_last().unwrap();
    assert!(events.iter().all(|event| event["stop"] == false));
    assert_eq!(
        (&last["stop"], &last["tokens_predicted"]),
        (&json!(true), &json!(6))
    );
}

#[test]
fn what_it_has_not_is_refused() {
    for (field, value) in [
        ("grammar", json!("root ::= \"a\"")),
        ("n_predict", json!(-2)),
        ("seed", json!(-2)),
        ("n_probs", json!(21)),
        ("prompt", json!(["a", "b"])),
        ("prompt", json!("")),
        ("n_predit", json!(1)),
    ] {
        let mut body = json!({ "prompt": "x" });
        body[field] = value;
        assert_eq!(austen().refused(PATH, &body)["status"], 400, "{body}");
    }
}
