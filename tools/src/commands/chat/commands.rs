//! What begins with a slash.

use std::path::Path;

use gpt2::chat::Conversation;

use super::talk::{Flow, Talk};
use super::{parameters, stats};
use crate::failure::Failure;
use crate::stream::note;

/// A command: what it is called, what it takes, what it does.
struct Command {
    name: &'static str,
    /// Its names in other programs.
    aliases: &'static [&'static str],
    argument: &'static str,
    help: &'static str,
    run: fn(&mut Talk, &str) -> Result<Flow, Failure>,
}

/// What the argument of [`Command`] may be: nothing at all.
const NOTHING: &str = "";

const COMMANDS: &[Command] = &[
    Command {
        name: "/help",
        aliases: &["/?"],
        argument: NOTHING,
        help: "this list",
        run: |_, _| {
            note!("{}", help());
            Ok(Flow::Continue)
        },
    },
    Command {
        name: "/reset",
        aliases: &[],
        argument: NOTHING,
        help: "forget all turns; the system prompt stays",
        run: |talk, _| {
            talk.conversation.reset();
            note!("the conversation starts over");
            Ok(Flow::Continue)
        },
    },
    Command {
        name: "/undo",
        aliases: &[],
        argument: NOTHING,
        help: "take your last turn and its reply back",
        run: |talk, _| {
            match talk.conversation.undo() {
                Some(said) => note!("taken back: {}", shortened(&said)),
                None => note!("there is nothing to take back"),
            }
            Ok(Flow::Continue)
        },
    },
    Command {
        name: "/save",
        aliases: &[],
        argument: "[--force] FILE",
        help: "write the conversation to a file; --force replaces one",
        run: save,
    },
    Command {
        name: "/load",
        aliases: &[],
        argument: "FILE",
        help: "go on with a saved conversation",
        run: load,
    },
    Command {
        name: "/set",
        aliases: &[],
        argument: "[NAME[=VALUE]]",
        help: "show or change how replies are written",
        run: |talk, argument| {
            note!("{}", parameters::apply(&mut talk.options, argument)?);
            Ok(Flow::Continue)
        },
    },
    Command {
        name: "/stats",
        aliases: &[],
        argument: NOTHING,
        help: "the context in use, and the work of the last reply",
        run: |talk, _| {
            note!("{}", stats::text(talk));
            Ok(Flow::Continue)
        },
    },
    Command {
        name: "/exit",
        aliases: &["/bye", "/quit"],
        argument: NOTHING,
        help: "end; so does Ctrl-D",
        run: |_, _| Ok(Flow::End),
    },
];

/// The commands' names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

/// All that they are called.
pub(super) fn names_and_aliases() -> impl Iterator<Item = &'static str> {
    let aliases = COMMANDS.iter().flat_map(|command| command.aliases).copied();
    names().chain(aliases)
}

/// A command and its argument; none for a turn, which two slashes begin if it shall begin with one.
pub(super) fn parse(turn: &str) -> Option<(&str, &str)> {
    if !turn.starts_with('/') || turn.starts_with("//") {
        return None;
    }
    let (name, argument) = turn.split_once(char::is_whitespace).unwrap_or((turn, ""));
    Some((name, argument.trim()))
}

/// Does what a command says.
pub(super) fn run(talk: &mut Talk, name: &str, argument: &str) -> Result<Flow, Failure> {
    let Some(command) = COMMANDS
        .iter()
        .find(|command| command.name == name || command.aliases.contains(&name))
    else {
        return Err(Failure::Usage(format!(
            "expected one of {}; found {name:?} (// begins a turn with a slash)",
            names().collect::<Vec<_>>().join(", ")
        )));
    };
    if command.argument == NOTHING && !argument.is_empty() {
        return Err(Failure::Usage(format!(
            "{name}: expected nothing after it, found {argument:?}"
        )));
    }
    (command.run)(talk, argument)
}

fn help() -> String {
    let line = |command: &Command| {
        let mut names = vec![command.name];
        names.extend(command.aliases);
        let usage = format!("{} {}", names.join(", "), command.argument);
        format!("{usage:<22} {}", command.help)
    };
    let mut text: Vec<String> = COMMANDS.iter().map(line).collect();
    text.push(
        "A line that ends with \\ goes on in the next; lines between \"\"\" and \"\"\" are one \
         turn; \
         // begins a turn with a slash."
            .to_owned(),
    );
    text.join("\n")
}

/// A turn in one line, its end left out if it is long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn save(talk: &mut Talk, argument: &str) -> Result<Flow, Failure> {
    let (file, overwrite) = match argument.strip_prefix("--force") {
        Some(rest) if rest.starts_with(char::is_whitespace) => (rest.trim_start(), true),
        _ => (argument, false),
    };
    let path = named(file, "/save")?;
    talk.conversation.save(path, overwrite)?;
    note!("saved {} turns to {file}", talk.conversation.turns().len());
    Ok(Flow::Continue)
}

fn load(talk: &mut Talk, argument: &str) -> Result<Flow, Failure> {
    talk.conversation = Conversation::load(named(argument, "/load")?)?;
    let turns = talk.conversation.turns().len();
    note!("loaded {turns} turns from {argument}");
    Ok(Flow::Continue)
}

fn named<'a>(file: &'a str, command: &str) -> Result<&'a Path, Failure> {
    if file.is_empty() || file == "--force" {
        return Err(Failure::Usage(format!(
            "{command}: expected a file's name after it, found none"
        )));
    }
    Ok(Path::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_turns() {
        assert_eq!(parse("/set a = 1 "), Some(("/set", "a = 1")));
        assert_eq!(parse("/stats"), Some(("/stats", "")));
        assert_eq!(parse("/"), Some(("/", "")));
        for turn in ["", "hello", " /stats", "//stats"] {
            assert_eq!(parse(turn), None, "{turn}");
        }
    }

    #[test]
    fn a_long_turn_is_shown_in_a_line() {
        assert_eq!(shortened("a\nb\u{1b}"), "a b ");
        assert_eq!(shortened(&"é".repeat(61)), format!("{}...", "é".repeat(60)));
    }
}
