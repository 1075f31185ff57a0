//! What OpenAI's completions and chat completions have in common: how many texts, how their tokens
//! are chosen, where they end, how they are sent.

use gpt2::TokenId;
use gpt2::generate::GenerationOptions;
use gpt2::sampling::SamplingOptions;

use super::format::TextFormat;
use super::refusal;
use super::served::Served;
use crate::error::ApiError;

/// Texts that a request may ask for, of all its prompts together.
pub(crate) const CHOICES: u64 = 128;
/// Alternatives of a token that a request may ask for.
pub(crate) const ALTERNATIVES: u64 = 20;
/// Log-probabilities that a response may have, alternatives included.
const SCORES: usize = 1 << 17;
/// Stop strings, and the bytes of one.
pub(crate) const STOPS: usize = 16;
pub(crate) const STOP_BYTES: usize = 512;
/// Seconds that `max_time` may be.
const LONGEST: f64 = 86_400.0;

/// The fields that both have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choices {
    pub(crate) model: Option<String>,
    pub(crate) n: Option<u64>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) biases: Vec<(TokenId, f64)>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) return_token_ids: bool,
    /// Whether the temperature was given.
    pub(super) temperature: bool,
    /// What the text must keep to.
    pub(super) format: Option<TextFormat>,
    pub(crate) options: GenerationOptions,
}

impl Default for Choices {
    /// OpenAI's defaults: draws from the whole distribution.
    fn default() -> Self {
        let sampling = SamplingOptions {
            do_sample: true,
            top_k: 0,
            ..SamplingOptions::default()
        };
        Self {
            model: None,
            n: None,
            seed: None,
            stop: Vec::new(),
            biases: Vec::new(),
            stream: false,
            include_usage: false,
            return_token_ids: false,
            temperature: false,
            format: None,
            options: GenerationOptions {
                sampling,
                ..GenerationOptions::default()
            },
        }
    }
}

/// A request that has [`Choices`].
pub(crate) trait HasChoices: 'static {
    /// Its choices.
    fn choices(&mut self) -> &mut Choices;
}

/// What a response has, and how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Alternatives of each token, where log-probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) return_token_ids: bool,
}

/// How many texts of each prompt are generated, and how many are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Texts that the model writes for each prompt.
    pub(crate) generated: usize,
    /// Texts of each prompt in the response: more than are generated where all are equal.
    pub(crate) returned: usize,
}

impl Choices {
    /// What the response has.
    pub(crate) fn form(&self, logprobs: Option<usize>) -> Form {
        Form {
            logprobs,
            stream: self.stream,
            include_usage: self.include_usage,
            return_token_ids: self.return_token_ids,
        }
    }

    /// Checks what belongs together, and completes the options: `best_of` texts are written for
    /// each of `prompts`, of at most `new_tokens` tokens, and `alternatives` kept of each token.
    ///
    /// # Errors
    /// [`ApiError`] (400).
    pub(crate) fn complete(
        &mut self,
        served: &Served,
        prompts: usize,
        best_of: Option<u64>,
        new_tokens: usize,
        alternatives: Option<usize>,
    ) -> Result<Counts, ApiError> {
        let returned = self.n.unwrap_or(1);
        let written = best_of.unwrap_or(returned);
        if written < returned {
            return Err(refusal::field(
                "best_of",
                format!("best_of: expected at least n, {returned}, found {written}"),
            ));
        }
        if best_of.is_some() && written > returned && self.stream {
            return Err(refusal::field(
                "best_of",
                "best_of: expected n when the text is streamed, found more",
            ));
        }
        let texts = written.saturating_mul(prompts as u64);
        if texts > CHOICES {
            return Err(refusal::field(
                "n",
                format!(
                    "n: expected at most {CHOICES} texts for all prompts together, found {texts}"
                ),
            ));
        }
        let options = &mut self.options;
        let beams = options.num_beams > 1;
        // A beam search with draws is asked for by a temperature.
        if beams && !self.temperature {
            options.sampling.do_sample = false;
        }
        let (returned, written) = (returned as usize, written as usize);
        let one = !beams && !options.sampling.do_sample;
        let generated = if one { 1 } else { written };
        options.num_return_sequences = generated;
        options.max_new_tokens = new_tokens;
        options.logprobs = alternatives;
        if generated > returned && alternatives.is_none() {
            // What the best are chosen by.
            options.logprobs = Some(0);
        }
        options.stop.append(&mut self.stop);
        let biases = self.biases.drain(..).map(|(id, bias)| (vec![id], bias));
        options.sampling.sequence_bias = biases.collect();
        let format = self.format.as_ref();
        options.grammar = format.map(|format| format.compile(served)).transpose()?;
        check_options(options, served)?;
        Ok(Counts {
            generated,
            returned,
        })
    }
}

/// Checks the options, and the ids among them.
pub(crate) fn check_options(options: &GenerationOptions, served: &Served) -> Result<(), ApiError> {
    if options
        .max_time
        .is_some_and(|time| time.as_secs_f64() > LONGEST)
    {
        let message = format!("max_time: expected at most {LONGEST} seconds, found more");
        return Err(refusal::field("max_time", message));
    }
    if options.num_beams > served.at_work {
        let (most, found) = (served.at_work, options.num_beams);
        let message =
            format!("num_beams: expected at most {most}, the texts at work, found {found}");
        return Err(refusal::field("num_beams", message));
    }
    let model = &served.model;
    if !options.stop.is_empty() && !model.has_tokenizer() {
        let message = "stop: expected none, since the model has no tokenizer";
        return Err(refusal::field("stop", message));
    }
    let checked = options.validate();
    checked.map_err(|error| refusal::of_library(error, "body"))?;
    let size = model.hyperparameters().vocab_size;
    let bias = options
        .sampling
        .sequence_bias
        .iter()
        .flat_map(|(ids, _)| ids);
    match bias.into_iter().find(|id| **id as usize >= size) {
        Some(id) => Err(refusal::field(
            "logit_bias",
            format!("logit_bias: expected token ids below {size}, the vocabulary, found {id}"),
        )),
        None => Ok(()),
    }
}

/// Refuses responses of more log-probabilities than are kept: `tokens` with one each, and
/// `alternatives` beside it.
pub(crate) fn check_scores(tokens: usize, alternatives: usize) -> Result<(), ApiError> {
    if tokens.saturating_mul(alternatives + 1) <= SCORES {
        return Ok(());
    }
    Err(refusal::field(
        "logprobs",
        format!(
            "logprobs: expected at most {SCORES} of all texts together, found up to {}; send \
             fewer prompts at a time",
            tokens.saturating_mul(alternatives + 1)
        ),
    ))
}
