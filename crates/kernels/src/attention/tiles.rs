//! Attention of many tokens at once, in tiles of queries and keys.
//!
//! A vector holds one number for each of several queries: keys and values are read as they lie, and
//! maxima and sums of weights are those of single lanes, without a sum across a vector. Everything is
//! f32; orders of additions are ggml's, whose tiles of keys are as long.

use std::sync::OnceLock;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::output::Output;
use super::scratch::Scratch;
use super::table::expand;
use super::{Attention, MASKED, turn};
use crate::simd::{self, MAX_LANES, Simd, Task};

/// Queries in a tile, at most.
pub(super) const QUERIES: usize = 128;

/// Keys in a tile, at most.
const KEYS: usize = 64;

/// What the blocks of queries in a tile see of each tile of keys: `[tiles of keys, blocks]`. It is the same for all heads, and
/// whoever needs it first finds it out.
pub(super) type Views = OnceLock<Vec<View>>;

/// The work: some queries of one head.
pub(super) struct Tile<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) head: usize,
    /// The first query.
    pub(super) first: usize,
    /// What these queries see.
    pub(super) views: &'a Views,
    pub(super) output: &'a Output<'a>,
}

/// What a block of queries sees of a tile of keys.
pub(super) struct View {
    /// Keys up to the last one that is seen.
    keys: usize,
    /// `[keys, queries of a block]`: added to scores. Empty where each query sees all of these, unchanged.
    mask: Vec<f32>,
}

/// What `rows` queries from `first` on see, in blocks of `block_rows`.
fn views(attention: &Attention<'_>, first: usize, rows: usize, block_rows: usize) -> Vec<View> {
    let starts = (0..attention.cells).step_by(KEYS);
    let blocks = |start: usize| {
        (0..rows).step_by(block_rows).map(move |block| {
            let count = block_rows.min(rows - block);
            view(attention, first + block, count, start, block_rows)
        })
    };
    starts.flat_map(blocks).collect()
}

/// What `rows` queries from `first` on, in a block of `block_rows`, see of the cells from `start` on.
fn view(
    attention: &Attention<'_>,
    first: usize,
    rows: usize,
    start: usize,
    block_rows: usize,
) -> View {
    let count = KEYS.min(attention.cells - start);
    let row =
        |query: usize| -> &[f16] { &attention.mask[query * attention.cells + start..][..count] };
    let (mut any, mut keys) = (0, 0);
    for query in first..first + rows {
        let row: &[u16] = row(query).reinterpret_cast();
        any |= row.iter().fold(0, |any, mask| any | mask);
        if let Some(last) = row[keys..].iter().rposition(|&mask| mask != MASKED) {
            keys += last + 1;
        }
    }
    let mut mask = Vec::new();
    if any != 0 {
        mask.resize(keys * block_rows, 0.0);
        for lane in 0..rows {
            let columns = mask.chunks_exact_mut(block_rows);
            for (column, &mask) in columns.zip(row(first + lane)) {
                column[lane] = mask.to_f32();
            }
        }
    }
    View { keys, mask }
}

impl<S: Simd> Task<S> for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let attention = self.attention;
        let (cells, width) = (attention.cells, attention.head_width);
        let rows = QUERIES.min(attention.tokens - self.first);
        let block_rows = 2 * S::LANES;
        let blocks = rows.div_ceil(block_rows);
        let head = attention.head(self.head);

        let mut scratch = Scratch::take();
        let (floats, _) = scratch.parts(
            2 * QUERIES * width + 2 * KEYS * width + KEYS * block_rows,
            0,
        );
        let (queries, floats) = floats.split_at_mut(QUERIES * width);
        let (sums, floats) = floats.split_at_mut(QUERIES * width);
        let (keys, floats) = floats.split_at_mut(KEYS * width);
        let (values, scores) = floats.split_at_mut(KEYS * width);
        sums.fill(0.0);
        for row in 0..rows {
            simd::prefetch(attention.query(self.first + row, self.head), 0, width);
        }
        let ask_for = |start: usize| {
            for cell in start..cells.min(start + KEYS) {
                attention.keys.prefetch(head, cell);
                attention.values.prefetch(head, cell);
            }
        };
        ask_for(0);
        let views = self
            .views
            .get_or_init(|| views(attention, self.first, rows, block_rows));
        self.arrange_queries(rows, block_rows, queries);
        let mut greatest = [f32::NEG_INFINITY; QUERIES];
        let mut totals = [0.0f32; QUERIES];

        for (start, views) in (0..cells).step_by(KEYS).zip(views.chunks_exact(blocks)) {
            let needed = views.iter().map(|view| view.keys).max().unwrap_or(0);
            if needed == 0 {
                continue;
            }
            ask_for(start + KEYS);
            for key in 0..needed {
                let cell = start + key;
                expand(simd, attention.keys, head, cell, &mut keys[key * width..]);
                expand(
                    simd,
                    attention.values,
                    head,
                    cell,
                    &mut values[key * width..],
                );
            }
            for (block, View { keys: count, mask }) in views.iter().enumerate() {
                let count = *count;
                if count == 0 {
                    continue;
                }
                let first = block * block_rows;
                let queries = &queries[first * width..][..block_rows * width];
                score(
                    simd,
                    &keys[..count * width],
                    queries,
                    attention.scale,
                    scores,
                );
                for (scores, mask) in scores
                    .chunks_exact_mut(S::LANES)
                    .zip(mask.chunks_exact(S::LANES))
                {
                    simd.store(simd.add(simd.load(scores), simd.load(mask)), scores);
                }
                let greatest = &mut greatest[first..][..block_rows];
                let totals = &mut totals[first..][..block_rows];
                let scores = &mut scores[..count * block_rows];
                let corrections = weigh(simd, scores, greatest, totals);
                let sums = &mut sums[first * width..][..block_rows * width];
                mix(simd, scores, &values[..count * width], &corrections, sums);
            }
        }

        self.finish::<S>(&totals[..rows], sums);
    }
}

impl Tile<'_> {
    /// Writes the queries as `[blocks, width, block rows]`. Beyond the last one there are others, of zeros or like the last
    /// one, which see everything.
    #[inline(always)]
    fn arrange_queries(&self, rows: usize, block_rows: usize, queries: &mut [f32]) {
        let width = self.attention.head_width;
        let query = |row: usize| {
            let row = self.first + row.min(rows - 1);
            self.attention.query(row, self.head)
        };
        queries.fill(0.0);
        for row in (0..rows).step_by(4) {
            let (block, lane) = (row / block_rows, row % block_rows);
            turn::to_columns(
                [query(row), query(row + 1), query(row + 2), query(row + 3)],
                &mut queries[block * width * block_rows + lane..],
                block_rows,
            );
        }
    }

    /// Writes sums `[blocks, width, block rows]` divided by each query's total.
    #[inline(always)]
    fn finish<S: Simd>(&self, totals: &[f32], sums: &[f32]) {
        let (width, block_rows) = (self.attention.head_width, 2 * S::LANES);
        let place = self.head * width;
        for row in 0..totals.len() {
            self.output.prefetch(self.first + row, place, width);
        }
        let mut results = [[0.0; super::MAX_HEAD_WIDTH]; 4];
        for (four, totals) in totals.chunks(4).enumerate() {
            let first = 4 * four;
            let (block, lane) = (first / block_rows, first % block_rows);
            let columns = &sums[block * width * block_rows + lane..];
            turn::to_rows(columns, block_rows, width, &mut results);
            for (row, (result, &total)) in results.iter_mut().zip(totals).enumerate() {
                let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
                let result = &mut result[..width];
                for number in &mut *result {
                    *number *= inverse;
                }
                let row = self.first + first + row;
                self.output.write(row, place, result);
            }
        }
    }
}

/// Calls a register block's function for as many rows as fit, then for fewer.
macro_rules! by_rows {
    ($simd:ty, $rows:expr, |$row:ident, $count:ident| $call:expr) => {{
        let (mut $row, rows) = (0, $rows);
        by_rows!(@ <$simd>::MICROKERNEL_ROWS == 8, 8, rows, $row, $count, $call);
        by_rows!(@ <$simd>::MICROKERNEL_ROWS == 6, 6, rows, $row, $count, $call);
        by_rows!(@ true, 4, rows, $row, $count, $call);
        by_rows!(@ true, 2, rows, $row, $count, $call);
        by_rows!(@ true, 1, rows, $row, $count, $call);
    }};
    (@ $condition:expr, $size:literal, $rows:ident, $row:ident, $count:ident, $call:expr) => {
        if $condition {
            const $count: usize = $size;
            while $rows - $row >= $size {
                $call;
                $row += $size;
            }
        }
    };
}

/// Scores `[keys, queries]` of keys `[keys, width]` and queries `[width, queries]`.
#[inline(always)]
fn score<S: Simd>(simd: S, keys: &[f32], queries: &[f32], factor: f32, scores: &mut [f32]) {
    let block_rows = 2 * S::LANES;
    let width = queries.len() / block_rows;
    by_rows!(S, keys.len() / width, |row, COUNT| score_rows::<S, COUNT>(
        simd,
        &keys[row * width..],
        queries,
        factor,
        &mut scores[row * block_rows..]
    ));
}

/// Scores of `R` keys.
#[inline(always)]
fn score_rows<S: Simd, const R: usize>(
    simd: S,
    keys: &[f32],
    queries: &[f32],
    factor: f32,
    scores: &mut [f32],
) {
    let block_rows = 2 * S::LANES;
    let width = queries.len() / block_rows;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &keys[index * width..][..width];
    }
    let mut held = [[simd.splat(0.0); 2]; R];
    for (column, queries) in (0..width).zip(queries.chunks_exact(block_rows)) {
        let (left, right) = (simd.load(queries), simd.load(&queries[S::LANES..]));
        for (held, row) in held.iter_mut().zip(&rows) {
            let key = simd.splat(row[column]);
            held[0] = simd.fma(left, key, held[0]);
            held[1] = simd.fma(right, key, held[1]);
        }
    }
    let factor = simd.splat(factor);
    for (held, scores) in held.iter().zip(scores.chunks_exact_mut(block_rows)) {
        simd.store(simd.mul(held[0], factor), scores);
        simd.store(simd.mul(held[1], factor), &mut scores[S::LANES..]);
    }
}

/// Turns scores `[keys, queries]` into weights, adds them to each query's total, and gives the factor
/// that corrects what was summed before.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    scores: &mut [f32],
    greatest: &mut [f32],
    totals: &mut [f32],
) -> [f32; 2 * MAX_LANES] {
    let block_rows = 2 * S::LANES;
    let mut highest = [simd.splat(f32::NEG_INFINITY); 2];
    for scores in scores.chunks_exact(block_rows) {
        highest[0] = simd.max(highest[0], simd.load(scores));
        highest[1] = simd.max(highest[1], simd.load(&scores[S::LANES..]));
    }
    let mut tile_greatest = [0.0f32; 2 * MAX_LANES];
    simd.store(highest[0], &mut tile_greatest);
    simd.store(highest[1], &mut tile_greatest[S::LANES..]);
    let mut corrections = [0.0f32; 2 * MAX_LANES];
    // What is subtracted from scores; a query that sees nothing yet has no number for it.
    let mut negative = [0.0f32; 2 * MAX_LANES];
    let mut corrected = false;
    for lane in 0..block_rows {
        let old = greatest[lane];
        let new = old.max(tile_greatest[lane]);
        if new > old {
            corrections[lane] = old - new;
            corrected = true;
        }
        greatest[lane] = new;
        negative[lane] = if new == f32::NEG_INFINITY { 0.0 } else { -new };
    }
    if corrected {
        simd.exp_libm(&mut corrections[..block_rows]);
    } else {
        corrections.fill(1.0);
    }
    for half in 0..2 {
        let first = half * S::LANES;
        let negative = simd.load(&negative[first..]);
        let mut groups = [simd.splat(0.0); KEYS / 8];
        let mut group_count = 0;
        for (group, scores) in groups
            .iter_mut()
            .zip(scores.chunks_mut(S::LANES * block_rows))
        {
            let mut weights = [simd.splat(0.0); MAX_LANES];
            for (weight, scores) in weights.iter_mut().zip(scores.chunks_exact_mut(block_rows)) {
                *weight = simd.exp(simd.add(simd.load(&scores[first..]), negative));
                simd.store(*weight, &mut scores[first..]);
            }
            let mut count = S::LANES / 2;
            while count > 0 {
                for index in 0..count {
                    weights[index] = simd.add(weights[index], weights[index + count]);
                }
                count /= 2;
            }
            *group = weights[0];
            group_count += 1;
        }
        let total = simd.mul(
            simd.load(&totals[first..]),
            simd.load(&corrections[first..]),
        );
        let total = simd.add_in_f64(total, &groups[..group_count]);
        simd.store(total, &mut totals[first..]);
    }
    corrections
}

/// Corrects sums `[width, queries]` and adds values `[keys, width]` by weights `[keys, queries]`.
#[inline(always)]
fn mix<S: Simd>(simd: S, weights: &[f32], values: &[f32], corrections: &[f32], sums: &mut [f32]) {
    let block_rows = 2 * S::LANES;
    let width = sums.len() / block_rows;
    by_rows!(S, width, |row, COUNT| mix_rows::<S, COUNT>(
        simd,
        weights,
        values,
        width,
        row,
        corrections,
        &mut sums[row * block_rows..]
    ));
}

/// Sums of `R` columns of values, from column `first` on.
#[inline(always)]
fn mix_rows<S: Simd, const R: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    width: usize,
    first: usize,
    corrections: &[f32],
    sums: &mut [f32],
) {
    let block_rows = 2 * S::LANES;
    let (left, right) = (simd.load(corrections), simd.load(&corrections[S::LANES..]));
    let mut held = [[simd.splat(0.0); 2]; R];
    for (held, sums) in held.iter_mut().zip(sums.chunks_exact(block_rows)) {
        held[0] = simd.mul(simd.load(sums), left);
        held[1] = simd.mul(simd.load(&sums[S::LANES..]), right);
    }
    for (weights, values) in weights
        .chunks_exact(block_rows)
        .zip(values.chunks_exact(width))
    {
        let (left, right) = (simd.load(weights), simd.load(&weights[S::LANES..]));
        for (held, &value) in held.iter_mut().zip(&values[first..][..R]) {
            let value = simd.splat(value);
            held[0] = simd.fma(left, value, held[0]);
            held[1] = simd.fma(right, value, held[1]);
        }
    }
    for (held, sums) in held.iter().zip(sums.chunks_exact_mut(block_rows)) {
        simd.store(held[0], sums);
        simd.store(held[1], &mut sums[S::LANES..]);
    }
}
