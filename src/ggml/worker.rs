//! This machine's device, served to others through ggml's RPC.

use std::ffi::{CString, c_char};
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::backend::MAX_THREADS;
use super::device::{Device, Kind};
use super::{remote, sys};
use crate::error::{Error, Result};

type StartServer = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    usize,
    usize,
    *mut *mut sys::ggml_backend_device,
);

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
    let start = remote::function(c"ggml_backend_rpc_start_server")?;
    let [device] = Device::called(device)?[..] else {
        return Err(Error::Argument(format!("{device}: expected one device")));
    };
    if device.kind() == Kind::Accelerator {
        return Err(Error::Argument(format!(
            "{}: expected the CPU or a GPU to serve, found a helper of the CPU",
            device.argument()
        )));
    }
    if !address.is_ipv4() {
        return Err(Error::Argument(format!(
            "{address}: expected an IPv4 address"
        )));
    }
    let unusable = |error: io::Error| {
        let why = io::Error::new(error.kind(), format!("cannot listen there: {error}"));
        Error::io(address.to_string(), why)
    };
    // ggml does not say why it cannot.
    let listener = TcpListener::bind(address).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    drop(listener);
    let endpoint = CString::new(address.to_string())
        .map_err(|_| Error::Argument(format!("{address} is no address")))?;
    // SAFETY: ggml documents the function of this name to have this type.
    let start: StartServer = unsafe { std::mem::transmute(start) };
    let mut devices = [device.raw()];
    // SAFETY: the text ends in NUL, no folder for a cache is given, and there is one live device.
    unsafe {
        start(
            endpoint.as_ptr(),
            std::ptr::null(),
            threads,
            devices.len(),
            devices.as_mut_ptr(),
        );
    }
    Err(Error::Ggml {
        operation: "serve",
        message: format!("the server at {address} ended"),
    })
}
