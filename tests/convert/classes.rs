//! Which class a checkpoint becomes, and what of its head the file keeps.

use gpt2::gguf::TensorType;
use gpt2::spec::{Activation, Hyperparameters, ModelClass, ProblemType, SummaryType};
use serde_json::json;
use tempfile::TempDir;

use crate::checkpoint::Checkpoint;
use crate::refusals::refusal;
use crate::{converted, data, options};

const WIDTH: usize = 64;

/// A checkpoint that says it is of a class.
fn of_class(name: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(WIDTH, 1, true);
    checkpoint.config["architectures"] = json!([name]);
    checkpoint
}

fn add(checkpoint: &mut Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|index| (index as f32).sin()).collect();
    let tensor = (shape.to_vec(), values.clone());
    checkpoint.tensors.insert(name.to_owned(), tensor);
    values
}

/// What the converted file says of the model, its tensors by name, and the warnings.
fn model_of(
    checkpoint: &Checkpoint,
    type_name: &str,
) -> (Hyperparameters, gpt2::gguf::Gguf, Vec<String>) {
    let folder = TempDir::new().unwrap();
    checkpoint.write(folder.path());
    let output = folder.path().join("o.gguf");
    let (report, gguf) = converted(folder.path(), &output, &options(type_name));
    let hyperparameters = Hyperparameters::from_gguf(&gguf).unwrap();
    // Another type of it says the same.
    let again = folder.path().join("again.gguf");
    let (_, requantized) = converted(&output, &again, &options("f16"));
    assert_eq!(
        Hyperparameters::from_gguf(&requantized).unwrap(),
        hyperparameters
    );
    (hyperparameters, gguf, report.plan.warnings)
}

#[test]
fn a_head_is_kept_as_it_is_with_its_labels() {
    let mut checkpoint = of_class("GPT2ForSequenceClassification");
    checkpoint.config["id2label"] = json!({"2": "good", "0": "bad", "1": "so, so"});
    checkpoint.config["problem_type"] = "multi_label_classification".into();
    checkpoint.config["pad_token_id"] = 36.into();
    let score = add(&mut checkpoint, "score.weight", &[3, WIDTH]);
    let (model, gguf, _) = model_of(&checkpoint, "q4_0");
    assert_eq!(model.class, ModelClass::SequenceClassification);
    assert_eq!(model.head.labels, ["bad", "so, so", "good"]);
    assert_eq!(model.head.problem_type, Some(ProblemType::MultiLabel));
    assert_eq!((model.head.outputs, model.pad), (3, Some(36)));
    let head = gguf.tensor("cls.output.weight").unwrap();
    assert_eq!(head.tensor_type, TensorType::F32);
    let bytes: Vec<u8> = score.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(data(&gguf, "cls.output.weight") == bytes);
}

#[test]
fn labels_without_names_and_an_old_count() {
    let mut checkpoint = of_class("GPT2ForTokenClassification");
    checkpoint.config["num_labels"] = 4.into();
    add(&mut checkpoint, "classifier.weight", &[4, WIDTH]);
    add(&mut checkpoint, "classifier.bias", &[4]);
    let (model, _, _) = model_of(&checkpoint, "f32");
    assert_eq!(model.class, ModelClass::TokenClassification);
    assert_eq!((model.head.outputs, &*model.head.label(3)), (4, "LABEL_3"));
}

#[test]
fn summaries_are_kept() {
    let mut checkpoint = of_class("GPT2DoubleHeadsModel");
    checkpoint.config["summary_type"] = "mean".into();
    checkpoint.config["summary_activation"] = "tanh".into();
    add(
        &mut checkpoint,
        "multiple_choice_head.summary.weight",
        &[1, WIDTH],
    );
    add(&mut checkpoint, "multiple_choice_head.summary.bias", &[1]);
    let (model, _, _) = model_of(&checkpoint, "f32");
    assert_eq!(model.class, ModelClass::DoubleHeads);
    assert_eq!(model.head.summary.kind, SummaryType::Mean);
    assert_eq!(model.head.summary.activation, Some(Activation::Tanh));
    assert_eq!(model.head.outputs, 1);
    // As wide as the model.
    checkpoint.config["summary_proj_to_labels"] = false.into();
    add(
        &mut checkpoint,
        "multiple_choice_head.summary.weight",
        &[WIDTH; 2],
    );
    add(
        &mut checkpoint,
        "multiple_choice_head.summary.bias",
        &[WIDTH],
    );
    assert_eq!(model_of(&checkpoint, "f32").0.head.outputs, WIDTH);
    // No matrix at all.
    checkpoint.config["summary_use_proj"] = false.into();
    checkpoint
        .tensors
        .retain(|name, _| !name.starts_with("multiple_choice"));
    let (model, gguf, _) = model_of(&checkpoint, "f32");
    assert_eq!(
        (model.class, model.head.outputs),
        (ModelClass::DoubleHeads, 0)
    );
    assert!(gguf.tensor("cls.output.weight").is_none());
}

#[test]
fn a_classifier_needs_no_language_head() {
    let mut checkpoint = of_class("GPT2ForQuestionAnswering");
    checkpoint.config["tie_word_embeddings"] = false.into();
    add(&mut checkpoint, "qa_outputs.weight", &[2, WIDTH]);
    add(&mut checkpoint, "qa_outputs.bias", &[2]);
    let (model, _, _) = model_of(&checkpoint, "f16");
    assert_eq!(model.class, ModelClass::QuestionAnswering);
    assert!(!model.predicts_tokens());
}

#[test]
fn a_bare_model_predicts_tokens_unless_its_head_is_apart() {
    let mut checkpoint = of_class("GPT2Model");
    let (model, _, _) = model_of(&checkpoint, "f16");
    assert_eq!(model.class, ModelClass::Base);
    assert!(model.predicts_tokens());
    checkpoint.config["tie_word_embeddings"] = false.into();
    let (model, _, _) = model_of(&checkpoint, "f16");
    assert!(!model.predicts_tokens());
}

#[test]
fn a_head_that_is_missing_is_named() {
    for (class, tensor) in [
        ("GPT2ForSequenceClassification", "score.weight"),
        ("TFGPT2ForSequenceClassification", "score.weight"),
        ("GPT2ForTokenClassification", "classifier.weight"),
        ("GPT2ForQuestionAnswering", "qa_outputs.weight"),
        (
            "GPT2DoubleHeadsModel",
            "multiple_choice_head.summary.weight",
        ),
    ] {
        let message = refusal(&of_class(class));
        let class = class.trim_start_matches("TF");
        assert!(
            message.contains(tensor) && message.contains("missing"),
            "{message}"
        );
        assert!(message.contains(class), "{message}");
    }
    let mut untied = of_class("GPT2LMHeadModel");
    untied.config["tie_word_embeddings"] = false.into();
    let message = refusal(&untied);
    assert!(message.contains("lm_head.weight"), "{message}");
    let mut no_bias = of_class("GPT2ForQuestionAnswering");
    add(&mut no_bias, "qa_outputs.weight", &[2, WIDTH]);
    let message = refusal(&no_bias);
    assert!(message.contains("qa_outputs.bias"), "{message}");
}

#[test]
fn a_summary_that_is_not_there_is_refused() {
    let mut checkpoint = of_class("GPT2DoubleHeadsModel");
    checkpoint.config["summary_type"] = "attn".into();
    let message = refusal(&checkpoint);
    assert!(message.contains("summary_type 'attn'"), "{message}");
    let mut labels = of_class("GPT2ForSequenceClassification");
    labels.config["id2label"] = json!({"0": 7});
    assert!(refusal(&labels).contains("id2label"));
    labels.config["id2label"] = json!({"0": "a", "18446744073709551615": "b"});
    assert!(refusal(&labels).contains("id2label"));
}

#[test]
fn the_tensors_count_for_more_than_the_claim() {
    let mut checkpoint = of_class("GPT2LMHeadModel");
    add(&mut checkpoint, "score.weight", &[1, WIDTH]);
    let (model, _, warnings) = model_of(&checkpoint, "f16");
    assert_eq!(model.class, ModelClass::SequenceClassification);
    let told = warnings.iter().any(|line| line.contains("GPT2LMHeadModel"));
    assert!(told, "{warnings:?}");
}
