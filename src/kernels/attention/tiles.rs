//! Attention of many tokens at once, in tiles of queries and keys.
//!
//! A vector holds one number for each of several queries: keys and values are read as they lie, and
//! maxima and sums of weights are those of single lanes, without a sum across a vector. Everything is
//! f32; orders of additions are ggml's, whose tiles of keys are as long.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::lanes::{Lanes, MAX_WIDTH, Task};
use super::output::Output;
use super::scratch::Scratch;
use super::table::expand;
use super::{Attention, MASKED, is_visible};

/// Queries in a tile, at most.
pub(super) const QUERIES: usize = 64;

/// Keys in a tile, at most.
const KEYS: usize = 64;

/// Most blocks of queries (two vectors each) in a tile.
const MAX_BLOCKS: usize = QUERIES / 16;

/// The work: some queries of one head.
pub(super) struct Tile<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) head: usize,
    /// The first query.
    pub(super) first: usize,
    pub(super) output: &'a Output<'a>,
}

/// What a block of queries sees of a tile of keys.
#[derive(Clone, Copy)]
struct View {
    /// Keys up to the last one that is seen.
    keys: usize,
    /// Whether each query sees all of these, unchanged.
    whole: bool,
}

/// What `rows` queries from `first` on see of the cells from `start` on.
#[inline(always)]
fn view(attention: &Attention<'_>, first: usize, rows: usize, start: usize) -> View {
    let count = KEYS.min(attention.cells - start);
    let row = |query: usize| -> &[u16] {
        attention.mask[query * attention.cells + start..][..count].reinterpret_cast()
    };
    let (mut any, mut hidden) = (0, 0);
    for query in first..first + rows {
        for &mask in row(query) {
            any |= mask;
            hidden |= mask ^ MASKED;
        }
    }
    if any == 0 {
        return View {
            keys: count,
            whole: true,
        };
    }
    if hidden == 0 {
        return View {
            keys: 0,
            whole: true,
        };
    }
    let mut keys = 0;
    for query in first..first + rows {
        let row = row(query);
        while keys < count && row[keys..].iter().any(|&mask| mask != MASKED) {
            keys = row.iter().rposition(|&mask| mask != MASKED).unwrap_or(0) + 1;
        }
    }
    View { keys, whole: false }
}

impl Task for Tile<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let attention = self.attention;
        let (cells, width) = (attention.cells, attention.head_width);
        let rows = QUERIES.min(attention.tokens - self.first);
        let block_rows = 2 * L::WIDTH;
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
        // Beyond the last query there are others that see everything, of zeros.
        queries.fill(0.0);
        sums.fill(0.0);
        for row in 0..rows {
            let query = attention.query(self.first + row, self.head);
            let (block, lane) = (row / block_rows, row % block_rows);
            let columns = queries[block * width * block_rows..].chunks_exact_mut(block_rows);
            for (column, &number) in columns.zip(query) {
                column[lane] = number;
            }
        }
        let mut greatest = [f32::NEG_INFINITY; QUERIES];
        let mut totals = [0.0f32; QUERIES];

        let mut start = 0;
        while start < cells {
            let mut views = [View {
                keys: 0,
                whole: true,
            }; MAX_BLOCKS];
            let mut needed = 0;
            for (block, place) in views[..blocks].iter_mut().enumerate() {
                let first = block * block_rows;
                let count = block_rows.min(rows - first);
                *place = view(attention, self.first + first, count, start);
                needed = needed.max(place.keys);
            }
            for key in 0..needed {
                let cell = start + key;
                expand(lanes, attention.keys, head, cell, &mut keys[key * width..]);
                expand(
                    lanes,
                    attention.values,
                    head,
                    cell,
                    &mut values[key * width..],
                );
            }
            for (block, &View { keys: count, whole }) in views[..blocks].iter().enumerate() {
                if count == 0 {
                    continue;
                }
                let first = block * block_rows;
                let queries = &queries[first * width..][..block_rows * width];
                score(
                    lanes,
                    &keys[..count * width],
                    queries,
                    attention.scale,
                    scores,
                );
                if !whole {
                    let queries = block_rows.min(rows - first);
                    let first = self.first + first;
                    add_mask(
                        attention,
                        first,
                        queries,
                        start,
                        block_rows,
                        &mut scores[..count * block_rows],
                    );
                }
                let greatest = &mut greatest[first..][..block_rows];
                let totals = &mut totals[first..][..block_rows];
                let scores = &mut scores[..count * block_rows];
                let corrections = weigh(lanes, scores, greatest, totals);
                let sums = &mut sums[first * width..][..block_rows * width];
                mix(lanes, scores, &values[..count * width], &corrections, sums);
            }
            start += KEYS;
        }

        let mut result = [0.0; super::MAX_HEAD_WIDTH];
        for (row, &total) in totals[..rows].iter().enumerate() {
            let (block, lane) = (row / block_rows, row % block_rows);
            let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
            let columns = sums[block * width * block_rows..].chunks_exact(block_rows);
            for (number, column) in result[..width].iter_mut().zip(columns) {
                *number = column[lane] * inverse;
            }
            let place = self.head * width;
            self.output.write(self.first + row, place, &result[..width]);
        }
    }
}

/// Adds the mask's numbers to scores `[keys, block rows]`.
#[inline(always)]
fn add_mask(
    attention: &Attention<'_>,
    first: usize,
    queries: usize,
    start: usize,
    block_rows: usize,
    scores: &mut [f32],
) {
    let count = scores.len() / block_rows;
    for lane in 0..queries {
        let mask = &attention.mask[(first + lane) * attention.cells + start..][..count];
        for (scores, &mask) in scores.chunks_exact_mut(block_rows).zip(mask) {
            if mask.to_bits() != 0 {
                scores[lane] += if is_visible(mask) {
                    f16::to_f32(mask)
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
    }
}

/// Calls a register block's function for as many rows as fit, then for fewer.
macro_rules! by_rows {
    ($lanes:ty, $rows:expr, |$row:ident, $count:ident| $call:expr) => {{
        let (mut $row, rows) = (0, $rows);
        by_rows!(@ <$lanes>::BLOCK_ROWS == 8, 8, rows, $row, $count, $call);
        by_rows!(@ <$lanes>::BLOCK_ROWS == 6, 6, rows, $row, $count, $call);
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
fn score<L: Lanes>(lanes: L, keys: &[f32], queries: &[f32], factor: f32, scores: &mut [f32]) {
    let block_rows = 2 * L::WIDTH;
    let width = queries.len() / block_rows;
    by_rows!(L, keys.len() / width, |row, COUNT| score_rows::<L, COUNT>(
        lanes,
        &keys[row * width..],
        queries,
        factor,
        &mut scores[row * block_rows..]
    ));
}

/// Scores of `R` keys.
#[inline(always)]
fn score_rows<L: Lanes, const R: usize>(
    lanes: L,
    keys: &[f32],
    queries: &[f32],
    factor: f32,
    scores: &mut [f32],
) {
    let block_rows = 2 * L::WIDTH;
    let width = queries.len() / block_rows;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &keys[index * width..][..width];
    }
    let mut held = [[lanes.splat(0.0); 2]; R];
    for (column, queries) in (0..width).zip(queries.chunks_exact(block_rows)) {
        let (left, right) = (lanes.load(queries), lanes.load(&queries[L::WIDTH..]));
        for (held, row) in held.iter_mut().zip(&rows) {
            let key = lanes.splat(row[column]);
            held[0] = lanes.fma(left, key, held[0]);
            held[1] = lanes.fma(right, key, held[1]);
        }
    }
    let factor = lanes.splat(factor);
    for (held, scores) in held.iter().zip(scores.chunks_exact_mut(block_rows)) {
        lanes.store(lanes.mul(held[0], factor), scores);
        lanes.store(lanes.mul(held[1], factor), &mut scores[L::WIDTH..]);
    }
}

/// Turns scores `[keys, queries]` into weights, adds them to each query's total, and gives the factor
/// that corrects what was summed before.
#[inline(always)]
fn weigh<L: Lanes>(
    lanes: L,
    scores: &mut [f32],
    greatest: &mut [f32],
    totals: &mut [f32],
) -> [f32; 2 * MAX_WIDTH] {
    let block_rows = 2 * L::WIDTH;
    let mut highest = [lanes.splat(f32::NEG_INFINITY); 2];
    for scores in scores.chunks_exact(block_rows) {
        highest[0] = lanes.max(highest[0], lanes.load(scores));
        highest[1] = lanes.max(highest[1], lanes.load(&scores[L::WIDTH..]));
    }
    let mut tile_greatest = [0.0f32; 2 * MAX_WIDTH];
    lanes.store(highest[0], &mut tile_greatest);
    lanes.store(highest[1], &mut tile_greatest[L::WIDTH..]);
    let mut corrections = [0.0f32; 2 * MAX_WIDTH];
    // What is subtracted from scores; a query that sees nothing yet has no number for it.
    let mut negative = [0.0f32; 2 * MAX_WIDTH];
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
        lanes.exp_as_libm(&mut corrections[..block_rows]);
    } else {
        corrections.fill(1.0);
    }
    for half in 0..2 {
        let first = half * L::WIDTH;
        let negative = lanes.load(&negative[first..]);
        let mut groups = [lanes.splat(0.0); KEYS / 8];
        let mut group_count = 0;
        for (group, scores) in groups
            .iter_mut()
            .zip(scores.chunks_mut(L::WIDTH * block_rows))
        {
            let mut weights = [lanes.splat(0.0); MAX_WIDTH];
            for (weight, scores) in weights.iter_mut().zip(scores.chunks_exact_mut(block_rows)) {
                *weight = lanes.exp(lanes.add(lanes.load(&scores[first..]), negative));
                lanes.store(*weight, &mut scores[first..]);
            }
            let mut count = L::WIDTH / 2;
            while count > 0 {
                for index in 0..count {
                    weights[index] = lanes.add(weights[index], weights[index + count]);
                }
                count /= 2;
            }
            *group = weights[0];
            group_count += 1;
        }
        let total = lanes.mul(
            lanes.load(&totals[first..]),
            lanes.load(&corrections[first..]),
        );
        let total = lanes.add_in_f64(total, &groups[..group_count]);
        lanes.store(total, &mut totals[first..]);
    }
    corrections
}

/// Corrects sums `[width, queries]` and adds values `[keys, width]` by weights `[keys, queries]`.
#[inline(always)]
fn mix<L: Lanes>(lanes: L, weights: &[f32], values: &[f32], corrections: &[f32], sums: &mut [f32]) {
    let block_rows = 2 * L::WIDTH;
    let width = sums.len() / block_rows;
    by_rows!(L, width, |row, COUNT| mix_rows::<L, COUNT>(
        lanes,
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
fn mix_rows<L: Lanes, const R: usize>(
    lanes: L,
    weights: &[f32],
    values: &[f32],
    width: usize,
    first: usize,
    corrections: &[f32],
    sums: &mut [f32],
) {
    let block_rows = 2 * L::WIDTH;
    let (left, right) = (
        lanes.load(corrections),
        lanes.load(&corrections[L::WIDTH..]),
    );
    let mut held = [[lanes.splat(0.0); 2]; R];
    for (held, sums) in held.iter_mut().zip(sums.chunks_exact(block_rows)) {
        held[0] = lanes.mul(lanes.load(sums), left);
        held[1] = lanes.mul(lanes.load(&sums[L::WIDTH..]), right);
    }
    for (weights, values) in weights
        .chunks_exact(block_rows)
        .zip(values.chunks_exact(width))
    {
        let (left, right) = (lanes.load(weights), lanes.load(&weights[L::WIDTH..]));
        for (held, &value) in held.iter_mut().zip(&values[first..][..R]) {
            let value = lanes.splat(value);
            held[0] = lanes.fma(left, value, held[0]);
            held[1] = lanes.fma(right, value, held[1]);
        }
    }
    for (held, sums) in held.iter().zip(sums.chunks_exact_mut(block_rows)) {
        lanes.store(held[0], sums);
        lanes.store(held[1], &mut sums[L::WIDTH..]);
    }
}
