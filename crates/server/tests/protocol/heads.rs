//! `/classify`, `/tag`, `/answer`, `/choose`.

use std::path::Path;
use std::sync::Arc;

use gpt2::convert::{ConvertOptions, FileType, convert};
use gpt2::tasks::{
    Aggregation, AnswerOptions, Answered, Chosen, Classified, Normalization, Tagged,
};
use gpt2::{Model, ModelOptions, Session, SessionOptions};
use serde_json::json;

use crate::server::{austen, model, sent, serve};

/// A small model with a head.
fn head(name: &str) -> Arc<Model> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/heads");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let options = ConvertOptions::new(FileType::from_name("f32").unwrap());
    convert(&root.join(name), &file, &options, &()).unwrap();
    let options = ModelOptions {
        map: false,
        ..ModelOptions::default()
    };
    Model::open(&file, &options).unwrap()
}

fn session(model: &Arc<Model>) -> Session {
    Session::new(Arc::clone(model), SessionOptions::default()).unwrap()
}

#[test]
fn texts_are_classified_as_the_library_does() {
    let model = head("seqcls");
    let ids = model.tokenizer().unwrap().encode("She was happy.").unwrap();
    let text = Some("She was happy.".to_owned());
    let expected = Classified::new(&mut session(&model), text, ids, None).unwrap();
    let body = json!({ "input": ["She was happy.", "No."] });
    let document = serve(model).ok("/classify", &body);
    assert_eq!(document["rows"][0], sent(&expected));
    assert_eq!(document["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn words_are_tagged_as_the_library_does() {
    let model = head("tokencls");
    let text = "Emma Woodhouse lived at Hartfield.";
    let expected = Tagged::new(&mut session(&model), text.to_owned(), Aggregation::Max).unwrap();
    let document = serve(model).ok("/tag", &json!({ "input": text, "aggregation": "max" }));
    assert_eq!(document["rows"][0], sent(&expected));
}

#[test]
fn questions_are_answered_as_the_library_does() {
    let model = head("qa");
    let (question, context) = ("Who was rich?", "Emma Woodhouse was rich.");
    let options = AnswerOptions {
        count: 2,
        ..AnswerOptions::default()
    };
    let expected = Answered::new(&mut session(&model), question, context, options).unwrap();
    let body = json!({ "question": question, "context": context, "top_k": 2 });
    let document = serve(model).ok("/answer", &body);
    assert_eq!(document["rows"][0], sent(&expected));
}

#[test]
fn choices_are_made_as_the_library_does() {
    let choices = [" happy.", " gearbox."].map(str::to_owned);
    let expected = Chosen::by_likelihood(
        &mut session(&model()),
        "She was",
        &choices,
        Normalization::Bytes,
    );
    let body = json!({ "prompt": "She was", "choices": choices, "normalize": "bytes" });
    let document = austen().ok("/choose", &body);
    assert_eq!(document, sent(&expected.unwrap()));
    assert_eq!(document["best"], 0);
    let double = head("doubleheads");
    let encode = |text: &String| double.tokenizer().unwrap().encode(text).unwrap();
    let whole: Vec<_> = choices
        .iter()
        .map(|choice| (Some(choice.clone()), encode(choice)))
        .collect();
    let expected = Chosen::by_head(&mut session(&double), whole, None).unwrap();
    let document = serve(double).ok("/choose", &json!({ "choices": choices }));
    assert_eq!(document, sent(&expected));
}

#[test]
fn a_model_without_the_head_says_so() {
    for (path, body) in [
        ("/classify", json!({ "input": "x" })),
        ("/tag", json!({ "input": "x" })),
        ("/answer", json!({ "question": "x", "context": "y" })),
    ] {
        let error = austen().refused(path, &body);
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!("unsupported_model"), &json!(400))
        );
    }
    for body in [
        json!({ "choices": ["a"] }),
        json!({ "choices": ["a", ""] }),
        json!({ "ids": [[1], [2]] }),
        json!({ "choices": ["a", "b"], "normalize": "words" }),
    ] {
        assert_eq!(austen().refused("/choose", &body)["status"], 400, "{body}");
    }
    let classifier = serve(head("seqcls"));
    let error = classifier.refused("/v1/completions", &json!({ "prompt": "x" }));
    assert_eq!(error["code"], "unsupported_model");
}
