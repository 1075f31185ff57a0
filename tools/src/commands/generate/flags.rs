//! The flags that are parameters of transformers' `generate()`, from one table.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use gpt2::generate::GenerationOptions;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::prompt::{Ids, parse_ids};

/// How a flag's value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As it is in JSON: a number.
    Number,
    /// A word or true or false.
    Word,
    /// Nothing for true, or `=true`, `=false`.
    Switch,
    /// Ids separated by commas.
    Ids,
    /// `low`, `high` or numbers separated by commas.
    Layers,
    /// A number and a number, separated by a comma.
    Pair,
    /// Ids; repeated, or several in JSON.
    Sequences,
    /// `IDS=BIAS`; repeated.
    Biases,
    /// A text; repeated.
    Texts,
}

impl Kind {
    /// Whether the flag may be given several times, each an item of the parameter's list.
    fn is_repeated(self) -> bool {
        matches!(self, Self::Sequences | Self::Biases | Self::Texts)
    }

    /// A value from the command line as JSON; of a repeated flag the items it stands for.
    fn json(self, text: &str) -> Result<Value, String> {
        let parsed = || serde_json::from_str::<Value>(text).ok();
        Ok(match self {
            Self::Number => parsed().unwrap_or_else(|| json!(text)),
            Self::Word | Self::Switch => match text {
                "true" => json!(true),
                "false" => json!(false),
                word => json!(word),
            },
            Self::Layers if matches!(text, "low" | "high") => json!(text),
            Self::Ids | Self::Layers => json!(ids(text)?),
            Self::Pair => match text.split_once(',') {
                Some((first, second)) => json!([
                    Self::Number.json(first.trim())?,
                    Self::Number.json(second.trim())?
                ]),
                None => json!(text),
            },
            Self::Sequences => match parsed() {
                Some(Value::Array(items)) if items.iter().all(Value::is_array) => {
                    Value::Array(items)
                }
                _ => json!([ids(text)?]),
            },
            Self::Biases => match text.rsplit_once('=') {
                Some((sequence, bias)) => json!([[ids(sequence)?, bias]]),
                None => return Err("expected ids and a bias such as 1,2=-0.5".to_owned()),
            },
            Self::Texts => json!([text]),
        })
    }
}

fn ids(text: &str) -> Result<Vec<u32>, String> {
    parse_ids(text).map(|Ids(ids)| ids)
}

/// A flag: the parameter, how its value is called and written, what it does.
struct Flag(&'static str, &'static str, Kind, &'static str);

/// Flags under a heading.
struct Group(&'static str, &'static [Flag]);

const GROUPS: &[Group] = &[
    Group(
        "Choosing tokens",
        &[
            Flag(
                "do_sample",
                "BOOL",
                Kind::Switch,
                "Draw tokens at random by their probability; without it the model's wish to sample is set aside",
            ),
            Flag(
                "temperature",
                "T",
                Kind::Number,
                "Below 1 prefers likely tokens more, above 1 less [default: 1]",
            ),
            Flag(
                "top_k",
                "K",
                Kind::Number,
                "Draw from the K most likely tokens; 0 for all [default: 50]",
            ),
            Flag(
                "top_p",
                "P",
                Kind::Number,
                "Draw from the most likely tokens that together have probability P [default: 1]",
            ),
            Flag(
                "min_p",
                "P",
                Kind::Number,
                "Draw from tokens at least P times as likely as the best [default: 0]",
            ),
            Flag(
                "typical_p",
                "P",
                Kind::Number,
                "Draw from the tokens nearest to the expected information, of probability P [default: 1]",
            ),
            Flag(
                "epsilon_cutoff",
                "P",
                Kind::Number,
                "Draw from tokens of at least probability P [default: 0]",
            ),
            Flag(
                "eta_cutoff",
                "P",
                Kind::Number,
                "Draw from tokens of at least probability P, or less where the entropy is high [default: 0]",
            ),
            Flag(
                "top_h",
                "H",
                Kind::Number,
                "Draw from the best tokens that hold this share of the entropy [default: 1]",
            ),
            Flag(
                "num_return_sequences",
                "N",
                Kind::Number,
                "Continuations: drawn, the n-th with the seed + n, or the best of a beam search [default: 1]",
            ),
        ],
    ),
    Group(
        "Changing scores",
        &[
            Flag(
                "repetition_penalty",
                "X",
                Kind::Number,
                "Above 1 makes tokens seen before less likely [default: 1]",
            ),
            Flag(
                "encoder_repetition_penalty",
                "X",
                Kind::Number,
                "Above 1 makes the prompt's tokens more likely [default: 1]",
            ),
            Flag(
                "no_repeat_ngram_size",
                "N",
                Kind::Number,
                "No run of N tokens occurs twice; 0 for no limit [default: 0]",
            ),
            Flag(
                "encoder_no_repeat_ngram_size",
                "N",
                Kind::Number,
                "No run of N tokens of the prompt occurs again; 0 for no limit [default: 0]",
            ),
            Flag(
                "bad_words_ids",
                "IDS",
                Kind::Sequences,
                "Tokens that may not follow one another; may be repeated",
            ),
            Flag(
                "sequence_bias",
                "IDS=BIAS",
                Kind::Biases,
                "Add BIAS to the score of the last of these tokens after the others; may be repeated",
            ),
            Flag("suppress_tokens", "IDS", Kind::Ids, "Tokens never chosen"),
            Flag(
                "begin_suppress_tokens",
                "IDS",
                Kind::Ids,
                "Tokens never chosen first",
            ),
            Flag(
                "forced_bos_token_id",
                "ID",
                Kind::Number,
                "The token that follows a prompt of one token",
            ),
            Flag(
                "forced_eos_token_id",
                "IDS",
                Kind::Ids,
                "One of these is the last token that the length allows",
            ),
            Flag(
                "exponential_decay_length_penalty",
                "START,FACTOR",
                Kind::Pair,
                "After START new tokens the end grows more likely, by FACTOR with each",
            ),
            Flag(
                "guidance_scale",
                "X",
                Kind::Number,
                "Above 1 follows the prompt more than the negative prompt [default: 1]",
            ),
            Flag(
                "negative_prompt_ids",
                "IDS",
                Kind::Ids,
                "The negative prompt as tokens [default: the prompt's last token]",
            ),
            Flag(
                "remove_invalid_values",
                "BOOL",
                Kind::Switch,
                "Replace scores that are no numbers",
            ),
            Flag(
                "renormalize_logits",
                "BOOL",
                Kind::Switch,
                "Make log-probabilities of the processed scores",
            ),
        ],
    ),
    Group(
        "Searching",
        &[
            Flag(
                "num_beams",
                "N",
                Kind::Number,
                "Beam search: keep the N best texts [default: 1]",
            ),
            Flag(
                "length_penalty",
                "X",
                Kind::Number,
                "Above 0 prefers long texts, below 0 short ones [default: 1]",
            ),
            Flag(
                "early_stopping",
                "WHEN",
                Kind::Word,
                "End when there are N texts (true), when better ones are unlikely (false) or impossible (never) [default: false]",
            ),
            Flag(
                "num_beam_groups",
                "N",
                Kind::Number,
                "Groups of beams that avoid each other's tokens [default: 1]",
            ),
            Flag(
                "diversity_penalty",
                "X",
                Kind::Number,
                "What a token costs that an earlier group chose in the same step [default: 0]",
            ),
            Flag(
                "penalty_alpha",
                "A",
                Kind::Number,
                "Contrastive search among the --top-k best: what likeness to the text before costs [default: 0]",
            ),
            Flag(
                "dola_layers",
                "LAYERS",
                Kind::Layers,
                "Contrast the last layer with one of these: low, high, or a list such as 2,4",
            ),
            Flag(
                "prompt_lookup_num_tokens",
                "N",
                Kind::Number,
                "Propose the N tokens that followed the same text before: faster, the same result",
            ),
            Flag(
                "max_matching_ngram_size",
                "N",
                Kind::Number,
                "The longest stretch of text that is looked up [default: 64]",
            ),
            Flag(
                "num_assistant_tokens",
                "N",
                Kind::Number,
                "Tokens that the assistant model proposes at first [default: 5]",
            ),
        ],
    ),
    Group(
        "Ending",
        &[
            Flag(
                "max_new_tokens",
                "N",
                Kind::Number,
                "Most tokens to generate [default: 128]",
            ),
            Flag(
                "max_length",
                "N",
                Kind::Number,
                "Most tokens, the prompt's included",
            ),
            Flag(
                "min_length",
                "N",
                Kind::Number,
                "Do not end before N tokens, the prompt's included [default: 0]",
            ),
            Flag(
                "min_new_tokens",
                "N",
                Kind::Number,
                "Do not end before N new tokens [default: 0]",
            ),
            Flag(
                "max_time",
                "SECONDS",
                Kind::Number,
                "End after the token at which this time is over",
            ),
            Flag(
                "eos_token_id",
                "IDS",
                Kind::Ids,
                "Tokens that end the text [default: the model's]",
            ),
            Flag(
                "stop_strings",
                "TEXT",
                Kind::Texts,
                "End before this text; may be repeated",
            ),
        ],
    ),
];

/// The parameters that were given, as JSON, each once.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(&'static str, Value)>);

impl Parameters {
    /// Sets them, over what the model's file asks for.
    pub(super) fn apply(&self, options: &mut GenerationOptions) -> Result<(), Failure> {
        // Greedy unless asked otherwise, whatever the file says.
        options.sampling.do_sample = false;
        for name in GenerationOptions::names() {
            if let Some((_, value)) = self.0.iter().find(|(given, _)| *given == name) {
                options
                    .set(name, &value.to_string())
                    .map_err(|error| Failure::Usage(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Whether the parameter was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| *given == name)
    }
}

/// The flags of all groups.
fn flags() -> impl Iterator<Item = (&'static str, &'static Flag)> {
    GROUPS
        .iter()
        .flat_map(|Group(heading, flags)| flags.iter().map(|flag| (*heading, flag)))
}

/// A flag for clap.
fn argument(heading: &'static str, flag: &'static Flag) -> Arg {
    let &Flag(name, value, kind, help) = flag;
    let parse = move |text: &str| -> Result<Value, String> {
        let json = kind.json(text)?;
        match GenerationOptions::default().set(name, &json.to_string()) {
            Ok(()) => Ok(json),
            // The flag's name is in clap's line already.
            Err(error) => {
                let message = error.to_string();
                let prefix = format!("{name}: ");
                Err(message.strip_prefix(&prefix).unwrap_or(&message).to_owned())
            }
        }
    };
    let long = match name {
        "stop_strings" => "stop".to_owned(),
        _ => name.replace('_', "-"),
    };
    let argument = Arg::new(name)
        .long(long)
        .value_name(value)
        .help(help)
        .help_heading(heading)
        .value_parser(parse);
    let argument = match name {
        "max_new_tokens" => argument.short('n'),
        "stop_strings" => argument.alias("stop-strings"),
        _ => argument,
    };
    match kind {
        Kind::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Kind::Texts => argument.action(ArgAction::Append).allow_hyphen_values(true),
        _ if kind.is_repeated() => argument.action(ArgAction::Append),
        _ => argument.allow_negative_numbers(true),
    }
}

impl Args for Parameters {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(heading, flag)| argument(heading, flag)))
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
        for (_, Flag(name, _, kind, _)) in flags() {
            let Some(mut values) = matches.get_many::<Value>(name) else {
                continue;
            };
            let value = if kind.is_repeated() {
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
    fn every_parameter_has_a_flag() {
        let mut named: Vec<&str> = flags().map(|(_, flag)| flag.0).collect();
        let mut known: Vec<&str> = GenerationOptions::names().collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
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
            "--early-stopping",
            "never",
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
            (["--early-stopping", "soon"], "never"),
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
