//! What the handlers share: their state, reading a body, and answers of one document.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::FromRef;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value as Json;

use crate::error::ApiError;
use crate::protocol::{Served, may_compile};
use crate::settings::AppState;

/// Bodies above this, and grammars, are read on the runtime's few other threads, so that nothing
/// else waits.
const LARGE: usize = 16 << 10;

/// What the handlers of the protocols share.
#[derive(Debug, Clone)]
pub(super) struct Handlers {
    pub(super) app: AppState,
    pub(super) served: Arc<Served>,
}

impl FromRef<Handlers> for Arc<Served> {
    fn from_ref(handlers: &Handlers) -> Self {
        Arc::clone(&handlers.served)
    }
}

/// A request's body, or why there is none.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// What a body asks for.
pub(super) async fn plan<T: Send + 'static>(
    body: Body,
    served: &Arc<Served>,
    read: fn(&[u8], &Served) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let body =
        body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    if body.len() <= LARGE && !may_compile(&body) {
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
pub(super) fn document(json: &Json) -> Response {
    text(json.to_string())
}

/// A response of one JSON document that is written out already.
pub(super) fn text(json: String) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, json).into_response()
}
