//! Memory that tensors are placed in.

use std::ptr::NonNull;
use std::sync::Arc;

use super::context::Tensor;
use super::device::{BufferType, Device};
use super::{remote, sys};
use crate::error::{Error, Result};
use crate::gguf::Bytes;
use gpt2_kernels::fork::forks;

/// A stretch of a device's memory: allocated, or borrowed from bytes that are already there.
pub(crate) struct Buffer {
    raw: NonNull<sys::ggml_backend_buffer>,
    /// Bytes taken by the tensors placed so far.
    used: std::sync::Mutex<usize>,
    alignment: usize,
    /// The process it was made in, as [`forks`] counts.
    forks: u32,
    /// What a buffer over memory that ggml did not allocate points into.
    _memory: Memory,
}

/// Who owns a buffer's bytes; kept for as long as the buffer.
#[expect(dead_code, reason = "kept alive, never read")]
enum Memory {
    Device,
    Shared(Bytes),
    Pages(memmap2::MmapMut),
}

// SAFETY: the handle is owned; ggml's buffers are not tied to a thread.
unsafe impl Send for Buffer {}
// SAFETY: shared use is placing tensors (guarded by the lock) and asking for sizes.
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: reads the owned buffer.
        let is_host = unsafe { sys::ggml_backend_buffer_is_host(self.raw.as_ptr()) };
        if self.forks != forks() && !is_host {
            // On a device of the parent process, whose driver cannot be called here.
            return;
        }
        // SAFETY: `raw` is owned and freed once; contexts whose tensors point into it hold it
        // alive.
        unsafe { sys::ggml_backend_buffer_free(self.raw.as_ptr()) }
    }
}

/// Boundary that ggml's CPU kernels expect tensor data at, in bytes.
pub(crate) const HOST_ALIGNMENT: usize = 32;

impl Buffer {
    /// Allocates `bytes` of memory of `buffer_type`.
    ///
    /// # Errors
    /// [`Error::Memory`] when the device has not that much; [`Error::Worker`] when it is lost.
    pub(crate) fn allocate(buffer_type: BufferType, bytes: usize) -> Result<Arc<Self>> {
        // SAFETY: the buffer type is one of the registry's, which live as long as the process.
        let raw = unsafe { sys::ggml_backend_buft_alloc_buffer(buffer_type.raw(), bytes) };
        let Some(raw) = NonNull::new(raw) else {
            buffer_type.check_alive()?;
            let name = buffer_type.name();
            return Err(Error::Memory(format!("{bytes} bytes on {name}")));
        };
        Ok(Arc::new(Self {
            raw,
            used: std::sync::Mutex::new(0),
            alignment: buffer_type.alignment(),
            forks: forks(),
            _memory: Memory::Device,
        }))
    }

    /// A buffer over bytes that are already in memory. Tensors placed in it must only be read.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the bytes do not begin at [`HOST_ALIGNMENT`] or the device cannot use
    /// host memory.
    pub(crate) fn borrow(device: Device, bytes: Bytes) -> Result<Arc<Self>> {
        let slice = (*bytes).as_ref();
        if slice.is_empty() || !slice.as_ptr().addr().is_multiple_of(HOST_ALIGNMENT) {
            return Err(Error::Ggml {
                operation: "buffer from memory",
                message: format!("the bytes must begin at a multiple of {HOST_ALIGNMENT}"),
            });
        }
        // ggml takes a mutable pointer but writes only where an operation's result is placed, and
        // nothing here places results in a borrowed buffer.
        let (start, length) = (slice.as_ptr().cast_mut(), slice.len());
        // SAFETY: the bytes stay where they are for as long as `bytes` lives.
        unsafe { Self::over(device, start, length, Memory::Shared(bytes)) }
    }

    /// A buffer over host memory that `memory` keeps in place.
    ///
    /// # Safety
    /// `start` begins `length` readable bytes, at a multiple of [`HOST_ALIGNMENT`], that live as
    /// long as `memory`; they are writable if operations' results are placed in the buffer.
    unsafe fn over(
        device: Device,
        start: *mut u8,
        length: usize,
        memory: Memory,
    ) -> Result<Arc<Self>> {
        // SAFETY: the caller's condition; the memory is kept as long as the buffer.
        let raw = unsafe {
            sys::ggml_backend_dev_buffer_from_host_ptr(device.raw(), start.cast(), length, length)
        };
        let raw = NonNull::new(raw).ok_or_else(|| Error::Ggml {
            operation: "buffer from memory",
            message: format!("{} cannot use host memory in place", device.name()),
        })?;
        Ok(Arc::new(Self {
            raw,
            used: std::sync::Mutex::new(0),
            alignment: HOST_ALIGNMENT,
            forks: forks(),
            _memory: memory,
        }))
    }

    /// A buffer of zeros in host memory, whose pages the system provides as they are written.
    ///
    /// # Errors
    /// [`Error::Memory`] when the address space cannot be had; [`Error::Ggml`] when the device
    /// cannot use host memory.
    pub(crate) fn zeroed(device: Device, bytes: usize) -> Result<Arc<Self>> {
        let mut pages = memmap2::MmapMut::map_anon(bytes.max(1))
            .map_err(|source| Error::Memory(format!("{bytes} bytes: {source}")))?;
        let (start, length) = (pages.as_mut_ptr(), pages.len());
        // SAFETY: whole pages, readable and writable, that live as long as `pages`; nothing else
        // uses them.
        unsafe { Self::over(device, start, length, Memory::Pages(pages)) }
    }

    /// Sets every byte to 0.
    ///
    /// # Errors
    /// [`Error::Worker`] when the device is lost.
    pub(crate) fn clear(&self) -> Result<()> {
        // SAFETY: the buffer is owned; whoever shares it does not compute yet.
        unsafe { sys::ggml_backend_buffer_clear(self.raw.as_ptr(), 0) };
        // SAFETY: the buffer is live.
        unsafe { check_alive(self.raw.as_ptr()) }
    }

    /// Declares that the buffer holds weights, which schedulers keep where they are.
    pub(crate) fn mark_weights(&self) {
        // SAFETY: sets a field of the owned buffer.
        unsafe {
            sys::ggml_backend_buffer_set_usage(
                self.raw.as_ptr(),
                sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS,
            );
        }
    }

    pub(super) fn raw_for_question(&self) -> *mut sys::ggml_backend_buffer {
        self.raw.as_ptr()
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: reads the owned buffer.
        unsafe { sys::ggml_backend_buffer_get_size(self.raw.as_ptr()) }
    }

    /// Bytes that `tensor` takes in this buffer, before alignment.
    fn tensor_bytes(&self, tensor: &Tensor) -> usize {
        // SAFETY: both are live; the function only computes.
        unsafe { sys::ggml_backend_buffer_get_alloc_size(self.raw.as_ptr(), tensor.raw()) }
    }

    /// Places `tensor` after the tensors placed before it.
    ///
    /// # Errors
    /// [`Error::Ggml`] when it has data already or the buffer is full.
    pub(crate) fn place_next(self: &Arc<Self>, tensor: &Tensor) -> Result<()> {
        let mut used = self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let start = *used;
        self.place_at(tensor, start)?;
        *used = (start + self.tensor_bytes(tensor)).next_multiple_of(self.alignment);
        Ok(())
    }

    /// Places `tensor` at byte `offset` of the buffer.
    ///
    /// # Errors
    /// [`Error::Ggml`] when it has data already, does not fit, or the place is not aligned.
    pub(crate) fn place_at(self: &Arc<Self>, tensor: &Tensor, offset: usize) -> Result<()> {
        const OPERATION: &str = "place tensor";
        let refuse = |message| {
            Err(Error::Ggml {
                operation: OPERATION,
                message,
            })
        };
        let description = tensor.get();
        if !description.data.is_null() || !description.buffer.is_null() {
            return refuse(format!("{} has data already", tensor.describe()));
        }
        if !description.view_src.is_null() {
            return refuse(format!("{} is a view of another tensor", tensor.describe()));
        }
        let bytes = self.tensor_bytes(tensor);
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > self.bytes())
        {
            return refuse(format!(
                "{} ({bytes} bytes) at offset {offset} is past the buffer's {} bytes",
                tensor.describe(),
                self.bytes()
            ));
        }
        // SAFETY: reads the owned buffer.
        let base = unsafe { sys::ggml_backend_buffer_get_base(self.raw.as_ptr()) };
        let address = base.wrapping_byte_add(offset);
        if !address.addr().is_multiple_of(self.alignment) {
            return refuse(format!(
                "offset {offset} is not a multiple of {}",
                self.alignment
            ));
        }
        // SAFETY: everything ggml asserts was checked above; the context keeps the buffer alive for
        // as long as the tensor.
        let status =
            unsafe { sys::ggml_backend_tensor_alloc(self.raw.as_ptr(), tensor.raw(), address) };
        if status != sys::GGML_STATUS_SUCCESS {
            return refuse(format!("{}: ggml status {status}", tensor.describe()));
        }
        tensor.context().keep_buffer(self);
        tensor.check_alive()
    }
}

/// Reports that the device whose memory a buffer is of is lost.
///
/// # Safety
/// `buffer` is null or live.
unsafe fn check_alive(buffer: *mut sys::ggml_backend_buffer) -> Result<()> {
    if buffer.is_null() || !remote::any_lost() {
        return Ok(());
    }
    // SAFETY: the caller's condition; buffer types are constants.
    let device = unsafe {
        let buffer_type = sys::ggml_backend_buffer_get_type(buffer);
        Device::from_raw(sys::ggml_backend_buft_get_device(buffer_type))
    };
    device.map_or(Ok(()), Device::check_alive)
}

/// Bytes that an allocated buffer needs for `tensors`, placed one after another.
pub(crate) fn bytes_for<'a>(
    buffer_type: BufferType,
    tensors: impl IntoIterator<Item = &'a Tensor>,
) -> usize {
    let alignment = buffer_type.alignment();
    tensors
        .into_iter()
        .map(|tensor| buffer_type.tensor_bytes(tensor).next_multiple_of(alignment))
        .sum()
}

impl Tensor {
    /// Reports that the device on which the tensor's data is was lost. To be called after the data
    /// was read or written.
    ///
    /// # Errors
    /// [`Error::Worker`].
    pub(super) fn check_alive(&self) -> Result<()> {
        // SAFETY: a tensor's buffer is live as long as the tensor.
        unsafe { check_alive(self.get().buffer) }
    }

    /// Sets all of the tensor's data, in the layout of its buffer (a repacking buffer repacks
    /// it).
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor has no data yet or `bytes` is not exactly its size;
    /// [`Error::Worker`] when its device is lost.
    pub(crate) fn fill(&self, bytes: &[u8]) -> Result<()> {
        let refuse = |message| {
            Err(Error::Ggml {
                operation: "set tensor",
                message,
            })
        };
        if !self.is_placed() {
            return refuse(format!("{} has no memory yet", self.describe()));
        }
        if bytes.len() != self.bytes() {
            return refuse(format!(
                "{}: expected {} bytes, found {}",
                self.describe(),
                self.bytes(),
                bytes.len()
            ));
        }
        // SAFETY: the tensor has data in a live buffer, and the size is exact, which is also what
        // repacking buffers need.
        unsafe {
            sys::ggml_backend_tensor_set(self.raw(), bytes.as_ptr().cast(), 0, bytes.len());
        }
        self.check_alive()
    }
}
