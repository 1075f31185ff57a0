//! Every method of decoding and every processor, through the command, against transformers' results
//! for the demo model in f32 (`tests/data/decoding`).

use std::path::Path;

use serde_json::Value;

use crate::reference::model;
use crate::run::run_with;

fn cases() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/decoding");
    let of = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(Path::new(folder).join(file)).expect("cases");
        let document: Value = serde_json::from_str(&text).expect("the cases are JSON");
        document["cases"].as_array().expect("a list").clone()
    };
    [of("cases.json"), of("beams.json")].concat()
}

/// Runs a case with more arguments.
fn run_case(case: &Value, more: &[&str]) -> Value {
    let prompt: Vec<String> = case["prompt"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let prompt = prompt.join(",");
    let mut arguments = vec!["generate", "-m", model(), "--json", "--ids", &prompt];
    let flags = case["flags"].as_array().unwrap();
    arguments.extend(flags.iter().map(|flag| flag.as_str().unwrap()));
    arguments.extend(more);
    run_with(&arguments).json()
}

#[test]
fn texts_are_transformers() {
    let cases = cases();
    let texts: Vec<&Value> = cases
        .iter()
        .filter(|case| case["sequences"].is_array())
        .collect();
    assert!(texts.len() > 80);
    let mut wrong = Vec::new();
    let mut largest = 0f64;
    for case in texts {
        let document = run_case(case, &[]);
        let found = document["sequences"].as_array().unwrap();
        let ids: Vec<&Value> = found.iter().map(|sequence| &sequence["ids"]).collect();
        let expected: Vec<&Value> = case["sequences"].as_array().unwrap().iter().collect();
        if ids != expected {
            wrong.push(format!("{}: {ids:?} is not {expected:?}", case["name"]));
            continue;
        }
        for (sequence, score) in found
            .iter()
            .zip(case["scores"].as_array().into_iter().flatten())
        {
            let difference = sequence["score"].as_f64().unwrap() - score.as_f64().unwrap();
            largest = largest.max(difference.abs());
        }
    }
    println!("largest difference of a search's score: {largest:.1e}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(largest < 1e-4, "{largest}");
}

#[test]
fn processed_scores_are_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.safetensors");
    let mut largest = 0f64;
    let cases = cases();
    let steps: Vec<&Value> = cases
        .iter()
        .filter(|case| case["values"].is_array())
        .collect();
    assert!(steps.len() > 10);
    for case in steps {
        let file = path.to_str().unwrap();
        run_case(case, &["--output-scores", "-o", file, "--force"]);
        let scores = scores(&path);
        let finite = scores.iter().filter(|score| score.is_finite()).count();
        assert_eq!(finite as u64, case["finite"], "{}", case["name"]);
        for pair in case["values"].as_array().unwrap() {
            let found = f64::from(scores[pair[0].as_u64().unwrap() as usize]);
            match pair[1].as_f64() {
                Some(expected) => largest = largest.max((found - expected).abs()),
                None => assert!(!found.is_finite(), "{}: {pair}", case["name"]),
            }
        }
    }
    println!("largest difference of a score: {largest:.1e}");
    assert!(largest < 1e-4, "{largest}");
}

/// The scores of the one step in a file.
fn scores(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("scores").unwrap();
    assert_eq!(tensor.shape(), [1, 4096]);
    let values = tensor.data().chunks_exact(4);
    values
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}
