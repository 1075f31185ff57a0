//! f16 with many tokens: rows are expanded to f32 and turned round once, so that a vector holds a column of them,
//! and then used for tile after tile.

use std::arch::aarch64::*;

use super::eight_halves;

/// Rows that are expanded together: two vectors.
const ROWS: usize = 8;
/// Tokens of a tile: three vectors of them, and their sums, fill the registers.
const TOKENS: usize = 12;

/// A product of expanded rows with a tile.
#[derive(Clone, Copy)]
pub(in super::super) struct Wide {
    /// Rows that are expanded together.
    pub(in super::super) rows: usize,
}

impl Wide {
    pub(super) const NEON: Self = Self { rows: ROWS };

    /// Whether there is a product for tiles of so many tokens.
    #[expect(clippy::unused_self, reason = "other processors have several of them")]
    pub(in super::super) fn takes(self, tokens: usize) -> bool {
        tokens == TOKENS
    }

    /// Writes the half floats of up to [`Self::rows`] rows, each as long as `columns` says, to `expanded` as
    /// `[columns][rows]` f32; rows that are missing become 0.
    ///
    /// # Safety
    /// The processor has NEON.
    #[expect(clippy::unused_self, reason = "other processors have several of them")]
    pub(in super::super) unsafe fn expand(
        &self,
        halves: &[u8],
        columns: usize,
        expanded: &mut [f32],
    ) {
        assert!(expanded.len() >= columns * ROWS && columns.is_multiple_of(8));
        let rows: Vec<&[u8]> = halves.chunks_exact(2 * columns).take(ROWS).collect();
        for column in (0..columns).step_by(8) {
            for first in [0, 4] {
                let mut vectors = [[0.0f32; 8]; 4];
                for (vector, row) in vectors.iter_mut().zip(rows.iter().skip(first)) {
                    // SAFETY: a row has `columns` halves, of which there are eight from `column` on; a vector has
                    // places for as many floats.
                    unsafe {
                        let [low, high] = eight_halves(row.as_ptr().add(2 * column));
                        vst1q_f32(vector.as_mut_ptr(), low);
                        vst1q_f32(vector.as_mut_ptr().add(4), high);
                    }
                }
                for offset in 0..8 {
                    let place = &mut expanded[(column + offset) * ROWS + first..][..4];
                    for (place, vector) in place.iter_mut().zip(&vectors) {
                        *place = vector[offset];
                    }
                }
            }
        }
    }

    /// Computes as a [`Kernel`](super::Kernel) does, for the first `rows` of the expanded ones.
    ///
    /// # Safety
    /// The processor has NEON; `output` has places for `rows` values of each token.
    #[expect(clippy::unused_self, reason = "other processors have several of them")]
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
        assert_eq!(tokens, TOKENS);
        assert!(expanded.len() >= columns * ROWS && tile.len() >= 4 * columns * TOKENS);
        // SAFETY: there are `columns` steps of both, as just checked, and places for the results.
        unsafe {
            let mut sums = [[vdupq_n_f32(0.0); 2]; TOKENS];
            let mut weights = expanded.as_ptr();
            let mut floats = tile.as_ptr().cast::<f32>();
            for _ in 0..columns {
                let both = [vld1q_f32(weights), vld1q_f32(weights.add(4))];
                for (four, sums) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let x = vld1q_f32(floats.add(4 * four));
                    macro_rules! token {
                        ($($token:literal)*) => {$(
                            let [first, last] = sums[$token];
                            sums[$token] = [
                                vfmaq_laneq_f32::<$token>(first, both[0], x),
                                vfmaq_laneq_f32::<$token>(last, both[1], x),
                            ];
                        )*};
                    }
                    token!(0 1 2 3);
                }
                weights = weights.add(ROWS);
                floats = floats.add(TOKENS);
            }
            for (token, &sums) in sums.iter().enumerate() {
                super::store_rows(sums, rows, output.add(token * stride));
            }
        }
    }
}
