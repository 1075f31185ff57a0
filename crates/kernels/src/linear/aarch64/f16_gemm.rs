//! f16 with a batch, see [`F16Gemm`].

use std::arch::aarch64::*;

use super::super::layout::{F16Bytes, PANEL, cast};
use super::super::microkernel::{F16Gemm, Job};
use super::helpers::{load_f16x8, store_rows};

/// Rows that are unpacked together: two vectors.
const ROWS: usize = PANEL;
/// Tokens of a tile: three vectors of them, and their accumulators, fill the registers.
const TOKENS: usize = 12;

pub(super) const NEON: F16Gemm = F16Gemm {
    rows: ROWS,
    unpack,
    tiles: &[(TOKENS, gemm)],
};

/// See [`F16Gemm::unpack`].
unsafe fn unpack(f16: &[u8], columns: usize, unpacked: &mut [f32]) {
    let weights = cast::<F16Bytes>(f16);
    let unpacked = &mut unpacked.as_chunks_mut::<ROWS>().0[..columns];
    // Rows that are missing are empty, and become 0.
    let mut rows = [[].as_slice(); ROWS];
    for (row, source) in rows.iter_mut().zip(weights.chunks_exact(columns)) {
        *row = source.as_chunks::<8>().0;
    }
    for (index, output) in unpacked.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for first in [0, 4] {
            let mut vectors = [[0.0f32; 8]; 4];
            for (vector, row) in vectors.iter_mut().zip(&rows[first..]) {
                let Some(eight) = row.get(index) else { break };
                // SAFETY: every such processor has NEON; a vector has places for eight values.
                unsafe {
                    let [low, high] = load_f16x8(eight);
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
