//! Tensor descriptions and the arena they live in.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::Buffer;
use super::sys;
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use gpt2_kernels::pool::Pool;

/// The longest tensor name ggml keeps, without its final NUL.
const NAME_BYTES: usize = sys::GGML_MAX_NAME as usize - 1;

/// An arena of tensor descriptions (shapes, types, operations); it never holds tensor data.
///
/// A context keeps alive what its tensors point at: the buffers they were placed in and the
/// contexts of the tensors their operations read.
pub(crate) struct Context {
    raw: NonNull<sys::ggml_context>,
    bytes: usize,
    tensors: usize,
    pool: Option<Arc<Pool>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    contexts: Vec<Arc<Context>>,
    buffers: Vec<Arc<Buffer>>,
    operations: Vec<Arc<super::custom::Operation>>,
}

// SAFETY: the arena is plain memory owned by this value. Descriptions are added only while one
// thread builds a graph or loads a model (both hold the only handle that builds); afterwards they
// are only read, except for the data pointers that the allocator of the owning graph sets under
// `&mut`.
unsafe impl Send for Context {}
// SAFETY: as above; shared use is reading finished descriptions.
unsafe impl Sync for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` came from ggml_init and is freed once, here.
        unsafe { sys::ggml_free(self.raw.as_ptr()) }
    }
}

impl Context {
    /// An arena with room for `tensors` descriptions and one graph of as many nodes.
    ///
    /// # Errors
    /// [`Error::Memory`] when the arena cannot be allocated.
    pub(crate) fn new(tensors: usize) -> Result<Arc<Self>> {
        Self::with_pool(tensors, None)
    }

    /// As [`Context::new`], for steps that the threads of `pool` compute.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub(crate) fn with_pool(tensors: usize, pool: Option<Arc<Pool>>) -> Result<Arc<Self>> {
        // SAFETY: both functions only compute a size.
        let bytes = unsafe {
            sys::ggml_tensor_overhead()
                .checked_mul(tensors)
                .and_then(|bytes| {
                    bytes.checked_add(sys::ggml_graph_overhead_custom(tensors, false))
                })
        };
        let bytes = bytes.ok_or_else(|| Error::Memory(format!("{tensors} tensor descriptions")))?;
        // SAFETY: the parameters are valid: no memory is passed, and no data is allocated.
        let raw = unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: bytes,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        let raw = NonNull::new(raw)
            .ok_or_else(|| Error::Memory(format!("{bytes} bytes of tensor descriptions")))?;
        Ok(Arc::new(Self {
            raw,
            bytes,
            tensors,
            pool,
            kept: Mutex::default(),
        }))
    }

    /// The threads that compute this library's own steps, where those are not ggml's.
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    /// Descriptions this arena was made for; a graph in it has at most as many nodes.
    pub(crate) fn capacity(&self) -> usize {
        self.tensors
    }

    /// The raw arena, once there is room for one more description.
    pub(super) fn room(&self, operation: &'static str) -> Result<*mut sys::ggml_context> {
        // SAFETY: only computes a size.
        self.room_for(operation, unsafe { sys::ggml_tensor_overhead() })
    }

    /// The raw arena, once there is room for `bytes` more.
    pub(super) fn room_for(
        &self,
        operation: &'static str,
        bytes: usize,
    ) -> Result<*mut sys::ggml_context> {
        // SAFETY: `raw` is live; the function only reads.
        let used = unsafe { sys::ggml_used_mem(self.raw.as_ptr()) };
        if used.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(Error::Ggml {
                operation,
                message: format!("the arena of {} tensors is full", self.tensors),
            });
        }
        Ok(self.raw.as_ptr())
    }

    /// A tensor that an operation of this context made.
    ///
    /// # Safety
    /// `raw` is null or a tensor of this context.
    pub(super) unsafe fn adopt(
        self: &Arc<Self>,
        operation: &'static str,
        raw: *mut sys::ggml_tensor,
        sources: &[&Tensor],
    ) -> Result<Tensor> {
        let raw = NonNull::new(raw).ok_or_else(|| Error::Ggml {
            operation,
            message: "ggml gave no tensor".to_owned(),
        })?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources {
            let foreign = !Arc::ptr_eq(&source.context, self);
            if foreign
                && !kept
                    .contexts
                    .iter()
                    .any(|known| Arc::ptr_eq(known, &source.context))
            {
                kept.contexts.push(Arc::clone(&source.context));
            }
        }
        Ok(Tensor {
            raw,
            context: Arc::clone(self),
        })
    }

    pub(super) fn keep_buffer(&self, buffer: &Arc<Buffer>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.buffers.iter().any(|known| Arc::ptr_eq(known, buffer)) {
            kept.buffers.push(Arc::clone(buffer));
        }
    }

    pub(super) fn keep_operation(&self, operation: Arc<super::custom::Operation>) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .operations
            .push(operation);
    }

    /// The first failure that one of this context's own operations met since this was last asked.
    pub(super) fn take_operation_failure(&self) -> Option<Error> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.operations
            .iter()
            .map(|operation| operation.take_failure())
            .fold(None, Option::or)
    }

    /// Describes a new tensor of `shape` (columns first, at most four dimensions) without data.
    ///
    /// # Errors
    /// [`Error::Ggml`] when a dimension is zero or too large, the columns are not a multiple of the
    /// block size of the type, or the arena is full.
    pub(crate) fn tensor(
        self: &Arc<Self>,
        name: &str,
        tensor_type: TensorType,
        shape: &[usize],
    ) -> Result<Tensor> {
        const OPERATION: &str = "new tensor";
        let refuse = |message: String| Error::Ggml {
            operation: OPERATION,
            message,
        };
        if shape.is_empty() || shape.len() > 4 || shape.contains(&0) {
            return Err(refuse(format!(
                "{name}: shape {shape:?}; 1 to 4 non-zero dimensions"
            )));
        }
        let row = tensor_type.row_bytes(shape[0] as u64)?;
        let bytes = shape[1..]
            .iter()
            .try_fold(row, |bytes, &n| bytes.checked_mul(n as u64));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as u64) {
            return Err(refuse(format!("{name}: shape {shape:?} is too large")));
        }
        let raw_type = super::types::to_raw(tensor_type)?;
        let mut ne = [1i64; 4];
        for (to, &from) in ne.iter_mut().zip(shape) {
            *to = from as i64;
        }
        let arena = self.room(OPERATION)?;
        // SAFETY: the arena has room, the type is one ggml knows and the shape was checked above.
        let raw = unsafe { sys::ggml_new_tensor(arena, raw_type, shape.len() as i32, ne.as_ptr()) };
        // SAFETY: `raw` is a tensor of this context.
        let tensor = unsafe { self.adopt(OPERATION, raw, &[]) }?;
        tensor.set_name(name);
        Ok(tensor)
    }
}

/// A tensor: a description, and data once it was placed in a buffer or allocated with its graph.
///
/// Shapes are in ggml's order: `[columns, rows, …]`, columns fastest.
#[derive(Clone)]
pub(crate) struct Tensor {
    raw: NonNull<sys::ggml_tensor>,
    context: Arc<Context>,
}

// SAFETY: a tensor is a pointer into its context, which is Send and Sync and kept alive by the
// handle.
unsafe impl Send for Tensor {}
// SAFETY: as above.
unsafe impl Sync for Tensor {}

impl Tensor {
    pub(super) fn raw(&self) -> *mut sys::ggml_tensor {
        self.raw.as_ptr()
    }

    pub(super) fn get(&self) -> &sys::ggml_tensor {
        // SAFETY: the context keeps the description alive; it is only read here.
        unsafe { self.raw.as_ref() }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Columns, rows, and the two outer dimensions.
    pub(crate) fn shape(&self) -> [usize; 4] {
        self.get().ne.map(|n| n as usize)
    }

    /// Bytes from one element to the next along each dimension.
    pub(crate) fn strides(&self) -> [usize; 4] {
        self.get().nb
    }

    /// The element type.
    ///
    /// # Errors
    /// Never for tensors made here; [`Error::Ggml`] if ggml made a type this library has no name
    /// for.
    pub(crate) fn tensor_type(&self) -> Result<TensorType> {
        super::types::from_raw(self.get().type_)
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape().iter().product()
    }

    /// Bytes of data.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: only reads the description.
        unsafe { sys::ggml_nbytes(self.raw.as_ptr()) }
    }

    /// Whether the elements follow each other without gaps, in order.
    pub(crate) fn is_contiguous(&self) -> bool {
        // SAFETY: only reads the description.
        unsafe { sys::ggml_is_contiguous(self.raw.as_ptr()) }
    }

    /// Whether every row's elements follow each other.
    pub(crate) fn has_contiguous_rows(&self) -> bool {
        // SAFETY: only reads the description.
        unsafe { sys::ggml_is_contiguous_rows(self.raw.as_ptr()) }
    }

    /// Whether the tensor has data.
    pub(crate) fn is_placed(&self) -> bool {
        let tensor = self.get();
        !tensor.data.is_null()
    }

    /// The shape and type as messages show them.
    pub(crate) fn describe(&self) -> String {
        let name = self.tensor_type().map_or("unknown", TensorType::name);
        format!("{name} {:?}", self.shape())
    }

    /// Marks the tensor as one that the caller writes before each run.
    pub(crate) fn mark_input(&self) {
        // SAFETY: sets a flag of a description that only its builder holds.
        unsafe { sys::ggml_set_input(self.raw.as_ptr()) }
    }

    /// Marks the tensor as one that the caller reads after each run.
    pub(crate) fn mark_output(&self) {
        // SAFETY: as for `mark_input`.
        unsafe { sys::ggml_set_output(self.raw.as_ptr()) }
    }

    /// Names the tensor in ggml's own messages; what is longer than ggml keeps is cut.
    pub(crate) fn set_name(&self, name: &str) {
        let end = (0..=name.len().min(NAME_BYTES))
            .rev()
            .find(|&end| name.is_char_boundary(end));
        let Ok(name) = CString::new(&name[..end.unwrap_or(0)]) else {
            return;
        };
        // SAFETY: `name` ends in NUL and ggml copies it.
        unsafe { sys::ggml_set_name(self.raw.as_ptr(), name.as_ptr()) };
    }
}
