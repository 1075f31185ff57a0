//! Every parameter of a generation under transformers' name: one table for all who set them by name
//! (configuration files, flags, other languages).

use std::time::Duration;

use serde_json::Value;

use super::options::{DolaLayers, EarlyStopping, GenerationOptions};
use crate::{Error, Result, TokenId};

/// Sets a parameter; `None` when the value is not what is expected.
type Set = fn(&mut GenerationOptions, &Value) -> Option<()>;

/// A parameter: its name, what it may be, how it is set.
struct Parameter(&'static str, &'static str, Set);

const NUMBER: &str = "a number";
const COUNT: &str = "a whole number of at least 0";
const SWITCH: &str = "true or false";
const ID: &str = "a token id";
const IDS: &str = "a token id or a list of them";
const SEQUENCES: &str = "a list of lists of token ids";

/// In the order they are applied where several are given: what comes later wins.
const PARAMETERS: &[Parameter] = &[
    Parameter("max_length", COUNT, |o, v| {
        o.max_length = Some(count(v)?);
        o.max_new_tokens = usize::MAX;
        Some(())
    }),
    Parameter("max_new_tokens", COUNT, |o, v| {
        o.max_new_tokens = count(v)?;
        o.max_length = None;
        Some(())
    }),
    Parameter("min_length", COUNT, |o, v| {
        put(&mut o.sampling.min_length, count(v))
    }),
    Parameter("min_new_tokens", COUNT, |o, v| {
        put(&mut o.sampling.min_new_tokens, count(v))
    }),
    Parameter("max_time", "a number of seconds", |o, v| {
        let time = Duration::try_from_secs_f64(v.as_f64()?).ok()?;
        put(&mut o.max_time, Some(Some(time)))
    }),
    Parameter("stop_strings", "a text or a list of texts", |o, v| {
        put(&mut o.stop, texts(v))
    }),
    Parameter("eos_token_id", IDS, |o, v| {
        // Some training scripts write -1 for "none".
        let ids = match v.as_i64() {
            Some(-1) => Vec::new(),
            _ => ids(v)?,
        };
        put(&mut o.eos, Some(Some(ids)))
    }),
    Parameter("do_sample", SWITCH, |o, v| {
        put(&mut o.sampling.do_sample, v.as_bool())
    }),
    Parameter("num_return_sequences", COUNT, |o, v| {
        put(&mut o.num_return_sequences, count(v))
    }),
    Parameter("num_beams", COUNT, |o, v| put(&mut o.num_beams, count(v))),
    Parameter("num_beam_groups", COUNT, |o, v| {
        put(&mut o.num_beam_groups, count(v))
    }),
    Parameter("diversity_penalty", NUMBER, |o, v| {
        put(&mut o.sampling.diversity_penalty, v.as_f64())
    }),
    Parameter("length_penalty", NUMBER, |o, v| {
        put(&mut o.length_penalty, v.as_f64())
    }),
    Parameter("early_stopping", "true, false or \"never\"", |o, v| {
        put(&mut o.early_stopping, early_stopping(v))
    }),
    Parameter("penalty_alpha", NUMBER, |o, v| {
        put(&mut o.penalty_alpha, v.as_f64())
    }),
    Parameter("dola_layers", "\"low\", \"high\" or a list", |o, v| {
        put(&mut o.dola_layers, dola_layers(v).map(Some))
    }),
    Parameter("prompt_lookup_num_tokens", COUNT, |o, v| {
        put(&mut o.prompt_lookup_num_tokens, count(v).map(Some))
    }),
    Parameter("max_matching_ngram_size", COUNT, |o, v| {
        put(&mut o.max_matching_ngram_size, count(v))
    }),
    Parameter("num_assistant_tokens", COUNT, |o, v| {
        put(&mut o.num_assistant_tokens, count(v))
    }),
    Parameter("guidance_scale", NUMBER, |o, v| {
        put(&mut o.sampling.guidance_scale, v.as_f64())
    }),
    Parameter("negative_prompt_ids", IDS, |o, v| {
        put(&mut o.negative_prompt, ids(v).map(Some))
    }),
    Parameter("sequence_bias", "a list of [[ids], bias]", |o, v| {
        put(&mut o.sampling.sequence_bias, list(v, biased))
    }),
    Parameter("encoder_repetition_penalty", NUMBER, |o, v| {
        put(&mut o.sampling.encoder_repetition_penalty, v.as_f64())
    }),
    Parameter("repetition_penalty", NUMBER, |o, v| {
        put(&mut o.sampling.repetition_penalty, v.as_f64())
    }),
    Parameter("no_repeat_ngram_size", COUNT, |o, v| {
        put(&mut o.sampling.no_repeat_ngram_size, count(v))
    }),
    Parameter("encoder_no_repeat_ngram_size", COUNT, |o, v| {
        put(&mut o.sampling.encoder_no_repeat_ngram_size, count(v))
    }),
    Parameter("bad_words_ids", SEQUENCES, |o, v| {
        put(&mut o.sampling.bad_words_ids, list(v, |v| list(v, id)))
    }),
    Parameter("forced_bos_token_id", ID, |o, v| {
        put(&mut o.sampling.forced_bos_token_id, id(v).map(Some))
    }),
    Parameter("forced_eos_token_id", IDS, |o, v| {
        put(&mut o.sampling.forced_eos_token_id, ids(v))
    }),
    Parameter("remove_invalid_values", SWITCH, |o, v| {
        put(&mut o.sampling.remove_invalid_values, v.as_bool())
    }),
    Parameter(
        "exponential_decay_length_penalty",
        "[start, factor]",
        |o, v| {
            let [start, factor] = v.as_array()?.as_slice() else {
                return None;
            };
            let decay = (count(start)?, factor.as_f64()?);
            put(
                &mut o.sampling.exponential_decay_length_penalty,
                Some(Some(decay)),
            )
        },
    ),
    Parameter("suppress_tokens", IDS, |o, v| {
        put(&mut o.sampling.suppress_tokens, ids(v))
    }),
    Parameter("begin_suppress_tokens", IDS, |o, v| {
        put(&mut o.sampling.begin_suppress_tokens, ids(v))
    }),
    Parameter("temperature", NUMBER, |o, v| {
        put(&mut o.sampling.temperature, v.as_f64())
    }),
    Parameter("top_h", NUMBER, |o, v| {
        put(&mut o.sampling.top_h, v.as_f64())
    }),
    Parameter("top_k", COUNT, |o, v| put(&mut o.sampling.top_k, count(v))),
    Parameter("top_p", NUMBER, |o, v| {
        put(&mut o.sampling.top_p, v.as_f64())
    }),
    Parameter("min_p", NUMBER, |o, v| {
        put(&mut o.sampling.min_p, v.as_f64())
    }),
    Parameter("typical_p", NUMBER, |o, v| {
        put(&mut o.sampling.typical_p, v.as_f64())
    }),
    Parameter("epsilon_cutoff", NUMBER, |o, v| {
        put(&mut o.sampling.epsilon_cutoff, v.as_f64())
    }),
    Parameter("eta_cutoff", NUMBER, |o, v| {
        put(&mut o.sampling.eta_cutoff, v.as_f64())
    }),
    Parameter("renormalize_logits", SWITCH, |o, v| {
        put(&mut o.sampling.renormalize_logits, v.as_bool())
    }),
];

impl GenerationOptions {
    /// Sets the parameter that transformers calls `name`. The value is JSON (`0.7`, `[[1, 2], [3]]`); what is
    /// no JSON is taken as a text (`never`); `null` changes nothing.
    ///
    /// Of `max_length` and `max_new_tokens` the one that is set last counts alone. Ranges are checked by
    /// [`GenerationOptions::validate`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that is none of [`GenerationOptions::names`], or a value of another kind.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let json = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        self.set_json(name, &json)
    }

    /// The names that [`GenerationOptions::set`] knows, in the order in which they are applied where several
    /// are given together.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PARAMETERS.iter().map(|Parameter(name, ..)| *name)
    }

    /// [`GenerationOptions::set`] with a value that is parsed already.
    pub(super) fn set_json(&mut self, name: &str, value: &Value) -> Result<()> {
        let known = PARAMETERS.iter().find(|known| known.0 == name);
        let Some(Parameter(name, expected, set)) = known else {
            return Err(Error::UnknownParameter(name.to_owned()));
        };
        if value.is_null() {
            return Ok(());
        }
        set(self, value).ok_or_else(|| Error::WrongType {
            name,
            expected,
            found: value.to_string(),
        })
    }
}

/// Puts a value in its place, if there is one.
fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn count(value: &Value) -> Option<usize> {
    // Python's floats may be whole.
    let whole = |x: &f64| x.fract() == 0.0 && (0.0..=u32::MAX as f64).contains(x);
    let number = value
        .as_u64()
        .or_else(|| value.as_f64().filter(whole).map(|x| x as u64));
    usize::try_from(number?).ok()
}

fn id(value: &Value) -> Option<TokenId> {
    TokenId::try_from(value.as_u64()?).ok()
}

fn ids(value: &Value) -> Option<Vec<TokenId>> {
    match value {
        Value::Array(_) => list(value, id),
        single => Some(vec![id(single)?]),
    }
}

fn list<T>(value: &Value, item: fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(item).collect()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(_) => list(value, text),
        single => Some(vec![text(single)?]),
    }
}

/// `[[ids], bias]`; JSON has no infinity, so a text may stand for it.
fn biased(value: &Value) -> Option<(Vec<TokenId>, f64)> {
    let [sequence, bias] = value.as_array()?.as_slice() else {
        return None;
    };
    let bias = bias.as_f64().or_else(|| bias.as_str()?.parse().ok())?;
    Some((list(sequence, id)?, bias))
}

fn early_stopping(value: &Value) -> Option<EarlyStopping> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Some(EarlyStopping::WhenFull),
        (Some(false), _) => Some(EarlyStopping::WhenUnlikely),
        (_, Some("never")) => Some(EarlyStopping::WhenImpossible),
        _ => None,
    }
}

fn dola_layers(value: &Value) -> Option<DolaLayers> {
    match value.as_str() {
        Some("low") => Some(DolaLayers::Low),
        Some("high") => Some(DolaLayers::High),
        Some(_) => None,
        None => list(value, count).map(DolaLayers::These),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<GenerationOptions> {
        let mut options = GenerationOptions::default();
        for (name, value) in settings {
            options.set(name, value)?;
        }
        Ok(options)
    }

    #[test]
    fn values_of_every_kind() {
        let options = with(&[
            ("temperature", "0.7"),
            ("top_k", "40"),
            ("min_length", "8.0"),
            ("do_sample", "true"),
            ("early_stopping", "never"),
            ("dola_layers", "[1, 3]"),
            ("eos_token_id", "7"),
            ("forced_eos_token_id", "[1, 2]"),
            ("bad_words_ids", "[[1, 2], [3]]"),
            ("sequence_bias", r#"[[[1, 2], -1.5], [[3], "-inf"]]"#),
            ("exponential_decay_length_penalty", "[5, 1.1]"),
            ("stop_strings", "END"),
            ("max_time", "0.5"),
            ("top_p", "null"),
        ])
        .unwrap();
        let sampling = &options.sampling;
        assert_eq!((sampling.temperature, sampling.top_k), (0.7, 40));
        assert_eq!((sampling.min_length, sampling.top_p), (8, 1.0));
        assert!(sampling.do_sample);
        assert_eq!(options.early_stopping, EarlyStopping::WhenImpossible);
        assert_eq!(options.dola_layers, Some(DolaLayers::These(vec![1, 3])));
        assert_eq!(options.eos, Some(vec![7]));
        assert_eq!(sampling.forced_eos_token_id, [1, 2]);
        assert_eq!(sampling.bad_words_ids, [vec![1, 2], vec![3]]);
        let biases = [(vec![1, 2], -1.5), (vec![3], f64::NEG_INFINITY)];
        assert_eq!(sampling.sequence_bias, biases);
        assert_eq!(sampling.exponential_decay_length_penalty, Some((5, 1.1)));
        assert_eq!(options.stop, ["END"]);
        assert_eq!(options.max_time, Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_last_length_counts() {
        let options = with(&[("max_length", "20"), ("max_new_tokens", "5")]).unwrap();
        assert_eq!((options.max_length, options.max_new_tokens), (None, 5));
        let options = with(&[("max_new_tokens", "5"), ("max_length", "20")]).unwrap();
        assert_eq!(options.max_length, Some(20));
        assert_eq!(options.max_new_tokens, usize::MAX);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (name, value, expected) in [
            (
                "top_k",
                "-1",
                "top_k: expected a whole number of at least 0, found -1",
            ),
            ("top_k", "1.5", "found 1.5"),
            (
                "temperature",
                "hot",
                "temperature: expected a number, found \"hot\"",
            ),
            ("do_sample", "1", "true or false, found 1"),
            ("early_stopping", "soon", "\"never\""),
            ("eos_token_id", "4294967296", "a token id or a list of them"),
            ("bad_words_ids", "[1, -2]", "a list of lists"),
            ("sequence_bias", "[[1, 2]]", "[[ids], bias]"),
            ("max_time", "-1", "a number of seconds"),
            ("dola_layers", "middle", "\"low\", \"high\" or a list"),
            ("warmth", "1", "warmth is no parameter"),
        ] {
            let message = with(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(expected), "{name} {value}: {message}");
        }
    }

    #[test]
    fn every_parameter_refuses_a_map() {
        for name in GenerationOptions::names() {
            assert!(with(&[(name, "{}")]).is_err(), "{name}");
        }
    }
}
