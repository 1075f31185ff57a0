//! The workers that this process has reached, by their addresses and by the names that ggml has of
//! them, and what they serve.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::sys;
use super::connection::Connection;
use super::worker::Worker;

/// A device as ggml knows it: made once, and never freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct RawDevice(pub(in super::super) NonNull<sys::ggml_backend_device>);

// SAFETY: ggml's devices are constants of the registry.
unsafe impl Send for RawDevice {}

static WORKERS: Mutex<Workers> = Mutex::new(Workers {
    by_name: BTreeMap::new(),
    devices: Vec::new(),
    ready: Vec::new(),
});

struct Workers {
    by_name: BTreeMap<String, Arc<Worker>>,
    devices: Vec<(RawDevice, Arc<Worker>)>,
    /// Connections that ggml has not taken yet.
    ready: Vec<Connection>,
}

fn workers() -> MutexGuard<'static, Workers> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker at `address` that serves devices and is not lost.
pub(super) fn living(address: &str) -> Option<Arc<Worker>> {
    let workers = workers();
    let mut all = workers.devices.iter().map(|(_, worker)| worker);
    all.find(|worker| worker.address() == address && worker.loss().is_none())
        .map(Arc::clone)
}

/// Makes sure that there is a connection: a worker talks to one client at a time, and may be
/// talking to this process.
///
/// # Errors
/// As [`Connection::open`].
pub(super) fn reach(worker: &Arc<Worker>) -> Result<(), String> {
    if !worker.is_connected() {
        let connection = Connection::open(worker)?;
        workers().ready.push(connection);
    }
    Ok(())
}

/// Names `worker` for ggml, which splits a name at its first colon. It must be another than that of
/// a lost worker at the same address, whose buffers may still be there.
pub(super) fn name(worker: &Arc<Worker>) -> String {
    let address = worker.address();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.replace(':', "-");
    let port: u16 = port.parse().unwrap_or(0);
    let names = (1..).map(|count: u32| match count {
        1 => format!("{host}:{port}"),
        _ => format!("{host}#{count}:{port}"),
    });
    let mut workers = workers();
    let mut unused = names.filter(|name| !workers.by_name.contains_key(name));
    let name = unused.next().unwrap_or_default();
    workers.by_name.insert(name.clone(), Arc::clone(worker));
    name
}

/// A connection to the worker that ggml knows as `name`, whatever happens; `None` when it has no
/// such name from here.
pub(super) fn connect(name: &str) -> Option<Connection> {
    let (worker, ready) = {
        let mut workers = workers();
        let worker = Arc::clone(workers.by_name.get(name)?);
        let mut ready = workers.ready.iter();
        let index = ready.position(|ready| Arc::ptr_eq(ready.worker(), &worker));
        (worker, index.map(|index| workers.ready.swap_remove(index)))
    };
    if ready.is_some() {
        return ready;
    }
    if worker.loss().is_some() {
        return Some(Connection::lost(&worker));
    }
    let opened = Connection::open(&worker);
    Some(opened.unwrap_or_else(|problem| {
        worker.lose(problem);
        Connection::lost(&worker)
    }))
}

/// Notes what a worker serves.
pub(super) fn serves(worker: &Arc<Worker>, devices: &[RawDevice]) {
    let served = devices.iter().map(|&device| (device, Arc::clone(worker)));
    workers().devices.extend(served);
}

/// What a worker serves.
pub(super) fn devices_of(worker: &Arc<Worker>) -> Vec<RawDevice> {
    let workers = workers();
    let served = workers.devices.iter();
    served
        .filter(|(_, of)| Arc::ptr_eq(of, worker))
        .map(|(device, _)| *device)
        .collect()
}

/// Who serves a device.
pub(super) fn worker_of(device: RawDevice) -> Option<Arc<Worker>> {
    let workers = workers();
    let mut served = workers.devices.iter();
    served
        .find(|(known, _)| *known == device)
        .map(|(_, worker)| Arc::clone(worker))
}
