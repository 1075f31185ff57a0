//! A grammar, compiled.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};

use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, TokenParser};
use serde_json::Value;

use super::super::{bounds, schema};
use super::{State, TokenTrie, call};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What may stand between the parts of a JSON value. The engine's own default has no end, and a
/// model that is at a loss writes nothing else.
const SPACE: &str = r"\x20|\x0A\x20{0,16}";

/// A grammar at its beginning.
pub(in crate::grammar) struct Compiled {
    trie: TokenTrie,
    /// Never advanced: each text has a copy, with caches of its own, so that what one text costs
    /// does not count for another.
    parser: Mutex<TokenParser>,
}

impl Compiled {
    pub(in crate::grammar) fn lark(trie: &TokenTrie, text: &str) -> Result<Self> {
        bounds::check_size(text)?;
        if text.contains("::=") {
            return Err(bounds::refusal(
                "expected Lark's notation, found \"::=\" as llama.cpp's GBNF has it; a rule is \
                 written as name: ...",
            ));
        }
        let definitions = text.matches(':').count();
        if definitions > bounds::DEFINITIONS {
            return Err(bounds::refusal(format!(
                "expected at most {} definitions (colons), found {definitions}",
                bounds::DEFINITIONS
            )));
        }
        Self::compile(trie, || TopLevelGrammar::from_lark(text.to_owned()))
    }

    pub(in crate::grammar) fn json_schema(trie: &TokenTrie, text: &str) -> Result<Self> {
        bounds::check_size(text)?;
        let mut schema: Value = serde_json::from_str(text)
            .map_err(|error| bounds::refusal(format!("expected a JSON schema: {error}")))?;
        schema::check(&schema)?;
        // As an object it can carry the options.
        match schema {
            Value::Bool(true) => schema = serde_json::json!({}),
            Value::Bool(false) => return Err(bounds::refusal("the schema false allows no value")),
            _ => (),
        }
        let options = JsonCompileOptions {
            whitespace_pattern: Some(SPACE.to_owned()),
            ..JsonCompileOptions::default()
        };
        options.apply_to(&mut schema);
        Self::compile(trie, || TopLevelGrammar::from_json_schema(schema))
    }

    /// Compiles in a thread with the stack for it: definitions within each other are compiled
    /// within each other.
    fn compile(trie: &TokenTrie, grammar: impl FnOnce() -> TopLevelGrammar + Send) -> Result<Self> {
        let work = || {
            let mut parser = call(|| trie.factory().create_parser(grammar()))?;
            parser.start_without_prompt();
            try_first_token(trie, parser.deep_clone())?;
            Ok(parser)
        };
        let parser = thread::scope(|scope| {
            let thread = Builder::new()
                .name("grammar".to_owned())
                .stack_size(bounds::STACK)
                .spawn_scoped(scope, work)
                .map_err(|error| Error::Memory(format!("a thread for a grammar: {error}")))?;
            let done = thread.join();
            done.unwrap_or_else(|_| Err(Error::Internal("compiling a grammar".to_owned())))
        })?;
        Ok(Self {
            trie: trie.clone(),
            parser: Mutex::new(parser),
        })
    }

    /// The state of a text that begins.
    pub(in crate::grammar) fn begin(&self, tokenizer: Option<&Arc<Tokenizer>>) -> Result<State> {
        if !tokenizer.is_some_and(|tokenizer| self.trie.is_of(tokenizer)) {
            return Err(Error::Argument(
                "grammar: expected one made with this model's tokens, found another model's"
                    .to_owned(),
            ));
        }
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(State::new(parser.deep_clone(), self.trie.end()))
    }
}

/// Finds a grammar that no text keeps to, and one whose first step is too much already.
fn try_first_token(trie: &TokenTrie, parser: TokenParser) -> Result<()> {
    let mut state = State::new(parser, trie.end());
    match state.first()? {
        Some(token) => state.advance(token, &[]).map(|_| ()),
        None => Ok(()),
    }
}
