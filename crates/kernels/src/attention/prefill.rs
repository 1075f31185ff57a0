//! Attention of many tokens of one list of cells at once, in tiles of queries and keys.
//!
//! The lanes of a vector are queries: keys and values are read as they lie, and maxima and sums of
//! weights are those of single lanes, without a reduction across a vector. Everything is f32;
//! orders of additions are ggml's, whose tiles have as many keys.

use std::sync::OnceLock;

use super::kv_tensor::Dequantize;
use super::operands::{Attention, MAX_HEAD_WIDTH};
use super::output::Output;
use super::scratch::Scratch;
use super::transpose;
use crate::simd::{MAX_LANES, Simd, Task};

/// Queries of a tile, at most.
pub(super) const QUERIES: usize = 128;

/// Keys of a tile, at most.
const KEYS: usize = 64;

/// What the blocks of queries in a tile see of each tile of keys: `[tiles of keys, blocks]`. It is
/// the same for all heads; the thread that needs it first computes it.
pub(super) type TileMasks = OnceLock<Vec<BlockMask>>;

/// The work: some queries of one head.
pub(super) struct PrefillTile<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) head: usize,
    /// At most [`QUERIES`].
    pub(super) tokens: &'a [u32],
    /// What these queries see.
    pub(super) masks: &'a TileMasks,
    pub(super) output: &'a Output<'a>,
}

/// What a block of queries sees of a tile of keys.
pub(super) struct BlockMask {
    /// Keys up to the last one that is visible.
    keys: usize,
    /// `[keys, queries of a block]`: added to scores. Empty where every query sees all keys.
    mask: Vec<f32>,
}

/// The masks of queries that see `counts` cells, in blocks of `block_rows`.
fn tile_masks(counts: &[usize], block_rows: usize) -> Vec<BlockMask> {
    let longest = counts.iter().copied().max().unwrap_or(0);
    let starts = (0..longest).step_by(KEYS);
    let blocks = |start: usize| {
        let blocks = counts.chunks(block_rows);
        blocks.map(move |counts| block_mask(counts, start, block_rows))
    };
    starts.flat_map(blocks).collect()
}

/// The mask of a block of `block_rows` queries, of which the first see `counts` cells, for the
/// cells from `start` on.
fn block_mask(counts: &[usize], start: usize, block_rows: usize) -> BlockMask {
    let seen = |count: usize| count.saturating_sub(start).min(KEYS);
    let keys = counts.iter().map(|&count| seen(count)).max().unwrap_or(0);
    let mut mask = Vec::new();
    if counts.iter().any(|&count| seen(count) < keys) {
        mask.resize(keys * block_rows, 0.0);
        for (lane, &count) in counts.iter().enumerate() {
            for column in mask.chunks_exact_mut(block_rows).skip(seen(count)) {
                column[lane] = f32::NEG_INFINITY;
            }
        }
    }
    BlockMask { keys, mask }
}

impl<S: Simd> Task<S> for PrefillTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let attention = self.attention;
        let width = attention.head_width;
        let rows = self.tokens.len();
        let seen = |token: &u32| attention.sights.seen(*token as usize);
        let lists = self.tokens.iter().map(seen);
        let cells = lists.max_by_key(|cells| cells.len()).unwrap_or_default();
        let block_rows = 2 * S::LANES;
        let blocks = rows.div_ceil(block_rows);
        let head = attention.head(self.head);

        let mut scratch = Scratch::take();
        let (floats, _) = scratch.parts(
            2 * QUERIES * width + 2 * KEYS * width + KEYS * block_rows,
            0,
        );
        let (queries, floats) = floats.split_at_mut(QUERIES * width);
        let (accumulators, floats) = floats.split_at_mut(QUERIES * width);
        let (keys, floats) = floats.split_at_mut(KEYS * width);
        let (values, scores) = floats.split_at_mut(KEYS * width);
        accumulators.fill(0.0);
        for row in 0..rows {
            simd.prefetch(self.query(row), 0, width);
        }
        let prefetch = |start: usize| {
            let cells = &cells[start.min(cells.len())..];
            let cells = &cells[..cells.len().min(KEYS)];
            attention.keys.prefetch(head, cells);
            attention.values.prefetch(head, cells);
        };
        prefetch(0);
        let masks = self.masks.get_or_init(|| {
            let counts = self.tokens.iter().map(|token| seen(token).len());
            tile_masks(&counts.collect::<Vec<_>>(), block_rows)
        });
        self.pack_queries(rows, block_rows, queries);
        let mut maxima = [f32::NEG_INFINITY; QUERIES];
        let mut totals = [0.0f32; QUERIES];

        for (start, masks) in (0..cells.len())
            .step_by(KEYS)
            .zip(masks.chunks_exact(blocks))
        {
            let needed = masks.iter().map(|mask| mask.keys).max().unwrap_or(0);
            prefetch(start + KEYS);
            for (tensor, to) in [
                (attention.keys, &mut *keys),
                (attention.values, &mut *values),
            ] {
                simd.vectorize(Dequantize {
                    tensor,
                    head,
                    cells: &cells[start..start + needed],
                    to: &mut to[..needed * width],
                });
            }
            for (block, BlockMask { keys: count, mask }) in masks.iter().enumerate() {
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
                let maxima = &mut maxima[first..][..block_rows];
                let totals = &mut totals[first..][..block_rows];
                let scores = &mut scores[..count * block_rows];
                let corrections = softmax(simd, scores, maxima, totals);
                let accumulators = &mut accumulators[first * width..][..block_rows * width];
                let values = &values[..count * width];
                add_values(simd, scores, values, &corrections, accumulators);
            }
        }

        self.write(simd, &totals[..rows], accumulators);
    }
}

impl PrefillTile<'_> {
    #[inline(always)]
    fn query(&self, row: usize) -> &[f32] {
        let token = self.tokens[row] as usize;
        self.attention.query(token, self.head)
    }

    /// Packs the queries as `[blocks, width, block rows]`. Behind the last one there are others, of
    /// zeros or like the last one, which see everything.
    #[inline(always)]
    fn pack_queries(&self, rows: usize, block_rows: usize, queries: &mut [f32]) {
        let width = self.attention.head_width;
        let query = |row: usize| self.query(row.min(rows - 1));
        queries.fill(0.0);
        for row in (0..rows).step_by(4) {
            let (block, lane) = (row / block_rows, row % block_rows);
            transpose::rows_to_columns(
                [query(row), query(row + 1), query(row + 2), query(row + 3)],
                &mut queries[block * width * block_rows + lane..],
                block_rows,
            );
        }
    }

    /// Writes accumulators `[blocks, width, block rows]` divided by each query's sum of weights.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, totals: &[f32], accumulators: &[f32]) {
        let (width, block_rows) = (self.attention.head_width, 2 * S::LANES);
        let place = self.head * width;
        for row in 0..totals.len() {
            let token = self.tokens[row] as usize;
            self.output.prefetch(simd, token, place, width);
        }
        let mut results = [[0.0; MAX_HEAD_WIDTH]; 4];
        for (four, totals) in totals.chunks(4).enumerate() {
            let first = 4 * four;
            let (block, lane) = (first / block_rows, first % block_rows);
            let columns = &accumulators[block * width * block_rows + lane..];
            transpose::columns_to_rows(columns, block_rows, width, &mut results);
            for (row, (result, &total)) in results.iter_mut().zip(totals).enumerate() {
                let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
                let result = &mut result[..width];
                for value in &mut *result {
                    *value *= inverse;
                }
                let token = self.tokens[first + row] as usize;
                self.output.write(token, place, result);
            }
        }
    }
}

/// Calls a microkernel for as many rows as fit, then for fewer.
macro_rules! by_rows {
    ($simd:ty, $rows:expr, |$row:ident, $count:ident| $call:expr) => {{
        let (mut $row, rows) = (0, $rows);
        by_rows!(@ <$simd>::MICROKERNEL_ROWS == 8, 8, rows, $row, $count, $call);
        by_rows!(@ <$simd>::MICROKERNEL_ROWS == 6, 6, rows, $row, $count, $call);
        by_rows!(@ true, 4, rows, $row, $count, $call);
        by_rows!(@ !<$simd>::COMPACT, 2, rows, $row, $count, $call);
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
fn score<S: Simd>(simd: S, keys: &[f32], queries: &[f32], scale: f32, scores: &mut [f32]) {
    let block_rows = 2 * S::LANES;
    let width = queries.len() / block_rows;
    by_rows!(S, keys.len() / width, |row, COUNT| score_rows::<S, COUNT>(
        simd,
        &keys[row * width..],
        queries,
        scale,
        &mut scores[row * block_rows..]
    ));
}

/// The microkernel of scores, for `R` keys.
#[inline(always)]
fn score_rows<S: Simd, const R: usize>(
    simd: S,
    keys: &[f32],
    queries: &[f32],
    scale: f32,
    scores: &mut [f32],
) {
    let block_rows = 2 * S::LANES;
    let width = queries.len() / block_rows;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &keys[index * width..][..width];
    }
    let mut accumulators = [[simd.splat(0.0); 2]; R];
    for (column, queries) in (0..width).zip(queries.chunks_exact(block_rows)) {
        let (left, right) = (simd.load(queries), simd.load(&queries[S::LANES..]));
        for (accumulators, row) in accumulators.iter_mut().zip(&rows) {
            let key = simd.splat(row[column]);
            accumulators[0] = simd.fma(left, key, accumulators[0]);
            accumulators[1] = simd.fma(right, key, accumulators[1]);
        }
    }
    let scale = simd.splat(scale);
    for (accumulators, scores) in accumulators.iter().zip(scores.chunks_exact_mut(block_rows)) {
        simd.store(simd.mul(accumulators[0], scale), scores);
        simd.store(simd.mul(accumulators[1], scale), &mut scores[S::LANES..]);
    }
}

/// An online softmax: turns scores `[keys, queries]` into weights, adds them to each query's total,
/// and gives the factor that rescales what was accumulated before.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    scores: &mut [f32],
    maxima: &mut [f32],
    totals: &mut [f32],
) -> [f32; 2 * MAX_LANES] {
    let block_rows = 2 * S::LANES;
    let mut highest = [simd.splat(f32::NEG_INFINITY); 2];
    for scores in scores.chunks_exact(block_rows) {
        highest[0] = simd.max(highest[0], simd.load(scores));
        highest[1] = simd.max(highest[1], simd.load(&scores[S::LANES..]));
    }
    let mut tile_maxima = [0.0f32; 2 * MAX_LANES];
    simd.store(highest[0], &mut tile_maxima);
    simd.store(highest[1], &mut tile_maxima[S::LANES..]);
    let mut corrections = [0.0f32; 2 * MAX_LANES];
    // What is added to scores; 0 for a query that has seen nothing yet, since −∞ − −∞ is NaN.
    let mut negative_maxima = [0.0f32; 2 * MAX_LANES];
    let mut corrected = false;
    for lane in 0..block_rows {
        let old = maxima[lane];
        let new = old.max(tile_maxima[lane]);
        if new > old {
            corrections[lane] = old - new;
            corrected = true;
        }
        maxima[lane] = new;
        negative_maxima[lane] = if new == f32::NEG_INFINITY { 0.0 } else { -new };
    }
    if corrected {
        simd.exp_libm(&mut corrections[..block_rows]);
    } else {
        corrections.fill(1.0);
    }
    for half in 0..2 {
        let first = half * S::LANES;
        let negative_maxima = simd.load(&negative_maxima[first..]);
        let mut groups = [simd.splat(0.0); KEYS / 8];
        let mut group_count = 0;
        for (group, scores) in groups
            .iter_mut()
            .zip(scores.chunks_mut(S::LANES * block_rows))
        {
            let mut weights = [simd.splat(0.0); MAX_LANES];
            for (weight, scores) in weights.iter_mut().zip(scores.chunks_exact_mut(block_rows)) {
                *weight = simd.exp(simd.add(simd.load(&scores[first..]), negative_maxima));
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

/// Rescales accumulators `[width, queries]` and adds values `[keys, width]` by weights `[keys,
/// queries]`.
#[inline(always)]
fn add_values<S: Simd>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    corrections: &[f32],
    accumulators: &mut [f32],
) {
    let block_rows = 2 * S::LANES;
    let width = accumulators.len() / block_rows;
    by_rows!(S, width, |row, COUNT| add_value_rows::<S, COUNT>(
        simd,
        weights,
        values,
        width,
        row,
        corrections,
        &mut accumulators[row * block_rows..]
    ));
}

/// The microkernel of weighted values, for `R` columns of values, from column `first` on.
#[inline(always)]
fn add_value_rows<S: Simd, const R: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    width: usize,
    first: usize,
    corrections: &[f32],
    accumulators: &mut [f32],
) {
    let block_rows = 2 * S::LANES;
    let (left, right) = (simd.load(corrections), simd.load(&corrections[S::LANES..]));
    let mut registers = [[simd.splat(0.0); 2]; R];
    for (registers, from) in registers
        .iter_mut()
        .zip(accumulators.chunks_exact(block_rows))
    {
        registers[0] = simd.mul(simd.load(from), left);
        registers[1] = simd.mul(simd.load(&from[S::LANES..]), right);
    }
    for (weights, values) in weights
        .chunks_exact(block_rows)
        .zip(values.chunks_exact(width))
    {
        let (left, right) = (simd.load(weights), simd.load(&weights[S::LANES..]));
        for (registers, &value) in registers.iter_mut().zip(&values[first..][..R]) {
            let value = simd.splat(value);
            registers[0] = simd.fma(left, value, registers[0]);
            registers[1] = simd.fma(right, value, registers[1]);
        }
    }
    for (registers, to) in registers
        .iter()
        .zip(accumulators.chunks_exact_mut(block_rows))
    {
        simd.store(registers[0], to);
        simd.store(registers[1], &mut to[S::LANES..]);
    }
}
