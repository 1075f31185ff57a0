//! GPT-2 models over HTTP: `OpenAI`'s interface, vLLM's and llama.cpp's where programs use them,
//! and the editor page.
//!
//! One thread owns the session and its scheduler; everything here that speaks HTTP runs on another,
//! and never waits for that one. Knows no graph, no kernel and no file: a request can name none.

pub mod engine;
pub mod error;
mod handlers;
mod http;
pub mod metrics;
pub mod protocol;
mod security;
mod serve;
mod settings;

pub use handlers::routes;
pub use http::router;
pub use security::{ApiKey, Hosts};
pub use serve::{ServeError, Stop, serve};
pub use settings::{AppState, Limits, Settings};
