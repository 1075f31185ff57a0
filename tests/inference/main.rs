//! Models at work, as users of the library meet them: against transformers' results, in batches, in
//! several sessions, in company, with every way to decode, on several devices, in conversations.

mod batches;
#[cfg(feature = "chat-template")]
mod chat;
#[path = "../common/mod.rs"]
mod common;
mod company;
mod decoder;
mod decoding;
mod devices;
mod golden;
#[cfg(feature = "rpc")]
mod lost_worker;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod resident;
mod saved_cache;
mod scheduler;
mod scores;
mod sessions;
mod sources;
