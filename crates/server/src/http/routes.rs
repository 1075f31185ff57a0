//! All routes: the protocols', the page's, and those that tell how the server does.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::json;

use super::guard::{Guard, guard};
use super::page;
use crate::error::ApiError;
use crate::handlers;
use crate::metrics;
use crate::settings::AppState;

/// Everything the server answers, behind its guard.
pub fn router(state: AppState) -> Router {
    let own = Router::new()
        .route("/health", get(health))
        .route("/version", get(version))
        .route("/metrics", get(counted))
        .route("/v1/responses", any(no_responses))
        .with_state(state.clone());
    let page = if state.settings.page {
        page::routes()
    } else {
        Router::new()
    };
    own.merge(page)
        .merge(handlers::routes(state.clone()))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Guard::new(state), guard))
}

/// Answered by this thread alone, so that it tells the truth while the model's is at work.
async fn health(State(state): State<AppState>) -> Response {
    if state.engine.is_open() {
        return Json(json!({"status": "ok"})).into_response();
    }
    ApiError::from(crate::engine::EngineError::Closing).into_response()
}

async fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

async fn counted(State(state): State<AppState>) -> Response {
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE)],
        state.metrics.text(),
    )
        .into_response()
}

async fn no_responses() -> ApiError {
    let message = "there is no Responses API here; use POST /v1/chat/completions";
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn unknown(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(100).collect();
    let message = format!("there is nothing at {path}");
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
