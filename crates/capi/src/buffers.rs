//! The caller's memory: texts and lists that are read, buffers that are filled.

use std::ffi::{CStr, OsStr, c_char};
use std::path::Path;
use std::ptr::{self, NonNull};

use super::status::{Failure, GPT2_ERROR_BUFFER, Outcome};

/// The length of a text that ends in NUL.
pub const GPT2_NUL_TERMINATED: usize = usize::MAX;

/// A list of `count` elements; null is an empty one.
///
/// # Safety
/// `start` is null or readable for `count` elements that do not change during `'a`.
pub(super) unsafe fn list<'a, T>(name: &str, start: *const T, count: usize) -> Outcome<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if start.is_null() {
        return Err(Failure::argument(format!(
            "{name}: expected {count} elements, found NULL"
        )));
    }
    let too_long = count > isize::MAX as usize / size_of::<T>().max(1);
    if too_long || !start.is_aligned() {
        return Err(Failure::argument(format!(
            "{name}: {count} elements at {start:p} are no list that can be"
        )));
    }
    // SAFETY: not null, aligned, of a possible size; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// A text of `bytes` bytes, or up to its NUL.
///
/// # Safety
/// `start` is null or readable for that many bytes, which do not change during `'a`.
pub(super) unsafe fn text<'a>(name: &str, start: *const c_char, bytes: usize) -> Outcome<&'a str> {
    let content = if bytes == GPT2_NUL_TERMINATED {
        let start = NonNull::new(start.cast_mut())
            .ok_or_else(|| Failure::argument(format!("{name}: expected a text, found NULL")))?;
        // SAFETY: not null; the caller promises a NUL at the end.
        unsafe { CStr::from_ptr(start.as_ptr()) }.to_bytes()
    } else {
        // SAFETY: the caller's promise.
        unsafe { list(name, start.cast::<u8>(), bytes)? }
    };
    std::str::from_utf8(content).map_err(|error| {
        Failure::argument(format!(
            "{name}: expected UTF-8, found something else at byte {}",
            error.valid_up_to()
        ))
    })
}

/// A text that ends in NUL, or none for null.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn optional_text<'a>(
    name: &str,
    start: *const c_char,
) -> Outcome<Option<&'a str>> {
    if start.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { text(name, start, GPT2_NUL_TERMINATED) }.map(Some)
}

/// A list of texts that end in NUL.
///
/// # Safety
/// As [`list`], and each as [`text`].
pub(super) unsafe fn texts<'a>(
    name: &str,
    start: *const *const c_char,
    count: usize,
) -> Outcome<Vec<&'a str>> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { list(name, start, count)? };
    pointers
        .iter()
        // SAFETY: the caller's promise.
        .map(|&pointer| unsafe { text(name, pointer, GPT2_NUL_TERMINATED) })
        .collect()
}

/// The path of a file, ending in NUL: on Unix any bytes, on other systems UTF-8.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn path<'a>(name: &str, start: *const c_char) -> Outcome<&'a Path> {
    if start.is_null() {
        return Err(Failure::argument(format!(
            "{name}: expected a path, found NULL"
        )));
    }
    #[cfg(unix)]
    let path = {
        use std::os::unix::ffi::OsStrExt;
        // SAFETY: not null; the caller promises a NUL at the end.
        OsStr::from_bytes(unsafe { CStr::from_ptr(start) }.to_bytes())
    };
    #[cfg(not(unix))]
    // SAFETY: the caller's promise.
    let path = OsStr::new(unsafe { text(name, start, GPT2_NUL_TERMINATED)? });
    Ok(Path::new(path))
}

/// Puts `value` where the caller wants it.
///
/// # Safety
/// `target` is null or writable.
pub(super) unsafe fn put<T>(name: &str, target: *mut T, value: T) -> Outcome {
    // SAFETY: the caller's promise; null is refused.
    unsafe { target_of(name, target)?.write(value) };
    Ok(())
}

/// A place to write to that is not null.
pub(super) fn target_of<T>(name: &str, target: *mut T) -> Outcome<*mut T> {
    if target.is_null() || !target.is_aligned() {
        return Err(Failure::argument(format!(
            "{name}: expected a place for the result, found {}",
            if target.is_null() {
                "NULL"
            } else {
                "one that is not aligned"
            }
        )));
    }
    Ok(target)
}

/// The place for a handle that is to be made, where NULL stands until it is.
///
/// # Safety
/// `target` is null or writable.
pub(super) unsafe fn place_of<T>(name: &str, target: *mut *mut T) -> Outcome<*mut *mut T> {
    let target = target_of(name, target)?;
    // SAFETY: the caller's promise; it is not null.
    unsafe { target.write(ptr::null_mut()) };
    Ok(target)
}

/// A buffer of the caller's to be filled, with a place to report the length that it needs.
pub(super) struct Buffer<T> {
    name: &'static str,
    start: *mut T,
    capacity: usize,
    length: *mut usize,
}

impl<T: Copy> Buffer<T> {
    /// A buffer at `start`; with null and a capacity of 0 the caller only asks for the length.
    ///
    /// # Safety
    /// `start` is null or writable for `capacity` elements, `length` null or writable, both until
    /// this is dropped, and nothing else that is read meanwhile.
    pub(super) unsafe fn new(
        name: &'static str,
        start: *mut T,
        capacity: usize,
        length: *mut usize,
    ) -> Outcome<Self> {
        if start.is_null() && capacity > 0 {
            return Err(Failure::argument(format!(
                "{name}: expected room for {capacity} elements, found NULL"
            )));
        }
        if !start.is_aligned() || !length.is_aligned() {
            return Err(Failure::argument(format!(
                "{name}: expected an aligned buffer"
            )));
        }
        Ok(Self {
            name,
            start,
            capacity,
            length,
        })
    }

    /// Reports that `needed` elements will come, and refuses a buffer that is too small for them:
    /// before any work is done.
    pub(super) fn expect(&self, needed: usize) -> Outcome {
        self.report(needed);
        self.check(needed)
    }

    fn report(&self, needed: usize) {
        if !self.length.is_null() {
            // SAFETY: writable, as `new` was promised.
            unsafe { self.length.write(needed) };
        }
    }

    fn check(&self, needed: usize) -> Outcome {
        if self.start.is_null() || needed <= self.capacity {
            return Ok(());
        }
        Err(Failure::new(
            GPT2_ERROR_BUFFER,
            format!(
                "{}: {needed} elements needed, found room for {}",
                self.name, self.capacity
            ),
        ))
    }

    /// Fills the buffer from its start and reports the length.
    pub(super) fn fill(&self, values: &[T]) -> Outcome {
        self.expect(values.len())?;
        self.copy(values);
        Ok(())
    }

    fn copy(&self, values: &[T]) {
        if !self.start.is_null() {
            // SAFETY: writable for that many, as `new` was promised and `check` saw; the values
            // are Rust's and so do not overlap with it.
            unsafe {
                self.start
                    .copy_from_nonoverlapping(values.as_ptr(), values.len());
            };
        }
    }
}

impl Buffer<c_char> {
    /// Fills the buffer with a text and a NUL, which the reported length does not count.
    pub(super) fn fill_text(&self, text: &[u8]) -> Outcome {
        self.report(text.len());
        self.check(text.len() + 1)?;
        let characters: Vec<c_char> = text
            .iter()
            .chain([&0])
            .map(|&byte| c_char::from_ne_bytes([byte]))
            .collect();
        self.copy(&characters);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_never_overrun() {
        let mut room = [7u32; 3];
        let mut length = 0;
        // SAFETY: the buffer lives longer than the calls.
        let fill = |capacity, values: &[u32], room: *mut u32, length: *mut usize| unsafe {
            Buffer::new("tokens", room, capacity, length).and_then(|buffer| buffer.fill(values))
        };
        assert!(fill(2, &[1, 2, 3], room.as_mut_ptr(), &raw mut length).is_err());
        assert_eq!((length, room), (3, [7; 3]));
        assert!(fill(2, &[1, 2], room.as_mut_ptr(), ptr::null_mut()).is_ok());
        assert_eq!(room, [1, 2, 7]);
        assert!(fill(0, &[1], ptr::null_mut(), &raw mut length).is_ok());
        assert_eq!(length, 1);
        assert!(fill(1, &[1], ptr::null_mut(), &raw mut length).is_err());
        assert!(fill(0, &[1], room.as_mut_ptr(), &raw mut length).is_err());
    }

    #[test]
    fn texts_end_in_nul_and_are_utf8() {
        let mut room = [1; 4];
        let mut length = 0;
        // SAFETY: the buffer lives longer than the calls.
        let mut fill = |text: &[u8], capacity| unsafe {
            Buffer::new("text", room.as_mut_ptr(), capacity, &raw mut length)
                .and_then(|buffer| buffer.fill_text(text))
        };
        assert!(fill(b"abc", 3).is_err());
        assert!(fill(b"abc", 4).is_ok());
        assert_eq!((length, room[3]), (3, 0));
        // SAFETY: constants.
        let read =
            |bytes: &'static [u8], count| unsafe { text("text", bytes.as_ptr().cast(), count) };
        assert_eq!(read(b"a\0b\0", GPT2_NUL_TERMINATED).ok(), Some("a"));
        assert_eq!(read(b"a\0b\0", 3).ok(), Some("a\0b"));
        assert!(read(b"a\xff\0", GPT2_NUL_TERMINATED).is_err());
        // SAFETY: null is refused or, with no bytes, no text.
        unsafe {
            assert!(text("text", ptr::null(), GPT2_NUL_TERMINATED).is_err());
            assert_eq!(text("text", ptr::null(), 0).ok(), Some(""));
            assert!(list::<u32>("tokens", ptr::null(), 1).is_err());
            assert!(list::<u32>("tokens", ptr::without_provenance(4), usize::MAX / 2).is_err());
        }
    }
}
