//! What every request must pass before a handler sees it, and what every answer carries.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::body::Bodies;
use super::connection::ReachedAt;
use super::cors::From;
use super::page;
use super::request_id::{self, RequestIds};
use crate::error::ApiError;
use crate::settings::AppState;

const BASIC: &[u8] = b"basic ";
const BEARER: &[u8] = b"bearer ";

/// What the guard knows.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    state: AppState,
    bodies: Bodies,
    ids: Arc<RequestIds>,
}

impl Guard {
    pub(super) fn new(state: AppState) -> Self {
        Self {
            bodies: Bodies::new(&state.settings.limits),
            ids: Arc::new(RequestIds::new()),
            state,
        }
    }

    /// Whether `path` may be read without the key.
    fn is_open(&self, path: &str) -> bool {
        path == "/health" || (path == "/metrics" && self.state.settings.open_metrics)
    }

    /// The key, where there is one: as a bearer token, as `x-api-key`, or as the password with
    /// which a browser opens the page.
    fn check_key(&self, request: &Request) -> Result<(), ApiError> {
        let Some(key) = &self.state.settings.key else {
            return Ok(());
        };
        if self.is_open(request.uri().path()) {
            return Ok(());
        }
        let headers = request.headers();
        let shown = headers.get("x-api-key").map(HeaderValue::as_bytes);
        let credentials = headers.get(AUTHORIZATION).and_then(credentials);
        let shown = [shown, credentials.as_deref()];
        if shown.into_iter().flatten().any(|shown| key.is(shown)) {
            return Ok(());
        }
        let message = "expected the API key as `Authorization: Bearer KEY`, found none or another";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
    }
}

/// The layer around all routes.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let settings = &guard.state.settings;
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let from = From::of(request.headers(), &settings.origins);
    let answer = pass(&guard, &from, request, next).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let status = response.status();
    guard.state.metrics.answered(&route, status.as_u16());
    let headers = response.headers_mut();
    from.mark(!settings.origins.is_empty(), headers);
    headers.insert(request_id::NAME, guard.ids.next());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn pass(
    guard: &Guard,
    from: &From,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let settings = &guard.state.settings;
    if !names_us(&request, |host, local| settings.hosts.allow(host, local)) {
        let message = "this server does not go by the name in the header Host";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message).code("host_not_allowed"));
    }
    if request.method() == Method::OPTIONS {
        return Ok(from.preflight(request.headers()));
    }
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if !reads && *from == From::Foreign {
        let message = "pages of this origin may not use this server";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message).code("origin_not_allowed"));
    }
    if let Err(refused) = guard.check_key(&request) {
        let mut response = refused.into_response();
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, challenge(request.uri().path()));
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    if reads {
        // Nothing is read of it.
        drop(body);
        return Ok(next.run(Request::from_parts(parts, Body::empty())).await);
    }
    check_type(&parts.headers)?;
    let read = guard.bodies.read(&parts.headers, body, &settings.limits);
    let (bytes, _taken) = read.await?;
    Ok(next
        .run(Request::from_parts(parts, Body::from(bytes)))
        .await)
}

/// Whether every name that the request gives the server is one of the server's.
fn names_us(request: &Request, allow: impl Fn(&str, IpAddr) -> bool) -> bool {
    let reached = request.extensions().get::<ReachedAt>();
    let local = reached.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |reached| reached.0);
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    // A whole URL as the target names a host too.
    let target = request.uri().authority().map(Authority::as_str);
    let host = host.to_str().unwrap_or("");
    [Some(host), target]
        .into_iter()
        .flatten()
        .all(|host| allow(host, local))
}

/// The token of `Bearer TOKEN`, or the password of `Basic`.
fn credentials(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, rest) = value.as_bytes().split_at_checked(BASIC.len())?;
    if scheme.eq_ignore_ascii_case(BASIC) {
        let pair = BASE64.decode(rest.trim_ascii()).ok()?;
        let colon = pair.iter().position(|&byte| byte == b':')?;
        return Some(pair[colon + 1..].to_vec());
    }
    let (scheme, rest) = value.as_bytes().split_at_checked(BEARER.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER);
    is_bearer.then(|| rest.trim_ascii().to_vec())
}

/// What a client is asked for: by a browser that opens the page, a name and a password, of which
/// the password is the key; it sends them with what the page asks for, too.
fn challenge(path: &str) -> HeaderValue {
    HeaderValue::from_static(if page::has(path) {
        "Basic realm=\"gpt2: any name, the API key as the password\", charset=\"UTF-8\""
    } else {
        "Bearer"
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("")
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "expected a body with `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}
