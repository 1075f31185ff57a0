//! AVX-512: vectors of sixteen.

#![allow(
    clippy::wildcard_imports,
    reason = "intrinsics are read by their own names"
)]

use std::arch::x86_64::*;

use half::f16;

use super::avx2::{Avx2, intrinsics, reduce_add_halves};
use super::exp::{
    CLAMP, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, POWERS, STEP_POLYNOMIAL, STEPS_PER_UNIT,
    TO_INTEGER, TO_INTEGER_F64,
};
use super::{BLOCK, MAX_INTERLEAVE, Simd, Task, Token};
use crate::cpu_features::Features;

/// Processors with AVX-512F besides AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(Avx2);

/// Processors with AVX-512BW, VL and VNNI besides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(Avx512);

impl Avx512 {
    /// The token of the instructions that are there as well.
    #[inline(always)]
    pub(crate) fn avx2(self) -> Avx2 {
        self.0
    }
}

impl Avx512Vnni {
    /// The instructions that are there as well.
    #[inline(always)]
    pub(crate) fn avx512(self) -> Avx512 {
        self.0
    }
}

impl Token for Avx512 {
    #[inline(always)]
    fn detect() -> Option<Self> {
        const NEEDED: Features = Features::new(&["avx512f"]);
        let avx2 = Avx2::detect()?;
        NEEDED.are_allowed().then_some(Self(avx2))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller's condition; who detects this token has detected that one.
        Self(unsafe { Avx2::assume() })
    }

    #[inline(always)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx2,fma,f16c")]
        #[inline(never)]
        fn compiled<T: Task<Avx512>>(simd: Avx512, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, task) }
    }
}

impl Token for Avx512Vnni {
    #[inline(always)]
    fn detect() -> Option<Self> {
        const NEEDED: Features = Features::new(&["avx512bw", "avx512vl", "avx512vnni"]);
        let avx512 = Avx512::detect()?;
        NEEDED.are_allowed().then_some(Self(avx512))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller's condition; who detects this token has detected that one.
        Self(unsafe { Avx512::assume() })
    }

    #[inline(always)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline(never)]
        fn compiled<T: Task<Avx512Vnni>>(simd: Avx512Vnni, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, task) }
    }
}

/// The upper eight lanes.
#[inline(always)]
fn upper(_: Avx512, vector: __m512) -> __m256 {
    intrinsics! {
        _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector)))
    }
}

impl Avx512 {
    /// e^x of eight values, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: __m512d) -> __m512d {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        intrinsics! {
            let unit = _mm512_set1_pd(STEPS_PER_UNIT);
            let magic = _mm512_set1_pd(TO_INTEGER_F64);
            let shifted = _mm512_fmadd_pd(unit, x, magic);
            let r = _mm512_fmsub_pd(unit, x, _mm512_sub_pd(shifted, magic));
            let steps = _mm512_castpd_si512(shifted);
            let table = POWERS.as_ptr().cast::<i64>();
            let low = _mm512_permutex2var_epi64(
                _mm512_loadu_epi64(table),
                steps,
                _mm512_loadu_epi64(table.add(8)),
            );
            let high = _mm512_permutex2var_epi64(
                _mm512_loadu_epi64(table.add(16)),
                steps,
                _mm512_loadu_epi64(table.add(24)),
            );
            let in_high = _mm512_test_epi64_mask(steps, _mm512_set1_epi64(16));
            let power = _mm512_mask_blend_epi64(in_high, low, high);
            let power = _mm512_castsi512_pd(_mm512_add_epi64(power, _mm512_slli_epi64(steps, 47)));
            let upper = _mm512_fmadd_pd(_mm512_set1_pd(c3), r, _mm512_set1_pd(c2));
            let lower = _mm512_fmadd_pd(_mm512_set1_pd(c1), r, _mm512_set1_pd(1.0));
            _mm512_mul_pd(_mm512_fmadd_pd(upper, _mm512_mul_pd(r, r), lower), power)
        }
    }
}

impl Simd for Avx512 {
    type F32 = __m512;
    const LANES: usize = 16;
    const MICROKERNEL_ROWS: usize = 8;
    const INTERLEAVE: usize = MAX_INTERLEAVE;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        intrinsics!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        intrinsics!(_mm512_loadu_ps(from[..16].as_ptr()))
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> __m512 {
        intrinsics!(_mm512_cvtph_ps(_mm256_loadu_si256(
            from[..16].as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn store(self, vector: __m512, to: &mut [f32]) {
        intrinsics!(_mm512_storeu_ps(to[..16].as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsics!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn round_to_f16(self, vector: __m512) -> __m512 {
        intrinsics!(_mm512_cvtph_ps(
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector)
        ))
    }

    #[inline(always)]
    fn f16_to_f32(self, value: f16) -> f32 {
        self.avx2().f16_to_f32(value)
    }

    #[inline(always)]
    fn reduce_add(self, vector: __m512) -> f32 {
        let eight = self.avx2().add(
            upper(self, vector),
            intrinsics!(_mm512_castps512_ps256(vector)),
        );
        reduce_add_halves(self.avx2(), eight)
    }

    /// In the same order, four side by side: halves of 256 bits, of 128, of 64, and the last two.
    #[inline(always)]
    fn reduce_add_4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        intrinsics! {
            let first = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
                _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
            );
            let second = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
                _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
            );
            // A quarter for each.
            let four = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b11_01_11_01>(first, second),
                _mm512_shuffle_f32x4::<0b10_00_10_00>(first, second),
            );
            let two = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
            let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
            let firsts = _mm512_maskz_compress_ps(0b0001_0001_0001_0001, one);
            _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(firsts));
        }
        sums
    }

    #[inline(always)]
    fn add_in_f64(self, total: __m512, groups: &[__m512]) -> __m512 {
        intrinsics! {
            let mut low = _mm512_setzero_pd();
            let mut high = _mm512_setzero_pd();
            for &group in groups {
                low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(group)));
                high = _mm512_add_pd(high, _mm512_cvtps_pd(upper(self, group)));
            }
            low = _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(total)), low);
            high = _mm512_add_pd(_mm512_cvtps_pd(upper(self, total)), high);
            let low = _mm512_castps256_ps512(_mm512_cvtpd_ps(low));
            let high = _mm256_castps_pd(_mm512_cvtpd_ps(high));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castps_pd(low), high))
        }
    }

    #[inline(always)]
    fn exp(self, x: __m512) -> __m512 {
        let [p5, p4, p3, p2, p1] = POLYNOMIAL;
        intrinsics! {
            // The second operand is what comes out where one is NaN.
            let x = _mm512_max_ps(_mm512_set1_ps(CLAMP), x);
            let magic = _mm512_set1_ps(TO_INTEGER);
            let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), magic);
            let power = _mm512_sub_ps(shifted, magic);
            let r = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN_2_HIGH), x);
            let r = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN_2_LOW), r);
            let square = _mm512_mul_ps(r, r);
            let upper = _mm512_fmadd_ps(
                _mm512_fmadd_ps(_mm512_set1_ps(p5), r, _mm512_set1_ps(p4)),
                square,
                _mm512_fmadd_ps(_mm512_set1_ps(p3), r, _mm512_set1_ps(p2)),
            );
            let lower = _mm512_fmadd_ps(_mm512_set1_ps(p1), r, _mm512_set1_ps(1.0));
            _mm512_scalef_ps(_mm512_fmadd_ps(upper, square, lower), power)
        }
    }

    #[inline(always)]
    fn exp_libm(self, values: &mut [f32]) {
        for chunk in values.chunks_mut(Self::LANES) {
            let x = self.load_partial(chunk);
            let mut results = [0.0; 16];
            intrinsics! {
                let x = _mm512_max_ps(_mm512_set1_ps(LOWEST), x);
                let low = Self::exp_f64(self, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
                let high = Self::exp_f64(self, _mm512_cvtps_pd(upper(self, x)));
                _mm256_storeu_ps(results.as_mut_ptr(), _mm512_cvtpd_ps(low));
                _mm256_storeu_ps(results[8..].as_mut_ptr(), _mm512_cvtpd_ps(high));
            }
            let count = chunk.len();
            chunk.copy_from_slice(&results[..count]);
        }
    }

    #[inline(always)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.avx2().dot_q8_0(x, y)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.avx2().dot_q4_0(x, y)
    }

    #[inline(always)]
    fn dequantize(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        self.avx2().dequantize(integers, scale, to);
    }
}
