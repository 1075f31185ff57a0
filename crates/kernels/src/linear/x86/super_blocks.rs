//! `q2_k`, `q3_k` and `iq4_xs`: rows of super-blocks as GGUF files hold them.

use std::arch::x86_64::*;

use super::super::layout::{BlockIq4Xs, BlockQ2K, BlockQ3K, F16Bytes, IQ4_VALUES, Layout, Q8KTile};
use super::super::microkernel::Job;
use super::blocks::nibbles;
use super::helpers::{reduce_add, signed_products, splat_f16};
use super::prefetch::prefetch_lines;
use super::unroll::unroll;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 2048;

/// How the product reads a super-block, which has eight planes of 32 weights.
///
/// # Safety
/// The methods are only called where AVX2 and F16C are.
trait SuperBlock: Layout {
    /// The scale of scales.
    fn d(&self) -> F16Bytes;

    /// The scales of eight groups of 16 columns each, of the first half and of the second.
    unsafe fn scales(&self) -> [__m128i; 2];

    /// The scale of minimums and those of the 16 groups, if there are any.
    unsafe fn mins(&self) -> Option<(F16Bytes, __m256i)>;

    /// The weights of one of four planes of a half, as [`SuperBlock::products`] takes them.
    unsafe fn weights(&self, half: usize, plane: usize) -> __m256i;

    /// Products with a token's bytes, two neighbours to 16 bits.
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i;
}

/// The two halves of 16 bytes, as 16 bits.
#[inline(always)]
unsafe fn widened_halves(bytes: __m128i) -> [__m128i; 2] {
    // SAFETY: the caller has AVX2.
    unsafe {
        [
            _mm_cvtepi8_epi16(bytes),
            _mm_cvtepi8_epi16(_mm_unpackhi_epi64(bytes, bytes)),
        ]
    }
}

/// Two bits of each byte of a half of a super-block, those of one plane.
#[inline(always)]
unsafe fn two_bits(bytes: &[u8; 64], half: usize, plane: usize) -> __m256i {
    let half = &bytes[32 * half..][..32];
    // SAFETY: 32 bytes; the caller has AVX2.
    unsafe {
        let bytes = _mm256_loadu_si256(half.as_ptr().cast());
        let bits = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(2 * plane as i32));
        _mm256_and_si256(bits, _mm256_set1_epi8(3))
    }
}

impl SuperBlock for BlockQ2K {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    unsafe fn scales(&self) -> [__m128i; 2] {
        // SAFETY: 16 bytes; the trait's condition.
        unsafe {
            let both = _mm_loadu_si128(self.scales.as_ptr().cast());
            widened_halves(_mm_and_si128(both, _mm_set1_epi8(15)))
        }
    }

    #[inline(always)]
    unsafe fn mins(&self) -> Option<(F16Bytes, __m256i)> {
        // SAFETY: 16 bytes; the trait's condition.
        let mins = unsafe {
            let both = _mm_loadu_si128(self.scales.as_ptr().cast());
            _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16::<4>(both), _mm_set1_epi8(15)))
        };
        Some((self.dmin, mins))
    }

    #[inline(always)]
    unsafe fn weights(&self, half: usize, plane: usize) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { two_bits(&self.qs, half, plane) }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_maddubs_epi16(weights, x) }
    }
}

impl SuperBlock for BlockQ3K {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    unsafe fn scales(&self) -> [__m128i; 2] {
        let scales = self.scales();
        // SAFETY: 16 bytes; the trait's condition.
        unsafe {
            let scales = _mm_loadu_si128(scales.as_ptr().cast());
            widened_halves(_mm_sub_epi8(scales, _mm_set1_epi8(32)))
        }
    }

    #[inline(always)]
    unsafe fn mins(&self) -> Option<(F16Bytes, __m256i)> {
        None
    }

    /// 4 too large.
    #[inline(always)]
    unsafe fn weights(&self, half: usize, plane: usize) -> __m256i {
        // SAFETY: 32 bytes; the trait's condition.
        unsafe {
            let third = _mm256_loadu_si256(self.hmask.as_ptr().cast());
            let third = _mm256_srl_epi16(third, _mm_cvtsi32_si128(4 * half as i32));
            let third = match plane {
                0 => _mm256_slli_epi16::<2>(third),
                1 => _mm256_slli_epi16::<1>(third),
                2 => third,
                _ => _mm256_srli_epi16::<1>(third),
            };
            let third = _mm256_and_si256(third, _mm256_set1_epi8(4));
            _mm256_or_si256(two_bits(&self.qs, half, plane), third)
        }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            let excess = _mm256_maddubs_epi16(_mm256_set1_epi8(4), x);
            _mm256_sub_epi16(_mm256_maddubs_epi16(weights, x), excess)
        }
    }
}

impl SuperBlock for BlockIq4Xs {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    unsafe fn scales(&self) -> [__m128i; 2] {
        // SAFETY: the trait's condition.
        unsafe {
            // Bits of each lane are multiplied to the top of it, and shifted to its bottom.
            let low = _mm_cvtsi32_si128(i32::from_le_bytes(self.scales_l));
            let low = _mm_cvtepu8_epi16(_mm_unpacklo_epi8(low, low));
            let to_top = _mm_set1_epi32(1 << 12 | 1 << (8 + 16));
            let low = _mm_srli_epi16::<12>(_mm_mullo_epi16(low, to_top));
            let high = _mm_set1_epi16(i16::from_le_bytes(self.scales_h));
            let to_top =
                _mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
            let high = _mm_srli_epi16::<14>(_mm_mullo_epi16(high, to_top));
            let scales = _mm_or_si128(low, _mm_slli_epi16::<4>(high));
            let scales = _mm_sub_epi16(scales, _mm_set1_epi16(32));
            // The same for both groups of 16.
            [
                _mm_unpacklo_epi16(scales, scales),
                _mm_unpackhi_epi16(scales, scales),
            ]
        }
    }

    #[inline(always)]
    unsafe fn mins(&self) -> Option<(F16Bytes, __m256i)> {
        None
    }

    #[inline(always)]
    unsafe fn weights(&self, half: usize, plane: usize) -> __m256i {
        let (sixteen, _) = self.qs.as_chunks();
        // SAFETY: 16 values; the trait's condition.
        unsafe {
            let values = _mm_loadu_si128(IQ4_VALUES.as_ptr().cast());
            _mm256_shuffle_epi8(
                _mm256_broadcastsi128_si256(values),
                nibbles(&sixteen[4 * half + plane]),
            )
        }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { signed_products(weights, x) }
    }
}

/// The product with `q2_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q2_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockQ2K, TOKENS>(job) }
}

/// The product with `q3_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q3_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockQ3K, TOKENS>(job) }
}

/// The product with `iq4_xs`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_iq4_xs<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockIq4Xs, TOKENS>(job) }
}

/// Every fourth of a vector goes its own way.
#[inline(always)]
unsafe fn gemv<B: SuperBlock, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8KTile<TOKENS>>(), job.row_blocks::<B>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [_mm256_setzero_ps(); TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                let place = std::ptr::from_ref(block).cast::<u8>();
                prefetch_lines(place.wrapping_add(AHEAD), size_of::<B>().div_ceil(64));
                super_block(block, step, &mut accumulators);
            }
            for (token, &sum) in accumulators.iter().enumerate() {
                *job.output(token).add(row) = reduce_add(sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<B: SuperBlock, const TOKENS: usize>(
    block: &B,
    step: &Q8KTile<TOKENS>,
    accumulators: &mut [__m256; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let [first, second] = block.scales();
        let halves = [
            _mm256_broadcastsi128_si256(first),
            _mm256_broadcastsi128_si256(second),
        ];
        let mut dots = [_mm256_setzero_si256(); TOKENS];
        for half in 0..2 {
            unroll!(plane in 4 => {
                let weights = block.weights(half, plane);
                // One group in the lower half of the vector, one in the upper.
                let place = 4 * plane as i16;
                let place = place | (place + 1) << 8;
                let place = _mm256_inserti128_si256::<1>(
                    _mm256_set1_epi16(place),
                    _mm_set1_epi16(place + 0x0202),
                );
                let scales = _mm256_shuffle_epi8(halves[half], place);
                for (token, dot) in dots.iter_mut().enumerate() {
                    let x = &step.qs[4 * half + plane][token];
                    let x = _mm256_loadu_si256(x.as_ptr().cast());
                    let pairs = B::products(weights, x);
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(scales, pairs));
                }
            });
        }
        let scale = splat_f16(block.d());
        for (token, sum) in accumulators.iter_mut().enumerate() {
            let token_scale = _mm256_set1_ps(step.d[token]);
            if let Some((min_scale, mins)) = block.mins() {
                let sixteenths = _mm256_loadu_si256(step.sums[token].as_ptr().cast());
                let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(mins, sixteenths));
                let min_scale = _mm256_mul_ps(token_scale, splat_f16(min_scale));
                *sum = _mm256_fnmadd_ps(min_scale, products, *sum);
            }
            let scale = _mm256_mul_ps(token_scale, scale);
            *sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dots[token]), *sum);
        }
    }
}
