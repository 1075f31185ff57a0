//! `tokenize`, `detokenize`, `info`.

use serde_json::{Value, json};

use crate::run::{run, run_on, run_with};

#[test]
fn text_becomes_ids_that_commands_take() {
    let ids = run_with(&["tokenize", "It is a truth universally acknowledged, that"]).ok();
    assert_eq!(ids, "1024,363,258,1898,469,72,1164,554,2750,11,332\n");
    let document = run_with(&["tokenize", "--json", "It is"]).json();
    assert_eq!(
        document,
        json!({ "ids": [1024, 363], "tokens": ["It", "Ġis"], "offsets": [[0, 2], [2, 5]] })
    );
}

#[test]
fn stdin_is_taken_as_it_is() {
    let ids = |input: &str| run_on(&["tokenize"], input.as_bytes()).ok();
    let (without, with) = (ids("It is"), ids("It is\n"));
    assert_eq!(without, "1024,363\n");
    assert_eq!(
        with.trim_end(),
        format!("{},{}", without.trim_end(), ids("\n").trim_end())
    );
}

#[test]
fn ids_become_the_text_again() {
    let text = " Odd  spacing,\ttabs;\r\nlines\n\n“quotes” — é 🙂 <|endoftext|>\n";
    let ids = run_with(&["tokenize", text]).ok();
    assert_eq!(run_with(&["detokenize", ids.trim()]).ok(), text);
    assert_eq!(run_on(&["detokenize"], ids.as_bytes()).ok(), text);
    let document = run_with(&["detokenize", "--json", "1024 363"]).json();
    assert_eq!(
        document,
        json!({ "ids": [1024, 363], "tokens": ["It", "Ġis"], "text": "It is" })
    );
    assert_eq!(run_with(&["detokenize", ""]).ok(), "");
}

#[test]
fn ids_outside_the_vocabulary_are_named() {
    for arguments in [
        "detokenize 1,4096",
        "generate --ids 1,4096",
        "forward --ids 1,4096",
    ] {
        let done = run(arguments);
        let line = done.error(2);
        assert!(line.contains("4096") && line.contains("index 1"), "{line}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    let done = run_on(&["tokenize"], b"abc\xFF");
    assert!(done.error(1).contains("byte 3"), "{}", done.stderr);
}

#[test]
fn info_describes_the_model() {
    let document = run("info --json").json();
    assert_eq!(document["metadata"]["general.architecture"], "gpt2");
    assert_eq!(document["metadata"]["gpt2.context_length"], 512);
    assert_eq!(
        document["metadata"]["tokenizer.ggml.tokens"],
        json!({ "array": "string", "length": 4096 })
    );
    assert_eq!(document["totals"]["parameters"], 5_918_720);
    // 2 × 6 layers × 512 positions × 256 × 2 bytes.
    assert_eq!(document["memory"]["kv"]["f16"], 3_145_728);
    let tensors = document["tensors"].as_array().unwrap();
    assert_eq!(
        tensors.len() as u64,
        document["totals"]["tensors"].as_u64().unwrap()
    );
    let bytes: u64 = tensors
        .iter()
        .filter_map(|tensor| tensor["bytes"].as_u64())
        .sum();
    assert_eq!(document["totals"]["bytes"], bytes);
    assert!(
        tensors
            .iter()
            .any(|tensor| tensor["name"] == "token_embd.weight"
                && tensor["shape"] == json!([256, 4096])
                && tensor["type"] == "q8_0")
    );
    let text = run("info").ok();
    assert!(
        text.contains("token_embd.weight") && text.contains("5918720 parameters"),
        "{text}"
    );
}

#[test]
fn info_takes_any_gguf() {
    let mut header = gpt2::gguf::GgufHeader::new();
    header.set("general.architecture", "llama").unwrap();
    header.set("numbers", vec![1_u32, 2, 3]).unwrap();
    header
        .tensor("odd", &[32, 2], gpt2::gguf::TensorType::Q4_0)
        .unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = header.encode();
    bytes.resize(header.total_bytes() as usize, 0);
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let path = file.path().to_str().unwrap();
    let document = run_with(&["info", path, "--json"]).json();
    assert_eq!(
        document["metadata"],
        json!({ "general.architecture": "llama", "numbers": [1, 2, 3] })
    );
    assert_eq!(document["memory"]["kv"], Value::Null);
    assert_eq!(document["totals"]["bits_per_weight"], 4.5);
    assert!(run_with(&["info", path]).ok().contains("llama"));
}
