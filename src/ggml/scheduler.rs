//! Graphs that several devices compute, a part each.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Backends, Handle, outcome};
use super::device::{Device, Kind};
use super::graph::Graph;
use super::sys;
use crate::error::{Error, Result};
use gpt2_kernels::fork::forks;

/// ggml's scheduler: it cuts a graph where the device changes, copies what crosses the cuts, and
/// owns the memory of intermediate tensors on each device.
pub(super) struct Scheduler {
    raw: NonNull<sys::ggml_backend_sched>,
    /// In the scheduler's order, the CPU last. Kept until the scheduler is freed.
    parts: Vec<(Device, Arc<Handle>)>,
    /// Nodes and leaves that a graph may have.
    capacity: usize,
    /// The process it was made in, as [`forks`] counts.
    forks: u32,
}

// SAFETY: owned, and used by one thread at a time: everything that changes it takes `&mut self`.
unsafe impl Send for Scheduler {}
// SAFETY: shared use only reads sizes.
unsafe impl Sync for Scheduler {}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.forks != forks() {
            // It has memory on devices of the parent process.
            return;
        }
        // SAFETY: owned, freed once, before the backends it works with.
        unsafe { sys::ggml_backend_sched_free(self.raw.as_ptr()) }
    }
}

impl Scheduler {
    /// A scheduler for graphs of as many tensors as `graph` may have.
    ///
    /// # Errors
    /// [`Error::Memory`] when it cannot be made; [`Error::Argument`] for more devices than ggml
    /// takes.
    pub(super) fn new(backends: &Backends, graph: &Graph) -> Result<Self> {
        let all = backends.all().iter();
        let parts: Vec<(Device, Arc<Handle>)> = all
            .map(|backend| (backend.device(), Arc::clone(backend.handle())))
            .collect();
        if parts.len() > MOST_BACKENDS {
            return Err(Error::Argument(format!(
                "expected at most {MOST_BACKENDS} devices, found {}",
                parts.len()
            )));
        }
        // Leaves (weights, caches, inputs) are no more than nodes.
        let capacity = 2 * graph.capacity();
        let mut raw: Vec<_> = parts.iter().map(|(_, handle)| handle.raw()).collect();
        // SAFETY: the backends are live and stay so while `parts` lives; the last is the CPU; each
        // uses its own default memory.
        let raw = unsafe {
            sys::ggml_backend_sched_new(
                raw.as_mut_ptr(),
                std::ptr::null_mut(),
                raw.len() as c_int,
                capacity,
                false,
                false,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| Error::Memory("the scheduler".to_owned()))?;
        Ok(Self {
            raw,
            parts,
            capacity,
            forks: forks(),
        })
    }

    /// Bytes of intermediate tensors on each device.
    pub(super) fn bytes(&self) -> Vec<(Device, usize)> {
        let size = |(device, handle): &(Device, Arc<Handle>)| {
            // SAFETY: both are live, and the backend is one of the scheduler's.
            let bytes =
                unsafe { sys::ggml_backend_sched_get_buffer_size(self.raw.as_ptr(), handle.raw()) };
            (*device, bytes)
        };
        self.parts.iter().map(size).collect()
    }

    /// Cuts the graph where its sections change device, and gives every tensor its place. An
    /// operation that its section's device does not support goes to the CPU, with one warning.
    ///
    /// # Errors
    /// [`Error::Memory`] when a device has not enough; [`Error::Ggml`] when the graph is larger
    /// than what the scheduler was made for; [`Error::Worker`] when a device is lost.
    pub(super) fn allocate(&mut self, graph: &Graph) -> Result<()> {
        if 2 * graph.capacity() > self.capacity {
            return Err(Error::Ggml {
                operation: "schedule",
                message: format!(
                    "a graph of {} tensors, made for {}",
                    graph.capacity(),
                    self.capacity / 2
                ),
            });
        }
        // SAFETY: live; what was allocated for an earlier graph is let go, whose tensors nobody
        // uses any more.
        unsafe { sys::ggml_backend_sched_reset(self.raw.as_ptr()) };
        for (node, device) in graph.nodes_with_devices() {
            self.assign(node, device);
        }
        // SAFETY: both are live, the graph is not larger than the scheduler's tables.
        let done = unsafe { sys::ggml_backend_sched_alloc_graph(self.raw.as_ptr(), graph.raw()) };
        for (device, _) in &self.parts {
            device.check_alive()?;
        }
        if done {
            return Ok(());
        }
        let names: Vec<String> = self.parts.iter().map(|(device, _)| device.name()).collect();
        Err(Error::Memory(format!(
            "the computation does not fit on {}",
            names.join(" and ")
        )))
    }

    /// Sends a node to `device`, or to the CPU where there is none or it cannot compute it.
    fn assign(&self, node: NonNull<sys::ggml_tensor>, device: Option<Device>) {
        // SAFETY: a node of a live graph.
        let description = unsafe { node.as_ref() };
        let operation = description.op;
        // SAFETY: a view's source is live as long as the view.
        let stored =
            unsafe { description.view_src.as_ref() }.is_some_and(|source| !source.buffer.is_null());
        // Views compute nothing, and what is written into the cache is written by who has it.
        if stored
            || matches!(
                operation,
                sys::GGML_OP_NONE
                    | sys::GGML_OP_VIEW
                    | sys::GGML_OP_RESHAPE
                    | sys::GGML_OP_PERMUTE
                    | sys::GGML_OP_TRANSPOSE
            )
        {
            return;
        }
        let others = &self.parts[..self.parts.len() - 1];
        let wanted = others.iter().find(|(known, _)| Some(*known) == device);
        let chosen = wanted.filter(|(device, _)| {
            // A remote device claims everything, and our own steps are functions of this process.
            let here_only = operation == sys::GGML_OP_CUSTOM;
            // SAFETY: device and node are live.
            let supported =
                unsafe { sys::ggml_backend_dev_supports_op(device.raw(), node.as_ptr()) };
            supported && !here_only
        });
        let helped = others
            .iter()
            .any(|(device, _)| device.kind() == Kind::Accelerator);
        let handle = match (wanted, chosen) {
            (_, Some((_, handle))) => handle,
            // Which of the CPU's products its helpers take is for ggml to say.
            (None, None) if helped && operation == sys::GGML_OP_MUL_MAT => return,
            (wanted, None) => {
                if let Some((device, _)) = wanted {
                    // SAFETY: gives a constant text, or the name in a live description.
                    let name = unsafe { CStr::from_ptr(sys::ggml_op_desc(node.as_ptr())) };
                    tell(&format!("{} on {}", name.to_string_lossy(), device.name()));
                }
                &self.parts[self.parts.len() - 1].1
            }
        };
        let raw = handle.raw();
        // SAFETY: all are live; the backend is one of the scheduler's and computes this operation.
        unsafe {
            sys::ggml_backend_sched_set_tensor_backend(self.raw.as_ptr(), node.as_ptr(), raw);
        }
    }

    /// Runs the graph that was allocated last.
    ///
    /// # Errors
    /// [`Error::Ggml`] for other backends than the scheduler's own; else as a single device's.
    pub(super) fn run(&mut self, graph: &Graph, backends: &mut Backends) -> Result<()> {
        let own = backends.all().iter().zip(&self.parts);
        let same = backends.all().len() == self.parts.len()
            && own
                .into_iter()
                .all(|(backend, (_, handle))| Arc::ptr_eq(backend.handle(), handle));
        if !same {
            return Err(Error::Ggml {
                operation: "compute",
                message: "the graph was allocated for other devices".to_owned(),
            });
        }
        backends.check_running()?;
        backends.check_alive()?;
        // SAFETY: the graph was allocated by this scheduler; `&mut` keeps other threads out of the
        // backends.
        outcome(unsafe { sys::ggml_backend_sched_graph_compute(self.raw.as_ptr(), graph.raw()) })
    }
}

/// `GGML_SCHED_MAX_BACKENDS`.
const MOST_BACKENDS: usize = 16;

/// Warns once per process of what is computed on another device than requested.
fn tell(what: &str) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(what.to_owned()) {
        tracing::warn!("{what} is not there; the CPU computes it, and data is copied to and fro");
    }
}
