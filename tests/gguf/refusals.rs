//! Broken GGUF files are refused with an error that says what and where.

use std::collections::HashSet;
use std::sync::Arc;

use crate::hostile::gguf::{gguf_cases, gguf_value_cases};
use crate::hostile::{HostileFile, raw};
use gpt2::gguf::Gguf;

/// The error must have the phrase and be one line a person can read.
fn check(case: &HostileFile, error: Option<gpt2::Error>) -> Result<(), String> {
    let Some(error) = error else {
        return Err(format!("{}: was accepted", case.name));
    };
    let message = error.to_string();
    println!("{:>45}: {message}", case.name);
    if !message.contains(case.expect) {
        return Err(format!(
            "{}: {:?} is not in {message:?}",
            case.name, case.expect
        ));
    }
    if message.len() > 400 || message.contains(|shown: char| shown.is_control()) {
        return Err(format!("{}: not one clear line: {message:?}", case.name));
    }
    Ok(())
}

fn check_all(cases: &[HostileFile], error: impl Fn(&HostileFile) -> Option<gpt2::Error>) {
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case, error(case)).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn files_are_refused() {
    let cases = gguf_cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let names: HashSet<&str> = cases.iter().map(|case| case.file_name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "file names must differ");
    check_all(&cases, |case| {
        Gguf::parse(Arc::new(case.bytes.clone())).err()
    });
}

#[test]
fn values_are_refused_when_they_are_read() {
    check_all(&gguf_value_cases(), |case| {
        let file = Gguf::parse(Arc::new(case.bytes.clone())).unwrap();
        file.metadata().to_value("bad").err()
    });
}

#[test]
fn the_file_they_are_made_from_is_valid() {
    let file = Gguf::parse(Arc::new(raw::valid().bytes)).unwrap();
    let metadata = file.metadata();
    assert_eq!((metadata.len(), file.tensors().len()), (15, 4));
    for key in metadata.keys() {
        metadata.to_value(key).unwrap();
    }
    assert_eq!(
        metadata
            .required_strings("tokenizer.ggml.tokens")
            .unwrap()
            .len(),
        4
    );
    assert_eq!(file.tensor("cube").unwrap().elements(), 12);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = raw::valid().bytes;
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap().to_vec();
        assert!(Gguf::parse(Arc::new(cut)).is_err(), "cut to {length} bytes");
    }
}
