//! The editor page: files that are part of the program.

use std::hash::{DefaultHasher, Hasher};

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page runs and shows what comes from here, and nothing else; no other page may frame it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// One file of the page.
#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal $kind:ident $name:literal,)*) => {
        &[$(File {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("../../page/", $name)),
        }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Every file of `page/`.
const FILES: &[File] = files! {
    "/" HTML "index.html",
    "/api.js" JS "api.js",
    "/caret.js" JS "caret.js",
    "/dom.js" JS "dom.js",
    "/editor.js" JS "editor.js",
    "/files.js" JS "files.js",
    "/fit.js" JS "fit.js",
    "/history.js" JS "history.js",
    "/inside.js" JS "inside.js",
    "/main.js" JS "main.js",
    "/messages.js" JS "messages.js",
    "/panels.js" JS "panels.js",
    "/settings.js" JS "settings.js",
    "/sse.js" JS "sse.js",
    "/status.js" JS "status.js",
    "/store.js" JS "store.js",
    "/style.css" CSS "style.css",
    "/suggestions.js" JS "suggestions.js",
    "/text-list.js" JS "text-list.js",
    "/texts.js" JS "texts.js",
    "/tree.js" JS "tree.js",
};

/// Whether the page has something at `path`.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// The routes of the page.
pub(super) fn routes() -> Router {
    FILES.iter().fold(Router::new(), |router, file| {
        let answer = move |headers: HeaderMap| async move { answer(file, &headers) };
        router.route(file.path, get(answer))
    })
}

fn answer(file: &'static File, request: &HeaderMap) -> Response {
    let tag = tag(file.bytes);
    let known = request
        .get(IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok());
    let known = known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(file.bytes).into_response();
        let kind = HeaderValue::from_static(file.kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    // Looked at again each time: another version of the program may have another page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// What changes when the file does.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let names = std::fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let shown: BTreeSet<String> = names
            .filter(|name| {
                let ending = name.rsplit_once('.').map(|(_, ending)| ending);
                matches!(ending, Some("html" | "css" | "js"))
            })
            .map(|name| {
                if name == "index.html" {
                    "/".to_owned()
                } else {
                    format!("/{name}")
                }
            })
            .collect();
        let paths: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(paths, shown);
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes <= 100 << 10, "the page has {bytes} bytes");
    }
}
