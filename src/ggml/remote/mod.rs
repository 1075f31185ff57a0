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
//! | `connection` | the connection to a worker, which never fails |
//! | `listener`, `client` | a worker's side: its connections, the client that is served |
//! | `transport` | the functions that ggml calls |

mod client;
mod connection;
mod listener;
mod protocol;
mod signs;
mod transport;
mod worker;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use self::listener::Listener;
use self::worker::Worker;
use super::device::Device;
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

/// Every worker that was reached in this process.
static WORKERS: Mutex<Workers> = Mutex::new(Workers {
    by_endpoint: BTreeMap::new(),
    devices: Vec::new(),
});

struct Workers {
    /// By the name that ggml has of it.
    by_endpoint: BTreeMap<String, Arc<Worker>>,
    /// What each serves.
    devices: Vec<(Device, Arc<Worker>)>,
}

fn workers() -> std::sync::MutexGuard<'static, Workers> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

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
pub(super) fn devices(address: &str) -> Result<Vec<Device>> {
    let add_server = function(c"ggml_backend_rpc_add_server")?;
    let known = workers().living(address);
    if let Some(worker) = known {
        worker
            .reach()
            .map_err(|problem| refused(address, &problem))?;
        return Ok(workers().devices_of(&worker));
    }
    let worker = Worker::new(address, resolve(address)?);
    worker
        .reach()
        .map_err(|problem| refused(address, &problem))?;
    let endpoint = workers().name(&worker);
    let endpoint = CString::new(endpoint)
        .map_err(|_| Error::Argument(format!("{address:?} is no address")))?;
    // SAFETY: ggml documents the function of this name to have this type.
    let add_server: AddServer = unsafe { std::mem::transmute(add_server) };
    // SAFETY: the text ends in NUL and is copied. What comes back lives as long as the process.
    let devices: Vec<Device> = unsafe {
        let registry = add_server(endpoint.as_ptr());
        if registry.is_null() {
            Vec::new()
        } else {
            (0..sys::ggml_backend_reg_dev_count(registry))
                .filter_map(|index| {
                    Device::from_raw(sys::ggml_backend_reg_dev_get(registry, index))
                })
                .collect()
        }
    };
    alive(&worker)?;
    if devices.is_empty() {
        return Err(refused(address, "it serves no device"));
    }
    let served = devices.iter().map(|&device| (device, Arc::clone(&worker)));
    workers().devices.extend(served);
    Ok(devices)
}

impl Workers {
    /// The worker at `address`, unless it is lost.
    fn living(&self, address: &str) -> Option<Arc<Worker>> {
        let mut all = self.devices.iter().map(|(_, worker)| worker);
        all.find(|worker| worker.address() == address && worker.loss().is_none())
            .map(Arc::clone)
    }

    fn devices_of(&self, worker: &Arc<Worker>) -> Vec<Device> {
        let mut served = Vec::new();
        for (device, of) in &self.devices {
            if Arc::ptr_eq(of, worker) {
                served.push(*device);
            }
        }
        served
    }

    /// Names `worker` for ggml, which splits a name at its first colon. It must be another than
    /// that of a lost worker at the same address, whose buffers may still be there.
    fn name(&mut self, worker: &Arc<Worker>) -> String {
        let (host, port) = worker
            .address()
            .rsplit_once(':')
            .unwrap_or((worker.address(), "0"));
        let host = host.replace(':', "-");
        let port: u16 = port.parse().unwrap_or(0);
        let names = (1..).map(|count: u32| match count {
            1 => format!("{host}:{port}"),
            _ => format!("{host}#{count}:{port}"),
        });
        let mut unused = names.filter(|name| !self.by_endpoint.contains_key(name));
        let name = unused.next().unwrap_or_default();
        self.by_endpoint.insert(name.clone(), Arc::clone(worker));
        name
    }
}

/// The worker that ggml knows as `endpoint`.
fn worker_of(endpoint: &str) -> Option<Arc<Worker>> {
    workers().by_endpoint.get(endpoint).map(Arc::clone)
}

/// The listener that ggml is to serve at `endpoint`.
fn listener_of(endpoint: &str) -> Option<Listener> {
    listener::take(endpoint)
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
pub(super) fn check(device: Device) -> Result<()> {
    if !worker::any_lost() {
        return Ok(());
    }
    let workers = workers();
    let mut served = workers.devices.iter();
    match served.find(|(known, _)| *known == device) {
        Some((_, worker)) => alive(worker),
        None => Ok(()),
    }
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
pub(super) fn serve(listener: TcpListener, device: Device, threads: usize) -> Result<()> {
    let start = function(c"ggml_backend_rpc_start_server")?;
    let place = |error| Error::io("the worker's connection", error);
    let address = listener.local_addr().map_err(place)?;
    let endpoint = format!("worker-{}:{}", address.ip(), address.port()).replace("::", "-");
    let name = CString::new(endpoint.clone())
        .map_err(|_| Error::Argument(format!("{address} is no address")))?;
    listener::offer(&endpoint, Listener::start(listener).map_err(place)?);
    // SAFETY: ggml documents the function of this name to have this type.
    let start: StartServer = unsafe { std::mem::transmute(start) };
    let mut devices = [device.raw()];
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
