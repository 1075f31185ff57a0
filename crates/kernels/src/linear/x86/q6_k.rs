//! `q6_k`, row by row as GGUF files hold it.

use std::arch::x86_64::*;

use super::super::layout::{BlockQ6K, Q8KTile};
use super::super::microkernel::{Job, Rows};
use super::prefetch::prefetch_lines;
use super::unroll::unroll;
use super::vectors::{RowVectors, reduce_8, sums_of_8};

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 6144;

/// See [`Microkernel`](super::Microkernel): every fourth of a vector goes its own way.
#[inline(always)]
pub(super) unsafe fn gemv<V: RowVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, rows) = unsafe {
        let rows = job.rows_together::<BlockQ6K>(V::PANELS);
        (job.steps::<Q8KTile<TOKENS>>(), rows)
    };
    for Rows {
        first,
        count,
        blocks,
        stride,
    } in rows
    {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [V::zero_f32(); TOKENS];
            let mut block = blocks;
            for step in steps {
                let dots = super_block::<V, TOKENS>(block, stride, step);
                let scales = V::splat_f16(&raw const (*block).d, stride);
                unroll!(token in TOKENS => {
                    let scales = V::mul(V::splat(step.d[token]), scales);
                    let dots = V::to_f32(dots[token]);
                    accumulators[token] = V::fma(scales, dots, accumulators[token]);
                });
                block = block.add(1);
            }
            let mut all = [V::zero_f32(); 8];
            all[..TOKENS].copy_from_slice(&accumulators);
            store::<V, TOKENS>(reduce_8::<V>(all), first, count, job);
        }
    }
}

/// [`gemv`] in the order of a large batch: a super-block becomes one integer. The tokens, at most
/// eight, have a lane each.
#[inline(always)]
pub(super) unsafe fn gemv_by_block<V: RowVectors, const TOKENS: usize>(job: &Job<'_>) {
    const { assert!(TOKENS <= 8) };
    // SAFETY: the caller's condition.
    let (steps, rows) = unsafe {
        let rows = job.rows_together::<BlockQ6K>(V::PANELS);
        (job.steps::<Q8KTile<TOKENS>>(), rows)
    };
    for Rows {
        first,
        count,
        blocks,
        stride,
    } in rows
    {
        // SAFETY: the caller's condition.
        unsafe {
            let mut sum = V::zero_f32();
            let mut block = blocks;
            for step in steps {
                let dots = super_block::<V, TOKENS>(block, stride, step);
                let mut all = [V::zero_i32(); 8];
                let mut token_scales = [0.0; 8];
                all[..TOKENS].copy_from_slice(&dots);
                token_scales[..TOKENS].copy_from_slice(&step.d);
                let scales = V::splat_f16(&raw const (*block).d, stride);
                let result = V::mul(scales, V::to_f32(sums_of_8::<V>(all)));
                sum = V::fma(result, V::splat_8(&raw const token_scales), sum);
                block = block.add(1);
            }
            store::<V, TOKENS>(sum, first, count, job);
        }
    }
}

/// Writes the sums of `count` rows from `first` on, of which each has one for each of eight tokens.
#[inline(always)]
unsafe fn store<V: RowVectors, const TOKENS: usize>(
    sums: V::Floats,
    first: usize,
    count: usize,
    job: &Job<'_>,
) {
    // SAFETY: the caller has the instructions, and these rows are the job's.
    unsafe {
        for (row, sums) in V::to_arrays(sums).iter().enumerate().take(count) {
            for (token, &sum) in sums.iter().enumerate().take(TOKENS) {
                *job.output(token).add(first + row) = sum;
            }
        }
    }
}

/// The products of a super-block with each token, in eight parts.
#[inline(always)]
unsafe fn super_block<V: RowVectors, const TOKENS: usize>(
    block: *const BlockQ6K,
    stride: usize,
    step: &Q8KTile<TOKENS>,
) -> [V::Ints; TOKENS] {
    // SAFETY: the caller has the block of each row, and the instructions.
    unsafe {
        for row in 0..V::PANELS {
            let place = block.cast::<u8>().wrapping_add(row * stride + AHEAD);
            prefetch_lines(place, 4);
        }
        let scales = &raw const (*block).scales;
        let in_order = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        // The first scale of each pair in the lower half, the second in the upper.
        let first_and_second = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
        // Every weight is 32 too large.
        let excess = V::load_i8_as_i16(scales, in_order, stride);
        let excess = V::mul_i16(excess, V::splat_i16(-32));
        let scales = V::load_i8_as_i16(scales, first_and_second, stride);
        let mut dots = [V::zero_i32(); TOKENS];
        unroll!(token in TOKENS => {
            let sixteenths = V::splat_32(&raw const step.sums[token]);
            dots[token] = V::add_pairs(dots[token], excess, sixteenths);
        });
        let high = V::splat_i16(0x3030);
        for half in 0..2 {
            let (low_bits, high_bits) = (&raw const (*block).ql, &raw const (*block).qh);
            let lower = low_bits.cast::<[u8; 32]>().add(2 * half);
            let lower = [V::load(lower, stride), V::load(lower.add(1), stride)];
            let upper = V::load(high_bits.cast::<[u8; 32]>().add(half), stride);
            let upper = [
                V::shl::<4>(upper),
                V::shl::<2>(upper),
                upper,
                V::shr::<2>(upper),
            ];
            unroll!(part in 4 => {
                let nibbles = if part < 2 {
                    V::low_nibbles(lower[part % 2])
                } else {
                    V::high_nibbles(lower[part % 2])
                };
                let weights = V::or(nibbles, V::and(upper[part], high));
                let group = 4 * half + part;
                let place = (2 * group) as i16 | ((2 * group + 1) as i16) << 8;
                let scales = V::shuffle(scales, V::splat_i16(place));
                unroll!(token in TOKENS => {
                    let x = V::splat_32(&raw const step.qs[group][token]);
                    dots[token] = V::add_pairs(dots[token], V::products(weights, x), scales);
                });
            });
        }
        dots
    }
}
