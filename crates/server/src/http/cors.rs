//! Pages of other servers: which may use the server, and how browsers are told.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// Methods that some route answers.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");

/// Headers that clients send beside those that need no leave.
const HEADERS: [&str; 3] = ["authorization", "content-type", "x-api-key"];

/// Those of `OpenAI`'s clients, which tell of themselves.
const CLIENT_PREFIX: &str = "x-stainless-";

/// Chrome asks so before a page of the internet may reach this network.
const PRIVATE_REQUEST: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const PRIVATE_ALLOW: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Where a request comes from, as its browser says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// No page, or one of this server.
    Here,
    /// A page of an origin that is listed.
    Listed(HeaderValue),
    /// Any other page.
    Foreign,
}

impl From {
    pub(super) fn of(headers: &HeaderMap, listed: &[String]) -> Self {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Self::Here;
        };
        let Ok(text) = origin.to_str() else {
            return Self::Foreign;
        };
        if origins.next().is_some() {
            return Self::Foreign;
        }
        if listed.iter().any(|listed| listed == text) {
            return Self::Listed(origin.clone());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let scheme = text.split_once("://");
        match (scheme, host) {
            (Some(("http" | "https", name)), Some(host)) if name.eq_ignore_ascii_case(host) => {
                Self::Here
            }
            _ => Self::Foreign,
        }
    }

    /// Lets a listed origin's page read the answer.
    pub(super) fn mark(&self, any_listed: bool, headers: &mut HeaderMap) {
        if any_listed {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Self::Listed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static("x-request-id, retry-after");
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// The answer to OPTIONS: what a page may send, if it may anything.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(ALLOW, METHODS);
        if !matches!(self, Self::Listed(_)) {
            return response;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed(request));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if request.contains_key(PRIVATE_REQUEST) {
            headers.insert(PRIVATE_ALLOW, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The headers that a page may send: ours, and those of the clients that it asks for.
fn allowed(request: &HeaderMap) -> HeaderValue {
    let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.and_then(|value| value.to_str().ok()).unwrap_or("");
    let wanted = wanted.split(',').map(str::trim).filter(|name| {
        let prefix = name.get(..CLIENT_PREFIX.len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(CLIENT_PREFIX))
    });
    let names: Vec<&str> = HEADERS.into_iter().chain(wanted).collect();
    // Parts of a header's value make one again.
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("content-type"))
}
