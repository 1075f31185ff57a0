//! Vectors without any instruction of a particular processor.
//!
//! What takes many instructions is a call here: the baseline need not be inlined into anything, and
//! this version is there to be right on every processor, in little code.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, Simd, Task, Token, block_scale, exp, q4_0_integers};

/// Vectors of `W` values without any instruction of a particular processor. `FUSED` says whether
/// products are added without a rounding between.
#[derive(Clone, Copy, Default)]
pub(crate) struct Portable<const W: usize, const FUSED: bool>;

/// The portable version that is used where there is no better one: a processor with fused
/// operations in its baseline uses them, others would have to compute them digit by digit.
pub(crate) type Baseline =
    Portable<8, { cfg!(any(target_arch = "aarch64", target_feature = "fma")) }>;

/// One element from each of two vectors.
#[inline(always)]
fn zip<const W: usize>(a: [f32; W], b: [f32; W], with: impl Fn(f32, f32) -> f32) -> [f32; W] {
    std::array::from_fn(|lane| with(a[lane], b[lane]))
}

impl<const W: usize, const FUSED: bool> Portable<W, FUSED> {
    /// Adds the products of blocks, four neighbours to a lane as vector instructions do.
    #[inline(always)]
    fn add_block(self, accumulators: &mut [f32; 8], scale: f32, x: &[i8; BLOCK], y: &[u8]) {
        for (lane, accumulator) in accumulators.iter_mut().enumerate() {
            let products: i32 = (4 * lane..4 * lane + 4)
                .map(|index| i32::from(x[index]) * i32::from(y[index] as i8))
                .sum();
            *accumulator = self.fma_scalar(scale, products as f32, *accumulator);
        }
    }

    #[inline(always)]
    fn dot_blocks<const BYTES: usize>(
        self,
        x: &[u8],
        y: &[u8],
        integers: impl Fn(&[u8]) -> [i8; BLOCK],
    ) -> f32 {
        let mut accumulators = [0.0; 8];
        for (x, y) in x.chunks_exact(BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let scale = block_scale(x).to_f32() * block_scale(y).to_f32();
            self.add_block(&mut accumulators, scale, &integers(x), &y[2..]);
        }
        reduce_add_halves(accumulators)
    }
}

/// Adds the upper half to the lower one until one lane is left.
#[inline(always)]
fn reduce_add_halves<const W: usize>(mut vector: [f32; W]) -> f32 {
    let mut half = W / 2;
    while half > 0 {
        for lane in 0..half {
            vector[lane] += vector[lane + half];
        }
        half /= 2;
    }
    vector[0]
}

impl<const W: usize, const FUSED: bool> Token for Portable<W, FUSED> {
    fn detect() -> Option<Self> {
        Some(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self
    }

    #[inline(never)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        task.run(self)
    }
}

impl<const W: usize, const FUSED: bool> Simd for Portable<W, FUSED> {
    type F32 = [f32; W];
    const LANES: usize = W;
    const MICROKERNEL_ROWS: usize = 4;
    const INTERLEAVE: usize = 1;
    const COMPACT: bool = true;

    /// Nothing.
    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize, _: usize) {}

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; W] {
        [value; W]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; W] {
        std::array::from_fn(|lane| from[lane])
    }

    #[inline(never)]
    fn load_f16(self, from: &[f16]) -> [f32; W] {
        let mut vector = [0.0; W];
        from[..W].convert_to_f32_slice(&mut vector);
        vector
    }

    #[inline(always)]
    fn store(self, vector: [f32; W], to: &mut [f32]) {
        to[..W].copy_from_slice(&vector);
    }

    #[inline(always)]
    fn add(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn fma(self, a: [f32; W], b: [f32; W], c: [f32; W]) -> [f32; W] {
        std::array::from_fn(|lane| self.fma_scalar(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        if FUSED { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn max(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(never)]
    fn round_to_f16(self, vector: [f32; W]) -> [f32; W] {
        let mut rounded = [f16::ZERO; W];
        rounded.convert_from_f32_slice(&vector);
        self.load_f16(&rounded)
    }

    #[inline(never)]
    fn f16_to_f32(self, value: f16) -> f32 {
        value.to_f32()
    }

    #[inline(always)]
    fn reduce_add(self, vector: [f32; W]) -> f32 {
        if W == 16 {
            return reduce_add_halves(vector);
        }
        // ggml adds neighbours in the last two steps.
        let quarter: [f32; 4] = std::array::from_fn(|lane| vector[lane] + vector[lane + 4]);
        (quarter[0] + quarter[1]) + (quarter[2] + quarter[3])
    }

    #[inline(never)]
    fn add_in_f64(self, total: [f32; W], groups: &[[f32; W]]) -> [f32; W] {
        std::array::from_fn(|lane| {
            let mut sum = 0.0;
            for group in groups {
                sum += f64::from(group[lane]);
            }
            (f64::from(total[lane]) + sum) as f32
        })
    }

    #[inline(never)]
    fn exp(self, x: [f32; W]) -> [f32; W] {
        x.map(|x| exp::exp(x, W == 16, |a, b, c| self.fma_scalar(a, b, c)))
    }

    #[inline(never)]
    fn exp_libm(self, values: &mut [f32]) {
        for value in values {
            *value = value.exp();
        }
    }

    #[inline(never)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.dot_blocks::<Q8_0_BYTES>(x, y, |block| {
            std::array::from_fn(|index| block[2 + index] as i8)
        })
    }

    #[inline(never)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.dot_blocks::<Q4_0_BYTES>(x, y, q4_0_integers)
    }
}
