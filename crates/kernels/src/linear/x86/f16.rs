//! f16: row by row as files hold it for few tokens; for many, rows are expanded once and used for all of them.

use std::arch::x86_64::*;

use super::Job;
use super::vectors::Vectors;

/// How far ahead of its use memory is asked for.
const AHEAD: usize = 8192;
/// Vectors of a row that go on at the same time.
const LANES: usize = 4;

/// See [`Kernel`](super::Kernel): a dot product for each row and token.
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.rows * job.blocks * 2);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * 4);
    // SAFETY: the caller ensures that the panel has so many rows of so many halves (a multiple of 16), and the tile as
    // many floats of each token.
    unsafe {
        for row in 0..job.rows {
            let halves = job.panel.as_ptr().cast::<u16>().add(row * job.blocks);
            let floats = job.tile.as_ptr().cast::<f32>();
            let mut sums = [[_mm256_setzero_ps(); LANES]; TOKENS];
            let mut column = 0;
            while column + 8 * LANES <= job.blocks {
                _mm_prefetch::<_MM_HINT_T0>(halves.wrapping_add(column + AHEAD / 2).cast());
                for lane in 0..LANES {
                    multiply(
                        halves,
                        floats,
                        column + 8 * lane,
                        job.blocks,
                        lane,
                        &mut sums,
                    );
                }
                column += 8 * LANES;
            }
            while column < job.blocks {
                multiply(halves, floats, column, job.blocks, 0, &mut sums);
                column += 8;
            }
            for (token, sums) in sums.iter().enumerate() {
                let all = _mm256_add_ps(
                    _mm256_add_ps(sums[0], sums[2]),
                    _mm256_add_ps(sums[1], sums[3]),
                );
                *output.add(token * stride + row) = super::sum_of_lanes(all);
            }
        }
    }
}

#[inline(always)]
unsafe fn multiply<const TOKENS: usize>(
    halves: *const u16,
    floats: *const f32,
    column: usize,
    columns: usize,
    lane: usize,
    sums: &mut [[__m256; LANES]; TOKENS],
) {
    // SAFETY: `panel` goes on to no column beyond the last.
    unsafe {
        let weights = super::eight_halves(halves.add(column).cast());
        for (token, sums) in sums.iter_mut().enumerate() {
            let x = _mm256_loadu_ps(floats.add(token * columns + column));
            sums[lane] = _mm256_fmadd_ps(weights, x, sums[lane]);
        }
    }
}
