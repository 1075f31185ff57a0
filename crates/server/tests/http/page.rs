//! The page: what it is sent with.

use crate::common::{Server, Setup};

#[test]
fn the_page_is_sent_with_its_policy() {
    let server = Server::start(Setup::default());
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        answer.header("content-security-policy"),
        Some(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert!(answer.body.starts_with("<!"), "{}", answer.body);
    let tag = answer.header("etag").unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"x\", {tag}");
    let again = server.ask(&head, "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(tag));
    server.get("/index.html/../../Cargo.toml").is_error(404);
}

#[test]
fn the_page_can_be_left_out() {
    let mut setup = Setup::default();
    setup.settings.page = false;
    let server = Server::start(setup);
    server.get("/").is_error(404);
    assert_eq!(server.get("/health").status, 200);
}
