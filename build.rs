//! Builds ggml and links it into the library.
fn main() {}
