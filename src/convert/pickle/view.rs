//! A tensor as a view of a storage: offset, sizes, strides.

use std::io::Read;
use std::ops::Range;

use flate2::read::DeflateDecoder;

use super::value::{Storage, Tensor};
use crate::convert::stored_tensor::{Gather, Location, with_capacity};
use crate::error::{Error, Result};

/// The bytes of a storage, or of any member of an archive.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// Where they are in the file.
    pub range: Range<usize>,
    /// Whether they are deflated.
    pub deflated: bool,
    /// How many they are, unpacked.
    pub bytes: u64,
}

impl Packed {
    /// The bytes, unpacked.
    ///
    /// # Errors
    /// [`Error::Format`] when they are broken or not as many as announced.
    pub(super) fn unpack(&self, file: &[u8]) -> Result<Vec<u8>> {
        let packed = file.get(self.range.clone()).unwrap_or_default();
        if !self.deflated {
            let mut all = with_capacity(packed.len())?;
            all.extend_from_slice(packed);
            return Ok(all);
        }
        // Grows with the output, not with the length in the header.
        let mut all = Vec::new();
        let read = DeflateDecoder::new(packed)
            .take(self.bytes.saturating_add(1))
            .read_to_end(&mut all);
        match read {
            Ok(length) if length as u64 == self.bytes => Ok(all),
            Ok(_) => Err(Error::format(
                "deflated member",
                format!("does not inflate to the {} bytes of its header", self.bytes),
            )),
            Err(error) => Err(Error::format("deflated member", error.to_string())),
        }
    }
}

/// Where a tensor's elements are, given its storage's bytes.
///
/// # Errors
/// What is wrong with it: sizes, strides and offset must stay inside the storage.
pub(super) fn location(
    tensor: &Tensor,
    storage: &Storage,
    packed: &Packed,
) -> Result<Location, String> {
    let Tensor {
        offset,
        shape,
        strides,
        ..
    } = tensor;
    if shape.len() != strides.len() {
        return Err(format!(
            "{} sizes and {} strides; expected as many of both",
            shape.len(),
            strides.len()
        ));
    }
    let width = storage.element.bytes;
    let count = shape
        .iter()
        .try_fold(1_u64, |count, size| count.checked_mul(*size))
        .filter(|count| *count <= storage.elements)
        .ok_or_else(|| {
            format!(
                "shape {shape:?} has more elements than its storage, {}",
                storage.elements
            )
        })?;
    let first = storage.first.checked_add(*offset);
    let end = if count == 0 {
        first
    } else {
        shape
            .iter()
            .zip(strides)
            .try_fold(first.unwrap_or(u64::MAX), |last, (size, stride)| {
                size.checked_sub(1)?.checked_mul(*stride)?.checked_add(last)
            })
            .and_then(|last| last.checked_add(1))
    };
    let stored = packed.bytes / width;
    let (Some(first), Some(_)) = (first, end.filter(|end| *end <= stored)) else {
        return Err(format!(
            "shape {shape:?} with strides {strides:?} from element {offset} is outside its \
             storage of \
             {stored} elements"
        ));
    };
    // Both products are inside the storage's bytes.
    let start = (first * width) as usize;
    let bytes = (count * width) as usize;
    if !packed.deflated && (count == 0 || is_contiguous(shape, strides)) {
        let start = packed.range.start + start;
        return Ok(Location::Contiguous(start..start + bytes));
    }
    Ok(Location::Scattered(Box::new(View {
        packed: packed.clone(),
        is_whole: count == stored && is_contiguous(shape, strides),
        start,
        bytes,
        width: width as usize,
        axes: shape
            .iter()
            .zip(strides)
            .map(|(size, stride)| (*size as usize, (*stride * width) as usize))
            .collect(),
    })))
}

/// Whether elements follow one another with the last axis fastest. The stride of an axis of one
/// element means nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}

/// Elements that are not contiguous, or are deflated.
struct View {
    packed: Packed,
    /// Whether the tensor is the whole storage in order.
    is_whole: bool,
    /// The first byte in the storage.
    start: usize,
    /// Bytes of the tensor.
    bytes: usize,
    /// Bytes of an element.
    width: usize,
    /// For each axis its size, and the distance of neighbours in bytes.
    axes: Vec<(usize, usize)>,
}

impl Gather for View {
    fn range(&self) -> Range<usize> {
        self.packed.range.clone()
    }

    fn gather(&self, file: &[u8]) -> Result<Vec<u8>> {
        if self.is_whole {
            return self.packed.unpack(file);
        }
        let unpacked;
        let storage = if self.packed.deflated {
            unpacked = self.packed.unpack(file)?;
            &unpacked
        } else {
            file.get(self.packed.range.clone()).unwrap_or_default()
        };
        let mut all = with_capacity(self.bytes)?;
        let mut index = vec![0; self.axes.len()];
        let mut position = self.start;
        while all.len() < self.bytes {
            let element = storage.get(position..position + self.width);
            all.extend_from_slice(element.ok_or_else(|| {
                Error::format("storage", "is shorter than its tensor".to_owned())
            })?);
            // Counts like an odometer, the last axis fastest.
            for (at, (size, step)) in index.iter_mut().zip(&self.axes).rev() {
                *at += 1;
                position += step;
                if *at < *size {
                    break;
                }
                position -= step * *at;
                *at = 0;
            }
        }
        Ok(all)
    }
}
