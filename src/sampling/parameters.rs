//! The parameters of [`SamplingOptions`], a row each: the sampling part of the one table, of which
//! `generate/parameters.rs` has the rest.
//!
//! Within a group they stand as help texts list them. The order in which they act is that of
//! `order.rs`.

use super::options::SamplingOptions;
use super::parameter::ParameterGroup::{Choice, End, Scores, Search};
use super::parameter::{CUTOFF, FINITE, FRACTION, MASS, NOT_NEGATIVE, POSITIVE, Row, Value, field};
use crate::{Error, Result};

/// Every parameter of [`SamplingOptions`] that has a name in JSON.
pub(crate) static PARAMETERS: &[Row<SamplingOptions>] = &[
    Row::new(
        "do_sample",
        Choice,
        "BOOL",
        Value::Switch(field!(do_sample)),
        "Draw tokens at random by their probability; without it the model's wish to sample is \
         ignored",
    ),
    Row::new(
        "temperature",
        Choice,
        "T",
        Value::Number(field!(temperature), POSITIVE),
        "Below 1 prefers likely tokens more, above 1 less",
    ),
    Row::new(
        "top_k",
        Choice,
        "K",
        Value::Count(field!(top_k), 0),
        "Draw from the K most likely tokens; 0 for all",
    ),
    Row::new(
        "top_p",
        Choice,
        "P",
        Value::Number(field!(top_p), MASS),
        "Draw from the most likely tokens that together have probability P",
    ),
    Row::new(
        "min_p",
        Choice,
        "P",
        Value::Number(field!(min_p), FRACTION),
        "Draw from tokens at least P times as likely as the best",
    ),
    Row::new(
        "typical_p",
        Choice,
        "P",
        Value::Number(field!(typical_p), MASS),
        "Draw from the tokens nearest to the expected information, of probability P",
    ),
    Row::new(
        "epsilon_cutoff",
        Choice,
        "P",
        Value::Number(field!(epsilon_cutoff), CUTOFF),
        "Draw from tokens of at least probability P",
    ),
    Row::new(
        "eta_cutoff",
        Choice,
        "P",
        Value::Number(field!(eta_cutoff), CUTOFF),
        "Draw from tokens of at least probability P, or less where the entropy is high",
    ),
    Row::new(
        "top_h",
        Choice,
        "H",
        Value::Number(field!(top_h), MASS),
        "Draw from the best tokens that hold this share of the entropy",
    ),
    Row::new(
        "repetition_penalty",
        Scores,
        "X",
        Value::Number(field!(repetition_penalty), POSITIVE),
        "Above 1 makes tokens seen before less likely",
    ),
    Row::new(
        "frequency_penalty",
        Scores,
        "X",
        Value::Number(field!(frequency_penalty), FINITE),
        "Above 0 makes tokens less likely for every time the completion has them",
    ),
    Row::new(
        "presence_penalty",
        Scores,
        "X",
        Value::Number(field!(presence_penalty), FINITE),
        "Above 0 makes tokens less likely that the completion has",
    ),
    Row::new(
        "encoder_repetition_penalty",
        Scores,
        "X",
        Value::Number(field!(encoder_repetition_penalty), POSITIVE),
        "Above 1 makes the prompt's tokens more likely",
    ),
    Row::new(
        "no_repeat_ngram_size",
        Scores,
        "N",
        Value::Count(field!(no_repeat_ngram_size), 0),
        "No run of N tokens occurs twice; 0 for no limit",
    ),
    Row::new(
        "encoder_no_repeat_ngram_size",
        Scores,
        "N",
        Value::Count(field!(encoder_no_repeat_ngram_size), 0),
        "No run of N tokens of the prompt occurs again; 0 for no limit",
    ),
    Row::new(
        "bad_words_ids",
        Scores,
        "IDS",
        Value::Sequences(field!(bad_words_ids)),
        "Tokens that may not follow one another",
    ),
    Row::new(
        "sequence_bias",
        Scores,
        "IDS=BIAS",
        Value::Biases(field!(sequence_bias)),
        "Add BIAS to the score of the last of these tokens after the others",
    ),
    Row::new(
        "suppress_tokens",
        Scores,
        "IDS",
        Value::Tokens(field!(suppress_tokens)),
        "Tokens never chosen",
    ),
    Row::new(
        "begin_suppress_tokens",
        Scores,
        "IDS",
        Value::Tokens(field!(begin_suppress_tokens)),
        "Tokens never chosen first",
    ),
    Row::new(
        "forced_bos_token_id",
        Scores,
        "ID",
        Value::Token(field!(forced_bos_token_id)),
        "The token that follows a prompt of one token",
    ),
    Row::new(
        "forced_eos_token_id",
        Scores,
        "IDS",
        Value::Tokens(field!(forced_eos_token_id)),
        "One of these is the last token that the length allows",
    ),
    Row::new(
        "exponential_decay_length_penalty",
        Scores,
        "START,FACTOR",
        Value::Decay(field!(exponential_decay_length_penalty), POSITIVE),
        "After START new tokens the end grows more likely, by FACTOR with each",
    ),
    Row::new(
        "guidance_scale",
        Scores,
        "X",
        Value::Number(field!(guidance_scale), FINITE),
        "Above 1 follows the prompt more than the negative prompt",
    ),
    Row::new(
        "remove_invalid_values",
        Scores,
        "BOOL",
        Value::Switch(field!(remove_invalid_values)),
        "Replace scores that are NaN or infinite",
    ),
    Row::new(
        "renormalize_logits",
        Scores,
        "BOOL",
        Value::Switch(field!(renormalize_logits)),
        "Make log-probabilities of the processed scores",
    ),
    Row::new(
        "diversity_penalty",
        Search,
        "X",
        Value::Number(field!(diversity_penalty), NOT_NEGATIVE),
        "What a token costs that an earlier group of beams chose in the same step",
    ),
    Row::new(
        "min_length",
        End,
        "N",
        Value::Count(field!(min_length), 0),
        "Do not end before N tokens, the prompt's included",
    ),
    Row::new(
        "min_new_tokens",
        End,
        "N",
        Value::Count(field!(min_new_tokens), 0),
        "Do not end before N new tokens",
    ),
];

impl SamplingOptions {
    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] names the parameter, its range and the value found;
    /// [`Error::Argument`] the parameter that has an empty sequence.
    pub fn validate(&self) -> Result<()> {
        if self.temperature == 0.0 {
            let expected = "above 0 (for the most likely token every time, decode greedily: \
                            do_sample off)";
            return Err(Error::out_of_range("temperature", expected, &0));
        }
        PARAMETERS.iter().try_for_each(|row| row.check(self))
    }

    /// Checks that every id is one of a vocabulary of `vocabulary` ids. The processors themselves
    /// pass over ids outside it: files may name such ids, a request may not.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] names the parameter and the id.
    pub fn check_ids(&self, vocabulary: usize) -> Result<()> {
        for row in PARAMETERS {
            if let Some(id) = row.unknown_id(self, vocabulary) {
                let name = row.about.name;
                return Err(Error::Argument(format!(
                    "{name}: ids must be below {vocabulary}, the size of the vocabulary, found {id}"
                )));
            }
        }
        Ok(())
    }
}
