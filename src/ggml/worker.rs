//! This machine's device, served to others through ggml's RPC.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::backend::MAX_THREADS;
use super::device::{Device, Kind};
use super::remote;
use crate::error::{Error, Result};

/// Serves a device at `address` until the process ends: anybody who can connect reads and writes
/// its memory and computes on it, unasked and unencrypted.
///
/// `device` is a name as `--device` takes it; `threads` are those of the CPU.
///
/// # Errors
/// [`Error::Unsupported`] in a build without the feature `rpc`; [`Error::Argument`] when there is
/// no such device, or the address is not of this machine or in use. Otherwise only when serving
/// fails later.
pub fn serve(address: SocketAddr, device: &str, threads: usize) -> Result<()> {
    if !(1..=MAX_THREADS).contains(&threads) {
        let expected = format!("from 1 to {MAX_THREADS}");
        return Err(Error::out_of_range("threads", expected, &threads));
    }
    if !cfg!(feature = "rpc") {
        return Err(Error::Unsupported(
            "serving a device, in a build without the feature rpc".to_owned(),
        ));
    }
    let [device] = Device::called(device)?[..] else {
        return Err(Error::Argument(format!("{device}: expected one device")));
    };
    if device.kind() == Kind::Accelerator {
        return Err(Error::Argument(format!(
            "{}: expected the CPU or a GPU to serve, found a helper of the CPU",
            device.argument()
        )));
    }
    let unusable = |error: io::Error| {
        let why = io::Error::new(error.kind(), format!("cannot listen there: {error}"));
        Error::io(address.to_string(), why)
    };
    let listener = TcpListener::bind(address).map_err(unusable)?;
    remote::serve(listener, device.to_worker(), threads)
}
