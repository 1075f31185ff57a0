//! llama.cpp's endpoint.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::Value as Json;

use super::common::{Body, Handlers, document, plan};
use super::run;
use super::sse::{Format, stream};
use crate::error::ApiError;
use crate::protocol::{Piece, Served, Tokens, llama};

/// `POST /completion`.
pub(super) async fn completion(
    State(handlers): State<Handlers>,
    body: Body,
) -> Result<Response, ApiError> {
    let (engine, served) = (&handlers.app.engine, &handlers.served);
    let llama::Plan { generation, form } = plan(body, served, llama::Plan::of).await?;
    if form.stream {
        let running = run::begin(engine, served, generation)?;
        let events = Events {
            served: Arc::clone(served),
            form,
            end: Piece::default(),
        };
        return Ok(stream(running, events));
    }
    let (texts, tokens) = run::whole(engine, served, generation).await?;
    let piece = texts.into_iter().flatten().next().unwrap_or_default();
    Ok(document(&form.whole(served, &piece, &tokens)))
}

struct Events {
    served: Arc<Served>,
    form: llama::Form,
    /// Why the text ended.
    end: Piece,
}

impl Format for Events {
    fn piece(&mut self, _choice: usize, mut piece: Piece) -> Vec<Json> {
        self.end.finish = piece.finish.take();
        if piece.text.is_empty() && piece.tokens.is_empty() {
            return Vec::new();
        }
        vec![self.form.part(&self.served, &piece)]
    }

    fn end(&mut self, tokens: &Tokens) -> Vec<Json> {
        vec![self.form.whole(&self.served, &self.end, tokens)]
    }

    fn last(&self) -> &'static str {
        ""
    }
}
