//! AVX2 with FMA and F16C: vectors of eight.

#![allow(
    clippy::wildcard_imports,
    reason = "intrinsics are read by their own names"
)]

use std::arch::x86_64::*;

use half::f16;

use super::exp::{
    CLAMP, GUARD, GUARD_POWER, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, POWERS, STEP_POLYNOMIAL,
    STEPS_PER_UNIT, TO_INTEGER, TO_INTEGER_F64,
};
use super::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, Simd, Task, Token, block_scale};
use crate::cpu_features::Features;

/// Processors with AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Token for Avx2 {
    #[inline(always)]
    fn detect() -> Option<Self> {
        const NEEDED: Features = Features::new(&["avx2", "fma", "f16c"]);
        NEEDED.are_allowed().then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline(always)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn compiled<T: Task<Avx2>>(simd: Avx2, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, task) }
    }
}

/// Expressions of intrinsics, in functions that have a token.
macro_rules! intrinsics {
    ($($body:tt)*) => {{
        // SAFETY: values of tokens are made only where the processor has the instructions.
        // Addresses are those of arrays or of slices checked to be long enough.
        unsafe { $($body)* }
    }};
}
pub(super) use intrinsics;

/// The sum of products of 32 signed bytes, four neighbours to a lane.
#[inline(always)]
fn products(_: Avx2, x: __m256i, y: __m256i) -> __m256 {
    intrinsics! {
        let magnitudes = _mm256_sign_epi8(x, x);
        let signed = _mm256_sign_epi8(y, x);
        let pairs = _mm256_maddubs_epi16(magnitudes, signed);
        _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_set1_epi16(1), pairs))
    }
}

/// The sum of eight lanes, the upper half added to the lower one until one is left.
#[inline(always)]
pub(super) fn reduce_add_halves(_: Avx2, vector: __m256) -> f32 {
    intrinsics! {
        let four = _mm_add_ps(_mm256_extractf128_ps(vector, 1), _mm256_castps256_ps128(vector));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

impl Avx2 {
    #[inline(always)]
    fn scale(self, x: &[u8], y: &[u8]) -> __m256 {
        let scale = self.f16_to_f32(block_scale(x)) * self.f16_to_f32(block_scale(y));
        self.splat(scale)
    }

    /// e^x of four values, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: __m256d) -> __m256d {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        intrinsics! {
            let unit = _mm256_set1_pd(STEPS_PER_UNIT);
            let magic = _mm256_set1_pd(TO_INTEGER_F64);
            let shifted = _mm256_fmadd_pd(unit, x, magic);
            let r = _mm256_fmsub_pd(unit, x, _mm256_sub_pd(shifted, magic));
            let steps = _mm256_castpd_si256(shifted);
            let entry = _mm256_and_si256(steps, _mm256_set1_epi64x(31));
            let power = _mm256_i64gather_epi64::<8>(POWERS.as_ptr().cast(), entry);
            let power = _mm256_castsi256_pd(_mm256_add_epi64(power, _mm256_slli_epi64(steps, 47)));
            let upper = _mm256_fmadd_pd(_mm256_set1_pd(c3), r, _mm256_set1_pd(c2));
            let lower = _mm256_fmadd_pd(_mm256_set1_pd(c1), r, _mm256_set1_pd(1.0));
            _mm256_mul_pd(_mm256_fmadd_pd(upper, _mm256_mul_pd(r, r), lower), power)
        }
    }
}

impl Simd for Avx2 {
    type F32 = __m256;
    const LANES: usize = 8;
    const MICROKERNEL_ROWS: usize = 6;
    const INTERLEAVE: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        intrinsics!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        intrinsics!(_mm256_loadu_ps(from[..8].as_ptr()))
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> __m256 {
        intrinsics!(_mm256_cvtph_ps(_mm_loadu_si128(from[..8].as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, vector: __m256, to: &mut [f32]) {
        intrinsics!(_mm256_storeu_ps(to[..8].as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        intrinsics!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn round_to_f16(self, vector: __m256) -> __m256 {
        intrinsics!(_mm256_cvtph_ps(
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector)
        ))
    }

    #[inline(always)]
    fn f16_to_f32(self, value: f16) -> f32 {
        let bits = i32::from(value.to_bits());
        intrinsics!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))))
    }

    #[inline(always)]
    fn reduce_add(self, vector: __m256) -> f32 {
        intrinsics! {
            let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));
            let two = _mm_hadd_ps(four, four);
            _mm_cvtss_f32(_mm_hadd_ps(two, two))
        }
    }

    /// In the same order, two of each four in a half.
    #[inline(always)]
    fn reduce_add_4(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        intrinsics! {
            let first = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(a, b),
                _mm256_permute2f128_ps::<0x31>(a, b),
            );
            let second = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(c, d),
                _mm256_permute2f128_ps::<0x31>(c, d),
            );
            let two = _mm256_hadd_ps(first, second);
            let one = _mm256_hadd_ps(two, two);
            let mut sums = [0.0; 8];
            _mm256_storeu_ps(sums.as_mut_ptr(), one);
            [sums[0], sums[4], sums[1], sums[5]]
        }
    }

    #[inline(always)]
    fn add_in_f64(self, total: __m256, groups: &[__m256]) -> __m256 {
        intrinsics! {
            let mut low = _mm256_setzero_pd();
            let mut high = _mm256_setzero_pd();
            for &group in groups {
                low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(group)));
                high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(group, 1)));
            }
            low = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(total)), low);
            high = _mm256_add_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(total, 1)), high);
            _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low))
        }
    }

    #[inline(always)]
    fn exp(self, x: __m256) -> __m256 {
        let [p5, p4, p3, p2, p1] = POLYNOMIAL;
        intrinsics! {
            // The second operand is what comes out where one is NaN.
            let x = _mm256_max_ps(_mm256_set1_ps(CLAMP), x);
            let magic = _mm256_set1_ps(TO_INTEGER);
            let shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E), magic);
            let power = _mm256_sub_ps(shifted, magic);
            let r = _mm256_fnmadd_ps(power, _mm256_set1_ps(LN_2_HIGH), x);
            let r = _mm256_fnmadd_ps(power, _mm256_set1_ps(LN_2_LOW), r);
            let square = _mm256_mul_ps(r, r);
            let upper = _mm256_fmadd_ps(
                _mm256_fmadd_ps(_mm256_set1_ps(p5), r, _mm256_set1_ps(p4)),
                square,
                _mm256_fmadd_ps(_mm256_set1_ps(p3), r, _mm256_set1_ps(p2)),
            );
            let minus_one =
                _mm256_fmadd_ps(upper, square, _mm256_mul_ps(_mm256_set1_ps(p1), r));
            let one = _mm256_set1_epi32(((GUARD_POWER + 127) << 23) as i32);
            let scale = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
            let scale = _mm256_castsi256_ps(_mm256_add_epi32(scale, one));
            _mm256_mul_ps(_mm256_fmadd_ps(minus_one, scale, scale), _mm256_set1_ps(GUARD))
        }
    }

    #[inline(always)]
    fn exp_libm(self, values: &mut [f32]) {
        for chunk in values.chunks_mut(Self::LANES) {
            let x = self.load_partial(chunk);
            let mut results = [0.0; 8];
            intrinsics! {
                let x = _mm256_max_ps(_mm256_set1_ps(LOWEST), x);
                let low = Self::exp_f64(self, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
                let high = Self::exp_f64(self, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
                _mm_storeu_ps(results.as_mut_ptr(), _mm256_cvtpd_ps(low));
                _mm_storeu_ps(results[4..].as_mut_ptr(), _mm256_cvtpd_ps(high));
            }
            let count = chunk.len();
            chunk.copy_from_slice(&results[..count]);
        }
    }

    #[inline(always)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut accumulators = intrinsics!(_mm256_setzero_ps());
        for (x, y) in x.chunks_exact(Q8_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let products = intrinsics! {
                products(
                    self,
                    _mm256_loadu_si256(x[2..2 + BLOCK].as_ptr().cast()),
                    _mm256_loadu_si256(y[2..2 + BLOCK].as_ptr().cast()),
                )
            };
            accumulators = self.fma(self.scale(x, y), products, accumulators);
        }
        reduce_add_halves(self, accumulators)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut accumulators = intrinsics!(_mm256_setzero_ps());
        for (x, y) in x.chunks_exact(Q4_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let products = intrinsics! {
                let packed = _mm_loadu_si128(x[2..2 + BLOCK / 2].as_ptr().cast());
                let low = _mm_set1_epi8(15);
                let integers = _mm256_set_m128i(
                    _mm_and_si128(_mm_srli_epi16(packed, 4), low),
                    _mm_and_si128(packed, low),
                );
                products(
                    self,
                    _mm256_sub_epi8(integers, _mm256_set1_epi8(8)),
                    _mm256_loadu_si256(y[2..2 + BLOCK].as_ptr().cast()),
                )
            };
            accumulators = self.fma(self.scale(x, y), products, accumulators);
        }
        reduce_add_halves(self, accumulators)
    }

    #[inline(always)]
    fn dequantize(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        let scale = self.splat(scale);
        for (integers, to) in integers.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
            let values = intrinsics! {
                let eight = _mm_loadl_epi64(integers[..8].as_ptr().cast());
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight))
            };
            self.store(self.mul(values, scale), to);
        }
    }
}
