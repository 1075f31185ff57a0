//! Steps of a graph that this library computes itself, on the CPU device.
//!
//! A kernel sees slices and nothing of ggml; the unsafe conversion is here, once. In a context with
//! a pool of threads ggml calls every step on one thread, and the step shares its work out in the
//! pool; without one, ggml's own threads share the rows.

use std::ffi::{c_int, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use half::f16;

use super::context::{Context, Tensor};
use super::sys;
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use gpt2_kernels::pool::Pool;
use gpt2_kernels::rows;
use gpt2_kernels::shared::in_chunks;

/// Most tensors a kernel reads beside its result.
pub(crate) const MAX_INPUTS: usize = 4;

/// Elements of a row kernel's result that are worth a chunk of their own.
const CHUNK_ELEMENTS: usize = 4096;

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

/// A computation that shares its work out itself.
pub(crate) trait StepKernel: Send + Sync {
    /// What error messages call it.
    fn name(&self) -> &'static str;

    /// Computes the whole result from the whole of each tensor that is read, in the order they were
    /// given.
    fn compute(&self, inputs: [Elements<'_>; MAX_INPUTS], output: &mut [f32], pool: &Pool);
}

/// The elements of a tensor.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    I32(&'a [i32]),
    /// The blocks of a quantized type.
    Blocks(TensorType, &'a [u8]),
}

impl<'a> Elements<'a> {
    /// The values of an f32 tensor; empty for another type.
    pub(crate) fn f32(self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            _ => &[],
        }
    }

    /// The values of an i32 tensor; empty for another type.
    pub(crate) fn i32(self) -> &'a [i32] {
        match self {
            Self::I32(values) => values,
            _ => &[],
        }
    }
}

enum Kernel {
    Rows(Box<dyn RowKernel>),
    Step(Box<dyn StepKernel>),
}

/// A kernel bound into a graph. The graph's context keeps it at one address while ggml may call it.
pub(crate) struct Operation {
    kernel: Kernel,
    in_place: bool,
    /// The threads of a step, and of rows where ggml's do not share them.
    pool: Option<Arc<Pool>>,
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
                "expected a finite value, found NaN or infinity; the model's weights are broken"
            }
            _ => "the kernel panicked; its result is not valid",
        };
        Some(Error::Ggml {
            operation: self.kernel.name(),
            message: message.to_owned(),
        })
    }
}

impl Kernel {
    fn name(&self) -> &'static str {
        match self {
            Self::Rows(kernel) => kernel.name(),
            Self::Step(kernel) => kernel.name(),
        }
    }
}

/// The elements of a tensor.
///
/// # Safety
/// `tensor` is live, has data in host memory, is contiguous, and nothing writes to it meanwhile.
unsafe fn elements<'a>(tensor: *const sys::ggml_tensor) -> Elements<'a> {
    // SAFETY: the caller's condition: there are that many elements, aligned by the allocator, or
    // that many bytes.
    unsafe {
        let data = (*tensor).data;
        let count = sys::ggml_nelements(tensor) as usize;
        match super::types::from_raw((*tensor).type_) {
            Ok(TensorType::F32) => {
                Elements::F32(std::slice::from_raw_parts(data.cast::<f32>(), count))
            }
            Ok(TensorType::F16) => {
                Elements::F16(std::slice::from_raw_parts(data.cast::<f16>(), count))
            }
            Ok(TensorType::I32) => {
                Elements::I32(std::slice::from_raw_parts(data.cast::<i32>(), count))
            }
            Ok(other) => {
                let bytes = sys::ggml_nbytes(tensor);
                Elements::Blocks(other, std::slice::from_raw_parts(data.cast::<u8>(), bytes))
            }
            // `bind` accepts only types that have a name.
            Err(_) => Elements::F32(&[]),
        }
    }
}

/// Called by ggml: on each of its threads, or on one where there is a pool.
unsafe extern "C" fn run(
    result: *mut sys::ggml_tensor,
    thread: c_int,
    threads: c_int,
    user_data: *mut c_void,
) {
    // SAFETY: `user_data` is the operation that `bind` stored in the graph's context, which
    // outlives every run.
    let operation = unsafe { &*user_data.cast::<Operation>() };
    // SAFETY: ggml passes a live tensor that `bind` made: f32 and contiguous.
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
    let mut inputs: [Elements<'_>; MAX_INPUTS] = [Elements::F32(&[]); MAX_INPUTS];
    for (input, &source) in inputs.iter_mut().zip(sources) {
        if source.is_null() {
            break;
        }
        // SAFETY: `bind` accepts only contiguous tensors; ggml runs one operation at a time, so
        // nothing writes to the sources, and they do not overlap the result: ggml's allocator never
        // reuses a source's memory for a custom operation.
        *input = unsafe { elements(source) };
    }
    // SAFETY: rows `first..last` belong to this thread alone.
    let output = unsafe {
        std::slice::from_raw_parts_mut(
            tensor.data.cast::<f32>().add(first * columns),
            (last - first) * columns,
        )
    };
    let compute = || operation.compute(inputs, &mut *output, first, columns);
    if std::panic::catch_unwind(AssertUnwindSafe(compute)).is_err() {
        operation.state.store(PANICKED, Ordering::Relaxed);
        return;
    }
    // A weight that is NaN affects every row, and checking one row costs nothing. Later it may be
    // too late: ggml quantizes activations, which turns NaN into some finite value.
    let last_row = &output[(last - first - 1) * columns..];
    if !rows::all_finite(last_row) {
        operation.state.store(NOT_FINITE, Ordering::Relaxed);
    }
}

impl Operation {
    /// Computes rows from `first` on.
    fn compute(
        &self,
        inputs: [Elements<'_>; MAX_INPUTS],
        output: &mut [f32],
        first: usize,
        columns: usize,
    ) {
        match (&self.kernel, &self.pool) {
            (Kernel::Step(kernel), Some(pool)) => kernel.compute(inputs, output, pool),
            (Kernel::Step(_), None) => unreachable!("`step` requires a pool"),
            (Kernel::Rows(kernel), pool) => {
                let inputs = inputs.map(Elements::f32);
                let compute = |start: usize, output: &mut [f32]| {
                    kernel.compute(Rows {
                        first: first + start / columns,
                        columns,
                        output,
                        inputs,
                    });
                };
                match pool {
                    Some(pool) => {
                        let chunk = (CHUNK_ELEMENTS / columns).max(1) * columns;
                        in_chunks(pool, output, chunk, &compute);
                    }
                    None => compute(0, output),
                }
            }
        }
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
        let operand_too = (!in_place).then_some(operand);
        let inputs: Vec<&Tensor> = operand_too
            .into_iter()
            .chain(others.iter().copied())
            .collect();
        for tensor in std::iter::once(&operand).chain(&inputs) {
            if tensor.tensor_type()? != TensorType::F32 {
                return Err(Error::Ggml {
                    operation: kernel.name(),
                    message: format!("{} must be f32", tensor.describe()),
                });
            }
        }
        let place = if in_place {
            Place::Of(operand)
        } else {
            Place::New(operand.shape())
        };
        self.bind(Kernel::Rows(kernel), place, &inputs)
    }

    /// Adds a step computed by `kernel` from `inputs`, with a result of its own: f32 of `shape`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the context has no pool, a tensor is not contiguous, there are more
    /// than [`MAX_INPUTS`], or the arena is full.
    pub(crate) fn step(
        self: &Arc<Self>,
        kernel: Box<dyn StepKernel>,
        shape: [usize; 2],
        inputs: &[&Tensor],
    ) -> Result<Tensor> {
        if self.pool().is_none() {
            return Err(Error::Ggml {
                operation: kernel.name(),
                message: "a step needs a context with a pool of threads".to_owned(),
            });
        }
        let shape = [shape[0], shape[1], 1, 1];
        self.bind(Kernel::Step(kernel), Place::New(shape), inputs)
    }

    fn bind(
        self: &Arc<Self>,
        kernel: Kernel,
        place: Place<'_>,
        inputs: &[&Tensor],
    ) -> Result<Tensor> {
        let operation = kernel.name();
        let refuse = |message| Err(Error::Ggml { operation, message });
        if inputs.len() > MAX_INPUTS {
            return refuse(format!("{} inputs, at most {MAX_INPUTS}", inputs.len()));
        }
        let operand = match place {
            Place::Of(operand) => Some(operand),
            Place::New(_) => None,
        };
        let sources: Vec<&Tensor> = operand.into_iter().chain(inputs.iter().copied()).collect();
        for tensor in &sources {
            // The type has a name, or this is an error.
            tensor.tensor_type()?;
            if !tensor.is_contiguous() {
                return refuse(format!("{} must be contiguous", tensor.describe()));
            }
        }
        let arena = self.room(operation)?;
        let tasks = if self.pool().is_some() {
            1
        } else {
            sys::GGML_N_TASKS_MAX
        };
        let bound = Arc::new(Operation {
            kernel,
            in_place: operand.is_some(),
            pool: self.pool().cloned(),
            state: AtomicU8::new(FINE),
        });
        let user_data = Arc::as_ptr(&bound).cast_mut().cast::<c_void>();
        self.keep_operation(bound);
        let mut arguments: Vec<*mut sys::ggml_tensor> =
            inputs.iter().map(|tensor| tensor.raw()).collect();
        let count = arguments.len() as c_int;
        // SAFETY: the arena has room, there are fewer arguments than ggml's limit, and the
        // operation stays at its address for the life of the context.
        let raw = unsafe {
            match place {
                Place::Of(operand) => sys::ggml_custom_inplace(
                    arena,
                    operand.raw(),
                    arguments.as_mut_ptr(),
                    count,
                    Some(run),
                    tasks,
                    user_data,
                ),
                Place::New([columns, rows, third, fourth]) => sys::ggml_custom_4d(
                    arena,
                    sys::GGML_TYPE_F32,
                    columns as i64,
                    rows as i64,
                    third as i64,
                    fourth as i64,
                    arguments.as_mut_ptr(),
                    count,
                    Some(run),
                    tasks,
                    user_data,
                ),
            }
        };
        // SAFETY: `raw` was made in this context.
        unsafe { self.adopt(operation, raw, &sources) }
    }
}

/// Where the result of an operation goes.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Into memory of its own, in this shape.
    New([usize; 4]),
    /// Into the memory of this tensor.
    Of(&'a Tensor),
}
