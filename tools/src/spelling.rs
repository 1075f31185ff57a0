//! Habits of other programs in how flags are written, brought to the spelling that clap knows.
//!
//! Only flags that the command has are changed, never values nor what follows `--`. What is not
//! known here passes as it is, for clap to refuse.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Flags without a value that are booleans in transformers, by id: a value may follow.
const BOOLEANS: &[&str] = &[
    "clean_up_tokenization_spaces",
    "ignore_eos",
    "output_logits",
    "output_scores",
    "skip_special_tokens",
];

/// The arguments of a program, its name first, as clap takes them: `--top_k` is `--top-k`, and
/// `--do-sample true` is `--do-sample=true`. A text that begins with a hyphen and cannot be a flag,
/// since there is a space in its name, is a text.
pub(crate) fn normalized(
    mut program: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    // So that clap has derived how many values a flag takes.
    program.build();
    let mut command = &program;
    let mut arguments = arguments.into_iter().peekable();
    let mut result: Vec<OsString> = arguments.next().into_iter().collect();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else {
            result.push(argument);
            continue;
        };
        if text == "--" {
            result.push(argument);
            result.extend(arguments);
            break;
        }
        if is_text(command, text) {
            result.push(format!("--prompt={text}").into());
        } else if let Some(flag) = text.strip_prefix("--") {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let Some((name, arg)) = long(command, name) else {
                result.push(argument);
                continue;
            };
            match value {
                Some(value) => match word(arg, value) {
                    Some(word) => result.extend(switch(arg, &name, word)),
                    None => result.push(format!("--{name}={value}").into()),
                },
                None if takes_value(arg) => {
                    result.push(format!("--{name}").into());
                    result.extend(arguments.next());
                }
                None => {
                    let next = arguments.peek().and_then(|next| next.to_str());
                    let Some(word) = next.and_then(|next| word(arg, next)) else {
                        result.push(format!("--{name}").into());
                        continue;
                    };
                    arguments.next();
                    result.extend(switch(arg, &name, word));
                }
            }
        } else if text.len() > 1 && text.starts_with('-') {
            let wants_value = value_follows(command, &text[1..]);
            result.push(argument);
            if wants_value {
                result.extend(arguments.next());
            }
        } else {
            if let Some(chosen) = command.find_subcommand(text) {
                command = chosen;
            }
            result.push(argument);
        }
    }
    result
}

/// Whether an argument begins as flags do and cannot be one, in a command that takes texts.
fn is_text(command: &Command, argument: &str) -> bool {
    let name = argument.split('=').next().unwrap_or_default();
    let Some(flag) = name.strip_prefix('-') else {
        return false;
    };
    // A short flag may have its value at once, as in `-pIt is`.
    let is_short = command
        .get_arguments()
        .filter_map(Arg::get_short)
        .any(|letter| flag.starts_with(letter));
    flag.contains(char::is_whitespace) && !is_short && long(command, "prompt").is_some()
}

/// The flag that `name` means, and how it is spelled.
fn long<'a>(command: &'a Command, name: &str) -> Option<(String, &'a Arg)> {
    let has = |arg: &&Arg, name: &str| {
        arg.get_long() == Some(name)
            || arg
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&name))
    };
    [name.to_owned(), name.replace('_', "-")]
        .into_iter()
        .find_map(|name| {
            let arg = command.get_arguments().find(|arg| has(arg, &name))?;
            Some((name, arg))
        })
}

/// Whether the next argument is the flag's value, whatever it looks like.
fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
        && arg
            .get_num_args()
            .is_none_or(|count| count.min_values() > 0)
}

/// Whether the last of a group of short flags takes the next argument as its value.
fn value_follows(command: &Command, flags: &str) -> bool {
    let mut rest = flags.chars();
    while let Some(letter) = rest.next() {
        let mut known = command.get_arguments();
        match known.find(|arg| arg.get_short() == Some(letter)) {
            Some(arg) if takes_value(arg) => return rest.as_str().is_empty(),
            Some(_) => (),
            None => return false,
        }
    }
    false
}

/// The word that follows a boolean flag as its value although it is an argument of its own, in any
/// case: Python writes `True`.
fn word(arg: &Arg, text: &str) -> Option<&'static str> {
    let id = arg.get_id().as_str();
    let is_optional = arg.is_require_equals_set() && !takes_value(arg);
    let words: &[&str] = match id {
        "early_stopping" => &["true", "false", "never"],
        _ if is_optional || BOOLEANS.contains(&id) => &["true", "false"],
        _ => &[],
    };
    let mut words = words.iter().copied();
    words.find(|word| word.eq_ignore_ascii_case(text))
}

/// A boolean flag with its value; one that takes none is left out where it is false.
fn switch(arg: &Arg, name: &str, value: &str) -> Option<OsString> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return (value == "true").then(|| format!("--{name}").into());
    }
    Some(format!("--{name}={value}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let boolean = |id: &'static str, long: &'static str| {
            Arg::new(id)
                .long(long)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
        };
        let generate = Command::new("generate")
            .arg(Arg::new("text").num_args(0..))
            .arg(flag("prompt").short('p').allow_hyphen_values(true))
            .arg(flag("top-k"))
            .arg(Arg::new("mtp").long("max_tokens_per"))
            .arg(flag("json").short('j').action(ArgAction::SetTrue))
            .arg(boolean("do_sample", "do-sample"))
            .arg(boolean("early_stopping", "early-stopping"))
            .arg(
                Arg::new("ignore_eos")
                    .long("ignore-eos")
                    .action(ArgAction::SetTrue),
            );
        Command::new("gpt2").subcommand(generate)
    }

    fn normal(arguments: &[&str]) -> Vec<String> {
        let all = ["gpt2", "generate"].iter().chain(arguments);
        let found = normalized(command(), all.map(OsString::from));
        let words = found.into_iter().skip(2);
        words.map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn underscores_in_flags_are_hyphens_and_nowhere_else() {
        assert_eq!(normal(&["--top_k", "5"]), ["--top-k", "5"]);
        assert_eq!(normal(&["--top_k=a_b"]), ["--top-k=a_b"]);
        assert_eq!(
            normal(&["--max_tokens_per", "1"]),
            ["--max_tokens_per", "1"]
        );
        for untouched in [
            &["a_b"][..],
            &["-p", "--top_k"],
            &["-jp", "--top_k"],
            &["-p--top_k"],
            &["--prompt", "--top_k"],
            &["--prompt=--top_k"],
            &["--", "--top_k"],
            &["--unknown_flag"],
        ] {
            assert_eq!(normal(untouched), untouched);
        }
    }

    #[test]
    fn booleans_take_their_value_and_no_text() {
        for (given, taken) in [
            (
                &["--do-sample", "true", "a"][..],
                &["--do-sample=true", "a"][..],
            ),
            (&["--do_sample", "False"], &["--do-sample=false"]),
            (&["--do-sample=True"], &["--do-sample=true"]),
            (&["--do-sample", "a text"], &["--do-sample", "a text"]),
            (&["--do-sample", "never"], &["--do-sample", "never"]),
            (&["--do-sample"], &["--do-sample"]),
            (&["--early_stopping", "never"], &["--early-stopping=never"]),
            (&["--ignore-eos", "true"], &["--ignore-eos"]),
            (&["--ignore_eos=false", "a"], &["a"]),
            (&["--ignore-eos=maybe"], &["--ignore-eos=maybe"]),
            // No boolean of transformers.
            (&["--json", "true"], &["--json", "true"]),
            (
                &["--", "--do-sample", "true"],
                &["--", "--do-sample", "true"],
            ),
        ] {
            assert_eq!(normal(given), taken);
        }
    }

    #[test]
    fn a_text_may_begin_with_a_hyphen() {
        assert_eq!(normal(&["- one item"]), ["--prompt=- one item"]);
        assert_eq!(normal(&["--- chapter ---"]), ["--prompt=--- chapter ---"]);
        assert_eq!(normal(&["-5 degrees"]), ["--prompt=-5 degrees"]);
        assert_eq!(normal(&["-pa b"]), ["-pa b"]);
        assert_eq!(normal(&["--top_k=a b"]), ["--top-k=a b"]);
    }
}
