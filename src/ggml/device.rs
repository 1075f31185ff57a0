//! The devices that the linked backends offer.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use super::context::{Context, Tensor};
use super::{log, sys, types, variant};
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// A device of the registry: the CPU, or a GPU of a compiled backend. Registered for the life of the
/// process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    raw: NonNull<sys::ggml_backend_device>,
}

// SAFETY: devices are constants of the registry, made once and never freed.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

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

impl Device {
    /// Every device of the linked backends; without the CPU when [`Device::cpu`] fails.
    pub(crate) fn all() -> Vec<Self> {
        log::forward();
        let _ = variant::register();
        // SAFETY: indices below the count are valid.
        let raw = (0..unsafe { sys::ggml_backend_dev_count() })
            .map(|index| unsafe { sys::ggml_backend_dev_get(index) });
        raw.filter_map(NonNull::new)
            .map(|raw| Self { raw })
            .collect()
    }

    /// The CPU.
    ///
    /// # Errors
    /// When no variant of the CPU backend runs on this processor, or not the one asked for.
    pub(crate) fn cpu() -> Result<Self> {
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

    pub(super) fn raw(self) -> *mut sys::ggml_backend_device {
        self.raw.as_ptr()
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

    /// Further kinds of memory, in which weights are kept in a layout that is faster for some types.
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

    /// Whether the device multiplies a `tensor_type` matrix of `shape` held in `buffer_type` with f32
    /// activations.
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

    /// The instruction sets and options that the backend was compiled with and uses, such as `AVX2`.
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

    /// Bytes that `tensor` takes in memory of this type.
    pub(crate) fn tensor_bytes(self, tensor: &Tensor) -> usize {
        // SAFETY: both are live; the function only computes.
        unsafe { sys::ggml_backend_buft_get_alloc_size(self.raw(), tensor.raw()) }
    }
}
