//! The endpoints of the task heads.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::common::{Body, Handlers, document, plan};
use crate::error::ApiError;
use crate::protocol::heads::{self, Plan};

/// `POST /classify`.
pub(super) async fn classify(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    work(
        &handlers,
        plan(body, &handlers.served, heads::classify).await?,
    )
    .await
}

/// `POST /tag`.
pub(super) async fn tag(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    work(&handlers, plan(body, &handlers.served, heads::tag).await?).await
}

/// `POST /answer`.
pub(super) async fn answer(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    work(
        &handlers,
        plan(body, &handlers.served, heads::answer).await?,
    )
    .await
}

/// `POST /choose`.
pub(super) async fn choose(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    work(
        &handlers,
        plan(body, &handlers.served, heads::choose).await?,
    )
    .await
}

async fn work(handlers: &Handlers, plan: Plan) -> Result<Response, ApiError> {
    let engine = &handlers.app.engine;
    match plan {
        Plan::One(job) => Ok(document(&engine.with_session(job).await?)),
        Plan::Rows(jobs) => {
            let mut rows = Vec::with_capacity(jobs.len());
            for job in jobs {
                rows.push(engine.with_session(job).await?);
            }
            Ok(document(&json!({ "rows": rows })))
        }
    }
}
