//! How blocks of eight rows lie together: first what belongs to whole rows, then bytes in vectors of four of each row.

use super::PANEL;
use super::format::Format;

/// How the kernels have the blocks of eight rows.
pub(super) struct Arrangement {
    /// Writes a block of one row, `source`, to its places among the `panel` of eight.
    pub(super) interleave: fn(source: &[u8], row: usize, panel: &mut [u8]),
    /// The reverse: writes the `block` of one row as a GGUF file holds it.
    pub(super) separate: fn(panel: &[u8], row: usize, block: &mut [u8]),
}

/// Whether the kernels want blocks of 5 and 6 bits interleaved; elsewhere they take them from rows as they are.
const INTERLEAVE_ALL: bool = cfg!(target_arch = "aarch64");

/// How blocks of a format are interleaved; none where rows are read as they are.
pub(super) fn arrangement(format: Format) -> Option<Arrangement> {
    match format {
        Format::Q4_0 | Format::Q8_0 => Some(Arrangement {
            interleave: interleave_bytes,
            separate: separate_bytes,
        }),
        Format::Q5K if !INTERLEAVE_ALL => None,
        Format::Q4K | Format::Q5K => Some(Arrangement {
            interleave: interleave_groups,
            separate: separate_groups,
        }),
        Format::Q6K if INTERLEAVE_ALL => Some(Arrangement {
            interleave: interleave_q6_k,
            separate: separate_q6_k,
        }),
        Format::Q6K | Format::F16 => None,
    }
}

/// Eight scales, then vectors of bytes or nibbles.
fn interleave_bytes(source: &[u8], row: usize, panel: &mut [u8]) {
    panel[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    spread(&source[2..], row, &mut panel[2 * PANEL..]);
}

fn separate_bytes(panel: &[u8], row: usize, block: &mut [u8]) {
    block[..2].copy_from_slice(&panel[2 * row..2 * row + 2]);
    gather(&panel[2 * PANEL..], row, &mut block[2..]);
}

/// Scales and minimum scales of eight rows (f16), eight groups of eight scales, eight groups of eight minimums (bytes),
/// then vectors: of fifth bits, where there are any, and of nibbles.
fn interleave_groups(source: &[u8], row: usize, panel: &mut [u8]) {
    panel[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    panel[16 + 2 * row..18 + 2 * row].copy_from_slice(&source[2..4]);
    for group in 0..8 {
        let (scale, minimum) = scale_and_minimum(&source[4..16], group);
        panel[32 + PANEL * group + row] = scale;
        panel[minimum_place(group, row)] = minimum;
    }
    spread(&source[16..], row, &mut panel[160..]);
}

fn separate_groups(panel: &[u8], row: usize, block: &mut [u8]) {
    block[..2].copy_from_slice(&panel[2 * row..2 * row + 2]);
    block[2..4].copy_from_slice(&panel[16 + 2 * row..18 + 2 * row]);
    block[4..16].fill(0);
    for group in 0..8 {
        let scale = panel[32 + PANEL * group + row];
        let minimum = panel[minimum_place(group, row)];
        pack_scale_and_minimum(&mut block[4..16], group, scale, minimum);
    }
    gather(&panel[160..], row, &mut block[16..]);
}

/// Where the minimum of a group and row is: those of two groups in pairs, where one instruction multiplies pairs.
fn minimum_place(group: usize, row: usize) -> usize {
    if cfg!(target_arch = "aarch64") {
        96 + PANEL * group + row
    } else {
        96 + group / 2 * 2 * PANEL + 2 * row + group % 2
    }
}

/// Eight scales (f16), eight scales of each of 16 groups, then vectors of nibbles and of pairs of bits.
fn interleave_q6_k(source: &[u8], row: usize, panel: &mut [u8]) {
    panel[2 * row..2 * row + 2].copy_from_slice(&source[208..210]);
    for (group, &scale) in source[192..208].iter().enumerate() {
        panel[16 + PANEL * group + row] = scale;
    }
    spread(&source[..192], row, &mut panel[144..]);
}

fn separate_q6_k(panel: &[u8], row: usize, block: &mut [u8]) {
    block[208..210].copy_from_slice(&panel[2 * row..2 * row + 2]);
    for (group, scale) in block[192..208].iter_mut().enumerate() {
        *scale = panel[16 + PANEL * group + row];
    }
    gather(&panel[144..], row, &mut block[..192]);
}

/// Vector v holds bytes 4v to 4v + 3 of every row's `source`.
fn spread(source: &[u8], row: usize, vectors: &mut [u8]) {
    let vectors = vectors.chunks_exact_mut(4 * PANEL);
    for (bytes, vector) in source.chunks_exact(4).zip(vectors) {
        vector[4 * row..4 * row + 4].copy_from_slice(bytes);
    }
}

/// The reverse of [`spread`].
fn gather(vectors: &[u8], row: usize, target: &mut [u8]) {
    let vectors = vectors.chunks_exact(4 * PANEL);
    for (bytes, vector) in target.chunks_exact_mut(4).zip(vectors) {
        bytes.copy_from_slice(&vector[4 * row..4 * row + 4]);
    }
}

/// The six-bit scale and minimum of one of eight groups, from the twelve bytes that K-quants pack them into.
pub(super) fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            low & 15 | packed[group - 4] >> 6 << 4,
            low >> 4 | packed[group] >> 6 << 4,
        )
    }
}

/// The reverse of [`scale_and_minimum`], into bytes that were zero.
fn pack_scale_and_minimum(packed: &mut [u8], group: usize, scale: u8, minimum: u8) {
    if group < 4 {
        packed[group] |= scale;
        packed[group + 4] |= minimum;
    } else {
        packed[group + 4] = scale & 15 | minimum << 4;
        packed[group - 4] |= scale >> 4 << 6;
        packed[group] |= minimum >> 4 << 6;
    }
}
