//! The commands as their users meet them: text in, text out, exit statuses.
//!
//! They run the demo model that is inside the program, or its f32 conversion.
#![cfg(feature = "demo-model")]

mod chat;
mod checkpoints;
mod decoding;
mod devices;
mod documents;
mod generate;
mod generation;
#[cfg(feature = "grammar")]
mod grammar;
mod habits;
#[cfg(target_os = "linux")]
mod limits;
mod manners;
mod measure;
mod reference;
mod refusals;
mod run;
mod scores;
#[cfg(all(unix, feature = "serve"))]
mod serve;
#[cfg(unix)]
mod signals;
mod tasks;
mod text;
mod tokenizers;
#[cfg(all(feature = "rpc", unix))]
mod workers;
