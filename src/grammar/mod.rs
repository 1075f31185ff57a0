//! Grammars that a text must keep to: Lark's notation or a JSON schema, made into the set of tokens
//! that may come next.
//!
//! The crate `llguidance` parses while the text is written. This room bounds what it may cost, and
//! fails closed: a grammar that cannot be followed any further ends the text with an error, never
//! with a text that does not keep to it. Knows tokenizers; knows neither models, logits nor
//! decoding methods.
//!
//! ```
//! # #[cfg(feature = "grammar")] {
//! use gpt2::grammar::Grammar;
//! use gpt2::{GenerationOptions, Model, ModelOptions, Session, SessionOptions, generate};
//!
//! let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let schema = r#"{"type": "object", "properties": {"happy": {"type": "boolean"}},
//!                  "required": ["happy"], "additionalProperties": false}"#;
//! let options = GenerationOptions {
//!     grammar: Some(Grammar::json_schema(model.token_trie()?, schema)?),
//!     ..GenerationOptions::default()
//! };
//! let prompt = model.tokenizer()?.encode("Is Elizabeth happy? ")?;
//! let mut session = Session::new(model, SessionOptions::default())?;
//! let text = generate(&mut session, &prompt, &options)?.finish()?.sequences.remove(0).text;
//! let value: serde_json::Value = serde_json::from_str(&text).unwrap();
//! assert!(value["happy"].is_boolean());
//! # }
//! # Ok::<(), gpt2::Error>(())
//! ```

#[cfg(feature = "grammar")]
mod bounds;
#[cfg_attr(not(feature = "grammar"), path = "no_engine.rs")]
mod engine;
#[cfg(feature = "grammar")]
mod schema;

use std::sync::Arc;

pub(crate) use engine::State;
pub use engine::TokenTrie;

use crate::Result;
use crate::tokenizer::Tokenizer;

/// A grammar over the tokens of one model. A clone is the same grammar; every text that keeps to it
/// has a state of its own.
#[derive(Clone)]
pub struct Grammar(Arc<engine::Compiled>);

impl Grammar {
    /// A grammar in `llguidance`'s variant of Lark's notation, which begins with the rule `start`.
    ///
    /// # Errors
    /// [`Error::Grammar`](crate::Error::Grammar) says what is wrong with it, or which bound it
    /// exceeds: 256 KiB of text, 4096 definitions, and what is computed for it.
    /// [`Error::Memory`](crate::Error::Memory) when the system refuses a thread.
    /// [`Error::Unsupported`](crate::Error::Unsupported) in a build without the feature `grammar`.
    pub fn lark(trie: &TokenTrie, text: &str) -> Result<Self> {
        engine::Compiled::lark(trie, text).map(|compiled| Self(Arc::new(compiled)))
    }

    /// JSON values that a schema (JSON Schema, draft 4 to 2020-12) allows. Between their parts is
    /// at most one space, or a new line and its indentation.
    ///
    /// # Errors
    /// [`Error::Grammar`](crate::Error::Grammar) for what is no schema or allows no value, for a
    /// reference out of the schema, and for one beyond the bounds: 256 KiB, 4096 schemas in it, 64
    /// levels. [`Error::Unsupported`](crate::Error::Unsupported) names a keyword that is not
    /// supported, and is what a build without the feature `grammar` gives;
    /// [`Error::Memory`](crate::Error::Memory) when the system refuses a thread.
    pub fn json_schema(trie: &TokenTrie, schema: &str) -> Result<Self> {
        engine::Compiled::json_schema(trie, schema).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// As [`Grammar::json_schema`].
    pub fn json_object(trie: &TokenTrie) -> Result<Self> {
        Self::json_schema(trie, r#"{"type": "object"}"#)
    }

    /// The state of a text that begins.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) when the grammar was made for another model than
    /// the one whose tokenizer this is.
    pub(crate) fn begin(&self, tokenizer: Option<&Arc<Tokenizer>>) -> Result<State> {
        self.0.begin(tokenizer)
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Grammar")
    }
}

/// Two are equal when they are clones of the same one.
impl PartialEq for Grammar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
