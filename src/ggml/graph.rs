//! Graphs: what is computed, in which order, in which memory.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use super::backend::Backends;
use super::context::{Context, Tensor};
use super::device::Device;
use super::scheduler::Scheduler;
use super::sys;
use crate::error::{Error, Result};

/// Plans and owns the memory of graphs' intermediate tensors.
pub(crate) struct Allocator(Memory);

enum Memory {
    /// Of one device.
    One(Planner, Device),
    /// Of several, between which a graph is divided.
    Several(Scheduler),
}

/// ggml's allocator for one device.
struct Planner {
    raw: NonNull<sys::ggml_gallocr>,
}

// SAFETY: owned memory, used by one thread at a time (`allocate` consumes it).
unsafe impl Send for Planner {}
// SAFETY: shared use only reads sizes.
unsafe impl Sync for Planner {}

impl Drop for Planner {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; graphs allocated with it own it.
        unsafe { sys::ggml_gallocr_free(self.raw.as_ptr()) }
    }
}

impl Allocator {
    /// An allocator in the memory of `backends`' devices, for `graph` and others like it.
    ///
    /// # Errors
    /// [`Error::Memory`] or [`Error::Ggml`] when it cannot be made.
    pub(crate) fn new(backends: &Backends, graph: &Graph) -> Result<Self> {
        let Some(device) = backends.only() else {
            return Ok(Self(Memory::Several(Scheduler::new(backends, graph)?)));
        };
        let buffer_type = device.buffer_type()?;
        // SAFETY: the buffer type is a constant of its backend.
        let raw = unsafe { sys::ggml_gallocr_new(buffer_type.raw()) };
        let raw =
            NonNull::new(raw).ok_or_else(|| Error::Memory("the graph allocator".to_owned()))?;
        Ok(Self(Memory::One(Planner { raw }, device)))
    }

    /// Bytes of memory allocated now, on each device.
    pub(crate) fn bytes(&self) -> Vec<(Device, usize)> {
        match &self.0 {
            // SAFETY: live; there is one buffer, number 0.
            Memory::One(planner, device) => vec![(*device, unsafe {
                sys::ggml_gallocr_get_buffer_size(planner.raw.as_ptr(), 0)
            })],
            Memory::Several(scheduler) => scheduler.bytes(),
        }
    }
}

impl Planner {
    /// Bytes that `graph` would take.
    fn measure(&self, graph: &Graph) -> usize {
        let mut bytes = 0;
        // SAFETY: one buffer, so one size is written; without node assignments all go to buffer 0.
        unsafe {
            sys::ggml_gallocr_reserve_n_size(
                self.raw.as_ptr(),
                graph.raw.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                &raw mut bytes,
            );
        }
        bytes
    }
}

/// A graph under construction: an order of the operations in its context.
pub(crate) struct Graph {
    raw: NonNull<sys::ggml_cgraph>,
    context: Arc<Context>,
    /// Where each stretch of nodes ends, and the device it was made for.
    sections: Vec<(usize, Device)>,
}

// SAFETY: the graph lives in its context's arena, which it keeps alive.
unsafe impl Send for Graph {}
// SAFETY: shared use only reads.
unsafe impl Sync for Graph {}

impl Graph {
    /// An empty graph in `context`.
    ///
    /// # Errors
    /// [`Error::Memory`] when the arena has no room for it.
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self> {
        // SAFETY: only computes a size.
        let bytes = unsafe { sys::ggml_graph_overhead_custom(context.capacity(), false) };
        let arena = context.room_for("new graph", bytes)?;
        // SAFETY: the arena has room for a graph of this many nodes.
        let raw = unsafe { sys::ggml_new_graph_custom(arena, context.capacity(), false) };
        NonNull::new(raw)
            .map(|raw| Self {
                raw,
                context: Arc::clone(context),
                sections: Vec::new(),
            })
            .ok_or_else(|| Error::Memory("a graph".to_owned()))
    }

    pub(super) fn raw(&self) -> *mut sys::ggml_cgraph {
        self.raw.as_ptr()
    }

    /// Most nodes it has.
    pub(super) fn capacity(&self) -> usize {
        self.context.capacity()
    }

    fn nodes(&self) -> usize {
        // SAFETY: reads the live graph.
        unsafe { sys::ggml_graph_n_nodes(self.raw.as_ptr()) as usize }
    }

    /// Declares that `device` is to compute what was added since this was last called. Counts only
    /// where several devices work together; what is in no section is computed by the CPU.
    pub(crate) fn end_section(&mut self, device: Device) {
        self.sections.push((self.nodes(), device));
    }

    /// Every node with its section's device.
    pub(super) fn nodes_with_devices(
        &self,
    ) -> impl Iterator<Item = (NonNull<sys::ggml_tensor>, Option<Device>)> {
        (0..self.nodes()).filter_map(|index| {
            let section = self.sections.iter().find(|(end, _)| index < *end);
            // SAFETY: the index is below the count.
            let node = unsafe { sys::ggml_graph_node(self.raw.as_ptr(), index as i32) };
            Some((NonNull::new(node)?, section.map(|(_, device)| *device)))
        })
    }

    /// Appends `result`, and whatever it needs that is not in the graph yet.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor belongs to another context.
    pub(crate) fn expand(&mut self, result: &Tensor) -> Result<()> {
        if !Arc::ptr_eq(result.context(), &self.context) {
            return Err(Error::Ggml {
                operation: "build graph",
                message: format!("{} belongs to another context", result.describe()),
            });
        }
        // SAFETY: the graph has a place for every tensor its context can describe, and leaves of
        // other contexts (weights, caches) are counted in the context's capacity by whoever made
        // it.
        unsafe { sys::ggml_build_forward_expand(self.raw.as_ptr(), result.raw()) };
        Ok(())
    }

    /// Gives every intermediate tensor its place in `allocator`'s memory, which grows when needed.
    ///
    /// # Errors
    /// [`Error::Memory`] when the memory cannot be had.
    pub(crate) fn allocate(self, mut allocator: Allocator) -> Result<AllocatedGraph> {
        match &mut allocator.0 {
            Memory::One(planner, _) => {
                // SAFETY: both are live; with one buffer the allocator grows by itself.
                let done = unsafe {
                    sys::ggml_gallocr_alloc_graph(planner.raw.as_ptr(), self.raw.as_ptr())
                };
                if !done {
                    let bytes = planner.measure(&self);
                    return Err(Error::Memory(format!("{bytes} bytes for the computation")));
                }
            }
            Memory::Several(scheduler) => scheduler.allocate(&self)?,
        }
        Ok(AllocatedGraph {
            graph: self,
            allocator,
        })
    }
}

/// A graph ready to run, as often as wanted.
pub(crate) struct AllocatedGraph {
    graph: Graph,
    allocator: Allocator,
}

impl AllocatedGraph {
    /// Bytes of its intermediate tensors, on each device.
    pub(crate) fn bytes(&self) -> Vec<(Device, usize)> {
        self.allocator.bytes()
    }

    /// Ends the graph; its memory serves another.
    pub(crate) fn into_allocator(self) -> Allocator {
        self.allocator
    }

    /// Runs the graph.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the stop flag is set, [`Error::Memory`] or [`Error::Ggml`]
    /// when the device fails, [`Error::Worker`] when it is lost.
    pub(crate) fn compute(&mut self, backends: &mut Backends) -> Result<()> {
        match &mut self.allocator.0 {
            Memory::One(..) => backends.run(self.graph.raw.as_ptr())?,
            Memory::Several(scheduler) => scheduler.run(&self.graph, backends)?,
        }
        backends.check_alive()?;
        self.graph
            .context
            .take_operation_failure()
            .map_or(Ok(()), Err)
    }

    fn check(&self, operation: &'static str, tensor: &Tensor, bytes: usize) -> Result<()> {
        let refuse = |message| Err(Error::Ggml { operation, message });
        if !Arc::ptr_eq(tensor.context(), &self.graph.context) || !tensor.is_placed() {
            return refuse(format!("{} is not part of this graph", tensor.describe()));
        }
        if !tensor.is_contiguous() || bytes > tensor.bytes() {
            return refuse(format!(
                "{bytes} bytes; {} has {}",
                tensor.describe(),
                tensor.bytes()
            ));
        }
        Ok(())
    }

    /// Writes `values` to the beginning of an input tensor.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor is not this graph's or is smaller than `values`.
    pub(crate) fn write<T: Plain>(&mut self, tensor: &Tensor, values: &[T]) -> Result<()> {
        let bytes = size_of_val(values);
        self.check("write tensor", tensor, bytes)?;
        if bytes > 0 {
            // SAFETY: the tensor has data and at least `bytes` of it; T has no padding.
            unsafe {
                sys::ggml_backend_tensor_set(tensor.raw(), values.as_ptr().cast(), 0, bytes);
            }
        }
        tensor.check_alive()
    }

    /// Reads the f32 elements of an output tensor into `values`, from its first element on.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor is not this graph's, not f32, or smaller than `values`.
    pub(crate) fn read(&self, tensor: &Tensor, values: &mut [f32]) -> Result<()> {
        // SAFETY: the same places; `fill` writes values into them and nothing else.
        let places = unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) };
        self.fill(tensor, places)
    }

    /// Appends the first `count` elements of an output tensor to `values`.
    ///
    /// # Errors
    /// As [`AllocatedGraph::read`].
    pub(crate) fn append(
        &self,
        tensor: &Tensor,
        count: usize,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        values.reserve(count);
        self.fill(tensor, &mut values.spare_capacity_mut()[..count])?;
        // SAFETY: there is room for them, and they were just written.
        unsafe { values.set_len(values.len() + count) };
        Ok(())
    }

    /// Writes elements of an output tensor, from its first one on, to all `places`; to none of them
    /// after an error.
    fn fill(&self, tensor: &Tensor, places: &mut [MaybeUninit<f32>]) -> Result<()> {
        const OPERATION: &str = "read tensor";
        let bytes = size_of_val(places);
        self.check(OPERATION, tensor, bytes)?;
        if tensor.get().type_ != sys::GGML_TYPE_F32 {
            let message = format!("expected f32, found {}", tensor.describe());
            return Err(Error::Ggml {
                operation: OPERATION,
                message,
            });
        }
        if bytes > 0 {
            // SAFETY: the tensor has data and at least `bytes` of it, f32.
            unsafe {
                sys::ggml_backend_tensor_get(tensor.raw(), places.as_mut_ptr().cast(), 0, bytes);
            }
        }
        tensor.check_alive()
    }
}

/// Types whose values can be copied to a device byte by byte.
pub(crate) trait Plain: Copy + private::Sealed {}
impl Plain for i32 {}
impl Plain for i64 {}
impl Plain for f32 {}
impl Plain for half::f16 {}

mod private {
    pub(crate) trait Sealed {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}
