//! A device at work: its threads, and a way to stop it.
//!
//! ggml knows nothing of `fork()`. In a child none of its threads exist: the CPU is started once
//! more before it computes, and what was there is not freed, which would wait for them. What an
//! ancestor had on other devices (a driver's state, a connection) belongs to the ancestor: it is
//! neither used nor freed.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device::{Device, Kind, inherited};
use super::sys;
use crate::error::{Error, Result};
use gpt2_kernels::fork::forks;

/// Most threads ggml's pool takes.
pub(crate) const MAX_THREADS: usize = sys::GGML_MAX_N_THREADS as usize;

/// One stream of work on a device, with its own thread pool on the CPU.
pub(crate) struct Backend {
    handle: Arc<Handle>,
    device: Device,
    threads: usize,
    stop: Arc<AtomicBool>,
}

/// ggml's object, freed when nothing computes with it any more: schedulers keep a share of it.
pub(super) struct Handle {
    raw: NonNull<sys::ggml_backend>,
    pool: Option<Pool>,
    is_cpu: bool,
    /// The process it was started in, as [`forks`] counts.
    forks: u32,
    /// What the object's callback reads.
    _stop: Arc<AtomicBool>,
}

impl Handle {
    /// Whether an ancestor of this process started it.
    fn is_inherited(&self) -> bool {
        self.forks != forks()
    }

    pub(super) fn raw(&self) -> *mut sys::ggml_backend {
        self.raw.as_ptr()
    }
}

// SAFETY: a backend is used by one thread at a time (`Backends::run` takes `&mut self`, and a
// scheduler runs only with the backends it was made for) and is not tied to the thread that made
// it.
unsafe impl Send for Handle {}
// SAFETY: shared references offer only the pointer, used as above.
unsafe impl Sync for Handle {}

struct Pool {
    raw: NonNull<sys::ggml_threadpool>,
    free: unsafe extern "C" fn(*mut sys::ggml_threadpool),
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_inherited() && !self.is_cpu {
            return;
        }
        // SAFETY: owned and freed once; the CPU's object only frees memory.
        unsafe { sys::ggml_backend_free(self.raw.as_ptr()) };
        let pool = self.pool.as_ref().filter(|_| !self.is_inherited());
        if let Some(pool) = pool {
            // SAFETY: owned and freed once, after the backend, which uses it.
            unsafe { (pool.free)(pool.raw.as_ptr()) };
        }
    }
}

unsafe extern "C" fn asked_to_stop(flag: *mut c_void) -> bool {
    // SAFETY: the flag is the AtomicBool that the backend owns a share of.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}

/// Declares a getter for a function of a backend that ggml publishes by name.
macro_rules! by_name {
    ($device:expr, $name:literal, $type:ty) => {{
        let name: &CStr = $name;
        $device.function(name).map(|function| {
            // SAFETY: ggml documents the function of this name to have this type.
            unsafe { std::mem::transmute::<*mut c_void, $type>(function.as_ptr()) }
        })
    }};
}

type SetThreads = unsafe extern "C" fn(*mut sys::ggml_backend, c_int);
type NewPool = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
type FreePool = unsafe extern "C" fn(*mut sys::ggml_threadpool);
type SetPool = unsafe extern "C" fn(*mut sys::ggml_backend, *mut sys::ggml_threadpool);
type SetAbort = unsafe extern "C" fn(*mut sys::ggml_backend, sys::ggml_abort_callback, *mut c_void);

/// Starts `count` threads at once and ends them: ggml ends the process when it does not get its
/// own.
fn threads_to_be_had(count: usize) -> std::io::Result<()> {
    let stack = super::system::thread_stack_bytes();
    let barrier = Arc::new(std::sync::Mutex::new(()));
    let all_there = barrier.lock();
    let started: std::io::Result<Vec<_>> = (0..count)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            std::thread::Builder::new()
                .stack_size(stack)
                .spawn(move || drop(barrier.lock()))
        })
        .collect();
    drop(all_there);
    // Without waiting for them, their stacks might still be in use; a panic is not possible in
    // them.
    started?.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

impl Backend {
    /// Starts `device` with `threads` threads, the calling one included (devices without threads of
    /// their own ignore it).
    ///
    /// # Errors
    /// [`Error::Argument`] when `threads` is 0 or more than [`MAX_THREADS`]; [`Error::Ggml`] when
    /// the device does not start.
    pub(crate) fn start(device: Device, threads: usize) -> Result<Self> {
        Self::with_flag(device, threads, Arc::default())
    }

    /// [`Backend::start`] with a flag that is there.
    fn with_flag(device: Device, threads: usize, stop: Arc<AtomicBool>) -> Result<Self> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(Error::Argument(format!(
                "expected 1 to {MAX_THREADS} threads, found {threads}"
            )));
        }
        let fail = |message: String| Error::Ggml {
            operation: "start device",
            message,
        };
        // SAFETY: the device is live; no parameters are passed.
        let raw = unsafe { sys::ggml_backend_dev_init(device.raw(), std::ptr::null()) };
        let raw = NonNull::new(raw).ok_or_else(|| fail(device.name()))?;
        let mut handle = Handle {
            raw,
            pool: None,
            is_cpu: device.kind() == Kind::Cpu,
            forks: forks(),
            _stop: Arc::clone(&stop),
        };
        if let Some(set_threads) = by_name!(device, c"ggml_backend_set_n_threads", SetThreads) {
            // SAFETY: the backend is live and belongs to the device the function came from.
            unsafe { set_threads(raw.as_ptr(), threads as c_int) };
        }
        if threads > 1 {
            handle.start_pool(device, threads).map_err(fail)?;
        }
        if let Some(set_abort) = by_name!(device, c"ggml_backend_set_abort_callback", SetAbort) {
            let flag = Arc::as_ptr(&stop).cast_mut().cast::<c_void>();
            // SAFETY: the flag lives as long as the handle, which holds a share of it.
            unsafe { set_abort(raw.as_ptr(), Some(asked_to_stop), flag) };
        }
        Ok(Self {
            handle: Arc::new(handle),
            device,
            threads,
            stop,
        })
    }

    /// The device this works on.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Handle {
    fn start_pool(&mut self, device: Device, threads: usize) -> Result<(), String> {
        let (Some(new), Some(free), Some(set)) = (
            by_name!(device, c"ggml_threadpool_new", NewPool),
            by_name!(device, c"ggml_threadpool_free", FreePool),
            by_name!(device, c"ggml_backend_cpu_set_threadpool", SetPool),
        ) else {
            return Ok(());
        };
        threads_to_be_had(threads - 1)
            .map_err(|error| format!("{threads} threads: {error}; use fewer"))?;
        // SAFETY: the parameters are a plain struct that ggml fills for a valid thread count and
        // reads during the call.
        let pool = unsafe {
            let mut parameters = sys::ggml_threadpool_params_default(threads as c_int);
            new(&raw mut parameters)
        };
        let raw = NonNull::new(pool).ok_or_else(|| format!("a pool of {threads} threads"))?;
        self.pool = Some(Pool { raw, free });
        // SAFETY: backend and pool are live; the pool is freed after the backend.
        unsafe { set(self.raw.as_ptr(), raw.as_ptr()) };
        Ok(())
    }
}

/// The devices that compute a graph: any others in order of preference, and the CPU last.
pub(crate) struct Backends {
    all: Vec<Backend>,
}

impl Backends {
    /// Starts `others` and the CPU, this one (and its helpers) with `threads` threads.
    ///
    /// # Errors
    /// As [`Backend::start`].
    pub(crate) fn start(others: &[Device], cpu: Device, threads: usize) -> Result<Self> {
        let all = others.iter().map(|&device| Backend::start(device, threads));
        Ok(Self {
            all: all
                .chain([Backend::start(cpu, threads)])
                .collect::<Result<_>>()?,
        })
    }

    /// Refuses other devices than the CPU that an ancestor of this process started.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub(crate) fn check_process(&self) -> Result<()> {
        match &self.all[..] {
            [other, _, ..] if other.handle.is_inherited() => Err(inherited(&other.device.name())),
            _ => Ok(()),
        }
    }

    /// Reports the loss of a device on another machine.
    ///
    /// # Errors
    /// [`Error::Worker`].
    pub(super) fn check_alive(&self) -> Result<()> {
        let mut devices = self.all.iter().map(Backend::device);
        devices.try_for_each(Device::check_alive)
    }

    /// Makes sure that they can be used in this process: after `fork()` the CPU gets threads again.
    ///
    /// # Errors
    /// As [`Backends::check_process`] and [`Backend::start`].
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.check_process()?;
        let Some(cpu) = self.all.last_mut() else {
            return Ok(());
        };
        if !cpu.handle.is_inherited() {
            return Ok(());
        }
        // OpenMP's own threads cannot be replaced.
        let threads = if cfg!(feature = "openmp") {
            1
        } else {
            cpu.threads
        };
        *cpu = Backend::with_flag(cpu.device, threads, Arc::clone(&cpu.stop))?;
        Ok(())
    }

    /// Every one, the CPU last.
    pub(super) fn all(&self) -> &[Backend] {
        &self.all
    }

    fn cpu(&self) -> &Backend {
        // `start` puts it there.
        &self.all[self.all.len() - 1]
    }

    /// The only device, when there is but one.
    pub(crate) fn only(&self) -> Option<Device> {
        (self.all.len() == 1).then(|| self.cpu().device())
    }

    /// Set to true, it ends the running computation, and each later one until it is false again.
    /// Other devices than the CPU end what they are at first.
    pub(crate) fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.cpu().stop
    }

    /// Runs a graph that was allocated in the memory of the only device.
    pub(super) fn run(&mut self, graph: *mut sys::ggml_cgraph) -> Result<()> {
        self.check_running()?;
        // SAFETY: the caller (`AllocatedGraph::compute`) passes a live graph whose tensors all have
        // data; `&mut self` keeps other threads out of this backend.
        let status = unsafe { sys::ggml_backend_graph_compute(self.cpu().handle.raw(), graph) };
        outcome(status)
    }

    /// Refuses to begin when a stop was requested.
    pub(super) fn check_running(&self) -> Result<()> {
        if self.stop_flag().load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        Ok(())
    }
}

/// What ggml's status says.
pub(super) fn outcome(status: sys::ggml_status) -> Result<()> {
    match status {
        sys::GGML_STATUS_SUCCESS => Ok(()),
        sys::GGML_STATUS_ABORTED => Err(Error::Stopped),
        sys::GGML_STATUS_ALLOC_FAILED => Err(Error::Memory(
            "working memory of the computation".to_owned(),
        )),
        other => Err(Error::Ggml {
            operation: "compute",
            message: format!("a device ended with status {other}"),
        }),
    }
}
