//! vLLM's endpoints of the tokenizer.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::common::{Body, Handlers, document, plan};
use crate::error::ApiError;
use crate::protocol::{Served, tokenizer};

/// `POST /tokenize`.
pub(super) async fn tokenize(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let tokens = plan(body, &handlers.served, tokenizer::tokenize).await?;
    Ok(document(&tokens))
}

/// `POST /detokenize`.
pub(super) async fn detokenize(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let text = plan(body, &handlers.served, tokenizer::detokenize).await?;
    Ok(document(&text))
}

/// `GET /tokenizer_info`.
pub(super) async fn info(State(served): State<Arc<Served>>) -> Result<Response, ApiError> {
    Ok(document(&tokenizer::info(&served)?))
}
