//! GGUF files: written and read back, and broken.

#[path = "../hostile/mod.rs"]
mod hostile;
mod refusals;
mod round_trip;
