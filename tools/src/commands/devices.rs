//! `gpt2 devices`: what there is to compute on.

use std::fmt::Write;

use clap::Args;
use gpt2::system::{self, DeviceDescription};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report;

/// List the devices that this build finds on this machine.
///
/// The names in the first column are those that --device takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 devices")]
pub(super) struct Arguments {
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let devices = system::devices();
    if arguments.json {
        let rows: Vec<Value> = devices.iter().map(row).collect();
        return report::print_json(&json!({ "rows": rows }));
    }
    let mut text = String::new();
    for device in &devices {
        let memory = match (device.memory_free, device.memory_total) {
            (_, 0) => "memory unknown".to_owned(),
            (free, total) => format!(
                "{} of {} free",
                report::bytes(free as u64),
                report::bytes(total as u64)
            ),
        };
        let _ = writeln!(
            text,
            "{:<10} {:<14} {} ({memory})",
            device.argument,
            device.kind,
            printable(&device.description)
        );
    }
    report::print(&text)
}

fn row(device: &DeviceDescription) -> Value {
    json!({
        "name": device.argument,
        "description": device.description,
        "type": device.kind,
        "memory": { "free": device.memory_free, "total": device.memory_total },
    })
}

/// What a driver says of itself, on one line.
fn printable(text: &str) -> String {
    text.trim().escape_debug().to_string()
}
