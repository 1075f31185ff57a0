//! GPT-2 models on small computers: GGUF files, run over ggml with CPU kernels of this library's
//! own.
//!
//! # Generate
//!
//! A [`Model`] is a file in memory; any number of [`Session`]s, on any number of threads, share it.
//! A session has a KV cache and works on one thing at a time.
//!
//! ```
//! use gpt2::{GenerationOptions, Model, ModelOptions, Session, SessionOptions, generate};
//!
//! let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let prompt = model.tokenizer()?.encode("It is a truth universally acknowledged, that")?;
//! let mut session = Session::new(model, SessionOptions::default())?;
//!
//! let mut options = GenerationOptions { max_new_tokens: 12, ..GenerationOptions::default() };
//! options.sampling.do_sample = true;
//! options.set("top_p", "0.95")?; // every parameter by its name, as the commands set them
//! let mut tokens = 0;
//! for step in generate(&mut session, &prompt, &options)? {
//!     print!("{}", step?.text); // as it comes
//!     tokens += 1;
//! }
//! assert_eq!(tokens, 12);
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! Beam search, contrastive search, `DoLa`, prompt lookup and an assistant model are options of the
//! same call, under transformers' names: see [`GenerationOptions`] and the table
//! [`generate::parameters`].
//!
//! # Chat
//!
//! A [`Conversation`](chat::Conversation) is a list of turns; a [`ChatFormat`](chat::ChatFormat)
//! makes the prompt of them, by the model's own template where it has one.
//!
//! ```
//! # use gpt2::{GenerationOptions, Model, ModelOptions, Session, SessionOptions, generate};
//! use gpt2::chat::{ChatFormat, Conversation};
//!
//! # let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let tokenizer = model.tokenizer()?;
//! let format = ChatFormat::of_model(model.gguf().metadata(), tokenizer)?;
//! let mut conversation = Conversation::new(None);
//! conversation.ask("How do you do?")?;
//!
//! let prompt = format.encode(tokenizer, &conversation.messages())?;
//! let options = GenerationOptions {
//!     max_new_tokens: 16,
//!     stop: format.stop_strings(),
//!     ..GenerationOptions::default()
//! };
//! let mut session = Session::new(model.clone(), SessionOptions::default())?;
//! let generation = generate(&mut session, &prompt, &options)?.finish()?;
//! conversation.answer(format.reply(&generation.sequences[0].text))?;
//! assert_eq!(conversation.turns().len(), 2);
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! # Scores
//!
//! The log-probability of each token of a text: [`tasks::score`].
//!
//! ```
//! # use gpt2::{Model, ModelOptions, Session, SessionOptions};
//! use std::ops::ControlFlow;
//!
//! use gpt2::tasks::{ScoreOptions, ScoreRequest, score};
//!
//! # let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let tokenizer = model.tokenizer()?;
//! let request = ScoreRequest {
//!     context: tokenizer.encode("She was")?,
//!     tokens: tokenizer.encode(" happy.")?,
//! };
//! let mut session = Session::new(model.clone(), SessionOptions::default())?;
//! let mut sum = 0.0;
//! score(&mut session, &[request], &ScoreOptions::default(), &mut |_, scores| {
//!     sum = scores.sum(); // ln p of the continuation
//!     ControlFlow::Continue(())
//! })?;
//! assert!(sum < 0.0);
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! # Embeddings and task heads
//!
//! ```
//! # use gpt2::{Model, ModelOptions, Session, SessionOptions};
//! use gpt2::tasks::Pooling;
//!
//! # let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let ids = model.tokenizer()?.encode("She was happy.")?;
//! let mut session = Session::new(model, SessionOptions::default())?;
//! let embedding = session.embed(&ids, Pooling::Mean, true)?;
//! assert_eq!(embedding.len(), session.model().hyperparameters().n_embd);
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! A model with a head of its own classifies texts, tags tokens, answers questions or chooses:
//!
//! ```no_run
//! # use gpt2::{Model, ModelOptions, Session, SessionOptions};
//! # let model = Model::open("sentiment.gguf", &ModelOptions::default())?;
//! # let ids = model.tokenizer()?.encode("She was happy.")?;
//! # let mut session = Session::new(model, SessionOptions::default())?;
//! let logits = session.classify(&ids)?; // a value for each label
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! [`tasks`] makes labels, words and answers of such logits.
//!
//! # Sessions and batches
//!
//! Below [`generate()`] a session computes logits, a text at a time or many in one batch. Sequences
//! of the cache share prefixes without a copy.
//!
//! ```
//! # use gpt2::{Model, ModelOptions, Session, SessionOptions};
//! use gpt2::sampling::greedy;
//! use gpt2::session::{Batch, BatchToken, SequenceSet};
//!
//! # let model = Model::open("models/austen-gpt2-q8_0.gguf", &ModelOptions::default())?;
//! let options = SessionOptions { sequences: 2, ..SessionOptions::default() };
//! let mut session = Session::new(model, options)?;
//!
//! let logits = session.prefill(&[5, 6, 7])?; // [vocabulary], of the last token
//! let next = greedy(logits)?;
//! session.decode(next)?;
//!
//! session.fork(0, 1)?; // both sequences go on from here, each by itself
//! let row = |token, sequence| -> gpt2::Result<BatchToken> {
//!     let (position, sequences) = (4, SequenceSet::of(sequence)?);
//!     Ok(BatchToken { token, position, sequences, output: true, ..BatchToken::default() })
//! };
//! let batch = Batch { tokens: vec![row(8, 0)?, row(9, 1)?], ..Batch::default() };
//! let output = session.run(&batch)?;
//! assert_eq!(output.rows(), 2);
//! assert_ne!(output.row(0), output.row(1));
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! # Convert
//!
//! ```no_run
//! use std::path::Path;
//!
//! use gpt2::convert::{ConvertOptions, FileType, convert};
//!
//! let q4_k = FileType::from_name("q4_k")?;
//! let options = ConvertOptions::new(q4_k);
//! convert(Path::new("checkpoint"), Path::new("model-q4_k.gguf"), &options, &())?;
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! # Errors
//!
//! Every function returns [`Error`]. Its variants carry what a program may want to know; its
//! [`kind`](Error::kind) is coarse and exhaustive.
//!
//! ```
//! use gpt2::{Error, GenerationOptions};
//!
//! let mut options = GenerationOptions::default();
//! options.set("top_p", "1.5")?;
//! match options.validate() {
//!     Err(Error::OutOfRange { name, expected, .. }) => {
//!         assert_eq!((name, expected.as_str()), ("top_p", "above 0 and at most 1"));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), gpt2::Error>(())
//! ```
//!
//! # Modules
//!
//! Data flows one way: a checkpoint by [`convert`] to a file; [`gguf`] → [`spec`] → [`session`] →
//! [`sampling`] and [`generate`](mod@generate) → text, with the [`tokenizer`] at both ends.
//! [`quant`] quantizes rows, [`system`] tells what there is to compute on, [`worker`] serves a
//! device to other machines.

pub mod chat;
mod checksum;
pub mod convert;
mod error;
pub mod generate;
mod ggml;
pub mod gguf;
pub mod grammar;
mod input;
mod machine;
mod model;
mod output;
mod protobuf;
pub mod quant;
mod recognize;
pub mod sampling;
pub mod session;
pub mod spec;
pub mod system;
pub mod tasks;
pub mod tokenizer;

/// The examples of the documents, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/grammar.md")]
#[doc = include_str!("../docs/sampling.md")]
#[doc = include_str!("../docs/scores.md")]
mod documents {}

/// A token of the vocabulary, as the checkpoint numbers them.
pub type TokenId = u32;

pub use error::{Error, ErrorKind, MemoryLimit, MemoryShortage, MemorySuggestion, Result};
pub use generate::{GenerationOptions, generate};
pub use ggml::map::open_gguf;
pub use ggml::worker;
pub use output::AtomicFile;
pub use session::{Model, ModelOptions, Session, SessionOptions};
pub use tokenizer::Tokenizer;
