//! `q5_k` and `q6_k` with many tokens: the weights of eight rows are expanded to bytes and interleaved once, and then
//! used for tile after tile.

use std::arch::x86_64::*;

use super::super::PANEL;
use super::super::format::Format;
use super::super::microkernel::Expand;
use super::super::packing::scale_and_minimum;
use super::k_quants::{SuperBlocks, less_minimums, panel};
use super::vectors::Vectors;
use super::{Expansion, Job, eight_halves, turn_round};

/// What the kernels of `format` need.
pub(super) fn expansion(format: Format) -> Option<Expansion> {
    let (block_bytes, expand): (_, Expand) = match format {
        Format::Q5K => (<Q5K as Expanded>::BYTES, expand::<Q5K>),
        Format::Q6K => (<Q6K as Expanded>::BYTES, expand::<Q6K>),
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
    /// No weight is larger.
    const LARGEST: i32;
    /// See [`SuperBlocks::SUMS`].
    const SUMS: usize;
    /// See [`SuperBlocks::SUMS_BY_TOKEN`].
    const SUMS_BY_TOKEN: bool;

    /// Where the scales are in a file's block.
    const SCALE: usize;
    /// Where the group scales begin.
    const GROUP_SCALES: usize = 64;
    /// Where the pairs begin.
    const PAIRS: usize = Self::GROUP_SCALES + 32 * <Self as Expanded>::GROUPS;
    /// Where the weights begin.
    const WEIGHTS: usize = Self::PAIRS + 16 * <Self as Expanded>::GROUPS;
    /// Bytes of all.
    const BYTES: usize = Self::WEIGHTS + 2048;

    /// A group's scale and what its sum is multiplied with.
    fn scale_and_factor(block: &[u8], group: usize) -> (i32, i16);

    /// Where the minimums' scale is, if there is one.
    const MINIMUM_SCALE: Option<usize>;

    /// The weights of 32 elements, unsigned.
    unsafe fn weights(block: *const u8, group_of_32: usize) -> __m256i;
}

impl<F: Expanded> SuperBlocks for F {
    const BYTES: usize = <F as Expanded>::BYTES;
    const GROUPS: usize = <F as Expanded>::GROUPS;
    const PLANES_TOGETHER: usize = 1;
    const LARGEST: i32 = <F as Expanded>::LARGEST;
    const SUMS: usize = <F as Expanded>::SUMS;
    const SUMS_BY_TOKEN: bool = <F as Expanded>::SUMS_BY_TOKEN;

    #[inline(always)]
    unsafe fn scales<V: Vectors>(block: *const u8, other: usize, group: usize) -> V::Integers {
        // SAFETY: the caller's condition.
        unsafe { V::load(block.add(F::GROUP_SCALES + 32 * group), other) }
    }

    #[inline(always)]
    unsafe fn weights<V: Vectors>(
        block: *const u8,
        other: usize,
        group: usize,
        index: usize,
    ) -> V::Integers {
        let place = F::WEIGHTS + 2048 / <F as Expanded>::GROUPS * group + 32 * index;
        // SAFETY: the caller's condition.
        unsafe { V::load(block.add(place), other) }
    }

    #[inline(always)]
    unsafe fn factors<V: Vectors>(block: *const u8, other: usize, pair: usize) -> V::Integers {
        // SAFETY: the caller's condition.
        unsafe { V::load(block.add(F::PAIRS + 32 * pair), other) }
    }

    #[inline(always)]
    unsafe fn result<V: Vectors>(
        block: *const u8,
        other: usize,
        dots: V::Integers,
        pair_dots: V::Integers,
    ) -> V::Floats {
        // SAFETY: the caller's condition.
        unsafe {
            let scales = V::load_floats(block, other);
            if F::MINIMUM_SCALE.is_some() {
                let minimum_scales = V::load_floats(block.add(32), other);
                less_minimums::<V>(scales, minimum_scales, dots, pair_dots)
            } else {
                V::multiply(scales, V::to_floats(V::less(dots, pair_dots)))
            }
        }
    }
}

/// The most groups that a super-block has.
const MOST_GROUPS: usize = 16;

struct Q5K;
struct Q6K;

impl Expanded for Q5K {
    const FILE_BYTES: usize = 176;
    const GROUPS: usize = 8;
    const LARGEST: i32 = 31;
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
}

impl Expanded for Q6K {
    const FILE_BYTES: usize = 210;
    const GROUPS: usize = 16;
    const LARGEST: i32 = 63;
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
}

/// See [`Expansion`].
#[target_feature(enable = "avx2,f16c")]
unsafe fn expand<F: Expanded>(panel: &[u8], rows: usize, blocks: usize, expanded: &mut [u8]) {
    let mut halves = [0u8; 16];
    for (index, expanded) in expanded
        .chunks_exact_mut(<F as Expanded>::BYTES)
        .enumerate()
        .take(blocks)
    {
        let block = |row: usize| &panel[(row * blocks + index) * F::FILE_BYTES..][..F::FILE_BYTES];
        expanded[..F::GROUP_SCALES].fill(0);
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
        let mut group_scales = [[0i32; PANEL]; MOST_GROUPS];
        let mut factors = [[[0i16; 2]; PANEL]; MOST_GROUPS / 2];
        for row in 0..rows {
            let block = block(row);
            for (group, scales) in group_scales[..<F as Expanded>::GROUPS]
                .iter_mut()
                .enumerate()
            {
                let (scale, factor) = F::scale_and_factor(block, group);
                scales[row] = scale;
                factors[group / 2][row][group % 2] = factor;
            }
        }
        let places = expanded[F::GROUP_SCALES..F::PAIRS].chunks_exact_mut(4);
        for (place, scale) in places.zip(group_scales.as_flattened()) {
            place.copy_from_slice(&scale.to_ne_bytes());
        }
        let places = expanded[F::PAIRS..F::WEIGHTS].chunks_exact_mut(2);
        for (place, factor) in places.zip(factors.as_flattened().as_flattened()) {
            place.copy_from_slice(&factor.to_ne_bytes());
        }
        for (group, output) in expanded[F::WEIGHTS..].chunks_exact_mut(256).enumerate() {
            // SAFETY: a block is as long as the format says; AVX2 is there; eight vectors are 256 bytes.
            unsafe {
                let mut vectors = [_mm256_setzero_ps(); 8];
                for (row, vector) in vectors.iter_mut().enumerate().take(rows) {
                    *vector = _mm256_castsi256_ps(F::weights(block(row).as_ptr(), group));
                }
                let turned = turn_round(vectors);
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
    unsafe { panel::<V, Q5K, TOKENS, 8>(job, output, stride) }
}

/// The product of an expanded panel of `q6_k`, see [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel_of_q6_k<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { panel::<V, Q6K, TOKENS, 4>(job, output, stride) }
}
