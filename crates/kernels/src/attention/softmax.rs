//! softmax · V: scores become weights, and values are added by weight, a block of keys at a time,
//! with the running maximum of an online softmax. Knows no query and no mask.

use super::kv_tensor::{Element, Head};
use crate::simd::{MAX_INTERLEAVE, Simd, Task};

/// Keys of a block, whose weights are computed together.
pub(super) const KEYS: usize = 64;

/// An online softmax of neighbouring heads so far.
pub(super) struct State<'a> {
    /// `[heads]`: running maxima of the scores.
    pub(super) maxima: &'a mut [f32],
    /// `[heads]`: sums of the weights.
    pub(super) totals: &'a mut [f32],
    /// `[heads, padded]`: sums of weighted values, padded to whole vectors.
    pub(super) accumulators: &'a mut [f32],
    /// See [`State::accumulators`].
    pub(super) padded: usize,
}

/// A block of cells and their scores in neighbouring heads.
pub(super) struct Block<'a> {
    /// At most [`KEYS`].
    pub(super) cells: &'a [u32],
    /// `[heads]`, of one head or [`Simd::INTERLEAVE`]: the cells' scores, and −∞ behind them.
    pub(super) scores: &'a mut [[f32; KEYS]],
    /// Whether sums are rescaled once for the block, instead of whenever a score exceeds all before
    /// it.
    pub(super) rescale_once: bool,
    /// What came of the blocks before.
    pub(super) state: State<'a>,
}

/// The work: adding a block of values, weighted by scores. A task of its own, so that nothing else
/// competes for registers. `F16`: accumulators are rounded to half precision after each cell.
pub(super) struct SoftmaxV<'a, T, const F16: bool> {
    pub(super) values: Values<'a, T>,
    pub(super) block: Block<'a>,
}

impl<S: Simd, T: Element, const F16: bool> Task<S> for SoftmaxV<'_, T, F16> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        if self.block.rescale_once {
            self.by_block(simd);
            return;
        }
        if S::INTERLEAVE == MAX_INTERLEAVE && self.block.scores.len() == MAX_INTERLEAVE {
            self.by_cell::<S, MAX_INTERLEAVE>(simd);
        } else {
            self.by_cell::<S, 1>(simd);
        }
    }
}

impl<T: Element, const F16: bool> SoftmaxV<'_, T, F16> {
    /// As ggml does it: cell after cell, rescaling whenever a score exceeds the running maximum.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one index for several arrays")]
    fn by_cell<S: Simd, const N: usize>(self, simd: S) {
        let values = self.values;
        let Block {
            cells,
            scores,
            state,
            ..
        } = self.block;
        let (Some(weights), Some(maxima), Some(totals)) = (
            scores.first_chunk_mut::<N>(),
            state.maxima.first_chunk_mut::<N>(),
            state.totals.first_chunk_mut::<N>(),
        ) else {
            unreachable!("attention: {N} heads");
        };
        let count = cells.len();
        let exceeding = simd.vectorize(Weights {
            scores: &mut *weights,
            count,
            maxima,
            totals,
        });
        let any = exceeding.iter().fold(0, |any, bits| any | bits);
        let mut start = 0;
        while start < count {
            let mut end = start + 1;
            if any >> start & 1 == 1 {
                for row in 0..N {
                    if exceeding[row] >> start & 1 == 1 {
                        let first = row * state.padded;
                        let accumulators = &mut state.accumulators[first..][..state.padded];
                        rescale::<S, F16>(simd, accumulators, weights[row][start]);
                        weights[row][start] = 1.0;
                    }
                }
            }
            while end < count && any >> end & 1 == 0 {
                end += 1;
            }
            let cells = &cells[start..end];
            if N > 1 && values.head.width == 4 * S::LANES {
                let (accumulators, padded) = (&mut *state.accumulators, state.padded);
                values.add::<S, F16, N, 4>(simd, cells, accumulators, padded, weights, start);
            } else {
                for row in 0..N {
                    let first = row * state.padded;
                    simd.vectorize(AddValues::<_, F16> {
                        values: values.of_head(row),
                        cells,
                        weights: &weights[row],
                        start,
                        accumulators: &mut state.accumulators[first..][..state.padded],
                    });
                }
            }
            start = end;
        }
    }

    /// Rescales once, for the maximum of the block.
    #[inline(always)]
    fn by_block<S: Simd>(self, simd: S) {
        let values = self.values;
        let Block {
            cells,
            scores,
            state,
            ..
        } = self.block;
        let State {
            maxima,
            totals,
            accumulators,
            padded,
        } = state;
        let rows = maxima
            .iter_mut()
            .zip(totals)
            .zip(accumulators.chunks_exact_mut(padded));
        for (row, (weights, ((max, total), accumulators))) in
            scores.iter_mut().zip(rows).enumerate()
        {
            let new_max = weights.iter().fold(*max, |a, &b| a.max(b));
            if new_max == f32::NEG_INFINITY {
                continue;
            }
            let correction = simd.vectorize(BlockWeights {
                scores: &mut *weights,
                max,
                new_max,
                total,
            });
            if correction != 1.0 {
                rescale::<S, false>(simd, accumulators, correction);
            }
            simd.vectorize(AddValues::<_, false> {
                values: values.of_head(row),
                cells,
                weights,
                start: 0,
                accumulators,
            });
        }
    }
}

/// The work: adding weighted values of one head. A task of its own, since its code is large. `F16`
/// as in [`SoftmaxV`].
struct AddValues<'a, T, const F16: bool> {
    values: Values<'a, T>,
    cells: &'a [u32],
    weights: &'a [f32; KEYS],
    /// Where the first cell's weight is.
    start: usize,
    accumulators: &'a mut [f32],
}

impl<S: Simd, T: Element, const F16: bool> Task<S> for AddValues<'_, T, F16> {
    type Output = ();

    /// As many columns at a time as accumulators fit into registers.
    #[inline(always)]
    fn run(self, simd: S) {
        let Self {
            values,
            cells,
            weights,
            start,
            accumulators,
        } = self;
        let weights = std::array::from_ref(weights);
        let mut column = 0;
        macro_rules! add {
            ($vectors:literal, $width:expr) => {{
                let part = values.part(column, $width);
                let accumulators = &mut accumulators[column..];
                part.add::<S, F16, 1, $vectors>(simd, cells, accumulators, 0, weights, start);
                column += $width;
            }};
        }
        while !S::COMPACT && column + 8 * S::LANES <= values.head.width {
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

/// The work: making weights of scores in `N` rows, cell by cell. A task of its own, since it is the
/// same for values of every type.
struct Weights<'a, const N: usize> {
    scores: &'a mut [[f32; KEYS]; N],
    /// How many cells there are.
    count: usize,
    maxima: &'a mut [f32; N],
    totals: &'a mut [f32; N],
}

impl<S: Simd, const N: usize> Task<S> for Weights<'_, N> {
    /// A bit for each score that exceeds all before it: its weight is 1, and in its place stands
    /// the factor that rescales the sums so far.
    type Output = [u64; N];

    #[inline(always)]
    fn run(self, simd: S) -> [u64; N] {
        let exceeding = subtract_running_maxima(self.scores, self.count, self.maxima);
        for scores in &mut *self.scores {
            simd.exp_libm(&mut scores[..self.count]);
        }
        add_weights(simd, self.scores, self.count, &exceeding, self.totals);
        exceeding
    }
}

/// The work: making weights of a block's scores, of which the maximum so far is known. A task of
/// its own like [`Weights`].
struct BlockWeights<'a> {
    scores: &'a mut [f32; KEYS],
    max: &'a mut f32,
    new_max: f32,
    total: &'a mut f32,
}

impl<S: Simd> Task<S> for BlockWeights<'_> {
    /// The factor that rescales the sums so far.
    type Output = f32;

    #[inline(always)]
    fn run(self, simd: S) -> f32 {
        let mut correction = [*self.max - self.new_max];
        simd.exp_libm(&mut correction);
        let [correction] = correction;
        *self.max = self.new_max;
        let negative_max = simd.splat(-self.new_max);
        let mut sum = simd.splat(0.0);
        for vector in self.scores.chunks_exact_mut(S::LANES) {
            let exponentials = simd.exp(simd.add(simd.load(vector), negative_max));
            simd.store(exponentials, vector);
            sum = simd.add(sum, exponentials);
        }
        *self.total = simd.fma_scalar(*self.total, correction, simd.reduce_add(sum));
        correction
    }
}

/// Subtracts the running maximum from each score, or a score that exceeds it from the maximum
/// before: never positive. Gives a bit for each score that exceeds all before it.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "one index for several arrays, the row within"
)]
fn subtract_running_maxima<const N: usize>(
    scores: &mut [[f32; KEYS]; N],
    count: usize,
    maxima: &mut [f32; N],
) -> [u64; N] {
    let mut exceeding = [0; N];
    let mut running = *maxima;
    for index in 0..count {
        for row in 0..N {
            let score = scores[row][index];
            let exceeds = score > running[row];
            exceeding[row] |= u64::from(exceeds) << index;
            scores[row][index] = if exceeds {
                running[row] - score
            } else {
                score - running[row]
            };
            running[row] = if exceeds { score } else { running[row] };
        }
    }
    *maxima = running;
    exceeding
}

/// Adds weights to their totals, in order; at an exceeding score, the total is multiplied by what
/// is in the weight's place, and the weight is 1.
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
fn rescale<S: Simd, const F16: bool>(simd: S, accumulators: &mut [f32], factor: f32) {
    let factor = simd.splat(factor);
    for vector in accumulators.chunks_exact_mut(S::LANES) {
        let mut scaled = simd.mul(simd.load(vector), factor);
        if F16 {
            scaled = simd.round_to_f16(scaled);
        }
        simd.store(scaled, vector);
    }
}

/// Columns of values of neighbouring heads.
#[derive(Clone, Copy)]
pub(super) struct Values<'a, T> {
    elements: &'a [T],
    /// The columns of the first head.
    head: Head,
    /// Elements from a head's columns to the next head's.
    head_stride: usize,
    /// See [`Values::new`].
    next: &'a [u32],
}

impl<'a, T: Element> Values<'a, T> {
    /// Those of `head` and of its neighbours. The values of the cells `next` are prefetched
    /// meanwhile, the first with the block's first cell.
    #[inline(always)]
    pub(super) fn new(elements: &'a [T], head: Head, next: &'a [u32]) -> Self {
        Self {
            elements,
            head,
            head_stride: head.width,
            next,
        }
    }

    /// Those of a later head.
    #[inline(always)]
    fn of_head(self, row: usize) -> Self {
        let first = self.head.first + row * self.head_stride;
        let head = Head { first, ..self.head };
        Self { head, ..self }
    }

    /// `width` columns from `column` on.
    #[inline(always)]
    fn part(self, column: usize, width: usize) -> Self {
        let head = Head {
            first: self.head.first + column,
            width,
            ..self.head
        };
        Self { head, ..self }
    }

    /// Adds weighted values of `N` heads in `VECTORS` vectors of columns, of which a single one may
    /// be partial.
    #[inline(always)]
    fn add<S: Simd, const F16: bool, const N: usize, const VECTORS: usize>(
        self,
        simd: S,
        cells: &[u32],
        accumulators: &mut [f32],
        padded: usize,
        weights: &[[f32; KEYS]; N],
        start: usize,
    ) {
        let mut registers = [[simd.splat(0.0); VECTORS]; N];
        for row in 0..N {
            for vector in 0..VECTORS {
                let from = &accumulators[row * padded + vector * S::LANES..];
                registers[row][vector] = simd.load(from);
            }
        }
        for (index, &cell) in cells.iter().enumerate() {
            let cell = cell as usize;
            if let Some(&next) = self.next.get(start + index) {
                let next = next as usize * self.head.stride + self.head.first;
                simd.prefetch(self.elements, next, N * VECTORS * S::LANES);
            }
            for row in 0..N {
                let values = self.of_head(row).head.of(self.elements, cell);
                let weight = simd.splat(weights[row][start + index]);
                for vector in 0..VECTORS {
                    let value = if VECTORS == 1 {
                        T::load_partial(simd, values)
                    } else {
                        T::load(simd, &values[vector * S::LANES..])
                    };
                    let mut sum = simd.fma(value, weight, registers[row][vector]);
                    if F16 {
                        sum = simd.round_to_f16(sum);
                    }
                    registers[row][vector] = sum;
                }
            }
        }
        for row in 0..N {
            for vector in 0..VECTORS {
                let to = &mut accumulators[row * padded + vector * S::LANES..];
                simd.store(registers[row][vector], to);
            }
        }
    }
}
