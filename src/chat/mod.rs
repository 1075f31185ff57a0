//! Conversations: turns become the prompt that a model continues.
//!
//! A [`Conversation`] is a list of turns; a [`ChatFormat`] says how they are joined ([`format`]):
//! by the chat template that the model's file carries ([`template`]), each followed by the end of
//! text as `DialoGPT` has it, or as a plain transcript. [`prompt`] chooses what of a long
//! conversation fits, and keeps the tokens that a session holds. Knows texts and the tokenizer;
//! nothing of sessions, graphs or terminals.

mod conversation;
mod file;
mod format;
mod message;
mod prompt;
#[cfg(feature = "chat-template")]
mod python_json;
mod special_tokens;
#[cfg_attr(not(feature = "chat-template"), path = "no_template.rs")]
mod template;

pub use conversation::Conversation;
pub use format::ChatFormat;
pub use message::{Message, Role};
pub use prompt::{Prompt, Room};
