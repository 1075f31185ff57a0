//! `q4_1`, `q5_0` and `q5_1`: rows of blocks of 32 as GGUF files hold them.

use std::arch::x86_64::*;

use super::super::layout::{BlockQ4_1, BlockQ5_0, BlockQ5_1, F16Bytes, Layout, Q8_1Tile};
use super::super::microkernel::Job;
use super::helpers::{reduce_add, signed_products, splat_f16};
use super::prefetch::prefetch_lines;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 1536;

/// How the product reads a block.
///
/// # Safety
/// The methods are only called where AVX2 and F16C are.
pub(super) trait Block: Layout {
    /// The scale.
    fn d(&self) -> F16Bytes;

    /// The minimum, if there is one.
    fn m(&self) -> Option<F16Bytes>;

    /// The weights, in order.
    unsafe fn weights(&self) -> __m256i;

    /// Products with a token's bytes, two neighbours to 16 bits.
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i;
}

/// The lower nibbles of 16 bytes, then the upper ones.
#[inline(always)]
pub(super) unsafe fn nibbles(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes; the caller has AVX2.
    unsafe {
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        let both =
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytes), _mm_srli_epi16::<4>(bytes));
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

/// 32 bits, each a byte that is 255 or 0.
#[inline(always)]
unsafe fn spread(bits: [u8; 4]) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let byte_of_each = _mm256_setr_epi64x(
            0,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        );
        let bytes = _mm256_set1_epi32(i32::from_le_bytes(bits));
        let bytes = _mm256_shuffle_epi8(bytes, byte_of_each);
        let others = _mm256_set1_epi64x(0x7fbf_dfef_f7fb_fdfe);
        _mm256_cmpeq_epi8(_mm256_or_si256(bytes, others), _mm256_set1_epi8(-1))
    }
}

impl Block for BlockQ4_1 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        Some(self.m)
    }

    #[inline(always)]
    unsafe fn weights(&self) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { nibbles(&self.qs) }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_maddubs_epi16(weights, x) }
    }
}

impl Block for BlockQ5_0 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        None
    }

    #[inline(always)]
    unsafe fn weights(&self) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            // Without its fifth bit an element is 16 less: the bits above the nibble say so.
            let less = _mm256_andnot_si256(spread(self.qh), _mm256_set1_epi8(-16));
            _mm256_or_si256(nibbles(&self.qs), less)
        }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { signed_products(weights, x) }
    }
}

impl Block for BlockQ5_1 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        Some(self.m)
    }

    #[inline(always)]
    unsafe fn weights(&self) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            let fifth = _mm256_and_si256(spread(self.qh), _mm256_set1_epi8(16));
            _mm256_or_si256(nibbles(&self.qs), fifth)
        }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_maddubs_epi16(weights, x) }
    }
}

/// The product with `q4_1`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q4_1<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockQ4_1, TOKENS>(job) }
}

/// The product with `q5_0`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q5_0<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockQ5_0, TOKENS>(job) }
}

/// The product with `q5_1`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q5_1<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<BlockQ5_1, TOKENS>(job) }
}

/// Every fourth of a vector goes its own way; minimums are added up apart.
#[inline(always)]
unsafe fn gemv<B: Block, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8_1Tile<TOKENS>>(), job.row_blocks::<B>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [_mm256_setzero_ps(); TOKENS];
            let mut mins = [0.0f32; TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                let place = std::ptr::from_ref(block).cast::<u8>();
                prefetch_lines(place.wrapping_add(AHEAD), 1);
                let weights = block.weights();
                let scale = splat_f16(block.d());
                for token in 0..TOKENS {
                    let x = _mm256_loadu_si256(step.qs[token].as_ptr().cast());
                    let pairs = B::products(weights, x);
                    let dots = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(step.d[token]));
                    let sum = &mut accumulators[token];
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, *sum);
                    if let Some(min) = block.m() {
                        let min = _mm256_cvtss_f32(splat_f16(min));
                        mins[token] = min.mul_add(step.s[token], mins[token]);
                    }
                }
            }
            for token in 0..TOKENS {
                *job.output(token).add(row) = reduce_add(accumulators[token]) + mins[token];
            }
        }
    }
}
