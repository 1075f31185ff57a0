//! f16 with many tokens: rows are expanded to f32 and turned round once, so that a vector holds a column of them,
//! and then used for tile after tile.

use std::arch::x86_64::*;

use super::super::PANEL;
use super::{eight_halves, turn_round};

/// A product of expanded rows with a tile.
#[derive(Clone, Copy)]
pub(in super::super) struct Wide {
    /// Rows that are expanded together.
    pub(in super::super) rows: usize,
    /// Tokens that a tile may have, and its product.
    products: &'static [(usize, Product)],
}

/// See [`Wide::multiply`].
type Product = unsafe fn(
    expanded: &[f32],
    tile: &[u8],
    columns: usize,
    rows: usize,
    output: *mut f32,
    stride: usize,
);

impl Wide {
    pub(super) const AVX2: Self = Self {
        rows: avx2::ROWS,
        products: &[(6, avx2::multiply::<6>)],
    };
    pub(super) const AVX512: Self = Self {
        rows: avx512::ROWS,
        products: &[(12, avx512::multiply::<12>), (8, avx512::multiply::<8>)],
    };

    /// Whether there is a product for tiles of so many tokens.
    pub(in super::super) fn takes(self, tokens: usize) -> bool {
        self.product(tokens).is_some()
    }

    fn product(&self, tokens: usize) -> Option<Product> {
        let mut products = self.products.iter();
        products.find_map(|&(of, product)| (of == tokens).then_some(product))
    }

    /// Writes the half floats of up to [`Self::rows`] rows, each as long as `columns` says, to `expanded` as
    /// `[columns][rows]` f32; rows that are missing become 0.
    ///
    /// # Safety
    /// The processor has AVX and F16C.
    pub(in super::super) unsafe fn expand(
        &self,
        halves: &[u8],
        columns: usize,
        expanded: &mut [f32],
    ) {
        assert!(expanded.len() >= columns * self.rows && columns.is_multiple_of(8));
        let rows: Vec<&[u8]> = halves.chunks_exact(2 * columns).take(self.rows).collect();
        for first in (0..self.rows).step_by(PANEL) {
            // SAFETY: the caller's condition; `expand_eight` stays within eight rows of `columns` elements, and within
            // `columns` times `rows` results, as just checked.
            unsafe { expand_eight(&rows, first, columns, self.rows, expanded) };
        }
    }

    /// Computes as a [`Kernel`](super::Kernel) does, for the first `rows` of the expanded ones and a tile of `tokens`.
    ///
    /// # Panics
    /// Where it does not take so many tokens.
    ///
    /// # Safety
    /// The processor has the instructions; `output` has places for `rows` values of each token.
    #[expect(
        clippy::too_many_arguments,
        reason = "two matrices, their shapes, and where results go"
    )]
    pub(in super::super) unsafe fn multiply(
        &self,
        expanded: &[f32],
        tile: &[u8],
        tokens: usize,
        columns: usize,
        rows: usize,
        output: *mut f32,
        stride: usize,
    ) {
        assert!(expanded.len() >= columns * self.rows && tile.len() >= 4 * columns * tokens);
        let Some(product) = self.product(tokens) else {
            panic!("no product for {tokens} tokens");
        };
        // SAFETY: the caller's condition, and the lengths just checked.
        unsafe { product(expanded, tile, columns, rows, output, stride) }
    }
}

/// Expands eight rows from `first` on.
#[target_feature(enable = "avx,f16c")]
unsafe fn expand_eight(
    rows: &[&[u8]],
    first: usize,
    columns: usize,
    all: usize,
    expanded: &mut [f32],
) {
    for column in (0..columns).step_by(PANEL) {
        let mut vectors = [_mm256_setzero_ps(); PANEL];
        for (vector, row) in vectors.iter_mut().zip(rows.iter().skip(first)) {
            // SAFETY: a row has `columns` halves, of which there are eight from `column` on.
            *vector = unsafe { eight_halves(row.as_ptr().add(2 * column)) };
        }
        // SAFETY: AVX is there.
        let turned = unsafe { turn_round(vectors) };
        for (offset, values) in turned.into_iter().enumerate() {
            let place = &mut expanded[(column + offset) * all + first..][..PANEL];
            // SAFETY: eight elements.
            unsafe { _mm256_storeu_ps(place.as_mut_ptr(), values) };
        }
    }
}

/// Declares the product for one width of vectors: two vectors of rows.
macro_rules! product {
    ($name:ident, $features:literal, $width:literal, $zero:ident, $load:ident, $set:ident, $fma:ident, $store:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            const WIDTH: usize = $width;
            pub(super) const ROWS: usize = 2 * WIDTH;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn multiply<const TOKENS: usize>(
                expanded: &[f32],
                tile: &[u8],
                columns: usize,
                rows: usize,
                output: *mut f32,
                stride: usize,
            ) {
                // SAFETY: the caller checked that there are `columns` steps of both, and places for the results.
                unsafe {
                    let mut sums = [[$zero(); 2]; TOKENS];
                    let mut weights = expanded.as_ptr();
                    let mut floats = tile.as_ptr().cast::<f32>();
                    for _ in 0..columns {
                        let both = [$load(weights), $load(weights.add(WIDTH))];
                        for (token, sums) in sums.iter_mut().enumerate() {
                            let x = $set(*floats.add(token));
                            sums[0] = $fma(both[0], x, sums[0]);
                            sums[1] = $fma(both[1], x, sums[1]);
                        }
                        weights = weights.add(ROWS);
                        floats = floats.add(TOKENS);
                    }
                    for (token, sums) in sums.iter().enumerate() {
                        let output = output.add(token * stride);
                        if rows >= ROWS {
                            $store(output, sums[0]);
                            $store(output.add(WIDTH), sums[1]);
                        } else {
                            let mut all = [0.0f32; ROWS];
                            $store(all.as_mut_ptr(), sums[0]);
                            $store(all.as_mut_ptr().add(WIDTH), sums[1]);
                            std::ptr::copy_nonoverlapping(all.as_ptr(), output, rows);
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
