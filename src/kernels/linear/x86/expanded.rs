//! `q5_k` and `q6_k` with many tokens: the weights of eight rows are expanded to bytes and interleaved once, and then
//! used for tile after tile. A super-block becomes one integer, as it does in ggml.

use std::arch::x86_64::*;

use super::super::arrangement::scale_and_minimum;
use super::super::kernel::Expand;
use super::super::matrix::Format;
use super::{Expansion, Job, Vectors, eight_halves, store_rows, turn_round};

/// What the kernels of `format` need.
pub(super) fn expansion(format: Format) -> Option<Expansion> {
    let (block_bytes, expand): (_, Expand) = match format {
        Format::Q5K => (Q5K::BYTES, expand::<Q5K>),
        Format::Q6K => (Q6K::BYTES, expand::<Q6K>),
        _ => return None,
    };
    Some(Expansion {
        block_bytes,
        expand,
    })
}

/// A K-quant as it looks expanded: for eight rows the scales (f32), the minimums' scales if there are any, `GROUPS`
/// vectors of group scales (i32), pairs of what is multiplied with sums of activations (i16), and 64 vectors of four
/// bytes of each row.
trait Expanded {
    /// Bytes of a super-block of one row in a file.
    const FILE_BYTES: usize;
    /// Groups with a scale.
    const GROUPS: usize;
    /// Where in a step, of one token, the activations' sums of a group are (i16).
    const SUMS: usize;
    /// Whether each token's sums lie together, or each pair of all tokens.
    const SUMS_BY_TOKEN: bool;

    /// Where the scales are in a file's block.
    const SCALE: usize;
    /// Where the group scales begin.
    const GROUP_SCALES: usize = 64;
    /// Where the pairs begin.
    const PAIRS: usize = Self::GROUP_SCALES + 32 * Self::GROUPS;
    /// Where the weights begin.
    const WEIGHTS: usize = Self::PAIRS + 16 * Self::GROUPS;
    /// Bytes of all.
    const BYTES: usize = Self::WEIGHTS + 2048;

    /// A group's scale and what its sum is multiplied with.
    fn scale_and_factor(block: &[u8], group: usize) -> (i32, i16);

    /// Where the minimums' scale is, if there is one.
    const MINIMUM_SCALE: Option<usize>;

    /// The weights of 32 elements, unsigned.
    unsafe fn weights(block: *const u8, group_of_32: usize) -> __m256i;

    /// What a super-block gives, without the token's scale.
    unsafe fn result(expanded: *const u8, dots: __m256i, pair_dots: __m256i) -> __m256;
}

struct Q5K;
struct Q6K;

impl Expanded for Q5K {
    const FILE_BYTES: usize = 176;
    const GROUPS: usize = 8;
    const SUMS: usize = 256;
    const SUMS_BY_TOKEN: bool = false;
    const SCALE: usize = 0;
    const MINIMUM_SCALE: Option<usize> = Some(2);

    fn scale_and_factor(block: &[u8], group: usize) -> (i32, i16) {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        (i32::from(scale), i16::from(minimum))
    }

    #[inline(always)]
    unsafe fn weights(block: *const u8, group: usize) -> __m256i {
        // SAFETY: the caller has a block and AVX2.
        unsafe {
            let nibbles = _mm256_loadu_si256(block.add(48 + 32 * (group / 2)).cast());
            let nibbles = _mm256_srl_epi16(nibbles, _mm_cvtsi32_si128(4 * (group as i32 % 2)));
            let fifth = _mm256_loadu_si256(block.add(16).cast());
            let fifth = _mm256_srl_epi16(fifth, _mm_cvtsi32_si128(group as i32));
            let fifth = _mm256_and_si256(fifth, _mm256_set1_epi8(1));
            _mm256_or_si256(
                _mm256_and_si256(nibbles, _mm256_set1_epi8(15)),
                _mm256_slli_epi16::<4>(fifth),
            )
        }
    }

    #[inline(always)]
    unsafe fn result(expanded: *const u8, dots: __m256i, pair_dots: __m256i) -> __m256 {
        // SAFETY: the caller has an expanded block, AVX2 and FMA.
        unsafe {
            let scales = _mm256_loadu_ps(expanded.cast());
            let minimum_scales = _mm256_loadu_ps(expanded.add(32).cast());
            let scaled = _mm256_mul_ps(scales, _mm256_cvtepi32_ps(dots));
            _mm256_fnmadd_ps(minimum_scales, _mm256_cvtepi32_ps(pair_dots), scaled)
        }
    }
}

impl Expanded for Q6K {
    const FILE_BYTES: usize = 210;
    const GROUPS: usize = 16;
    const SUMS: usize = 272;
    const SUMS_BY_TOKEN: bool = true;
    const SCALE: usize = 208;
    const MINIMUM_SCALE: Option<usize> = None;

    fn scale_and_factor(block: &[u8], group: usize) -> (i32, i16) {
        let scale = block[192 + group] as i8;
        // Every weight is 32 too large.
        (i32::from(scale), 32 * i16::from(scale))
    }

    #[inline(always)]
    unsafe fn weights(block: *const u8, group: usize) -> __m256i {
        // SAFETY: the caller has a block and AVX2.
        unsafe {
            let (half, part) = (group / 4, group % 4);
            let nibbles = _mm256_loadu_si256(block.add(64 * half + 32 * (part % 2)).cast());
            let nibbles = _mm256_srl_epi16(nibbles, _mm_cvtsi32_si128(4 * (part as i32 / 2)));
            let upper = _mm256_loadu_si256(block.add(128 + 32 * half).cast());
            let upper = _mm256_srl_epi16(upper, _mm_cvtsi32_si128(2 * part as i32));
            let upper = _mm256_and_si256(upper, _mm256_set1_epi8(3));
            _mm256_or_si256(
                _mm256_and_si256(nibbles, _mm256_set1_epi8(15)),
                _mm256_slli_epi16::<4>(upper),
            )
        }
    }

    #[inline(always)]
    unsafe fn result(expanded: *const u8, dots: __m256i, pair_dots: __m256i) -> __m256 {
        // SAFETY: the caller has an expanded block and AVX2.
        unsafe {
            let dots = _mm256_sub_epi32(dots, pair_dots);
            _mm256_mul_ps(_mm256_loadu_ps(expanded.cast()), _mm256_cvtepi32_ps(dots))
        }
    }
}

/// See [`Expansion`].
#[target_feature(enable = "avx2,f16c")]
unsafe fn expand<F: Expanded>(panel: &[u8], rows: usize, blocks: usize, expanded: &mut [u8]) {
    let mut halves = [0u8; 16];
    for (index, expanded) in expanded.chunks_exact_mut(F::BYTES).enumerate().take(blocks) {
        let block = |row: usize| &panel[(row * blocks + index) * F::FILE_BYTES..][..F::FILE_BYTES];
        expanded[..F::WEIGHTS].fill(0);
        for (at, place) in [(Some(F::SCALE), 0), (F::MINIMUM_SCALE, 32)] {
            let Some(at) = at else { continue };
            for row in 0..rows {
                halves[2 * row..2 * row + 2].copy_from_slice(&block(row)[at..at + 2]);
            }
            // SAFETY: 16 bytes, 32 in the expanded block, and F16C.
            unsafe {
                let scales = eight_halves(halves.as_ptr());
                _mm256_storeu_ps(expanded[place..place + 32].as_mut_ptr().cast(), scales);
            }
        }
        for row in 0..rows {
            for group in 0..F::GROUPS {
                let (scale, factor) = F::scale_and_factor(block(row), group);
                let place = F::GROUP_SCALES + 32 * group + 4 * row;
                expanded[place..place + 4].copy_from_slice(&scale.to_ne_bytes());
                let place = F::PAIRS + 32 * (group / 2) + 4 * row + 2 * (group % 2);
                expanded[place..place + 2].copy_from_slice(&factor.to_ne_bytes());
            }
        }
        for (group, output) in expanded[F::WEIGHTS..].chunks_exact_mut(256).enumerate() {
            // SAFETY: a block is as long as the format says; AVX2 is there; eight vectors are 256 bytes.
            unsafe {
                let mut vectors = [_mm256_setzero_si256(); 8];
                for (row, vector) in vectors.iter_mut().enumerate().take(rows) {
                    *vector = F::weights(block(row).as_ptr(), group);
                }
                let turned = turn_round(vectors.map(|vector| _mm256_castsi256_ps(vector)));
                for (index, vector) in turned.into_iter().enumerate() {
                    _mm256_storeu_ps(output.as_mut_ptr().add(32 * index).cast(), vector);
                }
            }
        }
    }
}

/// The product of an expanded panel of `q5_k`, see [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel_of_q5_k<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { panel::<V, Q5K, TOKENS>(job, output, stride) }
}

/// The product of an expanded panel of `q6_k`, see [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel_of_q6_k<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { panel::<V, Q6K, TOKENS>(job, output, stride) }
}

/// Bytes of a token in a super-block's step.
const STEP: usize = 308;

#[inline(always)]
unsafe fn panel<V: Vectors, F: Expanded, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * F::BYTES);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let mut dots = [_mm256_setzero_si256(); TOKENS];
            let vector = |place: usize| _mm256_loadu_si256(block.add(place).cast());
            for group in 0..F::GROUPS {
                let scales = vector(F::GROUP_SCALES + 32 * group);
                // Vectors of a group, four at a time.
                let vectors = 64 / F::GROUPS;
                for first in (group * vectors..(group + 1) * vectors).step_by(4) {
                    let weights =
                        std::array::from_fn(|index| vector(F::WEIGHTS + 32 * (first + index)));
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let place = 32 * (first / 8 * TOKENS + token) + 4 * (first % 8);
                        *dot = V::scaled_dot_of_four(*dot, &weights, step.add(place), scales);
                    }
                }
            }
            let mut pair_dots = [_mm256_setzero_si256(); TOKENS];
            for pair in 0..F::GROUPS / 2 {
                let factors = vector(F::PAIRS + 32 * pair);
                for (token, dot) in pair_dots.iter_mut().enumerate() {
                    let place = if F::SUMS_BY_TOKEN {
                        32 * token + 4 * pair
                    } else {
                        4 * (pair * TOKENS + token)
                    };
                    let sums = step.add(F::SUMS * TOKENS + place).cast::<i32>();
                    let sums = _mm256_set1_epi32(sums.read_unaligned());
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(factors, sums));
                }
            }
            for (token, sum) in sums.iter_mut().enumerate() {
                let token_scale = step.add(304 * TOKENS + 4 * token).cast::<f32>();
                let token_scale = _mm256_set1_ps(token_scale.read_unaligned());
                let result = F::result(block, dots[token], pair_dots[token]);
                *sum = _mm256_fmadd_ps(result, token_scale, *sum);
            }
            block = block.add(F::BYTES);
            step = step.add(STEP * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            store_rows(sum, job.rows, output.add(token * stride));
        }
    }
}
