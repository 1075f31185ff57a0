//! Bytes as values of a layout.

/// A type whose values are plain bytes.
///
/// # Safety
/// It has no padding, and any bytes are a value.
pub(in super::super) unsafe trait Layout: Copy {}

// SAFETY: of each: any bytes are a value.
unsafe impl Layout for F16Bytes {}
// SAFETY: see above.
unsafe impl Layout for half::f16 {}
// SAFETY: see above.
unsafe impl Layout for half::bf16 {}
// SAFETY: see above.
unsafe impl Layout for i8 {}
// SAFETY: see above.
unsafe impl Layout for u8 {}
// SAFETY: see above.
unsafe impl Layout for i16 {}
// SAFETY: see above.
unsafe impl Layout for i32 {}
// SAFETY: see above.
unsafe impl Layout for f32 {}
// SAFETY: an array has no padding beside its elements'.
unsafe impl<T: Layout, const N: usize> Layout for [T; N] {}

/// An f16 at any address, little-endian as GGUF files hold it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(in super::super) struct F16Bytes([u8; 2]);

impl F16Bytes {
    /// 0.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const ZERO: Self = Self([0; 2]);

    /// The bits of the value.
    #[inline(always)]
    pub(in super::super) fn to_bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }
}

/// The values that `bytes` hold.
///
/// # Panics
/// When they are not whole values, or not aligned for them.
#[inline]
pub(in super::super) fn cast<T: Layout>(bytes: &[u8]) -> &[T] {
    let count = count_of::<T>(bytes);
    // SAFETY: `count` whole, aligned values; any bytes are one.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
}

/// The values that `bytes` hold, to be written.
///
/// # Panics
/// When they are not whole values, or not aligned for them.
#[inline]
pub(in super::super) fn cast_mut<T: Layout>(bytes: &mut [u8]) -> &mut [T] {
    let count = count_of::<T>(bytes);
    // SAFETY: `count` whole, aligned values; any bytes are one, and a value has no padding.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
}

#[inline]
fn count_of<T: Layout>(bytes: &[u8]) -> usize {
    assert!(
        bytes.len().is_multiple_of(size_of::<T>()) && bytes.as_ptr().cast::<T>().is_aligned(),
        "not a layout's bytes"
    );
    bytes.len() / size_of::<T>()
}

/// `count` values at the beginning of `bytes`, for kernels, which are called too often to check.
///
/// # Safety
/// There are as many, and they are aligned.
#[inline(always)]
pub(in super::super) unsafe fn cast_unchecked<T: Layout>(bytes: &[u8], count: usize) -> &[T] {
    debug_assert!(bytes.len() >= count * size_of::<T>());
    debug_assert!(bytes.as_ptr().cast::<T>().is_aligned());
    // SAFETY: the caller's condition; any bytes are a value.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
}
