//! Texts that keep to a grammar or a JSON schema.

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod random_schemas;
mod texts;

use std::sync::{Arc, LazyLock};

use gpt2::grammar::Grammar;
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use gpt2::{GenerationOptions, Result, generate};

/// The demo model.
fn model() -> Arc<Model> {
    static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
        let path = common::project("models/austen-gpt2-q8_0.gguf");
        Model::open(path, &ModelOptions::default()).unwrap()
    });
    Arc::clone(&MODEL)
}

fn session(sequences: usize) -> Session {
    let options = SessionOptions {
        sequences,
        ..SessionOptions::default()
    };
    Session::new(model(), options).unwrap()
}

fn lark(text: &str) -> Result<Grammar> {
    Grammar::lark(model().token_trie()?, text)
}

fn schema(text: &str) -> Result<Grammar> {
    Grammar::json_schema(model().token_trie()?, text)
}

/// Greedy decoding by a grammar.
fn greedy(grammar: Grammar, max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions {
        grammar: Some(grammar),
        max_new_tokens,
        ..GenerationOptions::default()
    }
}

/// Draws that are nearly even, so that texts go wherever they may.
fn wild(grammar: Grammar, max_new_tokens: usize, seed: u64) -> GenerationOptions {
    let mut options = greedy(grammar, max_new_tokens);
    (options.sampling.do_sample, options.seed) = (true, seed);
    (options.sampling.temperature, options.sampling.top_k) = (3.0, 0);
    options
}

/// The first continuation of a short prompt.
fn write(
    session: &mut Session,
    options: &GenerationOptions,
) -> Result<gpt2::generate::Continuation> {
    let prompt = model().tokenizer()?.encode("She said")?;
    let mut generation = generate(session, &prompt, options)?.finish()?;
    Ok(generation.sequences.remove(0))
}
