//! `gpt2 chat`: a conversation in the terminal, or with whatever writes lines to stdin.

mod commands;
mod decoding;
mod editor;
mod history;
mod lines;
mod parameters;
mod source;
mod stats;
mod talk;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use gpt2::chat::{ChatFormat, Conversation};
use gpt2::session::Model;

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::grammar::GrammarFile;
use crate::interrupt;
use crate::stream::{escapes_are_understood, note, results_are_on_terminal};
use crate::texts::{self, Reading, TextSource};
use source::{Lines, Source, Turns};
use talk::{Flow, Talk};

/// Talk with a model.
///
/// Texts that are given are the first turns. Then each line of stdin is a turn, and replies go to
/// stdout as they come. In a terminal lines can be
/// edited and those of earlier conversations come back with the up arrow; a line that ends with \
/// goes on in the next, and lines between """ and """ are one turn. Ctrl-C stops the reply, Ctrl-D
/// ends. /help lists commands.
///
/// Turns are joined by the chat template of the model. A model without one is given a transcript:
/// lines "User: ..." and "Assistant: ...", where a reply ends before the next speaker's name.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 chat --system \"A conversation between friends.\" --temperature \
        0.7 --seed 1"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(value_parser = texts::prompt_parser())]
    system: Option<String>,
    /// How turns are joined: auto (as the model says), dialogpt (each turn ends with the end of
    /// text), transcript, or a file with a Jinja template
    #[arg(long, value_name = "FORM", default_value = "auto")]
    template: String,
    /// Begin with the conversation that /save wrote to this file
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    load: Option<std::path::PathBuf>,
    #[arg(long)]
    #[arg(
        help = "Neither read nor write the history of lines (its file: $GPT2_CHAT_HISTORY, else \
                  gpt2-edge/chat_history in $XDG_STATE_HOME or ~/.local/state)"
    )]
    no_history: bool,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    grammar: GrammarFile,
    // Last, since its heading holds for what follows.
    #[command(flatten)]
    decoding: decoding::Decoding,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut options = arguments.decoding.options();
    options
        .validate()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let first = if arguments.texts.is_given() {
        arguments.texts.read(Reading::default())?
    } else {
        Vec::new()
    };
    let conversation = match &arguments.load {
        Some(path) => Conversation::load(path)?,
        None => Conversation::new(arguments.system.clone()),
    };
    let model = arguments.run.open_model()?;
    let class = model.hyperparameters().class;
    if !class.has_language_head() {
        return Err(Failure::Work(format!(
            "expected a language model, found a {}, which writes no text",
            class.name()
        )));
    }
    arguments.grammar.apply(&model, &mut options)?;
    let format = format(&model, &arguments.template)?;
    if options.sampling.do_sample {
        options.seed = arguments.run.seed_or_new();
    }
    let session = arguments.run.start(Arc::clone(&model), None)?;
    // With --json stdout has nothing but documents, so no prompt either.
    let terminal = !arguments.run.json && io::stdin().is_terminal() && results_are_on_terminal();
    let lines = if terminal {
        interrupt::stop_each_time(&session.stop_flag());
        note!(
            "turns are joined by: {}; /help lists commands, Ctrl-C stops a reply, Ctrl-D ends",
            format.name()
        );
        if escapes_are_understood() {
            let path = history::path().filter(|_| !arguments.no_history);
            Lines::Terminal(Box::new(editor::Editor::new(path)?))
        } else {
            Lines::Bare
        }
    } else {
        let waiting = Arc::default();
        interrupt::end_while(&waiting);
        interrupt::stop_on_interrupt(&session.stop_flag());
        Lines::Plain { waiting }
    };
    let lines = Turns {
        first: first.into(),
        lines,
    };
    let talk =
        Talk::new(session, format, conversation, options)?.showing(arguments.run.json, terminal);
    converse(talk, lines)
}

/// Takes turns until there are no more lines. In a terminal what fails is said and the conversation
/// goes on; a script ends there.
fn converse(mut talk: Talk, mut lines: impl Source) -> Result<(), Failure> {
    while let Some(line) = lines.next_turn()? {
        let done = match commands::parse(&line) {
            Some((name, argument)) => commands::run(&mut talk, name, argument),
            None if line.trim().is_empty() => Ok(Flow::Continue),
            // So can a turn begin with a slash.
            None => talk.turn(line.strip_prefix('/').unwrap_or(&line)),
        };
        match done {
            Ok(Flow::Continue) => (),
            Ok(Flow::End) => break,
            Err(Failure::Work(message) | Failure::Usage(message)) if talk.is_in_terminal() => {
                note!("error: {message}");
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// The form named by `--template`.
fn format(model: &Model, name: &str) -> Result<ChatFormat, Failure> {
    let metadata = model.gguf().metadata();
    let tokenizer = model.tokenizer()?;
    Ok(match name {
        "auto" => ChatFormat::of_model(metadata, tokenizer)?,
        "dialogpt" => ChatFormat::eos_joined(metadata, tokenizer)?,
        "transcript" => ChatFormat::transcript(),
        file => {
            let path = Path::new(file);
            if !path.exists() {
                return Err(Failure::Usage(format!(
                    "--template: expected auto, dialogpt, transcript or a file with a template, \
                     found {file:?}"
                )));
            }
            ChatFormat::template(&texts::read_file(path)?, metadata, tokenizer)?
        }
    })
}
