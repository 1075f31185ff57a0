//! Copies bytes into and out of tensors outside any graph.

use super::context::Tensor;
use super::sys;
use crate::error::{Error, Result};

impl Tensor {
    /// Copies the bytes from `offset` on into `target`.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor has no memory or another number of bytes; [`Error::Worker`]
    /// when its device is lost.
    pub(crate) fn read_bytes(&self, offset: usize, target: &mut [u8]) -> Result<()> {
        self.check_range("read bytes", offset, target.len())?;
        if !target.is_empty() {
            // SAFETY: the tensor has memory, and the range is within it, as just checked.
            unsafe {
                let to = target.as_mut_ptr().cast();
                sys::ggml_backend_tensor_get(self.raw(), to, offset, target.len());
            }
        }
        self.check_alive()
    }

    /// Copies `source` over the bytes from `offset` on. Nothing may compute with the tensor
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the tensor has no memory or another number of bytes; [`Error::Worker`]
    /// when its device is lost.
    pub(crate) fn write_bytes(&self, offset: usize, source: &[u8]) -> Result<()> {
        self.check_range("write bytes", offset, source.len())?;
        if !source.is_empty() {
            // SAFETY: the tensor has memory, and the range is within it, as just checked.
            unsafe {
                let from = source.as_ptr().cast();
                sys::ggml_backend_tensor_set(self.raw(), from, offset, source.len());
            }
        }
        self.check_alive()
    }

    fn check_range(&self, operation: &'static str, offset: usize, length: usize) -> Result<()> {
        let end = offset.checked_add(length);
        if self.is_placed() && end.is_some_and(|end| end <= self.bytes()) {
            return Ok(());
        }
        Err(Error::Ggml {
            operation,
            message: format!("{length} bytes from {offset} of {}", self.describe()),
        })
    }
}
