//! Floating-point matrices with a batch, see [`FloatGemm`].

use std::arch::aarch64::*;

use half::bf16;

use super::super::format::Format;
use super::super::layout::{F16Bytes, PANEL, cast};
use super::super::microkernel::{FloatGemm, Job};
use super::float::Element;
use super::helpers::store_rows;

/// Rows that are unpacked together: two vectors.
const ROWS: usize = PANEL;
/// Tokens of a tile: three vectors of them, and their accumulators, fill the registers.
const TOKENS: usize = 12;

/// The product with a batch.
pub(super) fn neon(format: Format) -> Option<FloatGemm> {
    Some(FloatGemm {
        rows: ROWS,
        unpack: match format {
            Format::F32 => unpack::<f32>,
            Format::Bf16 => unpack::<bf16>,
            Format::F16 => unpack::<F16Bytes>,
            _ => return None,
        },
        tiles: &[(TOKENS, gemm)],
    })
}

unsafe fn unpack<E: Element>(weights: &[u8], columns: usize, _rows: usize, unpacked: &mut [f32]) {
    let unpacked = &mut unpacked.as_chunks_mut::<ROWS>().0[..columns];
    // Rows that are missing are empty, and become 0.
    let mut rows = [[].as_slice(); ROWS];
    let sources = cast::<E>(weights).chunks_exact(columns);
    for (row, source) in rows.iter_mut().zip(sources) {
        *row = source;
    }
    let (outputs, last) = unpacked.as_chunks_mut::<8>();
    for (index, output) in outputs.iter_mut().enumerate() {
        for first in [0, 4] {
            let mut vectors = [[0.0f32; 8]; 4];
            for (vector, row) in vectors.iter_mut().zip(&rows[first..]) {
                let Some(eight) = row.as_chunks::<8>().0.get(index) else {
                    break;
                };
                // SAFETY: every such processor has NEON; eight elements, and a vector has places
                // for as many.
                unsafe {
                    let [low, high] = E::load(eight.as_ptr());
                    vst1q_f32(vector.as_mut_ptr(), low);
                    vst1q_f32(vector.as_mut_ptr().add(4), high);
                }
            }
            for (offset, output) in output.iter_mut().enumerate() {
                for (output, vector) in output[first..].iter_mut().zip(&vectors) {
                    *output = vector[offset];
                }
            }
        }
    }
    for (column, output) in (columns / 8 * 8..).zip(last) {
        for (output, row) in output.iter_mut().zip(rows) {
            // SAFETY: every such processor has NEON.
            *output = (row.get(column)).map_or(0.0, |weight| unsafe { weight.to_f32() });
        }
    }
}

unsafe fn gemm(job: &Job<'_>) {
    // SAFETY: every such processor has NEON; the rest is the caller's condition.
    unsafe {
        let weights = job.columns(ROWS).as_chunks::<ROWS>().0;
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (weights, x) in weights.iter().zip(job.steps::<[f32; TOKENS]>()) {
            let weights = weights.as_ptr();
            let both = [vld1q_f32(weights), vld1q_f32(weights.add(4))];
            let fours = x.as_chunks::<4>().0.iter();
            for (x, accumulators) in fours.zip(accumulators.as_chunks_mut::<4>().0) {
                let x = vld1q_f32(x.as_ptr());
                macro_rules! token {
                    ($($token:literal)*) => {$(
                        let [first, last] = accumulators[$token];
                        accumulators[$token] = [
                            vfmaq_laneq_f32::<$token>(first, both[0], x),
                            vfmaq_laneq_f32::<$token>(last, both[1], x),
                        ];
                    )*};
                }
                token!(0 1 2 3);
            }
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}
