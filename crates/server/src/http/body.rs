//! Bodies of requests: how large, how slow, how much of them at a time. What is in them is the
//! protocols' to look at.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::settings::Limits;

/// The unit in which the memory of bodies is counted.
const UNIT: usize = 1 << 10;

/// How long, and how many bytes, what a refused body goes on with is thrown away: a client that
/// still writes when the connection closes may never read the answer.
const DISCARDING: Duration = Duration::from_secs(1);
const DISCARDED: usize = 16 << 20;

/// The memory that bodies may take together.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    free: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.bodies_bytes / UNIT)),
        }
    }

    /// Reads a body. The memory counts as taken until the permit is dropped.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        limits: &Limits,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limits.body_bytes as u64) {
            discard(body).await;
            return Err(too_large(limits));
        }
        let deadline = Instant::now() + limits.body;
        let mut bytes = Vec::new();
        let mut taken: Option<OwnedSemaphorePermit> = None;
        loop {
            let frame = timeout_at(deadline, body.frame());
            let Some(frame) = frame.await.map_err(|_| too_slow(limits))? else {
                break;
            };
            let frame = frame.map_err(|_| ApiError::invalid("the body ended too early"))?;
            // Trailers say nothing that is needed.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > limits.body_bytes {
                drop((bytes, taken));
                discard(body).await;
                return Err(too_large(limits));
            }
            let units = data.len().div_ceil(UNIT) as u32;
            let free = Arc::clone(&self.free);
            let more = free.try_acquire_many_owned(units).map_err(|_| full())?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                None => taken = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), taken))
    }
}

/// Throws away what still comes of `body`.
async fn discard(mut body: Body) {
    let deadline = Instant::now() + DISCARDING;
    let mut left = DISCARDED;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

fn too_large(limits: &Limits) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "expected a body of at most {} bytes, found more",
            limits.body_bytes
        ),
    )
}

fn too_slow(limits: &Limits) -> ApiError {
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        format!(
            "the body did not arrive within {} s",
            limits.body.as_secs_f32()
        ),
    )
}

fn full() -> ApiError {
    ApiError {
        retry_after: Some(Duration::from_secs(1)),
        ..ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many large requests at a time; try again",
        )
    }
}
