//! What `/set` changes: parameters of the library's table under transformers' names.

use gpt2::generate::{GenerationOptions, Parameter, ParameterGroup, ParameterKind, parameters};

use crate::arguments::{GREEDY, new_seed};
use crate::failure::Failure;
use crate::stream::note;

/// What a conversation has no use for: a reply is one text, and its prompt is not the user's to
/// count.
const LEFT_OUT: &[&str] = &[
    "num_return_sequences",
    "guidance_scale",
    "max_length",
    "min_length",
];

/// The parameters of methods that write one text token by token, as far as their values are short,
/// in the order in which `/set` lists them.
fn known() -> impl Iterator<Item = Parameter> {
    use ParameterKind::{Count, Number, Seconds, Switch};
    parameters().filter(|parameter| {
        let grouped = match parameter.group() {
            ParameterGroup::Choice | ParameterGroup::Scores | ParameterGroup::End => true,
            _ => parameter.name() == "seed",
        };
        grouped
            && matches!(parameter.kind(), Switch | Count | Number | Seconds)
            && !LEFT_OUT.contains(&parameter.name())
    })
}

/// Its value, as it can be typed.
fn shown(parameter: Parameter, options: &GenerationOptions) -> String {
    match parameter.get(options).as_str() {
        "null" => NONE.to_owned(),
        value => value.to_owned(),
    }
}

/// The value of a limit that is off.
const NONE: &str = "none";

/// Sets a parameter to what was typed.
fn set(parameter: Parameter, options: &mut GenerationOptions, value: &str) -> Result<(), Failure> {
    if parameter.name() == "temperature" && value.parse() == Ok(0.0) {
        note!("{GREEDY}: do_sample=false");
        options.sampling.do_sample = false;
        return Ok(());
    }
    if parameter.name() == "seed" && value == "-1" {
        options.seed = new_seed();
        return Ok(());
    }
    if parameter.name() == "max_time" && value == NONE {
        options.max_time = None;
        return Ok(());
    }
    options.set(parameter.name(), value).map_err(|error| {
        let or_none = match parameter.name() {
            "max_time" => ", or none",
            _ => "",
        };
        Failure::Usage(match error {
            gpt2::Error::WrongType { name, expected, .. } => {
                format!("/set {name}: expected {expected}{or_none}, found {value:?}")
            }
            other => format!("/set: {other}"),
        })
    })
}

fn find(name: &str) -> Result<Parameter, Failure> {
    // As the flags are spelt, too.
    let name = name.trim_start_matches("--").replace('-', "_");
    known()
        .find(|parameter| parameter.name() == name)
        .ok_or_else(|| {
            Failure::Usage(format!(
                "/set: expected one of {}; found {name:?}",
                names().collect::<Vec<_>>().join(", ")
            ))
        })
}

/// The names, in the order of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    known().map(Parameter::name)
}

/// Every parameter with its value, a line each.
pub(super) fn list(options: &GenerationOptions) -> String {
    let line = |parameter: Parameter| format!("{}={}", parameter.name(), shown(parameter, options));
    known().map(line).collect::<Vec<_>>().join("\n")
}

/// Does what `/set` with this argument asks for, and gives what there is to say: `NAME=VALUE`
/// changes a parameter, `NAME` shows it, nothing shows all.
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
        set(parameter, &mut changed, value)?;
        changed
            .validate()
            .map_err(|error| Failure::Usage(format!("/set: {error}")))?;
        *options = changed;
    }
    Ok(format!(
        "{}={}",
        parameter.name(),
        shown(parameter, options)
    ))
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
        assert_eq!(shown.lines().count(), known().count());
        for setting in shown.lines() {
            assert_eq!(line(&mut options, setting), setting);
        }
        assert_eq!(options, GenerationOptions::default());
    }

    #[test]
    fn spellings_and_what_is_refused() {
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
            ("temperature=-1", "temperature must be a number above 0"),
            ("temperature=warm", "expected a number, found \"warm\""),
            ("top_k=-1", "expected a whole number"),
            ("do_sample=1", "expected true or false"),
            ("max_time=-1", "expected a number of seconds, or none"),
            ("max_time=1e99", "expected a number of seconds, or none"),
            ("num_beams=4", "expected one of do_sample, temperature"),
        ] {
            let message = line(&mut options, argument);
            assert!(message.contains(said), "{message}");
        }
        assert_eq!(options, before);
    }

    #[test]
    fn habits_of_other_programs() {
        let mut options = GenerationOptions::default();
        options.sampling.do_sample = true;
        line(&mut options, "temperature=0");
        assert!(!options.sampling.do_sample && options.sampling.temperature > 0.0);
        line(&mut options, "seed=-1");
        assert!(u32::try_from(options.seed).is_ok());
    }
}
