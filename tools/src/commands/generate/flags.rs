//! The flags that are parameters of transformers' `generate()`, from the library's table.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use gpt2::generate::{GenerationOptions, Parameter, ParameterGroup, ParameterKind, parameters};
use serde_json::{Value, json};

use crate::arguments::GREEDY;
use crate::failure::Failure;
use crate::prompt::{Ids, parse_ids};
use crate::stream::note;

/// Whether the flag may be given several times, each an item of the parameter's list.
fn is_repeated(kind: ParameterKind) -> bool {
    use ParameterKind::{Biases, Sequences, Texts};
    matches!(kind, Sequences | Biases | Texts)
}

/// A value from the command line as JSON; of a repeated flag the items that it stands for.
fn json(kind: ParameterKind, text: &str) -> Result<Value, String> {
    let parsed = || serde_json::from_str::<Value>(text).ok();
    Ok(match kind {
        ParameterKind::Switch | ParameterKind::EarlyStopping => match text {
            "true" => json!(true),
            "false" => json!(false),
            word => json!(word),
        },
        ParameterKind::Layers if matches!(text, "low" | "high") => json!(text),
        ParameterKind::Tokens | ParameterKind::Layers => json!(ids(text)?),
        ParameterKind::Decay => match text.split_once(',') {
            Some((first, second)) => json!([number(first.trim()), number(second.trim())]),
            None => json!(text),
        },
        ParameterKind::Sequences => match parsed() {
            Some(Value::Array(items)) if items.iter().all(Value::is_array) => Value::Array(items),
            _ => json!([ids(text)?]),
        },
        ParameterKind::Biases => match text.rsplit_once('=') {
            Some((sequence, bias)) => json!([[ids(sequence)?, bias]]),
            None => return Err("expected ids and a bias such as 1,2=-0.5".to_owned()),
        },
        ParameterKind::Texts => json!([text]),
        _ => number(text),
    })
}

/// A number as it is in JSON; what is none stays a text, which the library refuses.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn ids(text: &str) -> Result<Vec<u32>, String> {
    parse_ids(text).map(|Ids(ids)| ids)
}

/// The heading of a group's flags; none for those with flags of the command's own.
fn heading(group: ParameterGroup) -> Option<&'static str> {
    match group {
        ParameterGroup::Choice => Some("Choosing tokens"),
        ParameterGroup::Scores => Some("Changing scores"),
        ParameterGroup::Search => Some("Searching"),
        ParameterGroup::End => Some("Ending"),
        // The flags of a request are those of the command.
        _ => None,
    }
}

/// The parameters that have flags here, under their headings.
fn flags() -> impl Iterator<Item = (&'static str, Parameter)> {
    parameters().filter_map(|parameter| Some((heading(parameter.group())?, parameter)))
}

/// The parameters that were given, as JSON, each once.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(&'static str, Value)>);

impl Parameters {
    /// Sets them, over what the model's file asks for.
    pub(super) fn apply(&self, options: &mut GenerationOptions) -> Result<(), Failure> {
        // Greedy unless asked otherwise, whatever the file says.
        options.sampling.do_sample = false;
        // In the order of the table.
        for (name, value) in &self.0 {
            if is_greedy(name, value) {
                continue;
            }
            options
                .set(name, &value.to_string())
                .map_err(|error| Failure::Usage(error.to_string()))?;
        }
        if self.are_greedy() {
            note!("{GREEDY}");
            options.sampling.do_sample = false;
        }
        Ok(())
    }

    /// Whether a temperature of 0 asks for greedy decoding.
    pub(super) fn are_greedy(&self) -> bool {
        let mut given = self.0.iter();
        given.any(|(name, value)| is_greedy(name, value))
    }

    /// Whether the parameter was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| *given == name)
    }
}

/// Whether a parameter is a temperature of 0, which other programs take for greedy decoding.
fn is_greedy(name: &str, value: &Value) -> bool {
    name == "temperature" && value.as_f64() == Some(0.0)
}

/// A line of help: what the parameter does, and its default where it has one.
fn help(parameter: Parameter) -> String {
    let mut help = parameter.help().to_owned();
    let kind = parameter.kind();
    if is_repeated(kind) {
        help.push_str("; may be repeated");
    }
    let default = parameter.get(&GenerationOptions::default());
    if kind != ParameterKind::Switch && default != "null" && !default.starts_with('[') {
        help.push_str(" [default: ");
        help.push_str(&default);
        help.push(']');
    }
    // Other parameters are flags here.
    help.replace("top_k", "--top-k")
}

/// A flag for clap.
fn argument(heading: &'static str, parameter: Parameter) -> Arg {
    let (name, kind) = (parameter.name(), parameter.kind());
    let parse = move |text: &str| -> Result<Value, String> {
        let json = json(kind, text)?;
        if is_greedy(name, &json) {
            return Ok(json);
        }
        match GenerationOptions::default().set(name, &json.to_string()) {
            Ok(()) => Ok(json),
            // The flag's name is in clap's line already.
            Err(gpt2::Error::WrongType {
                expected, found, ..
            }) => Err(format!("expected {expected}, found {found}")),
            Err(error) => Err(error.to_string()),
        }
    };
    let long = match name {
        "stop_strings" => "stop".to_owned(),
        _ => name.replace('_', "-"),
    };
    let argument = Arg::new(name)
        .long(long)
        .value_name(parameter.value_name())
        .help(help(parameter))
        .help_heading(heading)
        .value_parser(parse);
    let argument = match name {
        "max_new_tokens" => argument.short('n'),
        "stop_strings" => argument.alias("stop-strings"),
        _ => argument,
    };
    match kind {
        ParameterKind::Switch | ParameterKind::EarlyStopping => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        ParameterKind::Texts => argument.action(ArgAction::Append).allow_hyphen_values(true),
        _ if is_repeated(kind) => argument.action(ArgAction::Append),
        _ => argument.allow_negative_numbers(true),
    }
}

impl Args for Parameters {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(heading, parameter)| argument(heading, parameter)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Parameters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut parameters = Self::default();
        parameters.update_from_arg_matches(matches)?;
        Ok(parameters)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (_, parameter) in flags() {
            let name = parameter.name();
            let Some(mut values) = matches.get_many::<Value>(name) else {
                continue;
            };
            let value = if is_repeated(parameter.kind()) {
                let items = values.filter_map(Value::as_array).flatten();
                Value::Array(items.cloned().collect())
            } else {
                values.next_back().cloned().unwrap_or_default()
            };
            self.0.push((name, value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<GenerationOptions, String> {
        let command = Parameters::augment_args(Command::new("test"));
        let matches = command
            .try_get_matches_from([&["test"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let mut options = GenerationOptions::default();
        let parameters = Parameters::from_arg_matches(&matches).map_err(|e| e.to_string())?;
        parameters
            .apply(&mut options)
            .map_err(|e| format!("{e:?}"))?;
        Ok(options)
    }

    #[test]
    fn every_parameter_of_the_command_has_a_flag() {
        use clap::{CommandFactory, Parser};

        #[derive(Parser)]
        struct Program {
            #[command(flatten)]
            arguments: crate::commands::generate::Arguments,
        }

        let command = Program::command();
        for parameter in parameters() {
            let flag = |argument: &Arg| argument.get_id() == parameter.name();
            assert!(command.get_arguments().any(flag), "{parameter:?}");
        }
    }

    #[test]
    fn values_of_every_kind() {
        let options = parsed(&[
            "-n",
            "5",
            "--do-sample",
            "--renormalize-logits=false",
            "--top-p",
            "0.5",
            "--length-penalty",
            "-1.5",
            "--early-stopping=never",
            "--dola-layers",
            "2,4",
            "--bad-words-ids",
            "1,2",
            "--bad-words-ids",
            "[[3], [4, 5]]",
            "--sequence-bias",
            "1,2=-0.5",
            "--sequence-bias",
            "3=-inf",
            "--exponential-decay-length-penalty",
            "5,1.25",
            "--eos-token-id",
            "7,8",
            "--stop",
            "-END",
            "--stop-strings",
            "2",
        ])
        .unwrap();
        let sampling = &options.sampling;
        assert!(sampling.do_sample && !sampling.renormalize_logits);
        assert_eq!((options.max_new_tokens, sampling.top_p), (5, 0.5));
        assert_eq!(options.length_penalty, -1.5);
        assert_eq!(sampling.bad_words_ids, [vec![1, 2], vec![3], vec![4, 5]]);
        let biases = [(vec![1, 2], -0.5), (vec![3], f64::NEG_INFINITY)];
        assert_eq!(sampling.sequence_bias, biases);
        assert_eq!(sampling.exponential_decay_length_penalty, Some((5, 1.25)));
        assert_eq!(options.eos, Some(vec![7, 8]));
        assert_eq!(options.stop, ["-END", "2"]);
    }

    #[test]
    fn new_tokens_count_before_a_length() {
        let options = parsed(&["--max-length", "50", "-n", "5"]).unwrap();
        assert_eq!((options.max_new_tokens, options.max_length), (5, None));
        let options = parsed(&["--max-length", "50"]).unwrap();
        assert_eq!(options.max_length, Some(50));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (arguments, part) in [
            (["--top-k", "-3"], "a whole number of at least 0, found -3"),
            (["--temperature", "warm"], "a number, found \"warm\""),
            (["--do-sample", "--early-stopping=soon"], "never"),
            (["--sequence-bias", "5"], "such as 1,2=-0.5"),
            (["--sequence-bias", "5=x"], "[[ids], bias]"),
            (["--bad-words-ids", "x"], "token ids such as 1,2,3"),
            (
                ["--exponential-decay-length-penalty", "5"],
                "[start, factor]",
            ),
        ] {
            let message = parsed(&arguments).unwrap_err();
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
    }
}
