//! Server-sent events: the body of a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::Value as Json;
use tokio::time::{Instant, Sleep, sleep};

use super::run::{Running, Update};
use crate::error::ApiError;
use crate::protocol::{Piece, Tokens};

/// How often a stream that has nothing to say shows that it is there.
const PING: Duration = Duration::from_secs(15);

/// How the events of a protocol are written.
pub(super) trait Format: Send + Unpin + 'static {
    /// The events of a piece of a choice.
    fn piece(&mut self, choice: usize, piece: Piece) -> Vec<Json>;
    /// The events after all pieces.
    fn end(&mut self, tokens: &Tokens) -> Vec<Json>;
    /// What stands after the last event.
    fn last(&self) -> &'static str {
        "data: [DONE]\n\n"
    }
}

/// A response that sends what comes of a generation, as it comes.
pub(super) fn stream(running: Running, format: impl Format) -> Response {
    let headers = [
        (CONTENT_TYPE.as_str(), "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    let events = Events {
        running: Some(running),
        format,
        ready: VecDeque::new(),
        ping: Box::pin(sleep(PING)),
    };
    (headers, Body::new(events)).into_response()
}

struct Events<F> {
    /// None when nothing more comes; what it held is cancelled then.
    running: Option<Running>,
    format: F,
    ready: VecDeque<String>,
    ping: Pin<Box<Sleep>>,
}

impl<F: Format> Events<F> {
    fn take(&mut self, update: Update) {
        match update {
            Update::Piece(choice, piece) => {
                let events = self.format.piece(choice, piece);
                self.ready.extend(events.iter().map(event));
            }
            Update::Done(tokens) => {
                let events = self.format.end(&tokens);
                self.ready.extend(events.iter().map(event));
                let last = self.format.last();
                if !last.is_empty() {
                    self.ready.push_back(last.to_owned());
                }
                self.running = None;
            }
            Update::Failed(error) => self.fail(&error),
        }
    }

    /// The status was sent long ago: an event says it, and the connection's end.
    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(event(&error.body()));
        self.running = None;
    }
}

fn event(json: &Json) -> String {
    format!("data: {json}\n\n")
}

impl<F: Format> HttpBody for Events<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(text) = this.ready.pop_front() {
                this.ping.as_mut().reset(Instant::now() + PING);
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            let Some(running) = &mut this.running else {
                return Poll::Ready(None);
            };
            match running.updates.poll_recv(context) {
                Poll::Ready(Some(update)) => this.take(update),
                Poll::Ready(None) => this.fail(&crate::engine::EngineError::Lost.into()),
                Poll::Pending => {
                    if this.ping.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    this.ready.push_back(": ping\n\n".to_owned());
                }
            }
        }
    }
}
