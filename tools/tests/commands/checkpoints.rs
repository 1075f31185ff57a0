//! Tiny checkpoints of every class and format, converted and run, against transformers' results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::run::run_with;

/// The folder of the checkpoints.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/heads")).join(name)
}

/// A checkpoint converted to f32, in a folder that goes with it.
pub(crate) struct Converted {
    _folder: TempDir,
    path: PathBuf,
}

impl Converted {
    pub(crate) fn new(name: &str) -> Self {
        let to = TempDir::new().expect("a temporary folder");
        let path = to.path().join("model.gguf");
        let output = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
            .arg(folder(name))
            .args(["--type", "f32", "-o"])
            .arg(&path)
            .output()
            .expect("gpt2-convert starts");
        assert!(output.status.success(), "{name}: {output:?}");
        Self { _folder: to, path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }
}

/// Every number of nested lists, in order.
fn numbers(value: &Value, all: &mut Vec<f64>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| numbers(value, all)),
        value => all.push(value.as_f64().expect("a number")),
    }
}

/// Lengths of nested lists, outermost first.
fn shape(value: &Value) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut value = value;
    while let Value::Array(values) = value {
        lengths.push(values.len());
        value = &values[0];
    }
    lengths
}

/// The rows of a list, which may have axes of size 1 before it.
fn rows(value: &Value) -> Vec<String> {
    let mut value = value;
    while shape(value).len() > 2 {
        value = &value[0];
    }
    let text = |row: &Value| {
        let parts: Vec<String> = row
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        parts.join(",")
    };
    value.as_array().unwrap().iter().map(text).collect()
}

/// Runs `forward` on the inputs of an `expected.json`, and gives the largest difference of any
/// output.
fn largest_difference(model: &str, expected: &Value) -> f64 {
    let to = TempDir::new().unwrap();
    let file = to.path().join("out.safetensors");
    let mut arguments: Vec<String> = ["forward", "-m", model, "--json", "-o"]
        .map(str::to_owned)
        .into();
    arguments.push(file.to_str().unwrap().to_owned());
    for (input, value) in expected["inputs"].as_object().unwrap() {
        let (flag, values) = match input.as_str() {
            "input_ids" => ("--ids", rows(value)),
            "attention_mask" => ("--attention-mask", rows(value)),
            "mc_token_ids" => ("--mc-token-ids", rows(value)),
            other => panic!("input {other}"),
        };
        for value in values {
            arguments.extend([flag.to_owned(), value]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let document = run_with(&arguments).json();
    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let outputs = expected["outputs"].as_object().unwrap();
    assert_eq!(tensors.len(), outputs.len());
    let mut largest = 0.0f64;
    for (name, value) in outputs {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.shape(), shape(value), "{name}");
        assert_eq!(document["shapes"][name], json!(shape(value)), "{name}");
        let found = tensor.data().chunks_exact(4);
        let found = found.map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())));
        let mut wanted = Vec::new();
        numbers(value, &mut wanted);
        for (found, wanted) in found.zip(&wanted) {
            assert!(found.is_finite(), "{name}: {found}");
            largest = largest.max((found - wanted).abs());
        }
    }
    largest
}

/// The greedy continuation of the first row, where the reference has one.
fn compare_greedy(name: &str, model: &str, expected: &Value) {
    if expected["greedy_16"].is_null() {
        return;
    }
    let prompt = &rows(&expected["inputs"]["input_ids"])[0];
    let arguments = [
        "generate", "-m", model, "--ids", prompt, "-n", "16", "--json",
    ];
    let document = run_with(&arguments).json();
    assert_eq!(
        document["sequences"][0]["ids"], expected["greedy_16"],
        "{name}"
    );
}

#[test]
fn every_checkpoint_gives_transformers_outputs() {
    let mut compared = 0;
    let mut folders: Vec<PathBuf> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    for folder in folders {
        let expected = fs::read_to_string(folder.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        if expected["inputs"].is_null() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap();
        let model = Converted::new(name);
        let largest = largest_difference(model.path(), &expected);
        let limit = match expected["weights_dtype"].as_str().unwrap() {
            "float32" => 1e-4,
            _ => 2e-3,
        };
        println!("{name:18} largest difference {largest:.1e}, limit {limit:.0e}");
        assert!(largest <= limit, "{name}: {largest:e}");
        compare_greedy(name, model.path(), &expected);
        compared += 1;
    }
    assert!(compared >= 19, "{compared} checkpoints");
}

/// The tensors of a safetensors file that `forward` writes with these arguments.
fn forward(model: &str, arguments: &[&str]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let to = TempDir::new().unwrap();
    let file = to.path().join("out.safetensors");
    let mut all = vec!["forward", "-m", model, "-o", file.to_str().unwrap()];
    all.extend(arguments);
    run_with(&all).ok();
    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.data().chunks_exact(4);
            let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            (name.to_owned(), tensor.shape().to_vec(), values.collect())
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    println!("largest difference {largest:.1e}");
    assert!(largest < 1e-4, "{largest:e}");
}

#[test]
fn padding_on_either_side_gives_each_row_its_own_result() {
    let model = Converted::new("seqcls");
    // 299 is the model's padding.
    let alone = [
        forward(model.path(), &["--ids", "5,6,7,8"]),
        forward(model.path(), &["--ids", "40,41"]),
    ];
    let expected: Vec<f32> = alone
        .iter()
        .flat_map(|tensors| tensors[0].2.clone())
        .collect();
    let ways: [&[&str]; 3] = [
        &["--ids", "5,6,7,8", "--ids", "40,41"],
        &[
            "--ids",
            "5,6,7,8",
            "--ids",
            "40,41,299,299",
            "--attention-mask",
            "1,1,1,1",
        ],
        &[
            "--ids",
            "5,6,7,8",
            "--ids",
            "299,299,40,41",
            "--attention-mask",
            "1,1,1,1",
        ],
    ];
    let more: [&[&str]; 3] = [
        &[],
        &["--attention-mask", "1,1,0,0"],
        &[
            "--attention-mask",
            "0,0,1,1",
            "--position-ids",
            "0,1,2,3",
            "--position-ids",
            "0,0,0,1",
        ],
    ];
    for (way, more) in ways.iter().zip(more) {
        let tensors = forward(model.path(), &[*way, more].concat());
        assert_eq!(tensors[0].1, [2, 3]);
        assert_close(&tensors[0].2, &expected);
    }
}

#[test]
fn attentions_and_hidden_states_of_a_batch() {
    let model = Converted::new("qa");
    let arguments = [
        "--ids",
        "5,6,7,8",
        "--ids",
        "40,41",
        "--attentions",
        "--hidden-states",
    ];
    let tensors = forward(model.path(), &arguments);
    let names: Vec<&str> = tensors.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "attentions.0",
            "attentions.1",
            "end_logits",
            "hidden_states.0",
            "hidden_states.1",
            "hidden_states.2",
            "start_logits"
        ]
    );
    assert_eq!(tensors[0].1, [2, 2, 4, 4]);
    assert_eq!(tensors[3].1, [2, 4, 64]);
    for (_, _, values) in &tensors[..2] {
        for (number, row) in values.chunks(4).enumerate() {
            let (batch, query) = (number / 8, number % 4);
            let seen = if batch == 0 {
                query + 1
            } else {
                (query + 1).min(2)
            };
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(
                row[seen..].iter().all(|&weight| weight == 0.0),
                "{number}: {row:?}"
            );
            assert!(
                row[..seen].iter().all(|&weight| weight > 0.0),
                "{number}: {row:?}"
            );
        }
    }
}

#[test]
fn lists_that_do_not_fit_the_rows_are_wrong_usage() {
    for (arguments, word) in [
        ("forward --ids 1,2 --attention-mask 1", "expected 2 values"),
        ("forward --ids 1,2 --attention-mask 1,2", "expected 0 or 1"),
        (
            "forward --ids 1,2 --ids 3 --position-ids 0,1",
            "one for each of 2 rows",
        ),
        (
            "forward --ids 1,2 --token-type-ids 1,1,1",
            "expected 2 values",
        ),
        (
            "forward --ids 1,2 --mc-token-ids 1,1",
            "an index for each of 1 rows",
        ),
    ] {
        let done = crate::run::run(arguments);
        assert!(done.error(2).contains(word), "{}", done.stderr);
    }
    for (arguments, word) in [
        ("forward --ids 1,2 --position-ids 0,4000", "4000"),
        ("forward --ids 1,2 --token-type-ids 1,9999", "9999"),
    ] {
        let done = crate::run::run(arguments);
        assert!(done.error(2).contains(word), "{}", done.stderr);
    }
}

#[test]
fn a_model_that_predicts_no_tokens_is_refused_where_they_are_wanted() {
    let model = Converted::new("qa");
    for command in [
        &["generate", "--ids", "1,2", "-n", "2"][..],
        &["bench", "-p", "8", "-n", "2", "-r", "1"],
    ] {
        let done = run_with(&[command, &["-m", model.path()]].concat());
        assert!(
            done.error(1).contains("GPT2ForQuestionAnswering"),
            "{}",
            done.stderr
        );
    }
}
