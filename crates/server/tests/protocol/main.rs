//! The protocols over the engine and the demo model, in one process and without a socket.

mod completions;
mod server;
