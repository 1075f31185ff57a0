//! `q8_0`, eight rows interleaved.

use std::arch::aarch64::*;

use super::{Job, Vectors, add_scaled, eight_halves, signed_bytes, store_rows};

/// Bytes of a block of eight rows.
const BLOCK: usize = 272;
/// Bytes of a token in a block's step.
const STEP: usize = 68;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let x: [_; TOKENS] = std::array::from_fn(|token| signed_bytes(step.add(32 * token)));
            let dots = V::of_bytes::<TOKENS>(block.add(16), &x);
            let scales = eight_halves(block);
            let token_scales = step.add(64 * TOKENS).cast::<f32>();
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(token_scales.add(token).read_unaligned());
                add_scaled(&mut sums[token], dots[token], scales, scale);
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for (token, &sums) in sums.iter().enumerate() {
            store_rows(sums, job.rows, output.add(token * stride));
        }
    }
}
