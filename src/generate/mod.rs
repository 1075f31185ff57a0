//! From a prompt to texts: every method of transformers' `generate()`, a file each.
//!
//! A method drives a [`Session`] and the chain of `sampling`; what is common to all (which method, when a text
//! ends, how ids become text) is in `method.rs` and `text.rs`.

mod beams;
mod candidates;
mod contrastive;
mod defaults;
mod dola;
mod method;
mod options;
mod overflow;
mod parameters;
mod printable;
mod rows;
mod speculative;
mod stop;
mod tokens;
mod writer;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

pub use defaults::GenerationDefaults;
pub use options::{
    BatchGeneration, Continuation, DolaLayers, EarlyStopping, FinishReason, Generation,
    GenerationOptions, GenerationTimings, Step,
};
pub use parameters::{Parameter, ParameterGroup, ParameterKind, parameters};
pub use printable::PrintableText;

use crate::sampling::{Chain, ChainContext};
use crate::session::{Model, Session};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, TokenId};
use method::Method;

/// Is handed every token; a break ends the generation.
pub(crate) type OnToken<'a> = dyn FnMut(&Step) -> ControlFlow<()> + 'a;

/// Continues `prompt` in `session`, and hands every token to `on_token` as it comes (from a search, which
/// decides at its end, then); a break ends the generation with what there is, and so does the session's stop
/// flag.
///
/// What sequence 0 holds already is kept as far as it begins the prompt: only the rest is computed, and timed.
/// Searches use sequences 0 to `num_beams`, contrastive search as many as `top_k`, guidance sequence 1.
///
/// A model without a tokenizer works on ids: texts are then empty, and stop strings refused.
///
/// Text that only the end makes certain (held back as the beginning of a stop string, or half a
/// character) is in the result and not in any step: print [`Continuation::text`] from where the
/// steps' texts end.
///
/// # Errors
/// As [`GenerationOptions::validate`]; [`crate::Error::Argument`] for an empty prompt, an id outside the
/// vocabulary or too few sequences; [`crate::Error::ContextFull`] when the prompt does not fit;
/// [`crate::Error::Format`] when the model's logits are not numbers, or stop strings need a tokenizer that the
/// model does not have.
pub fn generate(
    session: &mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    run(session, None, 0, prompt, options, on_token)
}

/// [`generate`] with a smaller model of the same vocabulary that proposes tokens, which the model of `session`
/// takes or replaces: the same result as without, from fewer passes (Leviathan et al. 2023,
/// <https://arxiv.org/abs/2211.17192>).
///
/// # Errors
/// As [`generate`]; [`crate::Error::Argument`] when the vocabularies differ in size, or together with another
/// method.
pub fn generate_assisted(
    session: &mut Session,
    assistant: &mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    run(session, Some(assistant), 0, prompt, options, on_token)
}

/// [`generate`] for several prompts, each with the result it has alone. Texts that are made token by token are
/// computed together, as many at a time as the session has sequences, each with an equal share of its context;
/// other methods take the prompts in turn. Rows are as long as they are: there is no padding, and prompts that
/// have some are given without (see [`unpadded`]).
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
    if prompts.len() > 1 && options.fits_together() {
        let model = Arc::clone(session.model());
        let requests: Vec<Request> = (0..)
            .zip(prompts)
            .map(|(row, prompt)| Request::new(&model, row, prompt, options))
            .collect::<Result<_>>()?;
        return rows::write(session, &requests, on_token);
    }
    let mut generation = BatchGeneration {
        rows: Vec::new(),
        timings: GenerationTimings::default(),
    };
    for (row, prompt) in prompts.iter().enumerate() {
        let one = run(session, None, row, prompt, options, on_token)?;
        generation.timings.add(&one.timings);
        let stopped = one.sequences.iter().any(Continuation::was_stopped);
        let ended = one.sequences.is_empty();
        generation.rows.push(one.sequences);
        if stopped || ended {
            break;
        }
    }
    Ok(generation)
}

/// A prompt without its padding: attention would not see it, and positions would not count it. Without a
/// model's padding token, and where that ends texts too, all ids count (transformers infers its mask so).
pub fn unpadded(model: &Model, prompt: &[TokenId]) -> Vec<TokenId> {
    let hyperparameters = model.hyperparameters();
    let pad = hyperparameters
        .pad
        .filter(|pad| !hyperparameters.eos.contains(pad));
    let own = prompt.iter().filter(|id| Some(**id) != pad);
    own.copied().collect()
}

fn run(
    session: &mut Session,
    assistant: Option<&mut Session>,
    row: usize,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    let model = Arc::clone(session.model());
    let request = &Request::new(&model, row, prompt, options)?;
    match (Method::of(options, assistant.is_some())?, assistant) {
        (Method::Tokens, _) => tokens::write(session, request, on_token),
        (Method::Dola(layers), _) => {
            let mut contrasted = dola::Contrasted::new(session, layers)?;
            tokens::write(&mut contrasted, request, on_token)
        }
        (Method::Contrastive, _) => contrastive::search(session, request, on_token),
        (Method::Beams, _) => beams::search(session, request, on_token),
        (Method::Speculative, Some(assistant)) => {
            let mut drafter = speculative::Assistant::new(assistant, session, request)?;
            speculative::write(session, &mut drafter, request, on_token)
        }
        (Method::Speculative, None) => {
            let mut drafter = speculative::PromptLookup::new(options);
            speculative::write(session, &mut drafter, request, on_token)
        }
    }
}

/// What every method is given.
pub(super) struct Request<'a> {
    tokenizer: Option<&'a Tokenizer>,
    /// The ids that end a text.
    eos: &'a [TokenId],
    /// Which of several prompts.
    row: usize,
    prompt: &'a [TokenId],
    options: &'a GenerationOptions,
    /// Most tokens of a continuation, with all limits counted.
    max_new_tokens: usize,
    /// When the generation began.
    start: Instant,
}

impl<'a> Request<'a> {
    /// Checks a request against its model.
    fn new(
        model: &'a Model,
        row: usize,
        prompt: &'a [TokenId],
        options: &'a GenerationOptions,
    ) -> Result<Self> {
        options.validate()?;
        model.check_tokens(prompt)?;
        let vocabulary = model.hyperparameters().vocab_size;
        options.sampling.check_ids(vocabulary)?;
        let tokenizer = match model.tokenizer() {
            Ok(tokenizer) => Some(tokenizer),
            Err(error) if !options.stop.is_empty() || model.has_tokenizer() => return Err(error),
            Err(_) => None,
        };
        if let Some(length) = options.max_length
            && length <= prompt.len()
        {
            return Err(Error::Argument(format!(
                "max_length {length} leaves no room after a prompt of {} tokens; max_new_tokens counts \
                 without it",
                prompt.len()
            )));
        }
        Ok(Self {
            tokenizer,
            eos: options
                .eos
                .as_deref()
                .unwrap_or(&model.hyperparameters().eos),
            row,
            prompt,
            options,
            max_new_tokens: options.new_tokens(prompt.len()),
            start: Instant::now(),
        })
    }

    /// Whether the time for the generation is over.
    fn is_over_time(&self) -> bool {
        let limit = self.options.max_time;
        limit.is_some_and(|limit| self.start.elapsed() > limit)
    }

    /// The processors, for a search of so many beams.
    fn chain(&self, beams: usize) -> Result<Chain> {
        let mut sampling = self.options.sampling.clone();
        if self.options.ignore_eos {
            sampling.min_new_tokens = usize::MAX;
        }
        let context = ChainContext {
            prompt: self.prompt,
            eos: self.eos,
            beams,
            max_length: Some(self.prompt.len().saturating_add(self.max_new_tokens)),
        };
        Chain::new(&sampling, &context)
    }
}
