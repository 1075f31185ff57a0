//! Thin handlers: bytes to a plan by `protocol`, a plan to the engine, events back to JSON.
//!
//! Nothing here decides what a field means, and nothing waits for the model's thread but the
//! futures of the requests themselves.

mod common;
mod heads;
mod llama;
mod openai;
mod run;
mod sse;
mod tokenizer;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::protocol::Served;
use crate::settings::AppState;
use common::Handlers;

/// The endpoints of the protocols: OpenAI's, vLLM's, llama.cpp's and the task heads'.
pub fn routes(state: AppState) -> Router {
    let settings = &state.settings;
    let mut served = Served::new(
        state.engine.model(),
        settings.name.clone(),
        state.engine.context(),
    );
    served.created = settings.started;
    served.max_tokens = settings.max_tokens;
    served.json_depth = settings.limits.json_depth;
    served.at_work = state.engine.texts();
    let handlers = Handlers {
        app: state,
        served: Arc::new(served),
    };
    Router::new()
        .route("/v1/completions", post(openai::completions))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/classify", post(heads::classify))
        .route("/tag", post(heads::tag))
        .route("/answer", post(heads::answer))
        .route("/choose", post(heads::choose))
        .route("/completion", post(llama::completion))
        .route("/tokenize", post(tokenizer::tokenize))
        .route("/detokenize", post(tokenizer::detokenize))
        .route("/tokenizer_info", get(tokenizer::info))
        .with_state(handlers)
}
