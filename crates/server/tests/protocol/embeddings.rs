//! `/v1/embeddings`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gpt2::tasks::Pooling;
use gpt2::{Session, SessionOptions};
use serde_json::{Value as Json, json};

use crate::server::{austen, model, sent};

const PATH: &str = "/v1/embeddings";

fn vector(text: &str, pooling: Pooling, normalize: bool) -> Vec<f32> {
    let model = model();
    let ids = model.tokenizer().unwrap().encode(text).unwrap();
    let mut session = Session::new(model, SessionOptions::default()).unwrap();
    session.embed(&ids, pooling, normalize).unwrap()
}

#[test]
fn vectors_are_the_librarys_in_numbers_and_in_base64() {
    let inputs = json!({ "input": ["She was happy.", "He was not."], "encoding_format": "float" });
    let document = austen().ok(PATH, &inputs);
    for (index, text) in ["She was happy.", "He was not."].into_iter().enumerate() {
        let entry = &document["data"][index];
        assert_eq!(
            (&entry["index"], &entry["object"]),
            (&json!(index), &json!("embedding"))
        );
        assert_eq!(entry["embedding"], sent(&vector(text, Pooling::Mean, true)));
    }
    let tokens = model()
        .tokenizer()
        .unwrap()
        .encode("She was happy.")
        .unwrap();
    let body = json!({ "input": tokens, "encoding_format": "base64", "pooling": "last",
        "normalize": false, "dimensions": model().hyperparameters().n_embd });
    let document = austen().ok(PATH, &body);
    assert_eq!(
        document["usage"],
        json!({ "prompt_tokens": tokens.len(), "total_tokens": tokens.len() })
    );
    let text = document["data"][0]["embedding"].as_str().unwrap();
    let expected = vector("She was happy.", Pooling::Last, false);
    assert_eq!(decoded(text), expected);
}

/// Numbers of base64.
fn decoded(text: &str) -> Vec<f32> {
    let bytes = BASE64.decode(text).unwrap();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(4).map(number).collect()
}

#[test]
fn what_is_no_text_of_this_model_is_refused() {
    let refused = |field: &str, value: Json| {
        let mut body = json!({ "input": "x" });
        body[field] = value;
        austen().refused(PATH, &body)
    };
    let error = refused("input", json!([[100_000, 1]]));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("tiktoken") && message.contains("check_embedding_ctx_length"));
    for (field, value, code) in [
        ("input", json!(""), "invalid_value"),
        ("input", json!(["a", ""]), "invalid_value"),
        ("input", json!([]), "invalid_value"),
        ("input", json!(null), "invalid_value"),
        ("input", json!("x ".repeat(4000)), "context_length_exceeded"),
        ("input", json!(vec!["x"; 2049]), "invalid_value"),
        ("dimensions", json!(7), "invalid_value"),
        ("encoding_format", json!("hex"), "invalid_value"),
        ("pooling", json!("max"), "invalid_value"),
        ("normalize", json!(1), "invalid_value"),
    ] {
        assert_eq!(refused(field, value)["code"], code, "{field}");
    }
}
