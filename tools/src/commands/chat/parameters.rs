//! What `/set` changes: a table of parameters under transformers' names.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use gpt2::generate::GenerationOptions;

use crate::failure::Failure;

/// A parameter of the replies.
struct Parameter {
    name: &'static str,
    /// Its value, as it can be typed.
    get: fn(&GenerationOptions) -> String,
    /// Takes a value; none for what cannot be read.
    set: fn(&mut GenerationOptions, &str) -> Option<()>,
    /// What can be read.
    expected: &'static str,
}

const NUMBER: &str = "a number";
const COUNT: &str = "a whole number";
const SWITCH: &str = "true or false";

/// A row of the table for a field that is read and written as it is.
macro_rules! parameter {
    ($name:literal, $($field:ident).+, $expected:expr) => {
        Parameter {
            name: $name,
            get: |options| options.$($field).+.to_string(),
            set: |options, text| read(text, &mut options.$($field).+),
            expected: $expected,
        }
    };
}

/// The parameters of methods that write one text token by token, in the order `/set` lists them.
const PARAMETERS: &[Parameter] = &[
    parameter!("do_sample", sampling.do_sample, SWITCH),
    parameter!("temperature", sampling.temperature, NUMBER),
    parameter!("top_k", sampling.top_k, COUNT),
    parameter!("top_p", sampling.top_p, NUMBER),
    parameter!("min_p", sampling.min_p, NUMBER),
    parameter!("typical_p", sampling.typical_p, NUMBER),
    parameter!("top_h", sampling.top_h, NUMBER),
    parameter!("epsilon_cutoff", sampling.epsilon_cutoff, NUMBER),
    parameter!("eta_cutoff", sampling.eta_cutoff, NUMBER),
    parameter!("repetition_penalty", sampling.repetition_penalty, NUMBER),
    parameter!(
        "encoder_repetition_penalty",
        sampling.encoder_repetition_penalty,
        NUMBER
    ),
    parameter!("no_repeat_ngram_size", sampling.no_repeat_ngram_size, COUNT),
    parameter!(
        "encoder_no_repeat_ngram_size",
        sampling.encoder_no_repeat_ngram_size,
        COUNT
    ),
    parameter!("min_new_tokens", sampling.min_new_tokens, COUNT),
    parameter!("max_new_tokens", max_new_tokens, COUNT),
    Parameter {
        name: "max_time",
        get: |options| {
            options
                .max_time
                .map_or_else(|| "none".to_owned(), |time| time.as_secs_f64().to_string())
        },
        set: |options, text| {
            options.max_time = match text {
                "none" => None,
                text => Some(Duration::try_from_secs_f64(text.parse().ok()?).ok()?),
            };
            Some(())
        },
        expected: "seconds, or none",
    },
    parameter!(
        "remove_invalid_values",
        sampling.remove_invalid_values,
        SWITCH
    ),
    parameter!("renormalize_logits", sampling.renormalize_logits, SWITCH),
    parameter!("seed", seed, COUNT),
];

fn read<T: FromStr + Display>(text: &str, field: &mut T) -> Option<()> {
    *field = text.parse().ok()?;
    Some(())
}

fn find(name: &str) -> Result<&'static Parameter, Failure> {
    // As the flags are spelt, too.
    let name = name.trim_start_matches("--").replace('-', "_");
    PARAMETERS
        .iter()
        .find(|parameter| parameter.name == name)
        .ok_or_else(|| {
            Failure::Usage(format!(
                "/set: expected one of {}; found {name:?}",
                names().collect::<Vec<_>>().join(", ")
            ))
        })
}

/// The names, in the order of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PARAMETERS.iter().map(|parameter| parameter.name)
}

/// Every parameter with its value, a line each.
pub(super) fn list(options: &GenerationOptions) -> String {
    let line = |parameter: &Parameter| format!("{}={}", parameter.name, (parameter.get)(options));
    PARAMETERS.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Does what `/set` with this argument asks for, and gives what there is to say: `NAME=VALUE` changes a
/// parameter, `NAME` shows it, nothing shows all.
pub(super) fn apply(options: &mut GenerationOptions, argument: &str) -> Result<String, Failure> {
    if argument.is_empty() {
        return Ok(list(options));
    }
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => match argument.split_once(char::is_whitespace) {
            Some((name, value)) => (name, Some(value.trim())),
            None => (argument, None),
        },
    };
    let parameter = find(name)?;
    if let Some(value) = value {
        let mut changed = options.clone();
        (parameter.set)(&mut changed, value).ok_or_else(|| {
            Failure::Usage(format!(
                "/set {}: expected {}, found {value:?}",
                parameter.name, parameter.expected
            ))
        })?;
        changed
            .validate()
            .map_err(|error| Failure::Usage(format!("/set: {error}")))?;
        *options = changed;
    }
    Ok(format!("{}={}", parameter.name, (parameter.get)(options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &mut GenerationOptions, argument: &str) -> String {
        apply(options, argument).unwrap_or_else(|failure| match failure {
            Failure::Usage(line) => line,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn every_value_that_is_shown_can_be_set() {
        let mut options = GenerationOptions::default();
        let shown = list(&options);
        assert_eq!(shown.lines().count(), PARAMETERS.len());
        for setting in shown.lines() {
            assert_eq!(line(&mut options, setting), setting);
        }
        assert_eq!(options, GenerationOptions::default());
    }

    #[test]
    fn each_parameter_has_a_field_of_its_own() {
        for parameter in PARAMETERS {
            let mut options = GenerationOptions::default();
            let value = match parameter.expected {
                SWITCH if (parameter.get)(&options) == "true" => "false",
                SWITCH => "true",
                COUNT => "7",
                _ => "0.25",
            };
            let setting = format!("{}={value}", parameter.name);
            assert_eq!(line(&mut options, &setting), setting);
            assert_ne!(options, GenerationOptions::default(), "{setting}");
            let changed = list(&options)
                .lines()
                .zip(list(&GenerationOptions::default()).lines())
                .filter(|(now, before)| now != before)
                .count();
            assert_eq!(changed, 1, "{setting}");
        }
    }

    #[test]
    fn spellings_and_mistakes() {
        let mut options = GenerationOptions::default();
        for spelling in ["temperature = 0.5", "--temperature=0.5", "temperature 0.5"] {
            options.sampling.temperature = 1.0;
            assert_eq!(line(&mut options, spelling), "temperature=0.5");
            assert_eq!(options.sampling.temperature, 0.5);
        }
        assert_eq!(line(&mut options, "top-k"), "top_k=50");
        assert_eq!(line(&mut options, "max_time=1.5"), "max_time=1.5");
        assert_eq!(line(&mut options, "max_time=none"), "max_time=none");
        let before = options.clone();
        for (argument, said) in [
            ("temperature=0", "temperature must be above 0"),
            ("temperature=warm", "expected a number, found \"warm\""),
            ("top_k=-1", "expected a whole number"),
            ("do_sample=1", "expected true or false"),
            ("max_time=-1", "expected seconds"),
            ("max_time=1e99", "expected seconds"),
            ("num_beams=4", "expected one of do_sample, temperature"),
        ] {
            let message = line(&mut options, argument);
            assert!(message.contains(said), "{message}");
        }
        assert_eq!(options, before);
    }
}
