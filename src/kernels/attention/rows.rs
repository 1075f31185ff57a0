//! Attention of one token, for some of its heads: decoding, and batches of a few tokens.
//!
//! A row's result depends on its query, on the cells it sees and on nothing else: not on the other
//! tokens, nor on how many cells the mask spans. So a token gets the same bits whether it is decoded
//! alone or checked among proposals.
//!
//! Up to [`LONG`] cells the arithmetic is that of ggml on one token: keys in their order, the maximum
//! and the sum of weights corrected whenever a score exceeds all before it, and with half precision
//! values the sum of values rounded to half precision after each key. Beyond, ggml splits the cells by
//! its number of threads; here they are taken in fixed blocks, the sums in single precision.

use std::ops::Range;

use half::f16;

use super::lanes::{BLOCK, Lanes, Q4_0_BYTES, Q8_0_BYTES, Task};
use super::output::Output;
use super::scratch::Scratch;
use super::table::{Head, Number, Table, expand, quantize_q8_0};
use super::{Attention, is_visible};

/// Cells (in steps of [`STEP`], as graphs are built for them) from which on ggml splits them.
const LONG: usize = 512;

/// Cells are added to graphs in such steps.
const STEP: usize = 32;

/// Keys whose weights are computed together.
const KEYS: usize = 64;

/// The work.
pub(super) struct Rows<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) token: usize,
    pub(super) heads: Range<usize>,
    pub(super) output: &'a Output<'a>,
}

/// The cells seen among [`KEYS`] in a row.
struct Seen {
    cells: [u32; KEYS],
    masks: [f32; KEYS],
    count: usize,
    /// Whether they are the first of all.
    first: bool,
}

impl Seen {
    /// Those of `range`.
    #[inline(always)]
    fn find(mask: &[f16], range: Range<usize>) -> Self {
        let mut seen = Self {
            cells: [0; KEYS],
            masks: [0.0; KEYS],
            count: 0,
            first: range.start == 0,
        };
        for cell in range {
            if is_visible(mask[cell]) {
                seen.cells[seen.count] = cell as u32;
                // Nearly always 0; the conversion is a call.
                if mask[cell].to_bits() != 0 {
                    seen.masks[seen.count] = mask[cell].to_f32();
                }
                seen.count += 1;
            }
        }
        seen
    }
}

/// Greatest score and sum of weights so far.
struct State<'a> {
    greatest: &'a mut f32,
    total: &'a mut f32,
    /// Sums of weighted values; filled up to whole vectors.
    sums: &'a mut [f32],
}

impl Task for Rows<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Attention {
            keys,
            values,
            cells,
            head_width,
            ..
        } = *self.attention;
        let mask = &self.attention.mask[self.token * cells..][..cells];
        let end = mask.iter().rposition(|&mask| is_visible(mask));
        let end = end.map_or(0, |last| last + 1);
        for cell in 0..end.min(KEYS) {
            keys.prefetch(lanes, self.attention.head(self.heads.start), cell);
        }
        let splits = matches!(
            (keys, values),
            (Table::F32(_), Table::F32(_)) | (Table::F16(_), Table::F16(_))
        );
        let long = splits && end.next_multiple_of(STEP) >= LONG;

        let padded = head_width.next_multiple_of(super::lanes::MAX_WIDTH);
        let query_bytes = head_width / BLOCK * Q8_0_BYTES;
        let count = self.heads.len();
        let mut scratch = Scratch::take();
        let (floats, bytes) = scratch.parts(
            2 * count * padded + KEYS * padded + 2 * count,
            count * query_bytes,
        );
        let (queries, floats) = floats.split_at_mut(count * padded);
        let (sums, floats) = floats.split_at_mut(count * padded);
        let (expanded, floats) = floats.split_at_mut(KEYS * padded);
        let (greatest, totals) = floats.split_at_mut(count);
        sums.fill(0.0);
        greatest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        for index in 0..count {
            let query = self.attention.query(self.token, self.heads.start + index);
            let place = &mut queries[index * padded..][..padded];
            place[..head_width].copy_from_slice(query);
            place[head_width..].fill(0.0);
            match keys {
                Table::F32(_) => {}
                Table::F16(_) => round_to_half(lanes, place),
                Table::Q8_0(_) | Table::Q4_0(_) => {
                    quantize_q8_0(query, &mut bytes[index * query_bytes..][..query_bytes]);
                }
            }
        }

        let mut start = 0;
        while start < end {
            let seen = Seen::find(mask, start..end.min(start + KEYS));
            start += KEYS;
            if seen.count == 0 {
                continue;
            }
            for index in 0..count {
                let head = self.attention.head(self.heads.start + index);
                let query = &queries[index * padded..][..head_width];
                let query_blocks = &bytes[index * query_bytes..][..query_bytes];
                let mut weights = [f32::NEG_INFINITY; KEYS];
                self.score(lanes, index, &seen, query, query_blocks, &mut weights);
                let state = State {
                    greatest: &mut greatest[index],
                    total: &mut totals[index],
                    sums: &mut sums[index * padded..][..padded],
                };
                let cells = &seen.cells[..seen.count];
                match values {
                    Table::F32(data) if long => together(lanes, state, data, head, cells, weights),
                    Table::F16(data) if long => together(lanes, state, data, head, cells, weights),
                    Table::F32(data) => {
                        one_by_one::<L, f32, false>(lanes, state, data, head, cells, weights);
                    }
                    Table::F16(data) => {
                        one_by_one::<L, f16, true>(lanes, state, data, head, cells, weights);
                    }
                    Table::Q8_0(_) | Table::Q4_0(_) => {
                        let mut places = [0; KEYS];
                        for (place, &cell) in cells.iter().enumerate() {
                            let to = &mut expanded[place * head_width..][..head_width];
                            expand(lanes, values, head, cell as usize, to);
                            places[place] = place as u32;
                        }
                        let head = Head {
                            row: head_width,
                            first: 0,
                            width: head_width,
                        };
                        let cells = &places[..seen.count];
                        one_by_one::<L, f32, false>(lanes, state, expanded, head, cells, weights);
                    }
                }
            }
        }

        for (index, &total) in totals.iter().enumerate() {
            self.finish(index, total, &mut sums[index * padded..][..head_width]);
        }
    }
}

impl Rows<'_> {
    /// Writes a head's sums divided by its total.
    #[inline(always)]
    fn finish(&self, index: usize, total: f32, sums: &mut [f32]) {
        let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
        for sum in &mut *sums {
            *sum *= inverse;
        }
        let column = (self.heads.start + index) * sums.len();
        self.output.write(self.token, column, sums);
    }

    /// The scores of the cells that are seen by one of the heads, scaled and masked.
    #[inline(always)]
    fn score<L: Lanes>(
        &self,
        lanes: L,
        index: usize,
        seen: &Seen,
        query: &[f32],
        query_blocks: &[u8],
        scores: &mut [f32; KEYS],
    ) {
        let cells = &seen.cells[..seen.count];
        let head = self.attention.head(self.heads.start + index);
        // A key one block later; the first block's, which nobody asked for, one head later.
        let ahead = if seen.first && index + 1 < self.heads.len() {
            [head.width, KEYS * head.row]
        } else {
            [KEYS * head.row; 2]
        };
        match self.attention.keys {
            Table::F32(data) => {
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    self.prefetch(lanes, data, head, cell as usize, ahead);
                    *score = dot_single(lanes, head.of(data, cell as usize), query);
                }
            }
            Table::F16(data) => {
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    self.prefetch(lanes, data, head, cell as usize, ahead);
                    *score = dot_half(lanes, head.of(data, cell as usize), query);
                }
            }
            Table::Q8_0(data) => {
                let head = head.in_blocks(Q8_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = lanes.dot_q8_0(head.of(data, cell as usize), query_blocks);
                }
            }
            Table::Q4_0(data) => {
                let head = head.in_blocks(Q4_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = lanes.dot_q4_0(head.of(data, cell as usize), query_blocks);
                }
            }
        }
        for (score, &mask) in scores[..seen.count].iter_mut().zip(&seen.masks) {
            *score = lanes.fma_one(*score, self.attention.scale, mask);
        }
    }

    /// Asks for the value of `cell`, which comes next, and for the keys that are due so many elements later: heads lie far
    /// apart from cell to cell, too far for the processor to guess.
    #[inline(always)]
    fn prefetch<L: Lanes, T>(
        &self,
        lanes: L,
        keys: &[T],
        head: Head,
        cell: usize,
        ahead: [usize; 2],
    ) {
        let place = cell * head.row + head.first;
        lanes.prefetch(keys, place + ahead[0], head.width);
        if ahead[1] != ahead[0] {
            lanes.prefetch(keys, place + ahead[1], head.width);
        }
        match self.attention.values {
            Table::F32(data) => lanes.prefetch(data, place, head.width),
            Table::F16(data) => lanes.prefetch(data, place, head.width),
            Table::Q8_0(_) | Table::Q4_0(_) => {}
        }
    }
}

/// Rounds whole vectors to half floats' numbers.
#[inline(always)]
fn round_to_half<L: Lanes>(lanes: L, numbers: &mut [f32]) {
    for vector in numbers.chunks_exact_mut(L::WIDTH) {
        let rounded = lanes.round_to_half(lanes.load(vector));
        lanes.store(rounded, vector);
    }
}

/// Vectors of products that are summed side by side.
const CHAINS: usize = 4;

/// The sum of products of whole groups of vectors, and how many elements these are.
#[inline(always)]
fn dot_vectors<L: Lanes, T: Number>(lanes: L, x: &[T], y: &[f32]) -> (f32, usize) {
    let group = CHAINS * L::WIDTH;
    let zero = lanes.splat(0.0);
    let mut sums = [zero; CHAINS];
    for (x, y) in x.chunks_exact(group).zip(y.chunks_exact(group)) {
        for (chain, sum) in sums.iter_mut().enumerate() {
            let start = chain * L::WIDTH;
            *sum = lanes.fma(T::load(lanes, &x[start..]), lanes.load(&y[start..]), *sum);
        }
    }
    let done = x.len() / group * group;
    let [a, b, c, d] = sums;
    (lanes.sum(lanes.add(lanes.add(a, c), lanes.add(b, d))), done)
}

/// x · y; what remains behind whole groups of vectors is added in double precision.
#[inline(always)]
fn dot_half<L: Lanes>(lanes: L, x: &[f16], y: &[f32]) -> f32 {
    let (sum, done) = dot_vectors(lanes, x, y);
    if done == x.len() {
        return sum;
    }
    let mut sum = f64::from(sum);
    for (&x, &y) in x[done..].iter().zip(&y[done..]) {
        sum += f64::from(lanes.half(x) * y);
    }
    sum as f32
}

/// x · y.
#[inline(always)]
fn dot_single<L: Lanes>(lanes: L, x: &[f32], y: &[f32]) -> f32 {
    let (mut sum, done) = dot_vectors(lanes, x, y);
    for (&x, &y) in x[done..].iter().zip(&y[done..]) {
        sum += x * y;
    }
    sum
}

/// Adds the values of `cells`, of the given scores, as ggml does: one after the other.
#[inline(always)]
fn one_by_one<L: Lanes, T: Number, const HALF: bool>(
    lanes: L,
    State {
        greatest,
        total,
        sums,
    }: State<'_>,
    data: &[T],
    head: Head,
    cells: &[u32],
    mut weights: [f32; KEYS],
) {
    let count = cells.len();
    let mut highest = *greatest;
    // A bit for each score that exceeds all before it: its weight is 1, and what is in its place
    // becomes the factor for the sums so far.
    let mut exceeding = 0u64;
    for (index, weight) in weights[..count].iter_mut().enumerate() {
        let score = *weight;
        let exceeds = score > highest;
        exceeding |= u64::from(exceeds) << index;
        *weight = if exceeds {
            highest - score
        } else {
            score - highest
        };
        highest = if exceeds { score } else { highest };
    }
    *greatest = highest;
    lanes.exp_as_libm(&mut weights[..count]);
    let mut sum = *total;
    for (index, &weight) in weights[..count].iter().enumerate() {
        sum = if exceeding >> index & 1 == 1 {
            lanes.fma_one(sum, weight, 1.0)
        } else {
            sum + weight
        };
    }
    *total = sum;

    let mut start = 0;
    while start < count {
        let mut end = start + 1;
        if exceeding >> start & 1 == 1 {
            scale::<L, HALF>(lanes, sums, weights[start]);
            weights[start] = 1.0;
        }
        while end < count && exceeding >> end & 1 == 0 {
            end += 1;
        }
        let (cells, weights) = (&cells[start..end], &weights[start..end]);
        add_values::<L, T, HALF>(lanes, sums, data, head, cells, weights);
        start = end;
    }
}

/// Adds the values of `cells`, of the given scores, correcting once for the greatest of them.
#[inline(always)]
fn together<L: Lanes, T: Number>(
    lanes: L,
    State {
        greatest,
        total,
        sums,
    }: State<'_>,
    data: &[T],
    head: Head,
    cells: &[u32],
    mut weights: [f32; KEYS],
) {
    let highest = weights.iter().fold(*greatest, |a, &b| a.max(b));
    if highest == f32::NEG_INFINITY {
        return;
    }
    let mut correction = [*greatest - highest];
    lanes.exp_as_libm(&mut correction);
    let [correction] = correction;
    *greatest = highest;
    let negative = lanes.splat(-highest);
    let mut sum = lanes.splat(0.0);
    for vector in weights.chunks_exact_mut(L::WIDTH) {
        let exponentials = lanes.exp(lanes.add(lanes.load(vector), negative));
        lanes.store(exponentials, vector);
        sum = lanes.add(sum, exponentials);
    }
    *total = lanes.fma_one(*total, correction, lanes.sum(sum));
    if correction != 1.0 {
        scale::<L, false>(lanes, sums, correction);
    }
    let weights = &weights[..cells.len()];
    add_values::<L, T, false>(lanes, sums, data, head, cells, weights);
}

/// Multiplies whole vectors.
#[inline(always)]
fn scale<L: Lanes, const HALF: bool>(lanes: L, sums: &mut [f32], factor: f32) {
    let factor = lanes.splat(factor);
    for vector in sums.chunks_exact_mut(L::WIDTH) {
        let mut scaled = lanes.mul(lanes.load(vector), factor);
        if HALF {
            scaled = lanes.round_to_half(scaled);
        }
        lanes.store(scaled, vector);
    }
}

/// Adds weighted values, as many columns at a time as sums fit into registers.
#[inline(always)]
fn add_values<L: Lanes, T: Number, const HALF: bool>(
    lanes: L,
    sums: &mut [f32],
    data: &[T],
    head: Head,
    cells: &[u32],
    weights: &[f32],
) {
    let mut column = 0;
    macro_rules! columns {
        ($vectors:literal) => {
            while column + $vectors * L::WIDTH <= head.width {
                let head = Head {
                    first: head.first + column,
                    width: $vectors * L::WIDTH,
                    ..head
                };
                let sums = &mut sums[column..];
                add_columns::<L, T, HALF, $vectors>(lanes, sums, data, head, cells, weights);
                column += $vectors * L::WIDTH;
            }
        };
    }
    columns!(8);
    columns!(4);
    columns!(1);
    if column < head.width {
        let head = Head {
            first: head.first + column,
            width: head.width - column,
            ..head
        };
        add_columns::<L, T, HALF, 1>(lanes, &mut sums[column..], data, head, cells, weights);
    }
}

/// Adds weighted values in `N` vectors of columns; the last one may be short.
#[inline(always)]
fn add_columns<L: Lanes, T: Number, const HALF: bool, const N: usize>(
    lanes: L,
    sums: &mut [f32],
    data: &[T],
    head: Head,
    cells: &[u32],
    weights: &[f32],
) {
    let mut held = [lanes.splat(0.0); N];
    for (vector, held) in held.iter_mut().enumerate() {
        *held = lanes.load(&sums[vector * L::WIDTH..]);
    }
    for (&cell, &weight) in cells.iter().zip(weights) {
        let row = head.of(data, cell as usize);
        let weight = lanes.splat(weight);
        for (vector, held) in held.iter_mut().enumerate() {
            let value = if N == 1 {
                T::load_some(lanes, row)
            } else {
                T::load(lanes, &row[vector * L::WIDTH..])
            };
            *held = lanes.fma(value, weight, *held);
            if HALF {
                *held = lanes.round_to_half(*held);
            }
        }
    }
    for (vector, &held) in held.iter().enumerate() {
        lanes.store(held, &mut sums[vector * L::WIDTH..]);
    }
}
