//! Vectors of x86-64 processors: AVX2 with FMA and F16C, and AVX-512.

use std::arch::x86_64::{
    __m256, __m256d, __m256i, __m512, __m512d, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_add_ps,
    _mm_add_ss, _mm_and_si128, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_hadd_ps,
    _mm_loadl_epi64, _mm_loadu_si128, _mm_movehdup_ps, _mm_movehl_ps, _mm_prefetch, _mm_set1_epi8,
    _mm_srli_epi16, _mm_storeu_ps, _mm256_add_epi32, _mm256_add_epi64, _mm256_add_pd,
    _mm256_add_ps, _mm256_and_si256, _mm256_castpd_si256, _mm256_castps_si256,
    _mm256_castps256_ps128, _mm256_castsi256_pd, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtpd_ps, _mm256_cvtph_ps, _mm256_cvtps_pd, _mm256_cvtps_ph,
    _mm256_extractf128_ps, _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_fmsub_pd, _mm256_fnmadd_ps,
    _mm256_hadd_ps, _mm256_i64gather_epi64, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_max_ps, _mm256_mul_pd, _mm256_mul_ps, _mm256_permute2f128_ps,
    _mm256_set_m128, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_set1_pd, _mm256_set1_ps, _mm256_setzero_pd, _mm256_setzero_ps,
    _mm256_sign_epi8, _mm256_slli_epi32, _mm256_slli_epi64, _mm256_storeu_ps, _mm256_sub_epi8,
    _mm256_sub_pd, _mm256_sub_ps, _mm512_add_epi64, _mm512_add_pd, _mm512_add_ps, _mm512_castpd_ps,
    _mm512_castpd_si512, _mm512_castps_pd, _mm512_castps512_ps128, _mm512_castps512_ps256,
    _mm512_castsi512_pd, _mm512_cvtpd_ps, _mm512_cvtph_ps, _mm512_cvtps_pd, _mm512_cvtps_ph,
    _mm512_extractf64x4_pd, _mm512_fmadd_pd, _mm512_fmadd_ps, _mm512_fmsub_pd, _mm512_fnmadd_ps,
    _mm512_insertf64x4, _mm512_loadu_epi64, _mm512_loadu_ps, _mm512_mask_blend_epi64,
    _mm512_maskz_compress_ps, _mm512_max_ps, _mm512_movehdup_ps, _mm512_mul_pd, _mm512_mul_ps,
    _mm512_permute_ps, _mm512_permutex2var_epi64, _mm512_scalef_ps, _mm512_set1_epi64,
    _mm512_set1_pd, _mm512_set1_ps, _mm512_setzero_pd, _mm512_shuffle_f32x4, _mm512_slli_epi64,
    _mm512_storeu_ps, _mm512_sub_pd, _mm512_sub_ps, _mm512_test_epi64_mask,
};

use half::f16;

use super::exponential::{
    CLAMP, GUARD, GUARD_POWER, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, POWERS, STEP_POLYNOMIAL,
    STEPS_PER_UNIT, TO_INTEGER, TO_INTEGER_F64,
};
use super::lanes::{BLOCK, Lanes, Q4_0_BYTES, Q8_0_BYTES, Task, block_scale};
use super::weighing::HEADS;
use crate::processor::may_use;

/// Processors with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Processors with AVX-512F besides.
#[derive(Clone, Copy)]
pub(super) struct Avx512(Avx2);

impl Avx2 {
    /// The instructions, if this processor has them.
    pub(super) fn detect() -> Option<Self> {
        (may_use("avx2") && may_use("fma") && may_use("f16c")).then_some(Self(()))
    }
}

impl Avx512 {
    /// The instructions, if this processor has them.
    pub(super) fn detect() -> Option<Self> {
        let narrow = Avx2::detect()?;
        may_use("avx512f").then_some(Self(narrow))
    }
}

/// Expressions of intrinsics, in methods of [`Avx2`] and [`Avx512`].
macro_rules! instructions {
    ($($body:tt)*) => {{
        // SAFETY: values of these types are made only where the processor has the instructions.
        // Addresses are those of arrays or of slices checked to be long enough.
        unsafe { $($body)* }
    }};
}

/// The sum of products of 32 signed bytes, four neighbours to a lane.
#[inline(always)]
fn products(_: Avx2, x: __m256i, y: __m256i) -> __m256 {
    instructions! {
        let magnitudes = _mm256_sign_epi8(x, x);
        let signed = _mm256_sign_epi8(y, x);
        let pairs = _mm256_maddubs_epi16(magnitudes, signed);
        _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_set1_epi16(1), pairs))
    }
}

/// Eight numbers, the upper half added to the lower one until one is left.
#[inline(always)]
fn sum_by_halves(_: Avx2, vector: __m256) -> f32 {
    instructions! {
        let four = _mm_add_ps(_mm256_extractf128_ps(vector, 1), _mm256_castps256_ps128(vector));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

impl Avx2 {
    #[inline(always)]
    fn scale(self, x: &[u8], y: &[u8]) -> __m256 {
        let scale = self.half(block_scale(x)) * self.half(block_scale(y));
        self.splat(scale)
    }

    /// e^x of four numbers, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: __m256d) -> __m256d {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        instructions! {
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

impl Lanes for Avx2 {
    type F32 = __m256;
    const WIDTH: usize = 8;
    const BLOCK_ROWS: usize = 6;
    const HEADS: usize = 1;

    fn run<T: Task>(self, task: T) {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn compiled<T: Task>(lanes: Avx2, task: T) {
            task.run(lanes);
        }
        instructions!(compiled(self, task));
    }

    #[inline(always)]
    fn splat(self, number: f32) -> __m256 {
        instructions!(_mm256_set1_ps(number))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        instructions!(_mm256_loadu_ps(from[..8].as_ptr()))
    }

    #[inline(always)]
    fn load_half(self, from: &[f16]) -> __m256 {
        instructions!(_mm256_cvtph_ps(_mm_loadu_si128(from[..8].as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, vector: __m256, to: &mut [f32]) {
        instructions!(_mm256_storeu_ps(to[..8].as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        instructions!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        instructions!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        instructions!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fma_one(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        instructions!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn round_to_half(self, vector: __m256) -> __m256 {
        instructions!(_mm256_cvtph_ps(
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector)
        ))
    }

    #[inline(always)]
    fn half(self, number: f16) -> f32 {
        let bits = i32::from(number.to_bits());
        instructions!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))))
    }

    #[inline(always)]
    fn sum(self, vector: __m256) -> f32 {
        instructions! {
            let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));
            let two = _mm_hadd_ps(four, four);
            _mm_cvtss_f32(_mm_hadd_ps(two, two))
        }
    }

    /// In the same order, two of each four in a half.
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        instructions! {
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
        instructions! {
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
        instructions! {
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
            let less_one =
                _mm256_fmadd_ps(upper, square, _mm256_mul_ps(_mm256_set1_ps(p1), r));
            let one = _mm256_set1_epi32(((GUARD_POWER + 127) << 23) as i32);
            let scale = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
            let scale = _mm256_castsi256_ps(_mm256_add_epi32(scale, one));
            _mm256_mul_ps(_mm256_fmadd_ps(less_one, scale, scale), _mm256_set1_ps(GUARD))
        }
    }

    #[inline(always)]
    fn exp_as_libm(self, numbers: &mut [f32]) {
        for chunk in numbers.chunks_mut(Self::WIDTH) {
            let x = self.load_some(chunk);
            let mut results = [0.0; 8];
            instructions! {
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
        let mut sums = instructions!(_mm256_setzero_ps());
        for (x, y) in x.chunks_exact(Q8_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let products = instructions! {
                products(
                    self,
                    _mm256_loadu_si256(x[2..2 + BLOCK].as_ptr().cast()),
                    _mm256_loadu_si256(y[2..2 + BLOCK].as_ptr().cast()),
                )
            };
            sums = self.fma(self.scale(x, y), products, sums);
        }
        sum_by_halves(self, sums)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut sums = instructions!(_mm256_setzero_ps());
        for (x, y) in x.chunks_exact(Q4_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let products = instructions! {
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
            sums = self.fma(self.scale(x, y), products, sums);
        }
        sum_by_halves(self, sums)
    }

    #[inline(always)]
    fn scale_integers(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        let scale = self.splat(scale);
        for (integers, to) in integers.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
            let numbers = instructions! {
                let eight = _mm_loadl_epi64(integers[..8].as_ptr().cast());
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight))
            };
            self.store(self.mul(numbers, scale), to);
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], start: usize, count: usize) {
        const LINE: usize = 64;
        let first = from.as_ptr().wrapping_add(start).cast::<i8>();
        let bytes = count * size_of::<T>();
        // Any address may be asked for. The usual head is 64 half floats: a loop would take longer than what it does.
        instructions!(_mm_prefetch::<_MM_HINT_T0>(first));
        if bytes > LINE {
            instructions!(_mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(LINE)));
        }
        for offset in (2 * LINE..bytes).step_by(LINE) {
            instructions!(_mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)));
        }
    }
}

/// The upper eight numbers.
#[inline(always)]
fn upper(_: Avx512, vector: __m512) -> __m256 {
    instructions! {
        std::arch::x86_64::_mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector)))
    }
}

impl Avx512 {
    /// e^x of eight numbers, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: __m512d) -> __m512d {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        instructions! {
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

impl Lanes for Avx512 {
    type F32 = __m512;
    const WIDTH: usize = 16;
    const BLOCK_ROWS: usize = 8;
    const HEADS: usize = HEADS;

    fn run<T: Task>(self, task: T) {
        #[target_feature(enable = "avx512f,avx2,fma,f16c")]
        #[inline(never)]
        fn compiled<T: Task>(lanes: Avx512, task: T) {
            task.run(lanes);
        }
        instructions!(compiled(self, task));
    }

    #[inline(always)]
    fn splat(self, number: f32) -> __m512 {
        instructions!(_mm512_set1_ps(number))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        instructions!(_mm512_loadu_ps(from[..16].as_ptr()))
    }

    #[inline(always)]
    fn load_half(self, from: &[f16]) -> __m512 {
        instructions!(_mm512_cvtph_ps(_mm256_loadu_si256(
            from[..16].as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn store(self, vector: __m512, to: &mut [f32]) {
        instructions!(_mm512_storeu_ps(to[..16].as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        instructions!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        instructions!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        instructions!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fma_one(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        instructions!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn round_to_half(self, vector: __m512) -> __m512 {
        instructions!(_mm512_cvtph_ps(
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector)
        ))
    }

    #[inline(always)]
    fn half(self, number: f16) -> f32 {
        self.0.half(number)
    }

    #[inline(always)]
    fn sum(self, vector: __m512) -> f32 {
        let eight = self.0.add(
            upper(self, vector),
            instructions!(_mm512_castps512_ps256(vector)),
        );
        sum_by_halves(self.0, eight)
    }

    /// In the same order, four side by side: halves of 256 bits, of 128, of 64, and the last two.
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        instructions! {
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
        instructions! {
            let mut low = _mm512_setzero_pd();
            let mut high = _mm512_setzero_pd();
            for &group in groups {
                low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(group)));
                high = _mm512_add_pd(high, _mm512_cvtps_pd(upper(self, group)));
            }
            low = _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(total)), low);
            high = _mm512_add_pd(_mm512_cvtps_pd(upper(self, total)), high);
            let low = std::arch::x86_64::_mm512_castps256_ps512(_mm512_cvtpd_ps(low));
            let high = std::arch::x86_64::_mm256_castps_pd(_mm512_cvtpd_ps(high));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castps_pd(low), high))
        }
    }

    #[inline(always)]
    fn exp(self, x: __m512) -> __m512 {
        let [p5, p4, p3, p2, p1] = POLYNOMIAL;
        instructions! {
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
    fn exp_as_libm(self, numbers: &mut [f32]) {
        for chunk in numbers.chunks_mut(Self::WIDTH) {
            let x = self.load_some(chunk);
            let mut results = [0.0; 16];
            instructions! {
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
        self.0.dot_q8_0(x, y)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.0.dot_q4_0(x, y)
    }

    #[inline(always)]
    fn scale_integers(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        self.0.scale_integers(integers, scale, to);
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], start: usize, count: usize) {
        self.0.prefetch(from, start, count);
    }
}
