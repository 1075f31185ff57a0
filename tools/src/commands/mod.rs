//! One module per command of `gpt2`.

mod bench;
mod chat;
mod detokenize;
mod devices;
mod forward;
mod generate;
mod info;
mod perplexity;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod tasks;
mod tokenize;
mod tokenizer;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::{Failure, exit_code, parse};
use crate::{logging, report, version};
use tasks::{answer, choose, classify, embed, tag};

/// Runs GPT-2 models: quantized GGUF files, on the CPU and on GPUs.
#[derive(Debug, Parser)]
#[command(
    name = "gpt2",
    arg_required_else_help = true,
    disable_version_flag = true
)]
#[command(
    after_help = "Every command works without a model: the program has a small one inside.\n\
    \nExample:\n  gpt2 generate -p \"It is a truth universally acknowledged, that\""
)]
struct Arguments {
    /// Print the version, ggml's version, the backends and the CPU features in use
    #[arg(short = 'V', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Arguments),
    Chat(chat::Arguments),
    Forward(forward::Arguments),
    Classify(classify::Arguments),
    Tag(tag::Arguments),
    Answer(answer::Arguments),
    Choose(choose::Arguments),
    Embed(embed::Arguments),
    Perplexity(perplexity::Arguments),
    Score(score::Arguments),
    Bench(bench::Arguments),
    Tokenize(tokenize::Arguments),
    Detokenize(detokenize::Arguments),
    Tokenizer(tokenizer::Arguments),
    Info(info::Arguments),
    Devices(devices::Arguments),
    Worker(worker::Arguments),
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
}

/// The program `gpt2`.
pub fn gpt2() -> ExitCode {
    let start = Instant::now();
    logging::start();
    gpt2::system::save_address_space();
    gpt2::system::explain_cut_files();
    exit_code(parse().and_then(|parsed| match &parsed {
        Some(arguments) => run(arguments, start),
        None => Ok(()),
    }))
}

fn run(arguments: &Arguments, start: Instant) -> Result<(), Failure> {
    if arguments.version {
        return report::print(&version::text("gpt2")?);
    }
    match &arguments.command {
        Some(Command::Generate(arguments)) => generate::run(arguments, start),
        Some(Command::Chat(arguments)) => chat::run(arguments),
        Some(Command::Forward(arguments)) => forward::run(arguments),
        Some(Command::Classify(arguments)) => classify::run(arguments),
        Some(Command::Tag(arguments)) => tag::run(arguments),
        Some(Command::Answer(arguments)) => answer::run(arguments),
        Some(Command::Choose(arguments)) => choose::run(arguments),
        Some(Command::Embed(arguments)) => embed::run(arguments),
        Some(Command::Perplexity(arguments)) => perplexity::run(arguments),
        Some(Command::Score(arguments)) => score::run(arguments),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Tokenize(arguments)) => tokenize::run(arguments),
        Some(Command::Detokenize(arguments)) => detokenize::run(arguments),
        Some(Command::Tokenizer(arguments)) => tokenizer::run(arguments),
        Some(Command::Info(arguments)) => info::run(arguments),
        Some(Command::Devices(arguments)) => devices::run(arguments),
        Some(Command::Worker(arguments)) => worker::run(arguments),
        #[cfg(feature = "serve")]
        Some(Command::Serve(arguments)) => serve::run(arguments),
        None => report::print(&Arguments::command().render_help().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Arguments::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let example = format!("Example:\n  gpt2 {}", command.get_name());
            assert!(help.contains(&example), "{}", command.get_name());
        }
    }
}
