//! The command `gpt2-convert`: its arguments, its progress, its report.

mod arguments;
mod progress;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::CommandFactory;
use gpt2::convert;

use crate::failure::{Failure, exit_code, parse};
use crate::interrupt::stop_on_interrupt;
use crate::logging;
use crate::report::{print, print_json};
use crate::stream::note_text;
use crate::version;
use arguments::{Arguments, Request};
use progress::Bar;

/// The program `gpt2-convert`.
pub fn gpt2_convert() -> ExitCode {
    logging::start();
    gpt2::system::save_address_space();
    gpt2::system::explain_cut_files();
    exit_code(parse().and_then(|parsed| parsed.as_ref().map_or(Ok(()), run)))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.version {
        return print(&version::text("gpt2-convert")?);
    }
    let (Some(source), Some(file_type)) = (&arguments.source, &arguments.file_type) else {
        return print(&Arguments::command().render_help().to_string());
    };
    let request = Request::new(arguments, source, file_type)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let start = Instant::now();
    let (plan, seconds) = if arguments.dry_run {
        let plan = convert::plan(&request.source, &request.options).map_err(Failure::of_files)?;
        note_text(&report::plan_text(&plan));
        (plan, start.elapsed().as_secs_f64())
    } else {
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_interrupt(&stop);
        let bar = Bar::new(&stop);
        let report = convert::convert(&request.source, &request.output, &request.options, &bar)
            .map_err(Failure::of_files)?;
        (report.plan, report.seconds)
    };
    if arguments.json {
        print_json(&report::json(&plan, &request.output, seconds))
    } else {
        print(&report::summary(
            &plan,
            &request.output,
            seconds,
            arguments.dry_run,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
