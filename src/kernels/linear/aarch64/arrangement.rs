//! How blocks of eight rows lie together: first what belongs to whole rows, then bytes in vectors of four of each row.

use super::super::PANEL;
use super::super::matrix::{Format, scale_and_minimum, spread};

/// Writes a block of one row, `source`, to its places among the `output` of eight.
pub(in super::super) type Interleave = fn(source: &[u8], row: usize, output: &mut [u8]);

/// How blocks of a format are interleaved; f16 is not.
pub(in super::super) fn interleave(format: Format) -> Option<Interleave> {
    match format {
        Format::F16 => None,
        // A scale, then bytes or nibbles.
        Format::Q4_0 | Format::Q8_0 => Some(scale_and_bytes),
        Format::Q4K | Format::Q5K => Some(four_bits),
        Format::Q6K => Some(q6_k),
    }
}

/// Eight scales, then vectors of bytes.
fn scale_and_bytes(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    spread(&source[2..], row, &mut output[2 * PANEL..]);
}

/// Eight scales and eight smallest values (f16), eight scales of each group, eight smallest values of each, then
/// vectors: of fifth bits, where there are any, and of nibbles.
fn four_bits(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    output[16 + 2 * row..18 + 2 * row].copy_from_slice(&source[2..4]);
    for group in 0..8 {
        let (scale, minimum) = scale_and_minimum(&source[4..16], group);
        output[32 + PANEL * group + row] = scale;
        output[96 + PANEL * group + row] = minimum;
    }
    spread(&source[16..], row, &mut output[160..]);
}

/// Eight scales (f16), eight scales of each of 16 groups, then vectors of nibbles and of pairs of bits.
fn q6_k(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[208..210]);
    for (group, &scale) in source[192..208].iter().enumerate() {
        output[16 + PANEL * group + row] = scale;
    }
    spread(&source[..192], row, &mut output[144..]);
}
