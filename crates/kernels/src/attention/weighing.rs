//! Scores become weights, and weighted values are added: what rows have come to so far, a block of keys at a time. Knows no
//! query and no mask.

use super::table::{Head, Number};
use crate::simd::{self, MAX_INTERLEAVE, Simd, Task};

/// Keys whose weights are computed together.
pub(super) const KEYS: usize = 64;

/// What rows of neighbouring heads have come to so far.
pub(super) struct State<'a> {
    /// `[heads]`: greatest scores.
    pub(super) greatest: &'a mut [f32],
    /// `[heads]`: sums of weights.
    pub(super) totals: &'a mut [f32],
    /// `[heads, padded]`: sums of weighted values, filled up to whole vectors.
    pub(super) sums: &'a mut [f32],
    /// See [`State::sums`].
    pub(super) padded: usize,
}

/// Cells and their scores in rows of neighbouring heads.
pub(super) struct Scored<'a> {
    /// At most [`KEYS`].
    pub(super) cells: &'a [u32],
    /// `[heads]`, of one head or [`Simd::INTERLEAVE`]: the cells' scores; −∞ behind them.
    pub(super) scores: &'a mut [[f32; KEYS]],
    /// Whether sums are corrected once for all cells, instead of whenever a score exceeds all before it.
    pub(super) at_once: bool,
    /// What the rows have come to before.
    pub(super) state: State<'a>,
}

/// The work: adding values, weighted by scores. A task of its own, so that nothing else competes for registers. `HALF`: sums are
/// rounded to half precision after each cell.
pub(super) struct Weighing<'a, T, const HALF: bool> {
    pub(super) values: Values<'a, T>,
    pub(super) scored: Scored<'a>,
}

impl<S: Simd, T: Number, const HALF: bool> Task<S> for Weighing<'_, T, HALF> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        if self.scored.at_once {
            self.together(simd);
            return;
        }
        if S::INTERLEAVE == MAX_INTERLEAVE && self.scored.scores.len() == MAX_INTERLEAVE {
            self.one_by_one::<S, MAX_INTERLEAVE>(simd);
        } else {
            self.one_by_one::<S, 1>(simd);
        }
    }
}

impl<T: Number, const HALF: bool> Weighing<'_, T, HALF> {
    /// As ggml does: one cell after the other.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one index for several arrays")]
    fn one_by_one<S: Simd, const N: usize>(self, simd: S) {
        let values = self.values;
        let Scored {
            cells,
            scores,
            state,
            ..
        } = self.scored;
        let (Some(weights), Some(greatest), Some(totals)) = (
            scores.first_chunk_mut::<N>(),
            state.greatest.first_chunk_mut::<N>(),
            state.totals.first_chunk_mut::<N>(),
        ) else {
            unreachable!("attention: {N} heads");
        };
        let count = cells.len();
        // A bit for each score that exceeds all before it: its weight is 1, and what is in its place
        // becomes the factor for the sums so far.
        let exceeding = less_the_greatest(weights, count, greatest);
        for weights in &mut *weights {
            simd.exp_libm(&mut weights[..count]);
        }
        add_weights(simd, weights, count, &exceeding, totals);

        let any = exceeding.iter().fold(0, |any, bits| any | bits);
        let mut start = 0;
        while start < count {
            let mut end = start + 1;
            if any >> start & 1 == 1 {
                for row in 0..N {
                    if exceeding[row] >> start & 1 == 1 {
                        let sums = &mut state.sums[row * state.padded..][..state.padded];
                        scale::<S, HALF>(simd, sums, weights[row][start]);
                        weights[row][start] = 1.0;
                    }
                }
            }
            while end < count && any >> end & 1 == 0 {
                end += 1;
            }
            let cells = &cells[start..end];
            if N > 1 && values.head.width == 4 * S::LANES {
                let (sums, padded) = (&mut *state.sums, state.padded);
                values.add::<S, HALF, N, 4>(simd, cells, sums, padded, weights, start);
            } else {
                for row in 0..N {
                    simd.vectorize(Adding::<_, HALF> {
                        values: values.of_head(row),
                        cells,
                        weights: &weights[row],
                        start,
                        sums: &mut state.sums[row * state.padded..][..state.padded],
                    });
                }
            }
            start = end;
        }
    }

    /// Corrects once for the greatest score.
    #[inline(always)]
    fn together<S: Simd>(self, simd: S) {
        let values = self.values;
        let Scored {
            cells,
            scores,
            state,
            ..
        } = self.scored;
        let State {
            greatest,
            totals,
            sums,
            padded,
        } = state;
        let rows = greatest
            .iter_mut()
            .zip(totals)
            .zip(sums.chunks_exact_mut(padded));
        for (row, (weights, ((greatest, total), sums))) in scores.iter_mut().zip(rows).enumerate() {
            let highest = weights.iter().fold(*greatest, |a, &b| a.max(b));
            if highest == f32::NEG_INFINITY {
                continue;
            }
            let mut correction = [*greatest - highest];
            simd.exp_libm(&mut correction);
            let [correction] = correction;
            *greatest = highest;
            let negative = simd.splat(-highest);
            let mut sum = simd.splat(0.0);
            for vector in weights.chunks_exact_mut(S::LANES) {
                let exponentials = simd.exp(simd.add(simd.load(vector), negative));
                simd.store(exponentials, vector);
                sum = simd.add(sum, exponentials);
            }
            *total = simd.fma_scalar(*total, correction, simd.reduce_add(sum));
            if correction != 1.0 {
                scale::<S, false>(simd, sums, correction);
            }
            simd.vectorize(Adding::<_, false> {
                values: values.of_head(row),
                cells,
                weights,
                start: 0,
                sums,
            });
        }
    }
}

/// The work: adding weighted values of one head. A task of its own, since its code is large. `HALF` as in [`Weighing`].
struct Adding<'a, T, const HALF: bool> {
    values: Values<'a, T>,
    cells: &'a [u32],
    weights: &'a [f32; KEYS],
    /// Where the first cell's weight is.
    start: usize,
    sums: &'a mut [f32],
}

impl<S: Simd, T: Number, const HALF: bool> Task<S> for Adding<'_, T, HALF> {
    type Output = ();

    /// As many columns at a time as sums fit into registers.
    #[inline(always)]
    fn run(self, simd: S) {
        let Self {
            values,
            cells,
            weights,
            start,
            sums,
        } = self;
        let weights = std::array::from_ref(weights);
        let mut column = 0;
        macro_rules! add {
            ($vectors:literal, $width:expr) => {{
                let part = values.part(column, $width);
                let sums = &mut sums[column..];
                part.add::<S, HALF, 1, $vectors>(simd, cells, sums, 0, weights, start);
                column += $width;
            }};
        }
        while column + 8 * S::LANES <= values.head.width {
            add!(8, 8 * S::LANES);
        }
        while column + 4 * S::LANES <= values.head.width {
            add!(4, 4 * S::LANES);
        }
        while column < values.head.width {
            add!(1, S::LANES.min(values.head.width - column));
        }
    }
}

/// Makes scores differences from the greatest so far, never positive, and gives a bit for each that is greater than all before
/// it: there, the greatest before it is less by what is in its place.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "one index for several arrays, the row within"
)]
fn less_the_greatest<const N: usize>(
    scores: &mut [[f32; KEYS]; N],
    count: usize,
    greatest: &mut [f32; N],
) -> [u64; N] {
    let mut exceeding = [0; N];
    let mut highest = *greatest;
    for index in 0..count {
        for row in 0..N {
            let score = scores[row][index];
            let exceeds = score > highest[row];
            exceeding[row] |= u64::from(exceeds) << index;
            scores[row][index] = if exceeds {
                highest[row] - score
            } else {
                score - highest[row]
            };
            highest[row] = if exceeds { score } else { highest[row] };
        }
    }
    *greatest = highest;
    exceeding
}

/// Adds weights to their totals, in order; at an exceeding score, the total is multiplied by what is in the weight's place and
/// the weight is 1.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "one index for several arrays, the row within"
)]
fn add_weights<S: Simd, const N: usize>(
    simd: S,
    weights: &[[f32; KEYS]; N],
    count: usize,
    exceeding: &[u64; N],
    totals: &mut [f32; N],
) {
    let mut sums = *totals;
    for index in 0..count {
        for row in 0..N {
            let weight = weights[row][index];
            sums[row] = if exceeding[row] >> index & 1 == 1 {
                simd.fma_scalar(sums[row], weight, 1.0)
            } else {
                sums[row] + weight
            };
        }
    }
    *totals = sums;
}

/// Multiplies whole vectors.
#[inline(always)]
fn scale<S: Simd, const HALF: bool>(simd: S, sums: &mut [f32], factor: f32) {
    let factor = simd.splat(factor);
    for vector in sums.chunks_exact_mut(S::LANES) {
        let mut scaled = simd.mul(simd.load(vector), factor);
        if HALF {
            scaled = simd.round_to_f16(scaled);
        }
        simd.store(scaled, vector);
    }
}

/// Columns of values of neighbouring heads.
#[derive(Clone, Copy)]
pub(super) struct Values<'a, T> {
    numbers: &'a [T],
    /// The columns of the first head.
    head: Head,
    /// Elements from a head's columns to the next head's.
    apart: usize,
    /// See [`Values::new`].
    until: usize,
}

impl<'a, T: Number> Values<'a, T> {
    /// Those of `head` and of its neighbours. Of cells below `until`, the values a block further on are asked for meanwhile.
    #[inline(always)]
    pub(super) fn new(numbers: &'a [T], head: Head, until: usize) -> Self {
        Self {
            numbers,
            head,
            apart: head.width,
            until,
        }
    }

    /// Those of a later head.
    #[inline(always)]
    fn of_head(self, row: usize) -> Self {
        let first = self.head.first + row * self.apart;
        let head = Head { first, ..self.head };
        Self { head, ..self }
    }

    /// So many of them.
    #[inline(always)]
    fn part(self, column: usize, width: usize) -> Self {
        let head = Head {
            first: self.head.first + column,
            width,
            ..self.head
        };
        Self { head, ..self }
    }

    /// Adds weighted values of `N` heads in `VECTORS` vectors of columns, of which a single one may be short.
    #[inline(always)]
    fn add<S: Simd, const HALF: bool, const N: usize, const VECTORS: usize>(
        self,
        simd: S,
        cells: &[u32],
        sums: &mut [f32],
        padded: usize,
        weights: &[[f32; KEYS]; N],
        start: usize,
    ) {
        let mut held = [[simd.splat(0.0); VECTORS]; N];
        for row in 0..N {
            for vector in 0..VECTORS {
                held[row][vector] = simd.load(&sums[row * padded + vector * S::LANES..]);
            }
        }
        for (index, &cell) in cells.iter().enumerate() {
            let cell = cell as usize;
            if cell < self.until {
                let place = (cell + KEYS) * self.head.row + self.head.first;
                simd::prefetch(self.numbers, place, N * VECTORS * S::LANES);
            }
            for row in 0..N {
                let values = self.of_head(row).head.of(self.numbers, cell);
                let weight = simd.splat(weights[row][start + index]);
                for vector in 0..VECTORS {
                    let value = if VECTORS == 1 {
                        T::load_partial(simd, values)
                    } else {
                        T::load(simd, &values[vector * S::LANES..])
                    };
                    let mut sum = simd.fma(value, weight, held[row][vector]);
                    if HALF {
                        sum = simd.round_to_f16(sum);
                    }
                    held[row][vector] = sum;
                }
            }
        }
        for row in 0..N {
            for vector in 0..VECTORS {
                let to = &mut sums[row * padded + vector * S::LANES..];
                simd.store(held[row][vector], to);
            }
        }
    }
}
