//! Thin handlers: bytes to a plan by `protocol`, a plan to the engine, events back to JSON.
//!
//! Nothing here decides what a field means, and nothing waits for the model's thread but the
//! futures of the requests themselves.

mod heads;
mod llama;
mod openai;
mod run;
mod sse;
mod tokenizer;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::FromRef;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value as Json;

use crate::error::ApiError;
use crate::protocol::Served;
use crate::settings::AppState;

/// Bodies above this are read on a thread of their own, so that others do not wait.
const LARGE: usize = 16 << 10;

/// What the handlers of the protocols share.
#[derive(Debug, Clone)]
struct Handlers {
    app: AppState,
    served: Arc<Served>,
}

impl FromRef<Handlers> for Arc<Served> {
    fn from_ref(handlers: &Handlers) -> Self {
        Arc::clone(&handlers.served)
    }
}

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

/// A request's body, or why there is none.
type Body = Result<Bytes, BytesRejection>;

/// What a body asks for.
async fn plan<T: Send + 'static>(
    body: Body,
    served: &Arc<Served>,
    read: fn(&[u8], &Served) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let body =
        body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    if body.len() <= LARGE {
        return read(&body, served);
    }
    let served = Arc::clone(served);
    let reading = tokio::task::spawn_blocking(move || read(&body, &served));
    match reading.await {
        Ok(plan) => plan,
        Err(_) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal error, please report it: reading the request ended early",
        )),
    }
}

/// A response of one JSON document.
fn document(json: &Json) -> Response {
    text(json.to_string())
}

/// A response of one JSON document that is written out already.
fn text(json: String) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, json).into_response()
}
