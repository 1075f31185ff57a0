//! The protocols: bytes of JSON to a checked plan, and what the model makes to JSON.
//!
//! Pure: nothing here waits, and nothing knows a connection or the thread of the model. A request
//! is one table of fields ([`fields`]); the library's parameters go to the library's table by their
//! name. Every number is bounded before anything is allocated for it.

mod chat;
mod choices;
mod completions;
mod fields;
mod input;
mod json;
mod refusal;
mod response;
mod served;
mod text;

pub use served::Served;
