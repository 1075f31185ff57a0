//! Parameters of generation by name: one table of transformers' names, for options of every age.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::status::{Failure, Outcome};
use crate::session::{DolaLayers, EarlyStopping, GenerationOptions};

/// Puts a value, written as in `generation_config.json`, into its place; the error says what was expected.
type Set = fn(&mut GenerationOptions, &str) -> Result<(), String>;

fn parse<T: DeserializeOwned>(value: &str) -> Result<T, String> {
    // serde's message ends in a place, which means nothing in one value.
    serde_json::from_str(value).map_err(|error| {
        let text = error.to_string();
        let end = text.rfind(" at line").unwrap_or(text.len());
        text[..end].to_owned()
    })
}

fn set<T: DeserializeOwned>(place: &mut T, value: &str) -> Result<(), String> {
    parse(value).map(|value| *place = value)
}

/// `false`, `true` or `"never"`.
fn early_stopping(value: &str) -> Result<EarlyStopping, String> {
    match value {
        "false" => Ok(EarlyStopping::WhenUnlikely),
        "true" => Ok(EarlyStopping::WhenFull),
        "never" | "\"never\"" => Ok(EarlyStopping::WhenImpossible),
        _ => Err("expected false, true or never".to_owned()),
    }
}

/// `low`, `high` or a list of layers.
fn dola_layers(value: &str) -> Result<DolaLayers, String> {
    match value {
        "low" | "\"low\"" => Ok(DolaLayers::Low),
        "high" | "\"high\"" => Ok(DolaLayers::High),
        layers => parse(layers).map(DolaLayers::These),
    }
}

/// One of something, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Several<T> {
    One(T),
    Many(Vec<T>),
}

fn several<T: DeserializeOwned>(value: &str) -> Result<Vec<T>, String> {
    parse(value).map(|value| match value {
        Several::One(one) => vec![one],
        Several::Many(many) => many,
    })
}

/// Every parameter that can be written as text.
const PARAMETERS: &[(&str, Set)] = &[
    ("bad_words_ids", |o, v| {
        set(&mut o.sampling.bad_words_ids, v)
    }),
    ("begin_suppress_tokens", |o, v| {
        set(&mut o.sampling.begin_suppress_tokens, v)
    }),
    ("diversity_penalty", |o, v| {
        set(&mut o.sampling.diversity_penalty, v)
    }),
    ("do_sample", |o, v| set(&mut o.sampling.do_sample, v)),
    ("dola_layers", |o, v| {
        o.dola_layers = Some(dola_layers(v)?);
        Ok(())
    }),
    ("early_stopping", |o, v| {
        o.early_stopping = early_stopping(v)?;
        Ok(())
    }),
    ("encoder_no_repeat_ngram_size", |o, v| {
        set(&mut o.sampling.encoder_no_repeat_ngram_size, v)
    }),
    ("encoder_repetition_penalty", |o, v| {
        set(&mut o.sampling.encoder_repetition_penalty, v)
    }),
    ("eos_token_id", |o, v| {
        o.eos = Some(several(v)?);
        Ok(())
    }),
    ("epsilon_cutoff", |o, v| {
        set(&mut o.sampling.epsilon_cutoff, v)
    }),
    ("eta_cutoff", |o, v| set(&mut o.sampling.eta_cutoff, v)),
    ("exponential_decay_length_penalty", |o, v| {
        set(&mut o.sampling.exponential_decay_length_penalty, v)
    }),
    ("forced_bos_token_id", |o, v| {
        set(&mut o.sampling.forced_bos_token_id, v)
    }),
    ("forced_eos_token_id", |o, v| {
        o.sampling.forced_eos_token_id = several(v)?;
        Ok(())
    }),
    ("guidance_scale", |o, v| {
        set(&mut o.sampling.guidance_scale, v)
    }),
    ("ignore_eos", |o, v| set(&mut o.ignore_eos, v)),
    ("length_penalty", |o, v| set(&mut o.length_penalty, v)),
    ("max_matching_ngram_size", |o, v| {
        set(&mut o.max_matching_ngram_size, v)
    }),
    ("max_new_tokens", |o, v| set(&mut o.max_new_tokens, v)),
    ("max_time", |o, v| {
        let seconds: f64 = parse(v)?;
        let time = Duration::try_from_secs_f64(seconds);
        o.max_time = Some(time.map_err(|error| error.to_string())?);
        Ok(())
    }),
    ("min_length", |o, v| set(&mut o.sampling.min_length, v)),
    ("min_new_tokens", |o, v| {
        set(&mut o.sampling.min_new_tokens, v)
    }),
    ("min_p", |o, v| set(&mut o.sampling.min_p, v)),
    ("negative_prompt_ids", |o, v| set(&mut o.negative_prompt, v)),
    ("no_repeat_ngram_size", |o, v| {
        set(&mut o.sampling.no_repeat_ngram_size, v)
    }),
    ("num_assistant_tokens", |o, v| {
        set(&mut o.num_assistant_tokens, v)
    }),
    ("num_beam_groups", |o, v| set(&mut o.num_beam_groups, v)),
    ("num_beams", |o, v| set(&mut o.num_beams, v)),
    ("num_return_sequences", |o, v| {
        set(&mut o.num_return_sequences, v)
    }),
    ("on_overflow", |o, v| set(&mut o.on_overflow, v)),
    ("output_logits", |o, v| set(&mut o.output_logits, v)),
    ("output_scores", |o, v| set(&mut o.output_scores, v)),
    ("penalty_alpha", |o, v| set(&mut o.penalty_alpha, v)),
    ("prompt_lookup_num_tokens", |o, v| {
        set(&mut o.prompt_lookup_num_tokens, v)
    }),
    ("remove_invalid_values", |o, v| {
        set(&mut o.sampling.remove_invalid_values, v)
    }),
    ("renormalize_logits", |o, v| {
        set(&mut o.sampling.renormalize_logits, v)
    }),
    ("repetition_penalty", |o, v| {
        set(&mut o.sampling.repetition_penalty, v)
    }),
    ("seed", |o, v| set(&mut o.seed, v)),
    ("sequence_bias", |o, v| {
        set(&mut o.sampling.sequence_bias, v)
    }),
    ("stop", |o, v| {
        o.stop.push(v.to_owned());
        Ok(())
    }),
    ("stop_strings", |o, v| {
        o.stop.extend(several::<String>(v)?);
        Ok(())
    }),
    ("suppress_tokens", |o, v| {
        set(&mut o.sampling.suppress_tokens, v)
    }),
    ("temperature", |o, v| set(&mut o.sampling.temperature, v)),
    ("top_h", |o, v| set(&mut o.sampling.top_h, v)),
    ("top_k", |o, v| set(&mut o.sampling.top_k, v)),
    ("top_p", |o, v| set(&mut o.sampling.top_p, v)),
    ("typical_p", |o, v| set(&mut o.sampling.typical_p, v)),
];

/// Sets one parameter, written `name=value`.
pub(super) fn apply(options: &mut GenerationOptions, written: &str) -> Outcome {
    let (name, value) = written.split_once('=').ok_or_else(|| {
        Failure::argument(format!(
            "parameters: expected name=value, found {written:?}"
        ))
    })?;
    let row = PARAMETERS.iter().find(|(known, _)| *known == name);
    let (_, set) = row.ok_or_else(|| {
        let known: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
        Failure::argument(format!(
            "parameters: unknown parameter {name:?}; known are {}",
            known.join(", ")
        ))
    })?;
    set(options, value).map_err(|message| {
        Failure::argument(format!("parameters: {name}: {message}, found {value:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(written: &[&str]) -> GenerationOptions {
        let mut options = GenerationOptions::default();
        for parameter in written {
            assert!(apply(&mut options, parameter).is_ok(), "{parameter}");
        }
        options
    }

    fn refused(written: &str) -> String {
        let outcome = apply(&mut GenerationOptions::default(), written);
        super::super::status::guard(|| outcome);
        // SAFETY: a C string that lives until this thread's next failure.
        unsafe { std::ffi::CStr::from_ptr(super::super::gpt2_last_error()) }
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn values_are_written_as_in_generation_config() {
        let options = with(&[
            "top_k=7",
            "temperature=0.25",
            "do_sample=true",
            "suppress_tokens=[1,2]",
            "eos_token_id=5",
            "forced_eos_token_id=[3,4]",
            "early_stopping=never",
            "dola_layers=[0,2]",
            "exponential_decay_length_penalty=[10,1.5]",
            "max_time=0.5",
            "prompt_lookup_num_tokens=3",
            "stop=a = b",
            "stop_strings=[\"c\",\"d\"]",
            "sequence_bias=[[[1,2],-1.5]]",
        ]);
        let sampling = &options.sampling;
        assert_eq!((sampling.top_k, sampling.temperature), (7, 0.25));
        assert!(sampling.do_sample);
        assert_eq!(sampling.suppress_tokens, [1, 2]);
        assert_eq!(
            (options.eos, &*sampling.forced_eos_token_id),
            (Some(vec![5]), &[3, 4][..])
        );
        assert_eq!(options.early_stopping, EarlyStopping::WhenImpossible);
        assert_eq!(options.dola_layers, Some(DolaLayers::These(vec![0, 2])));
        assert_eq!(sampling.exponential_decay_length_penalty, Some((10, 1.5)));
        assert_eq!(options.max_time, Some(Duration::from_millis(500)));
        assert_eq!(options.prompt_lookup_num_tokens, Some(3));
        assert_eq!(options.stop, ["a = b", "c", "d"]);
        assert_eq!(sampling.sequence_bias, [(vec![1, 2], -1.5)]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(refused("top_k").contains("name=value"));
        assert!(refused("topk=1").contains("known are bad_words_ids"));
        assert!(refused("top_k=-1").contains("top_k: invalid value"));
        assert!(refused("max_time=-1").contains("max_time"));
        assert!(refused("early_stopping=1").contains("never"));
        assert!(refused("top_p=").contains("top_p"));
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(PARAMETERS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
