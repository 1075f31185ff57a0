//! Bodies of requests: how large, how deep, how slow, how much of them at a time.

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

    /// Reads a body of JSON. The memory counts as taken until the permit is dropped.
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
        check_depth(&bytes, limits.json_depth)?;
        Ok((bytes.into(), taken))
    }
}

/// Refuses JSON with more levels than `most`, before anything reads it.
fn check_depth(json: &[u8], most: usize) -> Result<(), ApiError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return Err(ApiError::invalid(format!(
                "expected JSON of at most {most} levels, found more"
            )));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_depth(nested(64).as_bytes(), 64).is_ok());
        assert!(check_depth(nested(65).as_bytes(), 64).is_err());
        assert!(check_depth("[".repeat(1 << 20).as_bytes(), 64).is_err());
        let text = format!(r#"{{"prompt": "\"{}\\"}}"#, "[".repeat(100));
        assert!(check_depth(text.as_bytes(), 64).is_ok());
        let after = format!(r#"{{"prompt": "\\", "x": {}}}"#, nested(64));
        assert!(check_depth(after.as_bytes(), 64).is_err());
        let beside = "[],".repeat(1000);
        assert!(check_depth(beside.as_bytes(), 1).is_ok());
    }
}
