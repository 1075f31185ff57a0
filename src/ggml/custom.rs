//! Steps of a graph that this library computes itself, on the CPU device.
//!
//! A kernel sees rows of f32 and nothing of ggml; the unsafe crossing is here, once.

use std::ffi::{c_int, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::context::{Context, Tensor};
use super::sys;
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// Most tensors a kernel reads beside its result.
pub(crate) const MAX_INPUTS: usize = 3;

/// A computation whose result rows do not depend on each other.
pub(crate) trait RowKernel: Send + Sync {
    /// What error messages call it.
    fn name(&self) -> &'static str;

    /// Computes some rows of the result.
    fn compute(&self, rows: Rows<'_>);
}

/// The rows of a result that one thread computes.
pub(crate) struct Rows<'a> {
    /// Index of the first of these rows in the whole result.
    pub(crate) first: usize,
    /// Elements in a row.
    pub(crate) columns: usize,
    /// These rows of the result: `[rows, columns]`. In place, it holds the operand.
    pub(crate) output: &'a mut [f32],
    /// The whole of each tensor that is read, in the order they were given.
    pub(crate) inputs: [&'a [f32]; MAX_INPUTS],
}

/// A kernel bound into a graph. The graph's context keeps it at one address while ggml may call it.
pub(crate) struct Operation {
    kernel: Box<dyn RowKernel>,
    in_place: bool,
    /// One of the constants below.
    state: AtomicU8,
}

const FINE: u8 = 0;
const PANICKED: u8 = 1;
const NOT_FINITE: u8 = 2;

impl Operation {
    /// What went wrong since this was last asked.
    pub(super) fn take_failure(&self) -> Option<Error> {
        let message = match self.state.swap(FINE, Ordering::Relaxed) {
            FINE => return None,
            NOT_FINITE => {
                "expected a finite number, found NaN or infinity; the model's weights are broken"
            }
            _ => "the kernel panicked; its result is not valid",
        };
        Some(Error::Ggml {
            operation: self.kernel.name(),
            message: message.to_owned(),
        })
    }
}

/// The f32 elements of a tensor.
///
/// # Safety
/// `tensor` is live, has data in host memory, is contiguous, and nothing writes to it meanwhile.
unsafe fn elements<'a>(tensor: *const sys::ggml_tensor) -> &'a [f32] {
    // SAFETY: the caller's condition; the data holds nelements f32, aligned by the allocator.
    unsafe {
        let count = sys::ggml_nelements(tensor) as usize;
        std::slice::from_raw_parts((*tensor).data.cast::<f32>(), count)
    }
}

/// Called by ggml on each of its threads.
unsafe extern "C" fn run(
    result: *mut sys::ggml_tensor,
    thread: c_int,
    threads: c_int,
    user_data: *mut c_void,
) {
    // SAFETY: `user_data` is the operation that `row_kernel` stored in the graph's context, which
    // outlives every run.
    let operation = unsafe { &*user_data.cast::<Operation>() };
    // SAFETY: ggml passes a live tensor that `row_kernel` made: f32 and contiguous.
    let tensor = unsafe { &*result };
    let columns = tensor.ne[0] as usize;
    let rows = (tensor.ne[1] * tensor.ne[2] * tensor.ne[3]) as usize;
    let share = rows.div_ceil(threads.max(1) as usize);
    let first = (share * thread as usize).min(rows);
    let last = (first + share).min(rows);
    if first == last {
        return;
    }
    let sources = &tensor.src[usize::from(operation.in_place)..];
    let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
    for (input, &source) in inputs.iter_mut().zip(sources) {
        if source.is_null() {
            break;
        }
        // SAFETY: `row_kernel` accepts only contiguous f32 tensors; ggml runs one operation at a
        // time, so nothing writes to the sources, and they do not overlap the result: ggml's
        // allocator never reuses a source's memory for a custom operation.
        *input = unsafe { elements(source) };
    }
    // SAFETY: rows `first..last` belong to this thread alone.
    let output = unsafe {
        std::slice::from_raw_parts_mut(
            tensor.data.cast::<f32>().add(first * columns),
            (last - first) * columns,
        )
    };
    let rows = Rows {
        first,
        columns,
        output,
        inputs,
    };
    if std::panic::catch_unwind(AssertUnwindSafe(|| operation.kernel.compute(rows))).is_err() {
        operation.state.store(PANICKED, Ordering::Relaxed);
        return;
    }
    // SAFETY: the last of this thread's rows, which the kernel has let go of.
    let last_row = unsafe {
        std::slice::from_raw_parts(tensor.data.cast::<f32>().add((last - 1) * columns), columns)
    };
    // A weight that is no number is in every row, and one row costs nothing. Later it may be too
    // late: ggml quantizes activations, which turns NaN into some number.
    if !last_row.iter().all(|number| number.is_finite()) {
        operation.state.store(NOT_FINITE, Ordering::Relaxed);
    }
}

impl Context {
    /// Adds a step computed by `kernel`. Its result has the shape of `operand`; in place, it takes
    /// over the operand's memory and the kernel sees only `others` as inputs, otherwise the operand
    /// is the first input.
    ///
    /// # Errors
    /// [`Error::Ggml`] when a tensor is not contiguous f32, there are more than [`MAX_INPUTS`], or
    /// the arena is full.
    pub(crate) fn row_kernel(
        self: &Arc<Self>,
        kernel: Box<dyn RowKernel>,
        operand: &Tensor,
        others: &[&Tensor],
        in_place: bool,
    ) -> Result<Tensor> {
        let operation = kernel.name();
        let refuse = |message| Err(Error::Ggml { operation, message });
        if others.len() + usize::from(!in_place) > MAX_INPUTS {
            return refuse(format!("{} inputs, at most {MAX_INPUTS}", others.len()));
        }
        for tensor in std::iter::once(&operand).chain(others) {
            if tensor.tensor_type()? != TensorType::F32 || !tensor.is_contiguous() {
                return refuse(format!("{} must be contiguous f32", tensor.describe()));
            }
        }
        let arena = self.room(operation)?;
        let bound = Arc::new(Operation {
            kernel,
            in_place,
            state: AtomicU8::new(FINE),
        });
        let user_data = Arc::as_ptr(&bound).cast_mut().cast::<c_void>();
        self.keep_operation(bound);
        let mut arguments: Vec<*mut sys::ggml_tensor> = Vec::with_capacity(1 + others.len());
        if !in_place {
            arguments.push(operand.raw());
        }
        arguments.extend(others.iter().map(|tensor| tensor.raw()));
        let count = arguments.len() as c_int;
        let ne = operand.get().ne;
        // SAFETY: the arena has room, there are fewer arguments than ggml's limit, and the operation
        // stays at its address for the life of the context.
        let raw = unsafe {
            if in_place {
                sys::ggml_custom_inplace(
                    arena,
                    operand.raw(),
                    arguments.as_mut_ptr(),
                    count,
                    Some(run),
                    sys::GGML_N_TASKS_MAX,
                    user_data,
                )
            } else {
                sys::ggml_custom_4d(
                    arena,
                    sys::GGML_TYPE_F32,
                    ne[0],
                    ne[1],
                    ne[2],
                    ne[3],
                    arguments.as_mut_ptr(),
                    count,
                    Some(run),
                    sys::GGML_N_TASKS_MAX,
                    user_data,
                )
            }
        };
        let mut sources = vec![operand];
        sources.extend(others);
        // SAFETY: `raw` was made in this context.
        unsafe { self.adopt(operation, raw, &sources) }
    }
}
