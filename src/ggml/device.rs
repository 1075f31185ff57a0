//! The devices that the linked backends offer.
//!
//! A driver's state does not survive `fork()`: a child of a process that has loaded the registry
//! is offered the CPU alone.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::context::{Context, Tensor};
use super::remote::{self, RawDevice};
use super::{log, sys, types, variant};
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use gpt2_kernels::fork::forks;

/// A device of the registry: the CPU, or a GPU of a compiled backend. Registered for the life of
/// the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    raw: NonNull<sys::ggml_backend_device>,
}

// SAFETY: devices are constants of the registry, made once and never freed.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// What sort of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The processor this program runs on.
    Cpu,
    /// A device with memory and operations of its own: a graphics processor, or another machine.
    Gpu,
    /// A helper of the CPU that works in its memory, such as a BLAS library.
    Accelerator,
}

/// A kind of memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferType {
    raw: NonNull<sys::ggml_backend_buffer_type>,
}

// SAFETY: buffer types are constants of their backend.
unsafe impl Send for BufferType {}
// SAFETY: as above.
unsafe impl Sync for BufferType {}

/// A text that ggml keeps for the life of the process.
///
/// # Safety
/// `text` is null or a C string that is never freed.
unsafe fn constant_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's condition.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// Whether an ancestor of this process loaded the registry, and its devices' drivers with it. To be
/// called before anything that loads it.
pub(super) fn registry_is_inherited() -> bool {
    /// One more than [`forks`] said when the registry was loaded; 0 before.
    static LOADED: AtomicU32 = AtomicU32::new(0);
    let now = forks() + 1;
    let loaded = LOADED.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    loaded.is_err_and(|then| then != now)
}

/// Why a device that an ancestor of this process may have started is not used.
pub(super) fn inherited(name: &str) -> Error {
    Error::Unsupported(format!(
        "{name} in a child made by fork(): the parent process had it first, and only the CPU can \
         be used here; fork before the first use of this library"
    ))
}

impl Device {
    /// Every device of the linked backends; without the CPU when [`Device::cpu`] fails.
    pub(crate) fn all() -> Vec<Self> {
        let inherited = registry_is_inherited();
        log::forward();
        let _ = variant::register();
        // SAFETY: indices below the count are valid.
        let raw = (0..unsafe { sys::ggml_backend_dev_count() })
            .map(|index| unsafe { sys::ggml_backend_dev_get(index) });
        raw.filter_map(NonNull::new)
            .map(|raw| Self { raw })
            .filter(|device| device.kind() == Kind::Cpu || !inherited)
            .collect()
    }

    /// Refuses a device that an ancestor of this process may have started: any but the CPU.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub(crate) fn check_process(self) -> Result<()> {
        if self.kind() == Kind::Cpu || !registry_is_inherited() {
            return Ok(());
        }
        Err(inherited(&self.name()))
    }

    /// Refuses a device of another machine that is lost, and with it all that it computed.
    ///
    /// # Errors
    /// [`Error::Worker`].
    pub(crate) fn check_alive(self) -> Result<()> {
        remote::check(self.to_worker())
    }

    /// The CPU.
    ///
    /// # Errors
    /// When no variant of the CPU backend runs on this processor, or not the requested one.
    pub(crate) fn cpu() -> Result<Self> {
        // Said of every process that comes to load the registry.
        let _ = registry_is_inherited();
        log::forward();
        variant::register()?;
        // SAFETY: a look-up in the registry.
        let raw = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
        NonNull::new(raw)
            .map(|raw| Self { raw })
            .ok_or_else(|| Error::Ggml {
                operation: "device",
                message: "this build has no CPU backend".to_owned(),
            })
    }

    /// A device of a registry entry that was added while the process runs.
    ///
    /// # Safety
    /// `raw` is null or a device that is never freed.
    pub(super) unsafe fn from_raw(raw: *mut sys::ggml_backend_device) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw })
    }

    /// A device of another machine.
    pub(super) fn of_worker(device: RawDevice) -> Self {
        Self { raw: device.0 }
    }

    /// As `remote` knows it.
    pub(super) fn to_worker(self) -> RawDevice {
        RawDevice(self.raw)
    }

    pub(super) fn raw(self) -> *mut sys::ggml_backend_device {
        self.raw.as_ptr()
    }

    /// What sort of device it is.
    pub(crate) fn kind(self) -> Kind {
        // SAFETY: the device is live.
        match unsafe { sys::ggml_backend_dev_type(self.raw()) } {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => Kind::Cpu,
            sys::GGML_BACKEND_DEVICE_TYPE_ACCEL => Kind::Accelerator,
            _ => Kind::Gpu,
        }
    }

    /// Whether it shares its memory with the CPU, as integrated graphics do.
    pub(crate) fn is_integrated(self) -> bool {
        // SAFETY: the device is live.
        unsafe { sys::ggml_backend_dev_type(self.raw()) == sys::GGML_BACKEND_DEVICE_TYPE_IGPU }
    }

    /// Bytes of its memory: free now, and in all; 0 when it does not say.
    pub(crate) fn memory(self) -> (usize, usize) {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the device is live; both values are written during the call.
        unsafe { sys::ggml_backend_dev_memory(self.raw(), &raw mut free, &raw mut total) };
        (free, total)
    }

    /// Whether the device can compute the operation that makes `result`.
    pub(crate) fn supports(self, result: &Tensor) -> bool {
        // SAFETY: both are live; the question only reads the description.
        unsafe { sys::ggml_backend_dev_supports_op(self.raw(), result.raw()) }
    }

    /// Whether the device writes rows of `columns` f32 into a cache of `tensor_type`.
    ///
    /// # Errors
    /// [`Error::Memory`] or [`Error::Ggml`] when the question cannot be put.
    pub(crate) fn stores(self, tensor_type: TensorType, columns: usize) -> Result<bool> {
        let context = Context::new(4)?;
        let table = context.tensor("cache", tensor_type, &[columns, 2])?;
        let rows = context.tensor("rows", TensorType::F32, &[columns, 1])?;
        let places = context.tensor("cells", TensorType::I64, &[1])?;
        Ok(self.supports(&context.set_rows(&table, &rows, &places)?))
    }

    /// Whether the device has attention without a score matrix, over a cache of `tensor_type` with
    /// `heads` heads of `width` elements.
    ///
    /// # Errors
    /// [`Error::Memory`] or [`Error::Ggml`] when the question cannot be put.
    pub(crate) fn attends(
        self,
        tensor_type: TensorType,
        width: usize,
        heads: usize,
    ) -> Result<bool> {
        /// As many cells as attention looks at least at.
        const KEYS: usize = 32;
        let context = Context::new(8)?;
        let queries = context.tensor("queries", TensorType::F32, &[width, 1, heads])?;
        let cache = |name| context.tensor(name, tensor_type, &[width, KEYS, heads]);
        let (keys, values) = (cache("keys")?, cache("values")?);
        let mask = context.tensor("mask", TensorType::F16, &[KEYS, 1])?;
        let attended = context.flash_attention(&queries, &keys, &values, &mask, 1.0)?;
        Ok(self.supports(&attended))
    }

    /// ggml's name of the device, such as `CPU`.
    pub(crate) fn name(self) -> String {
        // SAFETY: the device is live and its name constant.
        unsafe { constant_text(sys::ggml_backend_dev_name(self.raw())) }
    }

    /// What the device is, such as the processor's model name.
    pub(crate) fn description(self) -> String {
        // SAFETY: as for `name`.
        unsafe { constant_text(sys::ggml_backend_dev_description(self.raw())) }
    }

    /// The device's ordinary memory.
    pub(crate) fn buffer_type(self) -> Result<BufferType> {
        // SAFETY: the device is live.
        let raw = unsafe { sys::ggml_backend_dev_buffer_type(self.raw()) };
        self.check_alive()?;
        NonNull::new(raw)
            .map(|raw| BufferType { raw })
            .ok_or_else(|| Error::Ggml {
                operation: "device",
                message: format!("{} has no memory of its own", self.name()),
            })
    }

    /// A function that the device's backend offers beyond ggml's common interface.
    pub(super) fn function(self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the registry entry of a live device is constant; the name ends in NUL.
        let raw = unsafe {
            let registry = sys::ggml_backend_dev_backend_reg(self.raw());
            sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
        };
        NonNull::new(raw)
    }

    /// Further kinds of memory, in which weights are kept in a layout that is faster for some
    /// types.
    pub(crate) fn repacking_buffer_types(self) -> Vec<BufferType> {
        let Some(function) = self.function(c"ggml_backend_dev_get_extra_bufts") else {
            return Vec::new();
        };
        // SAFETY: ggml documents this name to have this type.
        let function: sys::ggml_backend_dev_get_extra_bufts_t =
            unsafe { std::mem::transmute(function.as_ptr()) };
        let Some(function) = function else {
            return Vec::new();
        };
        // SAFETY: the result is a constant list that ends in null.
        let mut next = unsafe { function(self.raw()) };
        let mut types = Vec::new();
        while !next.is_null() {
            // SAFETY: `next` points at an entry of the list, the last of which is null.
            let Some(raw) = NonNull::new(unsafe { *next }) else {
                break;
            };
            types.push(BufferType { raw });
            // SAFETY: the entry was not the last.
            next = unsafe { next.add(1) };
        }
        types
    }

    /// Whether the device multiplies a `tensor_type` matrix of `shape` in memory of `buffer_type`
    /// with f32 activations.
    ///
    /// # Errors
    /// [`Error::Memory`] or [`Error::Ggml`] when the question cannot be put.
    pub(crate) fn multiplies(
        self,
        buffer_type: BufferType,
        tensor_type: TensorType,
        shape: [usize; 2],
    ) -> Result<bool> {
        // The CPU device claims every type, and calls what is not there.
        if !variant::multiplies(types::to_raw(tensor_type)?)? {
            return Ok(false);
        }
        let context = Context::new(4)?;
        let weight = context.tensor("weight", tensor_type, &shape)?;
        let activations = context.tensor("activations", TensorType::F32, &[shape[0], 1])?;
        let product = context.mul_mat(&weight, &activations)?;
        // A buffer without bytes: the answer depends only on its type.
        let buffer = super::buffer::Buffer::allocate(buffer_type, 0)?;
        // SAFETY: the tensor is this function's own and has no buffer; the question reads only the
        // buffer's type. The buffer is taken out again before either is freed.
        unsafe {
            (*weight.raw()).buffer = buffer.raw_for_question();
            let answer = sys::ggml_backend_dev_supports_op(self.raw(), product.raw());
            (*weight.raw()).buffer = std::ptr::null_mut();
            Ok(answer)
        }
    }

    /// The instruction sets and options that the backend was compiled with and uses, such as
    /// `AVX2`.
    pub(crate) fn features(self) -> Vec<String> {
        let Some(function) = self.function(c"ggml_backend_get_features") else {
            return Vec::new();
        };
        // SAFETY: ggml documents this name to have this type.
        let function: sys::ggml_backend_get_features_t =
            unsafe { std::mem::transmute(function.as_ptr()) };
        let Some(function) = function else {
            return Vec::new();
        };
        // SAFETY: the registry entry of a live device is constant.
        let mut next = unsafe { function(sys::ggml_backend_dev_backend_reg(self.raw())) };
        let mut features = Vec::new();
        while !next.is_null() {
            // SAFETY: `next` points at an entry of a constant list whose last name is null.
            let feature = unsafe { &*next };
            if feature.name.is_null() {
                break;
            }
            // SAFETY: names and values are constants.
            let (name, value) =
                unsafe { (constant_text(feature.name), constant_text(feature.value)) };
            features.push(if value == "1" {
                name
            } else {
                format!("{name}={value}")
            });
            // SAFETY: the entry was not the last.
            next = unsafe { next.add(1) };
        }
        features
    }
}

impl BufferType {
    /// Refuses memory of a device that is lost.
    ///
    /// # Errors
    /// [`Error::Worker`].
    pub(super) fn check_alive(self) -> Result<()> {
        // SAFETY: buffer types are constants of their backend, and so are their devices.
        let device = unsafe { Device::from_raw(sys::ggml_backend_buft_get_device(self.raw())) };
        device.map_or(Ok(()), Device::check_alive)
    }

    pub(super) fn raw(self) -> *mut sys::ggml_backend_buffer_type {
        self.raw.as_ptr()
    }

    /// ggml's name of the memory, such as `CPU` or `CPU_REPACK`.
    pub(crate) fn name(self) -> String {
        // SAFETY: buffer types and their names are constants.
        unsafe { constant_text(sys::ggml_backend_buft_name(self.raw())) }
    }

    /// Boundary at which tensors are placed, in bytes; at least 1.
    pub(crate) fn alignment(self) -> usize {
        // SAFETY: buffer types are constants.
        unsafe { sys::ggml_backend_buft_get_alignment(self.raw()) }.max(1)
    }

    /// Whether the CPU reads and writes it directly.
    pub(crate) fn is_host(self) -> bool {
        // SAFETY: buffer types are constants.
        unsafe { sys::ggml_backend_buft_is_host(self.raw()) }
    }

    /// The largest single stretch of it, in bytes.
    pub(crate) fn most_bytes(self) -> usize {
        // SAFETY: buffer types are constants.
        unsafe { sys::ggml_backend_buft_get_max_size(self.raw()) }
    }

    /// Bytes that `tensor` takes in memory of this type.
    pub(crate) fn tensor_bytes(self, tensor: &Tensor) -> usize {
        // SAFETY: both are live; the function only computes.
        unsafe { sys::ggml_backend_buft_get_alloc_size(self.raw(), tensor.raw()) }
    }
}
