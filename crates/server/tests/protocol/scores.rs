//! Log-probabilities, as lm-evaluation-harness reads them.

use std::ops::ControlFlow;

use gpt2::tasks::{ScoreOptions, ScoreRequest, score};
use gpt2::{Session, SessionOptions};
use serde_json::{Value as Json, json};

use crate::server::{austen, model};

const PATH: &str = "/v1/completions";
const TEXT: &str = "It is a truth — universally acknowledged 🙂, that she was";

/// ln p of each token after the first, by the library.
fn expected(ids: &[u32]) -> Vec<f64> {
    let mut session = Session::new(model(), SessionOptions::default()).unwrap();
    let request = ScoreRequest {
        context: ids[..1].to_vec(),
        tokens: ids[1..].to_vec(),
    };
    let mut scores = Vec::new();
    score(
        &mut session,
        &[request],
        &ScoreOptions::default(),
        &mut |_, text| {
            scores.extend(
                text.tokens
                    .iter()
                    .flatten()
                    .map(|token| token.log_probability),
            );
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    scores
}

fn numbers(list: &Json) -> Vec<f64> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

#[test]
fn a_prompt_is_scored_and_one_token_follows() {
    let ids = model().tokenizer().unwrap().encode(TEXT).unwrap();
    let body = json!({
        "model": "austen", "prompt": [ids, ids], "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true,
    });
    let document = austen().ok(PATH, &body);
    for index in 0..2 {
        let choice = &document["choices"][index];
        let scores = &choice["logprobs"];
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(
                scores[name].as_array().unwrap().len(),
                ids.len() + 1,
                "{name}"
            );
        }
        assert!(scores["token_logprobs"][0].is_null() && scores["top_logprobs"][0].is_null());
        let own = scores["token_logprobs"].as_array().unwrap();
        let own = numbers(&json!(own[1..]));
        for (found, expected) in own.iter().zip(expected(&ids)) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        // The token is always among its alternatives, with the identical number.
        for place in 1..=ids.len() {
            let token = scores["tokens"][place].as_str().unwrap();
            let top = scores["top_logprobs"][place].as_object().unwrap();
            assert_eq!(top[token], scores["token_logprobs"][place], "{token}");
            assert!((1..=2).contains(&top.len()));
        }
        let text = choice["text"].as_str().unwrap();
        assert!(text.starts_with(TEXT));
        // The parts of 🙂 all stand at its place.
        let smile = TEXT.chars().position(|letter| letter == '🙂').unwrap();
        let tokens = scores["tokens"].as_array().unwrap().iter();
        let parts = tokens.zip(scores["text_offset"].as_array().unwrap());
        let parts = parts.filter(|(token, offset)| {
            **offset == smile && token.as_str().unwrap().starts_with("bytes:\\x")
        });
        assert!(parts.count() >= 2);
    }
    assert_eq!(document["usage"]["prompt_tokens"], 2 * ids.len());
    assert_eq!(document["usage"]["completion_tokens"], 2);
}

#[test]
fn a_prompt_is_scored_and_nothing_follows() {
    let ids = model().tokenizer().unwrap().encode(TEXT).unwrap();
    let body = json!({ "prompt": TEXT, "max_tokens": 0, "logprobs": 0, "echo": true });
    let document = austen().ok(PATH, &body);
    let choice = &document["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!(TEXT), &json!("length"))
    );
    let own = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(own.len(), ids.len());
    for (found, expected) in numbers(&json!(own[1..])).iter().zip(expected(&ids)) {
        assert!((found - expected).abs() < 1e-4);
    }
    // A dictionary of the token alone.
    assert_eq!(
        choice["logprobs"]["top_logprobs"][1]
            .as_object()
            .unwrap()
            .len(),
        1
    );
    let mut body = body;
    body["stream"] = json!(true);
    let events = austen().events(PATH, &body);
    assert_eq!(events[0]["choices"][0]["text"], TEXT);
    assert_eq!(events[0]["choices"][0]["logprobs"], choice["logprobs"]);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let ask = |more: Json| {
        let mut body = json!({ "prompt": TEXT, "max_tokens": 1, "logprobs": 5, "temperature": 0 });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        austen().ok(PATH, &body)["choices"][0]["logprobs"]["top_logprobs"][0].clone()
    };
    let plain = ask(json!({}));
    assert_eq!(plain.as_object().unwrap().len(), 5);
    let mut warm = ask(json!({ "temperature": 2.0, "top_k": 2, "seed": 1, "presence_penalty": 1 }));
    // Another token may be drawn, and is there beside the five.
    let map = warm.as_object_mut().unwrap();
    map.retain(|name, _| plain.get(name).is_some());
    assert_eq!(warm, plain);
    // A token that is not among the alternatives is one more.
    let other = ask(json!({ "logit_bias": { "300": 100 } }));
    assert_eq!(other.as_object().unwrap().len(), 6);
}

#[test]
fn too_many_log_probabilities_are_refused() {
    let body = json!({ "prompt": vec![vec![1; 400]; 120], "max_tokens": 1, "echo": true,
        "logprobs": 20 });
    let error = austen().refused(PATH, &body);
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("logprobs"), &json!("invalid_value"))
    );
}
