//! From a prompt to texts: every method of transformers' `generate()`, a file each.
//!
//! A [`Decoder`] is one text, or one search, as a state machine over a [`Session`] and the chain of
//! `sampling`; [`generate`] drives one and is an iterator over its tokens, a [`Scheduler`] any
//! number of them that come and go. What is common to all methods (which one, when a text ends, how
//! ids become text) is in `method.rs`, `decoder.rs` and `writer.rs`.

mod batch;
mod beams;
mod candidates;
mod contrastive;
mod decoder;
mod decoding;
mod defaults;
mod dola;
mod iterator;
mod method;
mod needs;
mod options;
mod output;
mod overflow;
mod parameters;
mod printable;
mod request;
mod scheduler;
mod speculative;
mod stop;
mod stretch;
mod tokens;
mod work;
mod writer;

use std::sync::Arc;

pub use decoder::{Cancel, Decoder, Event, Slot};
pub use defaults::GenerationDefaults;
pub use iterator::Generate;
pub use options::{DolaLayers, EarlyStopping, GenerationOptions};
pub use output::{
    BatchGeneration, Continuation, FinishReason, Generation, GenerationTimings, Step,
};
pub use parameters::{Parameter, ParameterGroup, ParameterKind, parameters};
pub use printable::PrintableText;
pub use scheduler::{
    RequestId, ScheduledRequest, Scheduler, SchedulerEvent, SchedulerLoad, SchedulerOptions, Usage,
};
pub use work::{Compute, Edit, Work};

use crate::session::{Model, Session};
use crate::{Result, TokenId};
use batch::Together;
use output::OnToken;
use request::Request;

/// Continues `prompt` in `session`: an iterator over the tokens as they are chosen (those of a
/// search, which decides at its end, then).
///
/// ```no_run
/// use gpt2::generate::{GenerationOptions, generate};
/// # fn example(session: &mut gpt2::session::Session, prompt: &[u32]) -> gpt2::Result<()> {
/// let options = GenerationOptions::default();
/// for step in generate(session, prompt, &options)? {
///     print!("{}", step?.text);
/// }
/// // Or all at once:
/// let generation = generate(session, prompt, &options)?.finish()?;
/// println!("{}", generation.sequences[0].text);
/// # Ok(())
/// # }
/// ```
///
/// [`Generate::finish`] gives the texts as a whole. The session's stop flag ends the generation
/// with what there is, and so does [`Generate::cancel_flag`]: before the first token, a text
/// without tokens that ended for [`FinishReason::Stopped`].
///
/// Several continuations of the prompt (`num_return_sequences` with sampling) share it and are made
/// at the same time, as many as the session has sequences and positions for: their steps take
/// turns.
///
/// The beginning of the prompt that sequence 0 has in the cache is not computed again, nor timed;
/// for several continuations in whole pieces of 64 tokens. Searches use sequences 0 to `num_beams`,
/// contrastive search as many as `top_k`, guidance sequence 1.
///
/// A model without a tokenizer works on ids: texts are then empty, and stop strings refused.
///
/// Text that only the end makes certain (delayed as the beginning of a stop string, or half a
/// character) is in the result and not in any step: print [`Continuation::text`] from where the
/// steps' texts end.
///
/// # Errors
/// As [`GenerationOptions::validate`]; [`crate::Error::Argument`] for an empty prompt or an id
/// outside the vocabulary; [`crate::Error::TooFewSequences`]; [`crate::Error::ContextFull`] when
/// the prompt does not fit; [`crate::Error::Format`] when stop strings need a tokenizer that the
/// model does not have, and, as an item, when the model's logits are NaN.
pub fn generate<'a>(
    session: &'a mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
) -> Result<Generate<'a>> {
    let options = Arc::new(options.clone());
    let request = Request::new(session.model(), 0, prompt, &options)?;
    if options.num_return_sequences > 1 && options.shares_prompt() {
        let together = Together::new(session, vec![request])?;
        return Ok(Generate::together(session, together));
    }
    let decoder = Decoder::of_request(session, Slot::default(), Arc::new(request), None)?;
    Ok(Generate::one(session, decoder))
}

/// [`generate`] to its end, with a function that is handed every token as it comes; a break ends
/// the generation with what there is.
///
/// # Errors
/// As [`generate`].
pub fn generate_with(
    session: &mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    generate(session, prompt, options)?.with(on_token)
}

/// [`generate`] with a smaller model of the same vocabulary that drafts tokens, which the model of
/// `session` accepts or replaces: the same result as without, from fewer passes (Leviathan et al.
/// 2023, <https://arxiv.org/abs/2211.17192>).
///
/// # Errors
/// As [`generate`]; [`crate::Error::Argument`] when the vocabularies differ in size, or together
/// with another method.
pub fn generate_assisted<'a>(
    session: &'a mut Session,
    assistant: &'a mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
) -> Result<Generate<'a>> {
    let decoder = Decoder::assisted(session, Slot::default(), assistant, prompt, options)?;
    Ok(Generate::one(session, decoder))
}

/// [`generate_assisted`] to its end, with a function that is handed every token, as
/// [`generate_with`].
///
/// # Errors
/// As [`generate_assisted`].
pub fn generate_assisted_with(
    session: &mut Session,
    assistant: &mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    generate_assisted(session, assistant, prompt, options)?.with(on_token)
}

/// [`generate_with`] for several prompts, each with the result it has alone. Texts that are made
/// token by token are computed together, as many at a time as the session has sequences, each with
/// an equal share of its context; other methods take the prompts in turn. Prompts are as long as
/// they are: there is no padding, and those that have some are given without (see [`unpadded`]).
///
/// [`GenerationOptions::needs`] says what session suits.
///
/// # Errors
/// As [`generate`].
pub fn generate_batch(
    session: &mut Session,
    prompts: &[Vec<TokenId>],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<BatchGeneration> {
    let model = Arc::clone(session.model());
    let options = Arc::new(options.clone());
    let request =
        |(number, prompt): (usize, &Vec<TokenId>)| Request::new(&model, number, prompt, &options);
    let numbered = prompts.iter().enumerate();
    if options.shares_prompt() {
        return batch::write(
            session,
            numbered.map(request).collect::<Result<_>>()?,
            on_token,
        );
    }
    let mut generation = BatchGeneration {
        requests: Vec::new(),
        timings: GenerationTimings::default(),
    };
    for numbered in numbered {
        let request = Arc::new(request(numbered)?);
        let decoder = Decoder::of_request(session, Slot::default(), request, None)?;
        let one = Generate::one(session, decoder).with(on_token)?;
        generation.timings.add(&one.timings);
        let stopped = one.sequences.iter().any(Continuation::was_stopped);
        generation.requests.push(one.sequences);
        if stopped {
            break;
        }
    }
    Ok(generation)
}

/// A prompt without its padding: attention would not see it, and positions would not count it.
/// Without a model's padding token, and where that ends texts too, all ids count (transformers
/// infers its mask so).
pub fn unpadded(model: &Model, prompt: &[TokenId]) -> Vec<TokenId> {
    let hyperparameters = model.hyperparameters();
    let pad = hyperparameters
        .pad
        .filter(|pad| !hyperparameters.eos.contains(pad));
    let own = prompt.iter().filter(|id| Some(**id) != pad);
    own.copied().collect()
}
