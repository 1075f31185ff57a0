//! `q5_0`, `q5_k` and `q6_k` in a large batch: the weights of eight rows are unpacked to bytes and
//! interleaved once, and then used for tile after tile.

use std::arch::x86_64::*;

use super::super::format::Format;
use super::super::layout::{
    BlockQ5_0, BlockQ5K, BlockQ6K, F16Bytes, Lanes, Layout, PANEL, Q8_0Panel, Q8KTile, UnpackedQ5K,
    UnpackedQ6K, cast, cast_mut, scale_and_min,
};
use super::super::microkernel::{BatchSize, Job, Unpack, Unpacking};
use super::blocks::Block;
use super::helpers::{load_f16x8, transpose};
use super::k_quants::{self, KQuantPanel, UnpackedPanel, sub_mins};
use super::vectors::PanelVectors;
use crate::simd::{Avx2, Task, Token};

/// The format whose microkernels multiply unpacked rows of `format`.
pub(super) fn format(format: Format, batch: BatchSize) -> Format {
    match (format, batch) {
        (Format::Q5_0, BatchSize::Large) => Format::Q8_0,
        (other, _) => other,
    }
}

/// What the microkernels of `format` need.
pub(super) fn unpacking(format: Format) -> Option<Unpacking> {
    let (block_bytes, unpack): (_, Unpack) = match format {
        Format::Q5_0 => (size_of::<Q8_0Panel>(), unpack::<Q8_0Panel>),
        Format::Q5K => (size_of::<UnpackedQ5K>(), unpack::<UnpackedQ5K>),
        Format::Q6K => (size_of::<UnpackedQ6K>(), unpack::<UnpackedQ6K>),
        _ => return None,
    };
    Some(Unpacking {
        block_bytes,
        unpack,
    })
}

/// Unpacked blocks of eight rows.
trait Unpacked: Layout {
    /// A block of one row.
    type Block: Layout;
    /// A weight.
    type Weight;

    /// Writes the scales of eight rows; of missing rows they are 0.
    ///
    /// # Safety
    /// The processor has F16C.
    unsafe fn set_scales(&mut self, rows: &[&Self::Block]);

    /// The weights of a block's 32 columns from 32 · `plane` on.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn weights(block: &Self::Block, plane: usize) -> __m256i;

    /// Where the weights of 32 columns go, in each vector four of every row.
    fn planes(&mut self) -> &mut [[Lanes<Self::Weight>; 8]];
}

/// `q5_0`, which becomes `q8_0`.
impl Unpacked for Q8_0Panel {
    type Block = BlockQ5_0;
    type Weight = i8;

    #[inline(always)]
    unsafe fn set_scales(&mut self, rows: &[&BlockQ5_0]) {
        self.d = [F16Bytes::ZERO; PANEL];
        for (d, block) in self.d.iter_mut().zip(rows) {
            *d = block.d;
        }
    }

    #[inline(always)]
    unsafe fn weights(block: &BlockQ5_0, _plane: usize) -> __m256i {
        // SAFETY: the caller's condition.
        unsafe { block.weights() }
    }

    #[inline(always)]
    fn planes(&mut self) -> &mut [[Lanes<i8>; 8]] {
        std::slice::from_mut(&mut self.qs)
    }
}

/// The f16 of each of some rows, converted; of missing rows 0.
#[inline(always)]
unsafe fn convert<B>(rows: &[&B], f16: impl Fn(&B) -> F16Bytes, output: &mut [f32; PANEL]) {
    let mut all = [F16Bytes::ZERO; PANEL];
    for (all, block) in all.iter_mut().zip(rows) {
        *all = f16(block);
    }
    // SAFETY: eight of both; the caller has F16C.
    unsafe { _mm256_storeu_ps(output.as_mut_ptr(), load_f16x8(all.as_ptr())) };
}

/// Lower four bits and upper bits of 32 elements: of the bytes of each, those under a mask from
/// some bit on.
#[inline(always)]
unsafe fn join(low: (&[u8], usize), high: (&[u8], usize), high_mask: i8) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let low = _mm256_and_si256(load_shifted(low.0, low.1), _mm256_set1_epi8(15));
        let high = _mm256_and_si256(load_shifted(high.0, high.1), _mm256_set1_epi8(high_mask));
        _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
    }
}

/// 32 bytes, shifted right by `bits`. (Bits that cross bytes are to be masked.)
#[inline(always)]
unsafe fn load_shifted(bytes: &[u8], bits: usize) -> __m256i {
    let bytes = &bytes[..32];
    // SAFETY: 32 bytes; the caller has AVX2.
    unsafe {
        let bytes = _mm256_loadu_si256(bytes.as_ptr().cast());
        _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(bits as i32))
    }
}

impl Unpacked for UnpackedQ5K {
    type Block = BlockQ5K;
    type Weight = u8;

    #[inline(always)]
    unsafe fn set_scales(&mut self, rows: &[&BlockQ5K]) {
        // SAFETY: the caller's condition.
        unsafe {
            convert(rows, |block| block.d, &mut self.d);
            convert(rows, |block| block.dmin, &mut self.dmin);
        }
        self.scales = Default::default();
        self.mins = Default::default();
        for (row, block) in rows.iter().enumerate() {
            for group in 0..8 {
                let (scale, min) = scale_and_min(&block.scales, group);
                self.scales[group][row] = i32::from(scale);
                self.mins[group / 2][row][group % 2] = i16::from(min);
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(block: &BlockQ5K, plane: usize) -> __m256i {
        let nibbles = &block.qs[32 * (plane / 2)..];
        // SAFETY: the caller's condition.
        unsafe { join((nibbles, 4 * (plane % 2)), (&block.qh, plane), 1) }
    }

    #[inline(always)]
    fn planes(&mut self) -> &mut [[Lanes; 8]] {
        &mut self.qs
    }
}

impl Unpacked for UnpackedQ6K {
    type Block = BlockQ6K;
    type Weight = u8;

    #[inline(always)]
    unsafe fn set_scales(&mut self, rows: &[&BlockQ6K]) {
        // SAFETY: the caller's condition.
        unsafe { convert(rows, |block| block.d, &mut self.d) };
        self.scales = Default::default();
        self.offsets = Default::default();
        for (row, block) in rows.iter().enumerate() {
            for (group, &scale) in block.scales.iter().enumerate() {
                self.scales[group][row] = i32::from(scale);
                self.offsets[group / 2][row][group % 2] = 32 * i16::from(scale);
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(block: &BlockQ6K, plane: usize) -> __m256i {
        let (half, part) = (plane / 4, plane % 4);
        let low = &block.ql[64 * half + 32 * (part % 2)..];
        let high = &block.qh[32 * half..];
        // SAFETY: the caller's condition.
        unsafe { join((low, 4 * (part / 2)), (high, 2 * part), 3) }
    }

    #[inline(always)]
    fn planes(&mut self) -> &mut [[Lanes; 8]] {
        &mut self.qs
    }
}

/// See [`Unpacking`].
unsafe fn unpack<U: Unpacked>(panel: &[u8], rows: usize, blocks: usize, unpacked: &mut [u8]) {
    let task = UnpackPanel::<U> {
        panel: &cast(panel)[..rows * blocks],
        rows,
        unpacked: &mut cast_mut(unpacked)[..blocks],
    };
    // SAFETY: the caller's condition: every set here has AVX2.
    unsafe { Avx2::assume() }.vectorize(task);
}

struct UnpackPanel<'a, U: Unpacked> {
    /// `[rows][blocks]`.
    panel: &'a [U::Block],
    rows: usize,
    unpacked: &'a mut [U],
}

impl<U: Unpacked> Task<Avx2> for UnpackPanel<'_, U> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Avx2) {
        let blocks = self.unpacked.len();
        for (index, unpacked) in self.unpacked.iter_mut().enumerate() {
            let mut all = [&self.panel[index]; PANEL];
            for (row, block) in all.iter_mut().enumerate().take(self.rows) {
                *block = &self.panel[row * blocks + index];
            }
            let rows = &all[..self.rows];
            // SAFETY: AVX2 and F16C are there; each of eight vectors is as large as its place.
            unsafe {
                unpacked.set_scales(rows);
                for (plane, output) in unpacked.planes().iter_mut().enumerate() {
                    let mut vectors = [_mm256_setzero_ps(); PANEL];
                    for (vector, block) in vectors.iter_mut().zip(rows) {
                        *vector = _mm256_castsi256_ps(U::weights(block, plane));
                    }
                    for (output, vector) in output.iter_mut().zip(transpose(vectors)) {
                        _mm256_storeu_ps(output.as_mut_ptr().cast(), vector);
                    }
                }
            }
        }
    }
}

impl KQuantPanel for UnpackedQ5K {
    const GROUPS: usize = 8;
    const LARGEST: i32 = 31;

    #[inline(always)]
    unsafe fn scales<V: PanelVectors>(block: *const Self, stride: usize, group: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).scales[group], stride) }
    }

    #[inline(always)]
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        group: usize,
        index: usize,
    ) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).qs[group][index], stride) }
    }

    #[inline(always)]
    unsafe fn factors<V: PanelVectors>(block: *const Self, stride: usize, pair: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).mins[pair], stride) }
    }
}

impl UnpackedPanel for UnpackedQ5K {
    #[inline(always)]
    fn sums<const TOKENS: usize>(step: &Q8KTile<TOKENS>, token: usize, pair: usize) -> [i16; 2] {
        step.pair_sums[pair][token]
    }

    #[inline(always)]
    unsafe fn result<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        dots: V::Ints,
        pair_dots: V::Ints,
    ) -> V::Floats {
        // SAFETY: the trait's condition.
        unsafe {
            let scales = V::load_f32(&raw const (*block).d, stride);
            let min_scales = V::load_f32(&raw const (*block).dmin, stride);
            sub_mins::<V>(scales, min_scales, dots, pair_dots)
        }
    }
}

impl KQuantPanel for UnpackedQ6K {
    const GROUPS: usize = 16;
    const LARGEST: i32 = 63;

    #[inline(always)]
    unsafe fn scales<V: PanelVectors>(block: *const Self, stride: usize, group: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).scales[group], stride) }
    }

    #[inline(always)]
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        group: usize,
        index: usize,
    ) -> V::Ints {
        // Groups of 16 columns: two in a plane.
        // SAFETY: the trait's condition.
        unsafe {
            V::load(
                &raw const (*block).qs[group / 2][4 * (group % 2) + index],
                stride,
            )
        }
    }

    #[inline(always)]
    unsafe fn factors<V: PanelVectors>(block: *const Self, stride: usize, pair: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).offsets[pair], stride) }
    }
}

impl UnpackedPanel for UnpackedQ6K {
    #[inline(always)]
    fn sums<const TOKENS: usize>(step: &Q8KTile<TOKENS>, token: usize, pair: usize) -> [i16; 2] {
        step.sums[token][pair]
    }

    #[inline(always)]
    unsafe fn result<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        dots: V::Ints,
        pair_dots: V::Ints,
    ) -> V::Floats {
        // SAFETY: the trait's condition.
        unsafe {
            let scales = V::load_f32(&raw const (*block).d, stride);
            V::mul(scales, V::to_f32(V::sub_i32(dots, pair_dots)))
        }
    }
}

/// The product of an unpacked panel of `q5_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm_q5_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { k_quants::gemm::<V, UnpackedQ5K, TOKENS, 8>(job) }
}

/// The product of an unpacked panel of `q6_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm_q6_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { k_quants::gemm::<V, UnpackedQ6K, TOKENS, 4>(job) }
}
