//! `/v1/completions`.

use gpt2::{GenerationOptions, Session, SessionOptions, generate};
use serde_json::{Value as Json, json};

use crate::server::{austen, model};

const PATH: &str = "/v1/completions";
const PROMPT: &str = "It is a truth universally acknowledged, that";

/// What the library writes for the prompt, greedily.
fn greedy(prompt: &str, tokens: usize) -> String {
    let model = model();
    let ids = model.tokenizer().unwrap().encode(prompt).unwrap();
    let mut session = Session::new(model, SessionOptions::default()).unwrap();
    let options = GenerationOptions {
        max_new_tokens: tokens,
        ..GenerationOptions::default()
    };
    let generation = generate(&mut session, &ids, &options)
        .unwrap()
        .finish()
        .unwrap();
    generation.sequences[0].text.clone()
}

#[test]
fn a_prompt_is_continued() {
    let body = json!({ "model": "austen", "prompt": PROMPT, "temperature": 0, "max_tokens": 8 });
    let document = austen().ok(PATH, &body);
    let text = greedy(PROMPT, 8);
    assert_eq!(document["object"], "text_completion");
    assert!(document["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice = json!({
        "index": 0, "text": text, "logprobs": null, "finish_reason": "length",
    });
    assert_eq!(document["choices"], json!([choice]));
    let prompt = model().tokenizer().unwrap().encode(PROMPT).unwrap().len();
    assert_eq!(document["usage"]["prompt_tokens"], prompt);
    assert_eq!(document["usage"]["completion_tokens"], 8);
    assert_eq!(document["usage"]["total_tokens"], prompt + 8);
}

#[test]
fn prompts_of_every_form_are_the_same_and_choices_stand_by_prompt() {
    let ids = model().tokenizer().unwrap().encode(PROMPT).unwrap();
    let texts = |prompt: Json, n: usize| -> Vec<String> {
        let body = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 4, "n": n });
        let document = austen().ok(PATH, &body);
        let choices = document["choices"].as_array().unwrap().iter().enumerate();
        let text = |(index, choice): (usize, &Json)| {
            assert_eq!(choice["index"], index);
            choice["text"].as_str().unwrap().to_owned()
        };
        choices.map(text).collect()
    };
    let text = greedy(PROMPT, 4);
    let other = greedy("She was", 4);
    assert_eq!(texts(json!(PROMPT), 1), [text.as_str()]);
    assert_eq!(texts(json!(ids), 1), [text.as_str()]);
    assert_eq!(texts(json!([ids]), 2), [text.as_str(); 2]);
    let both = [text.as_str(), text.as_str(), other.as_str(), other.as_str()];
    assert_eq!(texts(json!([PROMPT, "She was"]), 2), both);
    // Without a prompt a text begins.
    assert_eq!(texts(json!(null), 1), texts(json!("<|endoftext|>"), 1));
    assert_eq!(texts(json!(""), 1), texts(json!("<|endoftext|>"), 1));
}

#[test]
fn a_stream_has_the_same_text() {
    let mut body = json!({
        "prompt": PROMPT, "seed": 7, "max_tokens": 12, "n": 2, "logprobs": 2,
        "return_token_ids": true,
    });
    let whole = austen().ok(PATH, &body);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let events = austen().events(PATH, &body);
    let (last, events) = events.split_last().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["completion_tokens"]),
        (&json!([]), &json!(24))
    );
    for index in 0..2 {
        let choice = &whole["choices"][index];
        let mut text = String::new();
        let (mut tokens, mut offsets, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let mut finish = &Json::Null;
        for event in events {
            assert!(event["usage"].is_null() && event.get("usage").is_some());
            let part = &event["choices"][0];
            if part["index"] != index {
                continue;
            }
            assert!(finish.is_null());
            finish = &part["finish_reason"];
            text.push_str(part["text"].as_str().unwrap());
            let list = |part: &Json| part.as_array().unwrap().clone();
            tokens.extend(list(&part["logprobs"]["token_logprobs"]));
            offsets.extend(list(&part["logprobs"]["text_offset"]));
            ids.extend(list(&part["token_ids"]));
        }
        assert_eq!(choice["text"], text);
        assert_eq!(&choice["finish_reason"], finish);
        assert_eq!(choice["logprobs"]["token_logprobs"], json!(tokens));
        assert_eq!(choice["logprobs"]["text_offset"], json!(offsets));
        assert_eq!(choice["token_ids"], json!(ids));
        assert_eq!(ids.len(), 12);
    }
    assert_ne!(whole["choices"][0]["text"], whole["choices"][1]["text"]);
}

#[test]
fn an_echo_alone_needs_no_model() {
    let body = json!({ "prompt": [[40, 41], [42]], "echo": true, "max_tokens": 0, "n": 2 });
    let document = austen().ok(PATH, &body);
    let texts: Vec<&Json> = (0..4)
        .map(|index| &document["choices"][index]["text"])
        .collect();
    let [first, second] =
        [&[40, 41][..], &[42]].map(|ids| model().tokenizer().unwrap().decode(ids));
    assert_eq!(texts, [&first, &first, &second, &second]);
    assert_eq!(document["usage"]["completion_tokens"], 0);
    assert_eq!(document["choices"][0]["finish_reason"], "length");
    let mut body = body;
    body["stream"] = json!(true);
    // The prompt, and the end.
    assert_eq!(austen().events(PATH, &body).len(), 8);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let server = austen();
    for (field, value, code) in [
        ("max_tokens", json!(-1), "invalid_value"),
        ("max_tokens", json!(0), "invalid_value"),
        ("max_tokens", json!("16"), "invalid_value"),
        ("max_tokens", json!(1.5), "invalid_value"),
        ("n", json!(0), "invalid_value"),
        ("n", json!(129), "invalid_value"),
        ("n", json!(9_223_372_036_854_775_808_u64), "invalid_value"),
        ("best_of", json!(1_000_000), "invalid_value"),
        ("logprobs", json!(21), "invalid_value"),
        ("logprobs", json!(true), "invalid_value"),
        ("temperature", json!(-0.5), "invalid_value"),
        ("temperature", json!("hot"), "invalid_value"),
        ("top_p", json!(0), "invalid_value"),
        ("top_p", json!(1.5), "invalid_value"),
        ("seed", json!(-1), "invalid_value"),
        ("stop", json!([""]), "invalid_value"),
        ("stop", json!(vec!["x"; 17]), "invalid_value"),
        ("stop", json!("x".repeat(513)), "invalid_value"),
        ("logit_bias", json!({ "1": 101 }), "invalid_value"),
        ("logit_bias", json!({ "x": 1 }), "invalid_value"),
        ("logit_bias", json!({ "-1": 1 }), "invalid_value"),
        ("logit_bias", json!({ "2147483648": 1 }), "invalid_value"),
        ("num_beams", json!(100), "invalid_value"),
        ("max_time", json!(1e300), "invalid_value"),
        ("suffix", json!("end"), "unsupported_parameter"),
        ("response_format", json!({ "type": "xml" }), "invalid_value"),
        ("prompt", json!([[]]), "invalid_value"),
        ("prompt", json!([[1_000_000]]), "invalid_value"),
        ("prompt", json!({}), "invalid_value"),
        ("prompt", json!(vec!["x"; 129]), "invalid_value"),
        ("prompt", json!("x ".repeat(600)), "context_length_exceeded"),
        (
            "prompt",
            json!("x".repeat(500_000)),
            "context_length_exceeded",
        ),
        ("stream_options", json!({ "usage": true }), "invalid_value"),
        ("temprature", json!(1), "unknown_parameter"),
        ("model", json!("gpt-4"), "model_not_found"),
    ] {
        let mut body = json!({ "prompt": "x" });
        body[field] = value;
        let error = server.refused(PATH, &body);
        assert_eq!(error["code"], code, "{body}: {error}");
        let param = error["param"].as_str().unwrap();
        assert!(param.starts_with(field), "{body}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(field),
            "{error}"
        );
    }
    let error = server.refused(PATH, &json!({ "prompt": "x", "temprature": 1 }));
    assert!(
        error["message"].as_str().unwrap().ends_with("temperature"),
        "{error}"
    );
}

#[test]
fn what_openai_has_and_gpt2_has_not_is_ignored() {
    let body = json!({
        "prompt": PROMPT, "max_tokens": 1, "user": "me", "store": false, "metadata": { "a": "b" },
        "service_tier": "auto", "suffix": null, "stop": null, "logit_bias": null,
        "response_format": { "type": "text" },
    });
    austen().ok(PATH, &body);
}

#[test]
fn a_stop_string_ends_a_text_before_it() {
    let text = greedy(PROMPT, 12);
    let stop = &text[text.len() / 2..][..3];
    let cut = &text[..text.find(stop).unwrap()];
    let body = json!({
        "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "stop": stop, "logprobs": 0,
    });
    let document = austen().ok(PATH, &body);
    let choice = &document["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!(cut), &json!("stop"))
    );
    let offsets = choice["logprobs"]["text_offset"].as_array().unwrap();
    let within = |offset: &Json| (offset.as_u64().unwrap() as usize) < cut.chars().count();
    assert!(!offsets.is_empty() && offsets.iter().all(within));
}

#[test]
fn the_best_of_several_is_returned() {
    let ask = |best_of: usize, n: usize| {
        let body = json!({
            "prompt": PROMPT, "max_tokens": 6, "seed": 3, "best_of": best_of, "n": n, "logprobs": 0,
        });
        austen().ok(PATH, &body)
    };
    let mean = |choice: &Json| {
        let list = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        list.iter()
            .map(|value| value.as_f64().unwrap())
            .sum::<f64>()
            / list.len() as f64
    };
    let all = ask(6, 6);
    let all = all["choices"].as_array().unwrap();
    let best = ask(6, 1);
    let expected = all.iter().map(&mean).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(mean(&best["choices"][0]), expected);
    assert_eq!(best["usage"]["completion_tokens"], 36);
    let error = austen().refused(PATH, &json!({ "best_of": 2, "stream": true }));
    assert_eq!(error["param"], "best_of");
}

#[test]
fn a_bias_forbids_and_forces() {
    let text = |bias: Json| {
        let body = json!({
            "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logit_bias": bias,
            "return_token_ids": true,
        });
        austen().ok(PATH, &body)["choices"][0]["token_ids"][0]
            .as_u64()
            .unwrap()
    };
    let first = text(json!({}));
    assert_ne!(text(json!({ first.to_string(): -100 })), first);
    assert_eq!(text(json!({ "300": 100 })), 300);
}
