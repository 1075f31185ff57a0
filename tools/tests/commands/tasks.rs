//! `classify`, `tag`, `answer`, `choose` and `embed` on tiny checkpoints, against what
//! transformers' outputs for them make of the same texts.

use std::fs;

use serde_json::Value;

use crate::checkpoints::{Converted, folder};
use crate::run::{run_on, run_with};

fn expected(name: &str) -> Value {
    let text = fs::read_to_string(folder(name).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / sum).collect()
}

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
}

/// The largest number's place.
fn best(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, other| {
        if values[other] > values[best] {
            other
        } else {
            best
        }
    })
}

#[test]
fn texts_are_classified_as_transformers_does() {
    let model = Converted::new("seqcls");
    let reference = expected("seqcls");
    let texts: Vec<&str> = reference["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    let mut arguments = vec!["classify", "-m", model.path(), "--json"];
    for text in &texts {
        arguments.extend(["-p", text]);
    }
    let document = run_with(&arguments).json();
    let labels = ["negative", "neutral", "positive"];
    for (number, row) in document["rows"].as_array().unwrap().iter().enumerate() {
        let logits = floats(&reference["outputs"]["logits"][number]);
        let scores = softmax(&logits);
        assert_eq!(row["text"], texts[number]);
        assert_eq!(row["label"], labels[best(&logits)]);
        assert_close(row["score"].as_f64().unwrap(), scores[best(&logits)]);
        for one in row["scores"].as_array().unwrap() {
            let label = labels
                .iter()
                .position(|label| one["label"] == *label)
                .unwrap();
            assert_close(one["score"].as_f64().unwrap(), scores[label]);
        }
    }
    // The lines of stdin are texts too, and scores are made as asked.
    let lines = texts.join("\n");
    let table = run_on(&["classify", "-m", model.path()], lines.as_bytes()).ok();
    assert_eq!(table.lines().count(), texts.len());
    arguments.extend(["--function", "sigmoid"]);
    let row = &run_with(&arguments).json()["rows"][0];
    let logit = floats(&row["logits"])[best(&floats(&row["logits"]))];
    assert_close(row["score"].as_f64().unwrap(), 1.0 / (1.0 + (-logit).exp()));
}

#[test]
fn padding_around_ids_is_none_of_the_text() {
    let model = Converted::new("seqcls");
    let classify = |ids| {
        let document = run_with(&["classify", "-m", model.path(), "--ids", ids, "--json"]).json();
        floats(&document["rows"][0]["logits"])
    };
    let alone = classify("40,41,42");
    for padded in ["299,299,40,41,42", "40,41,42,299,299"] {
        for (found, expected) in classify(padded).into_iter().zip(&alone) {
            assert_close(found, *expected);
        }
    }
}

#[test]
fn words_are_tagged_at_their_characters() {
    let model = Converted::new("tokencls");
    let reference = expected("tokencls");
    let labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];
    for (number, text) in reference["texts"].as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let document = run_with(&["tag", "-m", model.path(), "-p", text, "--json"]).json();
        let row = &document["rows"][0];
        let tokens = row["tokens"].as_array().unwrap();
        assert!(!tokens.is_empty());
        for (token, logits) in tokens
            .iter()
            .zip(reference["outputs"]["logits"][number].as_array().unwrap())
        {
            let scores = softmax(&floats(logits));
            assert_eq!(token["label"], labels[best(&scores)]);
            assert_close(token["score"].as_f64().unwrap(), scores[best(&scores)]);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let found = row["words"].as_array().unwrap();
        assert_eq!(found.len(), words.len());
        for (word, expected) in found.iter().zip(words) {
            let place = |key: &str| word[key].as_u64().unwrap() as usize;
            assert_eq!(word["word"], expected);
            assert_eq!(&text[place("start")..place("end")], expected);
            // The first token that reaches into the word has the word's label.
            let first = tokens
                .iter()
                .find(|token| token["end"].as_u64().unwrap() as usize > place("start"))
                .unwrap();
            assert_eq!(
                (&word["label"], &word["score"]),
                (&first["label"], &first["score"])
            );
        }
    }
}

#[test]
fn answers_are_parts_of_the_text() {
    let model = Converted::new("qa");
    let (question, context) = ("Who was rich?", " Emma Woodhouse was rich.");
    let arguments = [
        "answer",
        "-m",
        model.path(),
        "--question",
        question,
        "-p",
        context,
        "--json",
    ];
    let row = run_with(&arguments).json()["rows"][0].clone();
    let place = |key: &str| row[key].as_u64().unwrap() as usize;
    assert_eq!(row["answer"], &context[place("start")..place("end")]);
    // The reference has the same tokens in one text: its logits decide the same span.
    let ids = |text: &str| {
        let document = run_with(&["tokenize", "-m", model.path(), text, "--json"]).json();
        document["ids"].as_array().unwrap().clone()
    };
    let reference = expected("qa");
    let together: Vec<Value> = [ids(question), ids(context)].concat();
    assert_eq!(
        reference["inputs"]["input_ids"][0].as_array().unwrap(),
        &together
    );
    let skipped = ids(question).len();
    let starts = softmax(&floats(&reference["outputs"]["start_logits"][0])[skipped..]);
    let ends = softmax(&floats(&reference["outputs"]["end_logits"][0])[skipped..]);
    let mut score = 0.0f64;
    for (first, start) in starts.iter().enumerate() {
        for end in ends.iter().skip(first).take(15) {
            score = score.max(start * end);
        }
    }
    assert_close(row["score"].as_f64().unwrap(), score);
    // A text of more positions than the model has (64) is read in windows.
    let long = context.repeat(12);
    let arguments = [
        "answer",
        "-m",
        model.path(),
        "--question",
        question,
        "-p",
        &long,
        "--top-k",
        "3",
        "--json",
    ];
    let row = run_with(&arguments).json()["rows"][0].clone();
    let answers = row["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3);
    for answer in answers {
        let place = |key: &str| answer[key].as_u64().unwrap() as usize;
        assert_eq!(answer["answer"], &long[place("start")..place("end")]);
    }
    let endless = "Who was rich? ".repeat(20);
    let done = run_with(&[
        "answer",
        "-m",
        model.path(),
        "--question",
        &endless,
        "-p",
        context,
    ]);
    assert!(done.error(1).contains("64"), "{}", done.stderr);
}

#[test]
fn choices_are_scored_where_the_head_looks() {
    let model = Converted::new("doubleheads");
    let reference = expected("doubleheads");
    let rows = reference["inputs"]["input_ids"][0].as_array().unwrap();
    let text = |value: &Value| {
        let parts: Vec<String> = value
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        parts.join(",")
    };
    let (first, second) = (text(&rows[0]), text(&rows[1]));
    let indices = text(&reference["inputs"]["mc_token_ids"][0]);
    let arguments = [
        "choose",
        "-m",
        model.path(),
        "--ids",
        &first,
        "--ids",
        &second,
        "--mc-token-ids",
        &indices,
        "--json",
    ];
    let document = run_with(&arguments).json();
    let logits = floats(&reference["outputs"]["mc_logits"][0]);
    let scores = softmax(&logits);
    assert_eq!(document["best"], best(&logits));
    for (row, (logit, score)) in document["rows"]
        .as_array()
        .unwrap()
        .iter()
        .zip(logits.iter().zip(&scores))
    {
        assert_close(row["logit"].as_f64().unwrap(), *logit);
        assert_close(row["score"].as_f64().unwrap(), *score);
    }
    let choices = [
        "choose",
        "-m",
        model.path(),
        "-p",
        "She sat",
        "--choice",
        " down",
        "--choice",
        " up",
        "--json",
    ];
    assert_eq!(run_with(&choices).json()["rows"][1]["choice"], " up");
    let one = run_with(&["choose", "-m", model.path(), "--choice", "a"]);
    assert!(one.error(2).contains("two choices"), "{}", one.stderr);
}

#[test]
fn embeddings_are_pooled_hidden_states() {
    let model = Converted::new("bare");
    let reference = expected("bare");
    let ids: Vec<String> = reference["inputs"]["input_ids"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let states: Vec<Vec<f64>> = reference["outputs"]["last_hidden_state"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(floats)
        .collect();
    let embed = |more: &[&str]| {
        let ids = ids.join(",");
        let document = run_with(
            &[
                &["embed", "-m", model.path(), "--ids", &ids, "--json"],
                more,
            ]
            .concat(),
        )
        .json();
        floats(&document["rows"][0]["embedding"])
    };
    let close = |found: Vec<f64>, expected: Vec<f64>| {
        assert_eq!(found.len(), expected.len());
        found
            .into_iter()
            .zip(expected)
            .for_each(|(a, b)| assert_close(a, b));
    };
    close(embed(&[]), states.last().unwrap().clone());
    let mean: Vec<f64> = (0..64)
        .map(|column| states.iter().map(|state| state[column]).sum::<f64>() / states.len() as f64)
        .collect();
    close(embed(&["--pooling", "mean"]), mean.clone());
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
    let unit = mean.iter().map(|x| x / length).collect();
    close(embed(&["--pooling", "mean", "--normalize"]), unit);
}

#[test]
fn another_class_is_refused_by_both_names() {
    for (arguments, wanted) in [
        (
            &["classify", "-p", "a"][..],
            "GPT2ForSequenceClassification",
        ),
        (&["tag", "-p", "a"], "GPT2ForTokenClassification"),
        (
            &["answer", "--question", "a", "-p", "b"],
            "GPT2ForQuestionAnswering",
        ),
    ] {
        let done = run_with(arguments);
        let line = done.error(1);
        assert!(
            line.contains(wanted) && line.contains("GPT2LMHeadModel"),
            "{line}"
        );
    }
}

#[test]
fn info_says_the_class_and_its_labels() {
    let model = Converted::new("seqcls");
    let document = run_with(&["info", model.path(), "--json"]).json();
    assert_eq!(document["class"], "GPT2ForSequenceClassification");
    assert_eq!(
        document["labels"],
        serde_json::json!(["negative", "neutral", "positive"])
    );
    assert!(
        run_with(&["info", model.path()])
            .ok()
            .contains("negative, neutral, positive")
    );
}
