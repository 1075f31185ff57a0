//! Floating-point matrices with a batch, see [`FloatGemm`].

use std::arch::x86_64::*;

use half::bf16;

use super::super::format::Format;
use super::super::layout::{F16Bytes, PANEL, cast};
use super::super::microkernel::{FloatGemm, Job, Microkernel};
use super::float::Element;
use super::helpers::transpose;
use crate::simd::{Avx2, Avx512, MAX_LANES, Simd, Task, Token};

/// The product with a batch for AVX2.
pub(super) fn avx2(format: Format) -> Option<FloatGemm> {
    const TILES: &[(usize, Microkernel)] = &[(6, gemm::<Avx2, 6>)];
    new::<{ 2 * Avx2::LANES }>(format, TILES)
}

/// The product with a batch for AVX-512.
pub(super) fn avx512(format: Format) -> Option<FloatGemm> {
    const TILES: &[(usize, Microkernel)] = &[(12, gemm::<Avx512, 12>), (8, gemm::<Avx512, 8>)];
    new::<{ 2 * Avx512::LANES }>(format, TILES)
}

fn new<const ROWS: usize>(
    format: Format,
    tiles: &'static [(usize, Microkernel)],
) -> Option<FloatGemm> {
    Some(FloatGemm {
        rows: ROWS,
        unpack: match format {
            Format::F32 => unpack::<f32, ROWS>,
            Format::Bf16 => unpack::<bf16, ROWS>,
            Format::F16 => unpack::<F16Bytes, ROWS>,
            _ => return None,
        },
        tiles,
    })
}

/// See [`FloatGemm::unpack`].
unsafe fn unpack<E: Element, const ROWS: usize>(
    weights: &[u8],
    columns: usize,
    unpacked: &mut [f32],
) {
    let task = Unpack::<E, ROWS> {
        weights: cast(weights),
        columns,
        unpacked: &mut unpacked.as_chunks_mut().0[..columns],
    };
    // SAFETY: the caller's condition: every set here has AVX2 and F16C.
    unsafe { Avx2::assume() }.vectorize(task);
}

struct Unpack<'a, E, const ROWS: usize> {
    weights: &'a [E],
    columns: usize,
    unpacked: &'a mut [[f32; ROWS]],
}

impl<E: Element, const ROWS: usize> Task<Avx2> for Unpack<'_, E, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Avx2) {
        for first in (0..ROWS).step_by(PANEL) {
            // Rows that are missing are empty, and become 0.
            let mut rows = [[].as_slice(); PANEL];
            let sources = self.weights.chunks_exact(self.columns).skip(first);
            for (row, source) in rows.iter_mut().zip(sources) {
                *row = source;
            }
            for (index, output) in self.unpacked.chunks_mut(PANEL).enumerate() {
                // SAFETY: the token proves the instructions.
                let mut vectors = [unsafe { _mm256_setzero_ps() }; PANEL];
                for (vector, row) in vectors.iter_mut().zip(rows) {
                    let Some(weights) = row.get(PANEL * index..) else {
                        continue;
                    };
                    // SAFETY: as many as there are; the token proves the instructions.
                    *vector = unsafe {
                        if weights.len() >= PANEL {
                            E::load(weights.as_ptr())
                        } else {
                            E::load_some(weights.as_ptr(), weights.len())
                        }
                    };
                }
                // SAFETY: the token proves the instructions.
                let transposed = unsafe { transpose(vectors) };
                for (output, values) in output.iter_mut().zip(transposed) {
                    let output = &mut output[first..][..PANEL];
                    // SAFETY: eight elements; the token proves the instructions.
                    unsafe { _mm256_storeu_ps(output.as_mut_ptr(), values) };
                }
            }
        }
    }
}

/// The microkernel: two vectors of rows and `TOKENS` tokens.
unsafe fn gemm<S: Simd, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { S::assume() }.vectorize(Gemm::<TOKENS>(job));
}

struct Gemm<'a, const TOKENS: usize>(&'a Job<'a>);

impl<S: Simd, const TOKENS: usize> Task<S> for Gemm<'_, TOKENS> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let job = self.0;
        let rows = 2 * S::LANES;
        // SAFETY: the condition of `gemm`: for each column a value of every row, and of every
        // token.
        let (weights, x) = unsafe { (job.columns(rows), job.steps::<[f32; TOKENS]>()) };
        let mut accumulators = [[simd.splat(0.0); 2]; TOKENS];
        for (weights, x) in weights.chunks_exact(rows).zip(x) {
            let both = [simd.load(weights), simd.load(&weights[S::LANES..])];
            for (&x, accumulators) in x.iter().zip(&mut accumulators) {
                let x = simd.splat(x);
                accumulators[0] = simd.fma(both[0], x, accumulators[0]);
                accumulators[1] = simd.fma(both[1], x, accumulators[1]);
            }
        }
        for (token, accumulators) in accumulators.iter().enumerate() {
            // SAFETY: the condition of `gemm`.
            let output =
                unsafe { std::slice::from_raw_parts_mut(job.output(token), job.rows.min(rows)) };
            let (first, last) = output.split_at_mut(S::LANES.min(output.len()));
            store(simd, accumulators[0], first);
            store(simd, accumulators[1], last);
        }
    }
}

/// Writes as many elements as there are places.
#[inline(always)]
fn store<S: Simd>(simd: S, vector: S::F32, output: &mut [f32]) {
    if output.len() == S::LANES {
        simd.store(vector, output);
    } else {
        let mut all = [0.0; MAX_LANES];
        simd.store(vector, &mut all);
        output.copy_from_slice(&all[..output.len()]);
    }
}
