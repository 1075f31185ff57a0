//! GGUF files: read, and run.

use std::sync::Arc;

use gpt2::gguf::Gguf;
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use gpt2::spec::{Hyperparameters, ModelTensors};
use gpt2::tokenizer::Tokenizer;

use crate::files::with_zeros;

/// Everything that is read from a file before it is run.
pub fn gguf(data: &[u8]) {
    let Ok(gguf) = Gguf::parse(Arc::new(data.to_vec())) else {
        return;
    };
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        let _ = metadata.to_value(key);
    }
    for tensor in gguf.tensors() {
        let _ = gguf.tensor_data(tensor);
    }
    if let Ok(hyperparameters) = Hyperparameters::from_gguf(&gguf) {
        let _ = ModelTensors::find(&gguf, &hyperparameters);
    }
    if let Ok(tokenizer) = Tokenizer::from_metadata(metadata) {
        let ids = tokenizer.encode("It is a truth, 42\n").unwrap_or_default();
        let _ = tokenizer.decode(&ids);
    }
}

/// A file that is loaded and computes.
pub fn model(data: &[u8]) {
    let Ok(model) = Model::from_bytes(Arc::new(with_zeros(data)), &ModelOptions::default()) else {
        return;
    };
    let options = SessionOptions {
        threads: Some(1),
        ..SessionOptions::default()
    };
    let Ok(mut session) = Session::new(model, options) else {
        return;
    };
    let _ = session.prefill(&[0, 1, 0]);
    let _ = session.decode(0);
}
