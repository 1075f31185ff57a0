//! The protocols over the engine and the demo model, in one process and without a socket.

mod chat;
mod completions;
mod documents;
mod embeddings;
mod golden;
mod grammars;
mod heads;
mod llama;
mod scores;
mod server;
mod tokenizer;
