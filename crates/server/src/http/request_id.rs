//! A name for every request, which the answer tells in `x-request-id`.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::{HeaderName, HeaderValue};

/// The header.
pub(super) const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// Numbers that differ from those of other starts of the program.
#[derive(Debug)]
pub(super) struct RequestIds {
    start: u32,
    next: AtomicU32,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        Self {
            start: RandomState::new().hash_one("start") as u32,
            next: AtomicU32::new(0),
        }
    }

    pub(super) fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("req_{:08x}{number:08x}", self.start);
        // Hexadecimal digits always are a header's value.
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("req"))
    }
}
