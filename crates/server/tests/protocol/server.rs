//! A server without connections: requests in, responses out.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use gpt2::{Model, ModelOptions};
use gpt2_server::engine::{Engine, EngineOptions, Plan, PlanOptions};
use gpt2_server::metrics::Metrics;
use gpt2_server::{AppState, Hosts, Limits, Settings, routes};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower_service::Service;

/// A value as it is when it has gone over the wire: the last digit of a number may be another.
pub(crate) fn sent(value: &impl serde::Serialize) -> Json {
    serde_json::from_str(&json!(value).to_string()).unwrap()
}

/// The demo model.
pub(crate) fn model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let open = || {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/austen-gpt2-q8_0.gguf"
        );
        Model::open(path, &ModelOptions::default()).unwrap()
    };
    Arc::clone(MODEL.get_or_init(open))
}

/// A server of `model`.
pub(crate) fn serve(model: Arc<Model>) -> Server {
    let plan = Plan::new(&model, &PlanOptions::default()).unwrap();
    let metrics = Arc::new(Metrics::new());
    let (engine, _ended) =
        Engine::start(model, &plan, EngineOptions::default(), Arc::clone(&metrics)).unwrap();
    let settings = Settings {
        name: "austen".to_owned(),
        started: 1_700_000_000,
        max_tokens: None,
        key: None,
        hosts: Hosts::new(&[]).unwrap(),
        origins: Vec::new(),
        page: false,
        open_metrics: false,
        limits: Limits::default(),
    };
    Server(routes(AppState {
        engine,
        settings: Arc::new(settings),
        metrics,
    }))
}

/// The server of the demo model that tests share.
pub(crate) fn austen() -> Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| serve(model())).clone()
}

#[derive(Clone)]
pub(crate) struct Server(Router);

impl Server {
    /// Status and body of a request.
    pub(crate) fn send(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut router = self.0.clone();
        runtime.block_on(async {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::from(body));
            let response = router.call(request.unwrap()).await.unwrap();
            let status = response.status();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        })
    }

    /// Status and document of a POST.
    pub(crate) fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        let (status, text) = self.send(Method::POST, path, body.to_string().into_bytes());
        (
            status.as_u16(),
            serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
        )
    }

    /// The document of a POST that succeeds.
    pub(crate) fn ok(&self, path: &str, body: &Json) -> Json {
        let (status, document) = self.post(path, body);
        assert_eq!(status, 200, "{body}: {document}");
        document
    }

    /// The error of a POST that is refused.
    pub(crate) fn refused(&self, path: &str, body: &Json) -> Json {
        let (status, document) = self.post(path, body);
        assert!((400..500).contains(&status), "{body}: {status} {document}");
        let mut error = document["error"].clone();
        error["status"] = status.into();
        error
    }

    /// The events of a streamed response, without the last, which must be `[DONE]`.
    pub(crate) fn events(&self, path: &str, body: &Json) -> Vec<Json> {
        let (status, text) = self.send(Method::POST, path, body.to_string().into_bytes());
        assert_eq!(status, 200, "{body}: {text}");
        let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
        let data = |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap());
        events.iter().map(|event| data(event).unwrap()).collect()
    }
}
