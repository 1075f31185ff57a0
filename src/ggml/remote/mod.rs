//! Devices of other machines, through ggml's RPC, and this machine's for others.
//!
//! ggml ends the process when a worker cannot be reached, is lost, or answers nonsense. So ggml
//! gets a transport of our own (`transport`), which never fails: a worker that is lost is marked
//! and its requests are answered by stand-ins, so that ggml goes on. Whoever touches a device
//! through this room asks [`check`] afterwards, and reports the loss instead of the result.
//!
//! | file | what it knows |
//! |---|---|
//! | `protocol` | where messages end, which replies are possible |
//! | `signs` | what shows that a worker lives |
//! | `worker` | what is known of a worker |
//! | `registry` | the workers of this process, by address, name and device |
//! | `connection` | the connection to a worker, which never fails |
//! | `listener`, `client` | a worker's side: its connections, the client that is served |
//! | `transport` | the functions that ggml calls |

mod client;
mod connection;
mod listener;
mod protocol;
mod registry;
mod signs;
mod transport;
mod worker;

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::ptr::NonNull;

use self::listener::Listener;
pub(super) use self::registry::RawDevice;
use self::worker::Worker;
use super::sys;
use crate::error::{Error, Result};

type AddServer = unsafe extern "C" fn(*const c_char) -> *mut sys::ggml_backend_reg;
type StartServer = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    usize,
    usize,
    *mut *mut sys::ggml_backend_device,
);

/// The backend's function called `name`.
fn function(name: &CStr) -> Result<*mut std::ffi::c_void> {
    transport::install();
    // SAFETY: look-ups by names that end in NUL; the registry lives as long as the process.
    let function = unsafe {
        let registry = sys::ggml_backend_reg_by_name(c"RPC".as_ptr());
        if registry.is_null() {
            std::ptr::null_mut()
        } else {
            sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
        }
    };
    if function.is_null() {
        return Err(Error::Internal("ggml was built without its RPC".to_owned()));
    }
    Ok(function)
}

/// Every device that the worker at `address` (`HOST:PORT`) serves.
///
/// # Errors
/// [`Error::Argument`] for an address that is none; [`Error::Worker`] when no worker of this
/// version answers there within a few seconds.
pub(super) fn devices(address: &str) -> Result<Vec<RawDevice>> {
    let add_server = function(c"ggml_backend_rpc_add_server")?;
    if let Some(worker) = registry::living(address) {
        registry::reach(&worker).map_err(|problem| refused(address, &problem))?;
        return Ok(registry::devices_of(&worker));
    }
    let worker = Worker::new(address, resolve(address)?);
    registry::reach(&worker).map_err(|problem| refused(address, &problem))?;
    let name = CString::new(registry::name(&worker))
        .map_err(|_| Error::Argument(format!("{address:?} is no address")))?;
    // SAFETY: ggml documents the function of this name to have this type.
    let add_server: AddServer = unsafe { std::mem::transmute(add_server) };
    // SAFETY: the text ends in NUL and is copied. What comes back lives as long as the process.
    let devices: Vec<RawDevice> = unsafe {
        let registry = add_server(name.as_ptr());
        if registry.is_null() {
            Vec::new()
        } else {
            let indices = 0..sys::ggml_backend_reg_dev_count(registry);
            let raw = indices.map(|index| sys::ggml_backend_reg_dev_get(registry, index));
            raw.filter_map(NonNull::new).map(RawDevice).collect()
        }
    };
    alive(&worker)?;
    if devices.is_empty() {
        return Err(refused(address, "it serves no device"));
    }
    registry::serves(&worker, &devices);
    Ok(devices)
}

/// Whether [`check`] may have something to report.
pub(super) fn any_lost() -> bool {
    worker::any_lost()
}

/// Reports the loss of the worker that serves `device`, if one does. To be called after whatever
/// has to do with the device, whose results are worth nothing then.
///
/// # Errors
/// [`Error::Worker`].
pub(super) fn check(device: RawDevice) -> Result<()> {
    if !any_lost() {
        return Ok(());
    }
    registry::worker_of(device).map_or(Ok(()), |worker| alive(&worker))
}

fn alive(worker: &Worker) -> Result<()> {
    match worker.loss() {
        None => Ok(()),
        Some(problem) => Err(Error::Worker {
            address: worker.address().to_owned(),
            message: format!(
                "the worker is lost: {problem}; make sure that `gpt2 worker` runs there and can \
                 be reached, and open the model again"
            ),
        }),
    }
}

fn refused(address: &str, problem: &str) -> Error {
    Error::Worker {
        address: address.to_owned(),
        message: format!(
            "expected a worker (`gpt2 worker` on that machine), found none that can be used: \
             {problem}"
        ),
    }
}

/// The socket addresses of `address`.
fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let found = address.to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| {
        if error.kind() == io::ErrorKind::InvalidInput {
            return Error::Argument(format!(
                "rpc://{address}: expected rpc://HOST:PORT, found no such place: {error}"
            ));
        }
        refused(address, &format!("no such host ({error})"))
    })
}

/// Serves `device` to the connections of `listener`, with `threads` threads of the CPU, until the
/// process ends.
///
/// # Errors
/// When serving fails.
pub(super) fn serve(listener: TcpListener, device: RawDevice, threads: usize) -> Result<()> {
    let start = function(c"ggml_backend_rpc_start_server")?;
    let place = |error| Error::io("the worker's connection", error);
    let address = listener.local_addr().map_err(place)?;
    let endpoint = format!("worker-{}:{}", address.ip(), address.port()).replace("::", "-");
    let name = CString::new(endpoint.clone())
        .map_err(|_| Error::Argument(format!("{address} is no address")))?;
    listener::offer(&endpoint, Listener::start(listener).map_err(place)?);
    // SAFETY: ggml documents the function of this name to have this type.
    let start: StartServer = unsafe { std::mem::transmute(start) };
    let mut devices = [device.0.as_ptr()];
    // SAFETY: the text ends in NUL, no folder for a cache is given, and there is one live device.
    unsafe {
        start(
            name.as_ptr(),
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
