//! f16 with a batch, see [`F16Gemm`].

use std::arch::x86_64::*;

use super::super::PANEL;
use super::super::layout::{F16Bytes, cast};
use super::super::microkernel::{F16Gemm, Job};
use super::helpers::{load_f16x8, transpose};

pub(super) const AVX2: F16Gemm = F16Gemm {
    rows: avx2::ROWS,
    unpack: unpack::<{ avx2::ROWS }>,
    tiles: &[(6, avx2::gemm::<6>)],
};
pub(super) const AVX512: F16Gemm = F16Gemm {
    rows: avx512::ROWS,
    unpack: unpack::<{ avx512::ROWS }>,
    tiles: &[(12, avx512::gemm::<12>), (8, avx512::gemm::<8>)],
};

/// See [`F16Gemm::unpack`].
#[target_feature(enable = "avx,f16c")]
unsafe fn unpack<const ROWS: usize>(f16: &[u8], columns: usize, unpacked: &mut [f32]) {
    let weights = cast::<F16Bytes>(f16);
    let unpacked = &mut unpacked.as_chunks_mut::<ROWS>().0[..columns];
    for first in (0..ROWS).step_by(PANEL) {
        let rows = weights.chunks_exact(columns).skip(first).take(PANEL);
        for (index, output) in unpacked.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let mut vectors = [_mm256_setzero_ps(); PANEL];
            for (vector, row) in vectors.iter_mut().zip(rows.clone()) {
                let eight = &row[PANEL * index..][..PANEL];
                // SAFETY: eight f16; F16C is there.
                *vector = unsafe { load_f16x8(eight.as_ptr()) };
            }
            // SAFETY: AVX is there.
            let transposed = unsafe { transpose(vectors) };
            for (output, values) in output.iter_mut().zip(transposed) {
                let output = &mut output[first..][..PANEL];
                // SAFETY: eight elements.
                unsafe { _mm256_storeu_ps(output.as_mut_ptr(), values) };
            }
        }
    }
}

/// Declares the product for one width of vectors: two vectors of rows.
macro_rules! product {
    ($name:ident, $features:literal, $width:literal, $zero:ident, $load:ident, $set:ident, $fma:ident, $store:ident) => {
        mod $name {
            use super::*;

            const WIDTH: usize = $width;
            pub(super) const ROWS: usize = 2 * WIDTH;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn gemm<const TOKENS: usize>(job: &Job<'_>) {
                // SAFETY: the caller's condition.
                let weights = unsafe { job.columns::<[f32; ROWS]>() };
                // SAFETY: the caller's condition.
                let x = unsafe { job.steps::<[f32; TOKENS]>() };
                let mut sums = [[$zero(); 2]; TOKENS];
                for (weights, x) in weights.iter().zip(x) {
                    let weights = weights.as_ptr();
                    // SAFETY: two vectors are `ROWS` values.
                    let both = unsafe { [$load(weights), $load(weights.add(WIDTH))] };
                    for (&x, sums) in x.iter().zip(&mut sums) {
                        let x = $set(x);
                        sums[0] = $fma(both[0], x, sums[0]);
                        sums[1] = $fma(both[1], x, sums[1]);
                    }
                }
                for (token, sums) in sums.iter().enumerate() {
                    // SAFETY: the output has places for the job's rows, as the caller ensures; `all` for `ROWS`.
                    unsafe {
                        let output = job.output(token);
                        if job.rows >= ROWS {
                            $store(output, sums[0]);
                            $store(output.add(WIDTH), sums[1]);
                        } else {
                            let mut all = [0.0f32; ROWS];
                            $store(all.as_mut_ptr(), sums[0]);
                            $store(all.as_mut_ptr().add(WIDTH), sums[1]);
                            std::ptr::copy_nonoverlapping(all.as_ptr(), output, job.rows);
                        }
                    }
                }
            }
        }
    };
}

product!(
    avx2,
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps
);
product!(
    avx512,
    "avx512f",
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps
);
