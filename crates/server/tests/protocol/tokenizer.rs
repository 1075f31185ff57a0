//! vLLM's endpoints of the tokenizer.

use axum::http::Method;
use serde_json::{Value as Json, json};

use crate::server::{austen, model};

#[test]
fn texts_go_to_tokens_and_back() {
    let text = "Émma, “she” <|endoftext|>\n";
    let ids = model().tokenizer().unwrap().encode(text).unwrap();
    let body = json!({ "prompt": text, "add_special_tokens": false, "return_token_strs": true });
    let document = austen().ok("/tokenize", &body);
    assert_eq!(document["tokens"], json!(ids));
    assert_eq!(document["count"], ids.len());
    assert_eq!(document["token_strs"].as_array().unwrap().len(), ids.len());
    assert_eq!(
        document["max_model_len"],
        model().hyperparameters().n_positions
    );
    let back = austen().ok("/detokenize", &json!({ "tokens": ids, "model": "austen" }));
    assert_eq!(back, json!({ "prompt": text }));
    // Longer than the context is no error here.
    let long = austen().ok("/tokenize", &json!({ "prompt": "she ".repeat(3000) }));
    assert!(long["count"].as_u64().unwrap() > 3000);
    for (path, body) in [
        ("/tokenize", json!({})),
        ("/tokenize", json!({ "prompt": 1 })),
        ("/tokenize", json!({ "messages": [{}] })),
        ("/detokenize", json!({ "tokens": [-1] })),
        ("/detokenize", json!({ "tokens": [100_000] })),
        ("/detokenize", json!({ "tokens": "1" })),
    ] {
        assert_eq!(
            austen().refused(path, &body)["status"],
            400,
            "{path} {body}"
        );
    }
}

#[test]
fn who_has_no_tokenizer_learns_its_marks() {
    let (status, text) = austen().send(Method::GET, "/tokenizer_info", Vec::new());
    let info: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status.as_u16(), &info["eos_token"]),
        (200, &json!("<|endoftext|>"))
    );
    assert_eq!(info["bos_token"], "<|endoftext|>");
    assert!(info["chat_template"].is_null());
}
