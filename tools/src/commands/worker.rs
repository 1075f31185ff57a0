//! `gpt2 worker`: this machine's device for others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use gpt2::worker;

use crate::failure::Failure;
use crate::stream::note;

/// Serve this machine's device to other machines, until stopped.
///
/// They use it with --device rpc://HOST:PORT, one at a time. Nothing is asked of them and nothing
/// is encrypted: whoever can connect can compute here and use this machine's memory. So it listens
/// on this machine alone unless --host says otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 worker --host 192.168.1.7")]
pub(super) struct Arguments {
    /// Address of this machine to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 50052)]
    port: u16,
    /// The device to serve, as `gpt2 devices` lists them
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Threads of the CPU to compute with [default: one a physical core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = SocketAddr::new(arguments.host, arguments.port);
    if !arguments.host.is_loopback() {
        note!(
            "WARNING: {address} is open to other machines. Anyone who can connect to it can \
             compute on this machine \
             and read what others compute there; nothing is asked and nothing is encrypted. Use it \
             only in a network \
             that you trust."
        );
    }
    note!(
        "serving {} at rpc://{address}; Ctrl-C ends it",
        arguments.device
    );
    let threads = arguments
        .threads
        .map_or_else(gpt2::system::default_threads, usize::from);
    worker::serve(address, &arguments.device, threads)?;
    Ok(())
}
