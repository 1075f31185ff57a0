//! Copies of tensors in memory of their own.

use rayon::prelude::*;

use super::placement::{Placement, PlannedTensor, Release};
use crate::error::Result;
use crate::ggml::buffer::{self, Buffer};
use crate::ggml::device::BufferType;
use crate::gguf::Gguf;
use crate::machine::parallel;
use crate::quant::dequantize_rows;

/// Copies the tensors that are planned for `memory` into as few buffers of it as its limit allows,
/// in parallel where the CPU writes them, and releases their bytes in the file. Returns the bytes
/// allocated.
///
/// # Errors
/// [`crate::Error::Memory`] when the memory cannot be allocated.
pub(super) fn copy(
    gguf: &Gguf,
    planned: &[PlannedTensor<'_>],
    memory: BufferType,
    release: &Release<'_>,
) -> Result<usize> {
    let copied: Vec<&PlannedTensor<'_>> = planned
        .iter()
        .filter(|planned| planned.placement == Placement::Copied(memory))
        .collect();
    let mut bytes = 0;
    for group in groups(&copied, memory) {
        let size = buffer::bytes_for(memory, group.iter().map(|planned| &planned.tensor));
        let buffer = Buffer::allocate(memory, size)?;
        buffer.mark_weights();
        for planned in group {
            buffer.place_next(&planned.tensor)?;
        }
        bytes += size;
    }
    let fill = |planned: &&PlannedTensor<'_>| {
        let data = gguf.tensor_data(planned.info);
        let stored = planned.info.tensor_type;
        if stored == planned.tensor.tensor_type()? {
            planned.tensor.fill(data)?;
        } else {
            let mut values = vec![0.0f32; planned.tensor.elements()];
            dequantize_rows(stored, data, values.len(), &mut values)?;
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_ne_bytes())
                .collect();
            planned.tensor.fill(&bytes)?;
        }
        let start = planned.info.offset as usize;
        release(start..start + data.len());
        Ok(())
    };
    if memory.is_host() {
        parallel::install(|| copied.par_iter().try_for_each(fill))?;
    } else {
        // Copies to a device share one channel.
        copied.iter().try_for_each(fill)?;
    }
    Ok(bytes)
}

/// Splits a list of tensors into groups that each fit into one buffer.
fn groups<'p, 'a>(
    tensors: &'p [&'p PlannedTensor<'a>],
    memory: BufferType,
) -> Vec<&'p [&'p PlannedTensor<'a>]> {
    let (most, alignment) = (memory.most_bytes(), memory.alignment());
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0usize);
    for (index, planned) in tensors.iter().enumerate() {
        let size = memory
            .tensor_bytes(&planned.tensor)
            .next_multiple_of(alignment);
        if index > start && bytes.saturating_add(size) > most {
            groups.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    if start < tensors.len() {
        groups.push(&tensors[start..]);
    }
    groups
}
