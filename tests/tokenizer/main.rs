//! Tokenizers: what a text becomes and what ids become, from files of checkpoints and of GGUF.

mod differential;
mod encoding;
mod files;
mod folders;
mod found;
