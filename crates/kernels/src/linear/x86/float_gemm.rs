//! Floating-point matrices with a batch, see [`FloatGemm`].

use std::arch::x86_64::*;

use half::bf16;

use super::super::format::Format;
use super::super::layout::{F16Bytes, PANEL, cast};
use super::super::microkernel::{FloatGemm, FloatUnpack, Job};
use super::float::Element;
use super::helpers::transpose;
use crate::simd::{Avx2, Avx512, MAX_LANES, Simd, Task, Token};

/// The product with a batch for AVX2.
pub(super) fn avx2(format: Format) -> Option<FloatGemm> {
    Some(FloatGemm {
        rows: 2 * Avx2::LANES,
        unpack: unpack_of(format)?,
        tiles: &[(6, gemm::<Avx2, 6>)],
    })
}

/// The product with a batch for AVX-512.
pub(super) fn avx512(format: Format) -> Option<FloatGemm> {
    Some(FloatGemm {
        rows: 2 * Avx512::LANES,
        unpack: unpack_of(format)?,
        tiles: &[(12, gemm::<Avx512, 12>), (8, gemm::<Avx512, 8>)],
    })
}

fn unpack_of(format: Format) -> Option<FloatUnpack> {
    Some(match format {
        Format::F32 => unpack::<f32>,
        Format::Bf16 => unpack::<bf16>,
        Format::F16 => unpack::<F16Bytes>,
        _ => return None,
    })
}

unsafe fn unpack<E: Element>(weights: &[u8], columns: usize, rows: usize, unpacked: &mut [f32]) {
    let task = Unpack::<E> {
        weights: cast(weights),
        columns,
        rows,
        unpacked: &mut unpacked[..columns * rows],
    };
    // SAFETY: the caller's condition: every set here has AVX2 and F16C.
    unsafe { Avx2::assume() }.vectorize(task);
}

struct Unpack<'a, E> {
    weights: &'a [E],
    columns: usize,
    rows: usize,
    unpacked: &'a mut [f32],
}

impl<E: Element> Task<Avx2> for Unpack<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Avx2) {
        let whole = self.columns / PANEL * PANEL;
        let (outputs, last) = self.unpacked.split_at_mut(whole * self.rows);
        for first in (0..self.rows).step_by(PANEL) {
            // Rows that are missing are empty, and become 0.
            let mut rows = [[].as_slice(); PANEL];
            let sources = self.weights.chunks_exact(self.columns).skip(first);
            for (row, source) in rows.iter_mut().zip(sources) {
                *row = source.as_chunks::<PANEL>().0;
            }
            for (index, output) in outputs.chunks_exact_mut(PANEL * self.rows).enumerate() {
                // SAFETY: the token proves the instructions.
                let mut vectors = [unsafe { _mm256_setzero_ps() }; PANEL];
                for (vector, row) in vectors.iter_mut().zip(rows) {
                    if let Some(eight) = row.get(index) {
                        // SAFETY: eight elements; the token proves the instructions.
                        *vector = unsafe { E::load(eight.as_ptr()) };
                    }
                }
                // SAFETY: the token proves the instructions.
                let transposed = unsafe { transpose(vectors) };
                for (output, values) in output.chunks_exact_mut(self.rows).zip(transposed) {
                    let output = &mut output[first..][..PANEL];
                    // SAFETY: eight elements; the token proves the instructions.
                    unsafe { _mm256_storeu_ps(output.as_mut_ptr(), values) };
                }
            }
        }
        last.fill(0.0);
        for (row, source) in self.weights.chunks_exact(self.columns).enumerate() {
            let outputs = last.chunks_exact_mut(self.rows);
            for (output, &weight) in outputs.zip(&source[whole..]) {
                // SAFETY: the token proves the instructions.
                output[row] = unsafe { weight.to_f32() };
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
