//! Names, origins, keys.

use gpt2_server::{ApiKey, Hosts, Settings};

use crate::common::{Answer, Server, Setup, completion, post};

fn server(change: impl FnOnce(&mut Settings)) -> Server {
    let mut setup = Setup::default();
    change(&mut setup.settings);
    Server::start(setup)
}

/// A GET with these header lines.
fn get(server: &Server, path: &str, headers: &[&str]) -> Answer {
    let lines = headers.join("\r\n");
    server.ask(format!("GET {path} HTTP/1.1\r\n{lines}").trim_end(), "")
}

#[test]
fn only_names_of_the_server_are_answered() {
    let server = server(|settings| {
        settings.hosts = Hosts::new(&["box.example".to_owned()]).unwrap();
        settings.key = Some(ApiKey::new("secret").unwrap());
    });
    let port = server.address.port();
    for path in ["/health", "/", "/v1/models", "/nowhere"] {
        for host in [
            "Host: evil.example".to_owned(),
            format!("Host: evil.example:{port}"),
            "Host: localhost.".to_owned(),
            "Host: localhost.evil.example".to_owned(),
            "Host: 127.0.0.1.nip.io".to_owned(),
            "Host: 0.0.0.0".to_owned(),
            "Host: [::2]".to_owned(),
            "Host:".to_owned(),
            "X-None: no Host at all".to_owned(),
            "Host: localhost\r\nHost: evil.example".to_owned(),
        ] {
            let answer = get(&server, path, &[&host, "Authorization: Bearer secret"]);
            let error = answer.is_error(403);
            assert_eq!(error["code"], "host_not_allowed", "{path} {host}");
        }
    }
    for host in [
        "localhost".to_owned(),
        format!("LOCALHOST:{port}"),
        "127.0.0.1:1".to_owned(),
        "127.1.2.3".to_owned(),
        format!("[::1]:{port}"),
        "box.example".to_owned(),
    ] {
        let answer = get(&server, "/health", &[&format!("Host: {host}")]);
        assert_eq!(answer.status, 200, "{host}");
    }
    // A whole URL as the target counts too, and HTTP/1.0 needs no Host but we do.
    let target = "GET http://evil.example/health HTTP/1.1\r\nHost: localhost";
    server.ask(target, "").is_error(403);
    server.ask("GET /health HTTP/1.0", "").is_error(403);
    // The name is asked before the key, and before what browsers ask.
    get(&server, "/v1/models", &["Host: evil.example"]).is_error(403);
    server
        .ask("OPTIONS /v1/models HTTP/1.1\r\nHost: evil.example", "")
        .is_error(403);
}

#[test]
fn pages_from_elsewhere_may_not_use_the_server() {
    let listed = "https://app.example";
    let server = server(|settings| settings.origins = vec![listed.to_owned()]);
    let body = completion("Emma", 1, false);
    let with = |origin: &str| {
        let headers = format!("Content-Type: application/json\r\nOrigin: {origin}");
        server.ask(&post("/v1/completions", &headers), &body)
    };
    let port = server.address.port();
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "https://app.example:444",
        "http://app.example",
        "http://localhost:1",
        &format!("http://127.0.0.1:{port}"),
        "file://",
        "",
    ] {
        let answer = with(origin);
        assert_eq!(
            answer.is_error(403)["code"],
            "origin_not_allowed",
            "{origin}"
        );
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
    }
    let answer = with(listed);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(listed));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    // The page of this server itself: its origin is what Host says.
    let answer = with("http://localhost");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    // Reading is the browser's to forbid: it has no leave.
    let answer = get(
        &server,
        "/v1/models",
        &["Host: localhost", "Origin: https://evil.example"],
    );
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
}

#[test]
fn preflights_are_answered_without_a_key() {
    let listed = "https://app.example";
    let server = server(|settings| {
        settings.origins = vec![listed.to_owned()];
        settings.key = Some(ApiKey::new("secret").unwrap());
    });
    let preflight = |origin: &str| {
        let head = format!(
            "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: \
             authorization,content-type,x-stainless-os,x-evil"
        );
        server.ask(&head, "")
    };
    let answer = preflight(listed);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(listed));
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"));
    assert!(
        allowed.contains("x-stainless-os") && !allowed.contains("x-evil"),
        "{allowed}"
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let answer = preflight("https://evil.example");
    assert_eq!(answer.status, 204);
    assert!(
        !answer
            .headers
            .iter()
            .any(|line| line.starts_with("access-control")),
        "{answer:?}"
    );
}

#[test]
fn everything_but_health_needs_the_key() {
    let server = server(|settings| settings.key = Some(ApiKey::new("secret").unwrap()));
    for path in [
        "/v1/models",
        "/metrics",
        "/version",
        "/",
        "/tokenizer_info",
        "/nowhere",
    ] {
        for header in [
            "X-None: none",
            "Authorization: Bearer",
            "Authorization: Bearer ",
            "Authorization: Bearer secre",
            "Authorization: Bearer secrets",
            "Authorization: Bearer Secret",
            "Authorization: secret",
            "x-api-key: other",
            "x-api-key:",
            "Authorization: Basic c2VjcmV0",
            "Authorization: Basic bm9i",
        ] {
            let answer = get(&server, path, &["Host: localhost", header]);
            let error = answer.is_error(401);
            assert_eq!(error["code"], "invalid_api_key", "{path} {header}");
            assert!(!answer.body.contains("secre"), "{answer:?}");
            assert!(answer.header("www-authenticate").is_some());
        }
        for header in [
            "Authorization: Bearer secret",
            "authorization: bearer  secret",
            "x-api-key: secret",
            // nobody:secret, as a browser sends it.
            "Authorization: Basic bm9ib2R5OnNlY3JldA==",
        ] {
            let answer = get(&server, path, &["Host: localhost", header]);
            let expected = if path == "/nowhere" { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{path} {header}");
            assert!(!answer.body.contains("secret"), "{path}");
        }
    }
    assert_eq!(server.get("/health").status, 200);
    let body = completion("Emma", 1, false);
    server.post("/v1/completions", &body).is_error(401);
    // A browser is asked for the key when it opens the page, and by nothing else.
    let challenge = |path| {
        server
            .get(path)
            .header("www-authenticate")
            .unwrap()
            .to_owned()
    };
    assert!(challenge("/").starts_with("Basic "));
    assert_eq!(challenge("/v1/models"), "Bearer");
}

#[test]
fn metrics_can_be_opened() {
    let server = server(|settings| {
        settings.key = Some(ApiKey::new("secret").unwrap());
        settings.open_metrics = true;
    });
    server.get("/version").is_error(401);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .body
            .contains(r#"gpt2_http_requests_total{route="/version",status="401"} 1"#),
        "{}",
        answer.body
    );
    assert!(answer.body.ends_with("# EOF\n"));
    server.get("/v1/models").is_error(401);
}

#[test]
fn without_a_key_any_is_fine() {
    let server = server(|_| {});
    for header in [
        "Authorization: Bearer ",
        "Authorization: Bearer x",
        "x-api-key: y",
    ] {
        let answer = get(&server, "/v1/models", &["Host: localhost", header]);
        assert_eq!(answer.status, 200, "{header}");
    }
}

#[test]
fn bodies_are_json_of_bounded_size_and_depth() {
    let server = server(|_| {});
    let body = completion("Emma", 1, false);
    for kind in [
        "X-None: none",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=application/json",
        "Content-Type: application/jsonp",
    ] {
        server
            .ask(&post("/v1/completions", kind), &body)
            .is_error(415);
    }
    let kind = "content-type: Application/JSON; charset=utf-8";
    assert_eq!(
        server.ask(&post("/v1/completions", kind), &body).status,
        200
    );
    let deep = format!(r#"{{"prompt":{}1{}}}"#, "[".repeat(70), "]".repeat(70));
    server.post("/v1/completions", &deep).is_error(400);
    let large = format!(r#"{{"prompt":"{}"}}"#, "a".repeat((1 << 20) + 1));
    server.post("/v1/completions", &large).is_error(413);
    for text in ["", "{", "\u{0}", "[]", "null", r#"{"prompt":1e999}"#] {
        server.post("/v1/completions", text).is_error(400);
    }
}

#[test]
fn every_answer_has_a_name_and_errors_their_form() {
    let server = server(|_| {});
    server.get("/nowhere").is_error(404);
    server.get("/v1/completions").is_error(405);
    server.post("/health", "{}").is_error(405);
    server.post("/v1/nowhere", "{}").is_error(404);
    let hint = server.post("/v1/responses", "{}").is_error(404);
    assert!(
        hint["message"]
            .as_str()
            .unwrap()
            .contains("/v1/chat/completions"),
        "{hint}"
    );
    let first = server.get("/health");
    let second = server.get("/health");
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert!(first.header("x-request-id").unwrap().starts_with("req_"));
    // HEAD is GET without the body.
    let mut client = server.connect();
    client.send(
        "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close",
        "",
    );
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client.stream, &mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}
