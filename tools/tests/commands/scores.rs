//! `score`, `choose` by likelihood, `generate --logprobs` and `perplexity --stride`, against what
//! transformers computes with the demo model.

use serde_json::{Value, json};

use crate::reference::model;
use crate::run::{run_on, run_with};

fn project(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// transformers' scores.
fn expected() -> Value {
    let text = std::fs::read_to_string(project("tests/data/scores/scores.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The first characters of the held-out text.
fn heldout(entry: &Value) -> String {
    let text = std::fs::read_to_string(project("tests/data/austen/heldout.txt")).unwrap();
    let count = entry["characters"].as_u64().unwrap() as usize;
    text.chars().take(count).collect()
}

/// Scores with the f32 model.
fn score(more: &[&str], texts: &[&str]) -> Value {
    let mut arguments = vec!["score", "-m", model(), "--json"];
    arguments.extend(more);
    arguments.extend(texts);
    run_with(&arguments).json()
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap()).collect()
}

/// The largest difference of two lists, null standing where null is expected.
fn difference(found: &Value, expected: &Value) -> f64 {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let difference = |(found, expected): (&Value, &Value)| {
        assert_eq!(found.is_null(), expected.is_null());
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        (number(found) - number(expected)).abs()
    };
    pairs.map(difference).fold(0.0, f64::max)
}

/// The largest difference of rows, all they have compared.
fn compare(found: &Value, expected: &Value) -> f64 {
    let rows = found["rows"].as_array().unwrap();
    let expected = expected["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    let mut worst = 0.0_f64;
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row["ids"], expected["ids"]);
        assert_eq!(row["ranks"], expected["ranks"], "{row}");
        worst = worst.max(difference(&row["logprobs"], &expected["logprobs"]));
        worst = worst.max(difference(&row["entropies"], &expected["entropies"]));
        let tops = row["top"].as_array().unwrap();
        for (top, expected) in tops.iter().zip(expected["top"].as_array().unwrap()) {
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            assert_eq!(top.is_null(), expected.is_null());
            assert_eq!(list(top).len(), list(expected).len());
            for (one, pair) in list(top).iter().zip(list(expected)) {
                assert_eq!(one["id"], pair[0]);
                let number = |value: &Value| value.as_f64().unwrap();
                worst = worst.max((number(&one["logprob"]) - number(&pair[1])).abs());
            }
        }
        let sum: f64 = row["logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_f64)
            .sum();
        assert!((row["sum"].as_f64().unwrap() - sum).abs() < 1e-9);
        check_words(row);
    }
    worst
}

/// The words of a row have all of its tokens and its sum.
fn check_words(row: &Value) {
    let words = row["words"].as_array().unwrap();
    let mut next = 0;
    let mut sum = 0.0;
    for word in words {
        assert_eq!(word["tokens"][0], next);
        next = word["tokens"][1].as_u64().unwrap();
        let text: String = row["text"].as_str().unwrap().chars().collect();
        let place = |end: usize| word["offsets"][end].as_u64().unwrap() as usize;
        let characters = text.chars().skip(place(0)).take(place(1) - place(0));
        assert_eq!(
            characters.collect::<String>(),
            word["text"].as_str().unwrap()
        );
        sum += word["logprob"].as_f64().unwrap_or_default();
    }
    assert_eq!(next as usize, row["ids"].as_array().unwrap().len());
    if row["logprobs"][0].is_number() {
        assert!((row["sum"].as_f64().unwrap() - sum).abs() < 1e-9);
    }
}

const DETAILS: [&str; 4] = ["--ranks", "--entropy", "--top", "5"];

#[test]
fn scores_of_texts_are_transformers() {
    let all = expected();
    let with = |more: &[&'static str]| [&DETAILS[..], more].concat();
    let mut worst = 0.0_f64;
    for (entry, more) in [("texts", &[][..]), ("bos", &["--bos"])] {
        let texts = strings(&all[entry]["texts"]);
        worst = worst.max(compare(&score(&with(more), &texts), &all[entry]));
        // And each alone, in the bits of any company.
        let more = with(&[more, &["--batching", "alone"]].concat());
        let together = score(&more, &texts);
        for (index, text) in texts.iter().enumerate() {
            let alone = score(&more, &[text]);
            let expected = json!({ "rows": [all[entry]["rows"][index]] });
            worst = worst.max(compare(&alone, &expected));
            assert_eq!(alone["rows"][0], together["rows"][index], "{text}");
        }
    }
    let context = &all["context"];
    let before = context["context"].as_str().unwrap();
    let more = [&DETAILS[..], &["--context", before]].concat();
    worst = worst.max(compare(&score(&more, &strings(&context["texts"])), context));
    println!("largest difference: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn a_text_beyond_the_context_is_scored_in_the_windows_of_lm_evaluation_harness() {
    let entry = &expected()["rolling"];
    let text = heldout(entry);
    let document = score(&[], &[&text]);
    let row = &document["rows"][0];
    assert_eq!(row["ids"], entry["ids"]);
    let count = row["ids"].as_array().unwrap().len();
    assert_eq!(row["windows"], (count - 1).div_ceil(512));
    assert_eq!(row["logprobs"][0], Value::Null);
    let found = Value::from(row["logprobs"].as_array().unwrap()[1..].to_vec());
    let worst = difference(&found, &entry["logprobs"]);
    println!("largest difference: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
    // Windows of which each scores fewer tokens, after a first one that is the same.
    let strided = &score(&["--stride", "64"], &[&text])["rows"][0];
    assert_eq!(strided["windows"], 1 + (count - 1 - 512).div_ceil(64));
    assert_eq!(strided["logprobs"].as_array().unwrap().len(), count);
    for place in 1..=512 {
        assert_eq!(strided["logprobs"][place], row["logprobs"][place]);
    }
    for stride in ["0", "513"] {
        let done = run_with(&["score", "-m", model(), "a b", "--stride", stride]);
        assert!(done.error(2).contains("stride"), "{}", done.stderr);
    }
}

#[test]
fn perplexity_with_a_stride_is_that_of_transformers_guide() {
    let mut worst = 0.0_f64;
    for name in ["perplexity", "short"] {
        let entry = &expected()[name];
        let text = heldout(entry);
        for figure in entry["figures"].as_array().unwrap() {
            let window = figure["window"].to_string();
            let mut arguments = vec!["perplexity", "-m", model(), "--json", "--window", &window];
            let stride = figure["stride"].to_string();
            if !figure["stride"].is_null() {
                arguments.extend(["--stride", &stride]);
            }
            arguments.extend(["-p", &text]);
            let document = run_with(&arguments).json();
            assert_eq!(document["tokens"], figure["tokens"], "{figure}");
            let sum = |value: &Value| value["nll_sum"].as_f64().unwrap();
            worst = worst.max((sum(&document) / sum(figure) - 1.0).abs());
        }
    }
    println!("sums differ by {worst:.2e} of themselves at most");
    assert!(worst < 1e-5, "{worst:e}");
}

#[test]
fn a_choice_is_as_likely_as_its_score() {
    let all = expected();
    let context = all["context"]["context"].as_str().unwrap();
    let texts = strings(&all["context"]["texts"]);
    let mut arguments = vec!["choose", "-m", model(), "-p", context, "--json"];
    for text in &texts {
        arguments.extend(["--choice", text]);
    }
    let best = |how: &str| {
        let arguments: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--normalize", how])
            .collect();
        let document = run_with(&arguments).json();
        assert_eq!(
            (&document["by"], &document["normalization"]),
            (&json!("likelihood"), &json!(how))
        );
        document
    };
    let document = best("none");
    let rows = document["rows"].as_array().unwrap();
    for (row, expected) in rows.iter().zip(all["context"]["rows"].as_array().unwrap()) {
        let numbers = expected["logprobs"].as_array().unwrap();
        let sum: f64 = numbers.iter().map(|value| value.as_f64().unwrap()).sum();
        let found = row["logprob"].as_f64().unwrap();
        assert!((found - sum).abs() < 1e-3, "{found} {sum}");
        let tokens = numbers.len() as f64;
        assert!((row["logprob_per_token"].as_f64().unwrap() - found / tokens).abs() < 1e-9);
        let bytes = row["choice"].as_str().unwrap().len() as f64;
        assert!((row["logprob_per_byte"].as_f64().unwrap() - found / bytes).abs() < 1e-9);
    }
    // The largest of each kind.
    for (how, field) in [
        ("none", "logprob"),
        ("tokens", "logprob_per_token"),
        ("bytes", "logprob_per_byte"),
    ] {
        let document = best(how);
        let rows = document["rows"].as_array().unwrap();
        let value = |row: &Value| row[field].as_f64().unwrap();
        let best = &rows[document["best"].as_u64().unwrap() as usize];
        assert!(
            rows.iter().all(|row| value(row) <= value(best)),
            "{document}"
        );
        let sum: f64 = rows.iter().map(|row| row["score"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_generation_has_the_log_probabilities_of_its_tokens() {
    let prompt = "It is a truth universally acknowledged, that";
    for more in [
        &[][..],
        &["--repetition-penalty", "1.3"],
        &["--do-sample", "--seed", "7"],
        &["--num-beams", "3"],
        &["--penalty-alpha", "0.6", "--top-k", "4"],
        &["--prompt-lookup-num-tokens", "3"],
    ] {
        let arguments = ["generate", "-m", model(), "-p", prompt, "-n", "8", "--json"];
        let mut arguments = arguments.to_vec();
        arguments.extend(more);
        let plain = run_with(&arguments).json();
        assert_eq!(plain["sequences"][0]["logprobs"], Value::Null);
        arguments.extend(["--logprobs", "3"]);
        let document = run_with(&arguments).json();
        let sequence = &document["sequences"][0];
        assert_eq!(sequence["ids"], plain["sequences"][0]["ids"], "{more:?}");
        // The same tokens, scored.
        let ids = sequence["ids"].as_array().unwrap();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let ids = ids.join(",");
        let scored = [
            "score",
            "-m",
            model(),
            "--context",
            prompt,
            "--ids",
            &ids,
            "--top",
            "3",
        ];
        let row = run_with(&[&scored[..], &["--json"]].concat()).json();
        let row = &row["rows"][0];
        let worst = difference(&sequence["logprobs"], &row["logprobs"]);
        assert!(worst < 1e-4, "{more:?}: {worst:e}");
        for (found, expected) in sequence["top"]
            .as_array()
            .unwrap()
            .iter()
            .zip(row["top"].as_array().unwrap())
        {
            let ids = |list: &Value| -> Vec<Value> {
                list.as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one["id"].clone())
                    .collect()
            };
            assert_eq!(ids(found), ids(expected), "{more:?}");
        }
    }
    let done = run_with(&["generate", "-p", "a", "--logprobs", "1"]);
    assert_eq!(done.status, Some(2));
    assert!(done.stderr.contains("--json"), "{}", done.stderr);
}

#[test]
fn texts_to_score_come_from_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.txt");
    std::fs::write(&path, "She was happy.\r\n\r\nHe was not.\n").unwrap();
    let path = path.to_str().unwrap();
    let given = score(&[], &["She was happy.", "He was not."]);
    let lines = run_with(&["score", "-m", model(), "--lines", path, "--json"]).json();
    assert_eq!(lines, given);
    let piped = run_on(&["score", "-m", model(), "--json"], b"She was happy.\n").json();
    assert_eq!(piped["rows"][0], given["rows"][0]);
    let ids = given["rows"][0]["ids"].to_string();
    let by_ids = run_with(&["score", "-m", model(), "--ids", &ids, "--json"]).json();
    assert_eq!(by_ids["rows"][0]["logprobs"], given["rows"][0]["logprobs"]);
}

#[test]
fn nothing_to_score_is_no_failure() {
    let document = score(&[], &["", "a"]);
    for row in document["rows"].as_array().unwrap() {
        assert_eq!((&row["sum"], &row["mean"]), (&json!(0.0), &Value::Null));
        assert_eq!(row["perplexity"], Value::Null);
    }
    assert_eq!(document["rows"][1]["logprobs"], json!([null]));
    let document = score(&["--bos"], &["a"]);
    assert!(document["rows"][0]["logprobs"][0].is_number());
}

#[test]
fn scores_are_printed_a_line_a_token_or_a_text() {
    let arguments = [
        "score",
        "-m",
        model(),
        "--ranks",
        "--top",
        "1",
        "She was happy.",
    ];
    let text = run_with(&arguments).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "-\t\"She\"", "{text}");
    assert!(
        lines[1].contains("\trank ") && lines[1].contains("\t\" was\"\t"),
        "{text}"
    );
    assert!(lines.last().unwrap().starts_with("sum -"), "{text}");
    let text = run_with(&[
        "score",
        "-m",
        model(),
        "--summary",
        "She was happy.",
        "a\nb",
    ])
    .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].ends_with("\tShe was happy."),
        "{text}"
    );
}
