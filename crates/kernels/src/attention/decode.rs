//! Attention of one token or a few, for some of the heads: decoding, and checking drafted tokens.
//!
//! A token's result depends on its query, on the cells it sees and on nothing else: neither on the
//! other tokens nor on where its cells lie. So a token gets the same bits whether it is decoded
//! alone, checked in a draft or computed with other texts. Tokens whose cells begin alike only take
//! turns with the keys and values of a block of cells and a head, which the first of them brings
//! into the cache.
//!
//! Below [`SPLIT_CELLS`] cells the arithmetic is that of ggml for one token: keys in their order,
//! the maximum and the sum of weights rescaled whenever a score exceeds all before it, and with f16
//! values the accumulators rounded to f16 after each key. From there on ggml splits the cells by
//! its number of threads; here they are taken in fixed blocks, accumulated in f32.

use std::ops::Range;

use super::kv_tensor::{Dequantize, Head, KvTensor, QuantizeQ8_0};
use super::operands::Attention;
use super::output::Output;
use super::scores::{DotKeys, Prefetch};
use super::scratch::Scratch;
use super::sights::MAX_TURNS;
use super::softmax::{Block, KEYS, SoftmaxV, State, Values};
use crate::simd::{BLOCK, MAX_INTERLEAVE, MAX_LANES, Q4_0_BYTES, Q8_0_BYTES, Simd, Task};

/// Cells (in steps of [`GRAPH_STEP`]) from which on ggml splits them.
const SPLIT_CELLS: usize = 512;

/// Programs on ggml give it cells in such steps.
const GRAPH_STEP: usize = 32;

/// The work: attention of some tokens in some heads.
pub(super) struct DecodeRows<'a> {
    pub(super) attention: &'a Attention<'a>,
    /// At most [`MAX_TURNS`], whose cells begin alike.
    pub(super) tokens: &'a [u32],
    pub(super) heads: Range<usize>,
    pub(super) output: &'a Output<'a>,
}

/// What a token sees of a block of cells.
#[derive(Clone, Copy, Default)]
struct Seen<'a> {
    /// At most [`KEYS`].
    cells: &'a [u32],
    /// What it sees of the next block.
    next: &'a [u32],
    /// Whether the token prefetches, because none before it has done so.
    prefetches: bool,
    /// See [`Block::rescale_once`].
    rescale_once: bool,
}

/// Values of neighbouring heads in a block of cells, dequantized for all tokens.
struct DequantizedValues<'a> {
    /// `[KEYS, heads × head_width]`.
    rows: &'a mut [f32],
    /// Which cell's values each row has.
    cells: &'a mut [u32; KEYS],
    /// A bit for each row that has any.
    ready: u64,
}

impl DequantizedValues<'_> {
    /// Makes the first rows those of `cells`. `heads` are all of these heads.
    #[inline(always)]
    fn fill<S: Simd>(&mut self, simd: S, values: KvTensor<'_>, heads: Head, cells: &[u32]) {
        for (row, (held, &cell)) in self.cells.iter_mut().zip(cells).enumerate() {
            if self.ready >> row & 1 == 0 || *held != cell {
                self.ready |= 1 << row;
                *held = cell;
                simd.vectorize(Dequantize {
                    tensor: values,
                    head: heads,
                    cells: &[cell],
                    to: &mut self.rows[row * heads.width..][..heads.width],
                });
            }
        }
    }
}

/// Which row of dequantized values belongs to which cell of a block.
const ROWS: [u32; KEYS] = {
    let mut rows = [0; KEYS];
    let mut row = 0;
    while row < KEYS {
        rows[row] = row as u32;
        row += 1;
    }
    rows
};

impl<S: Simd> Task<S> for DecodeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Attention {
            keys,
            values,
            sights,
            head_width,
            ..
        } = *self.attention;
        let mut lists: [&[u32]; MAX_TURNS] = [&[]; MAX_TURNS];
        for (list, &token) in lists.iter_mut().zip(self.tokens) {
            *list = sights.seen(token as usize);
        }
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let first_head = self.attention.head(self.heads.start);
        keys.prefetch(first_head, &lists[0][..lists[0].len().min(KEYS)]);
        let ggml_splits = matches!(
            (keys, values),
            (KvTensor::F32(_), KvTensor::F32(_)) | (KvTensor::F16(_), KvTensor::F16(_))
        );

        let padded = head_width.next_multiple_of(MAX_LANES);
        let query_bytes = head_width / BLOCK * Q8_0_BYTES;
        let heads = self.heads.len();
        let count = self.tokens.len() * heads;
        let mut scratch = Scratch::take();
        let (floats, bytes) = scratch.parts(
            2 * count * padded + KEYS * MAX_INTERLEAVE * padded + 2 * count,
            count * query_bytes,
        );
        let (queries, floats) = floats.split_at_mut(count * padded);
        let (accumulators, floats) = floats.split_at_mut(count * padded);
        let (dequantized, floats) = floats.split_at_mut(KEYS * MAX_INTERLEAVE * padded);
        let (maxima, totals) = floats.split_at_mut(count);
        accumulators.fill(0.0);
        maxima.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        self.prepare_queries(simd, padded, queries, bytes);

        let mut seen = [Seen::default(); MAX_TURNS];
        let mut held = [0; KEYS];
        for start in (0..longest).step_by(KEYS) {
            let mut before: &[u32] = &[];
            for (seen, list) in seen.iter_mut().zip(&lists[..self.tokens.len()]) {
                let list_cells = list.len().next_multiple_of(GRAPH_STEP);
                let rest = &list[start.min(list.len())..];
                let near = &rest[..rest.len().min(2 * KEYS)];
                let (cells, next) = near.split_at(near.len().min(KEYS));
                *seen = Seen {
                    cells,
                    next,
                    prefetches: !before.starts_with(near),
                    rescale_once: ggml_splits && list_cells >= SPLIT_CELLS,
                };
                before = near;
            }
            let mut first = 0;
            while first < heads {
                let group = first..first + next_heads(heads - first, S::INTERLEAVE);
                first = group.end;
                let mut dequantized = DequantizedValues {
                    rows: &mut *dequantized,
                    cells: &mut held,
                    ready: 0,
                };
                for token in 0..self.tokens.len() {
                    let seen = seen[token];
                    if seen.cells.is_empty() {
                        continue;
                    }
                    let mut scores = [[f32::NEG_INFINITY; KEYS]; MAX_INTERLEAVE];
                    let scores = &mut scores[..group.len()];
                    for (index, scores) in group.clone().zip(&mut *scores) {
                        let row = token * heads + index;
                        let query = Query {
                            values: &queries[row * padded..][..head_width],
                            blocks: &bytes[row * query_bytes..][..query_bytes],
                        };
                        let prefetch = seen
                            .prefetches
                            .then(|| self.prefetch(index, start, seen.next));
                        self.score(simd, index, seen.cells, query, prefetch, scores);
                    }
                    let rows = token * heads + group.start..token * heads + group.end;
                    let state = State {
                        maxima: &mut maxima[rows.clone()],
                        totals: &mut totals[rows.clone()],
                        accumulators: &mut accumulators[rows.start * padded..rows.end * padded],
                        padded,
                    };
                    let block = Block {
                        cells: seen.cells,
                        scores,
                        rescale_once: seen.rescale_once,
                        state,
                    };
                    let next: &[u32] = if seen.prefetches { seen.next } else { &[] };
                    self.add_values(simd, group.clone(), next, block, &mut dequantized);
                }
            }
        }
        self.write(padded, totals, accumulators);
    }
}

impl DecodeRows<'_> {
    /// Where a row's query and results are: token and head.
    #[inline(always)]
    fn token_and_head(&self, row: usize) -> (usize, usize) {
        let heads = self.heads.len();
        let token = self.tokens[row / heads] as usize;
        (token, self.heads.start + row % heads)
    }

    /// Converts the queries to what the type of the keys needs, a token's heads one after the
    /// other, each padded to `padded`.
    #[inline(always)]
    fn prepare_queries<S: Simd>(
        &self,
        simd: S,
        padded: usize,
        queries: &mut [f32],
        bytes: &mut [u8],
    ) {
        let width = self.attention.head_width;
        let query_bytes = width / BLOCK * Q8_0_BYTES;
        for (row, place) in queries.chunks_exact_mut(padded).enumerate() {
            let (token, head) = self.token_and_head(row);
            let query = self.attention.query(token, head);
            place[..width].copy_from_slice(query);
            place[width..].fill(0.0);
            match self.attention.keys {
                KvTensor::F32(_) => {}
                KvTensor::F16(_) => round_to_f16(simd, place),
                KvTensor::Q8_0(_) | KvTensor::Q4_0(_) => simd.vectorize(QuantizeQ8_0 {
                    values: query,
                    to: &mut bytes[row * query_bytes..][..query_bytes],
                }),
            }
        }
    }

    /// Writes each row's accumulators divided by its sum of weights.
    #[inline(always)]
    fn write(&self, padded: usize, totals: &[f32], accumulators: &mut [f32]) {
        let width = self.attention.head_width;
        let rows = totals.iter().zip(accumulators.chunks_exact_mut(padded));
        for (row, (&total, accumulators)) in rows.enumerate() {
            let (token, head) = self.token_and_head(row);
            let values = &mut accumulators[..width];
            let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
            for value in &mut *values {
                *value *= inverse;
            }
            self.output.write(token, head * width, values);
        }
    }

    /// Adds values, weighted by scores, for neighbouring heads; those of the cells `next` are
    /// prefetched meanwhile.
    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        simd: S,
        group: Range<usize>,
        next: &[u32],
        block: Block<'_>,
        dequantized: &mut DequantizedValues<'_>,
    ) {
        let head = self.attention.head(self.heads.start + group.start);
        match self.attention.values {
            KvTensor::F32(values) => simd.vectorize(SoftmaxV::<_, false> {
                values: Values::new(values, head, next),
                block,
            }),
            KvTensor::F16(values) => simd.vectorize(SoftmaxV::<_, true> {
                values: Values::new(values, head, next),
                block,
            }),
            values @ (KvTensor::Q8_0(_) | KvTensor::Q4_0(_)) => {
                let heads = Head {
                    width: head.width * group.len(),
                    ..head
                };
                dequantized.fill(simd, values, heads, block.cells);
                let head = Head {
                    stride: heads.width,
                    first: 0,
                    width: head.width,
                };
                simd.vectorize(SoftmaxV::<_, false> {
                    values: Values::new(&*dequantized.rows, head, &[]),
                    block: Block {
                        cells: &ROWS[..block.cells.len()],
                        ..block
                    },
                });
            }
        }
    }

    /// What to prefetch while the keys of a block are read: nothing has prefetched those of the
    /// first block.
    #[inline(always)]
    fn prefetch<'p>(&'p self, index: usize, start: usize, next: &'p [u32]) -> Prefetch<'p> {
        Prefetch {
            next,
            next_head: start == 0 && index + 1 < self.heads.len(),
            values: (start == 0).then_some(self.attention.values),
        }
    }

    /// The scores of `cells` in one of the heads, scaled.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        index: usize,
        cells: &[u32],
        query: Query<'_>,
        prefetch: Option<Prefetch<'_>>,
        scores: &mut [f32; KEYS],
    ) {
        let head = self.attention.head(self.heads.start + index);
        match self.attention.keys {
            KvTensor::F32(keys) => simd.vectorize(DotKeys {
                keys,
                head,
                cells,
                query: query.values,
                prefetch,
                to: scores,
            }),
            KvTensor::F16(keys) => simd.vectorize(DotKeys {
                keys,
                head,
                cells,
                query: query.values,
                prefetch,
                to: scores,
            }),
            KvTensor::Q8_0(data) => {
                let head = head.in_blocks(Q8_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = simd.dot_q8_0(head.of(data, cell as usize), query.blocks);
                }
            }
            KvTensor::Q4_0(data) => {
                let head = head.in_blocks(Q4_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = simd.dot_q4_0(head.of(data, cell as usize), query.blocks);
                }
            }
        }
        for score in &mut scores[..cells.len()] {
            // As ggml, which adds a mask.
            *score = simd.fma_scalar(*score, self.attention.scale, 0.0);
        }
    }
}

/// How many of the remaining `heads` to take next: `max` or one.
fn next_heads(heads: usize, max: usize) -> usize {
    if heads >= max { max } else { 1 }
}

/// A row's query, in the form that the type of the keys needs.
#[derive(Clone, Copy)]
struct Query<'a> {
    /// `[head_width]`
    values: &'a [f32],
    /// `q8_0` blocks, for keys in blocks.
    blocks: &'a [u8],
}

/// Rounds whole vectors to the precision of f16.
#[inline(always)]
fn round_to_f16<S: Simd>(simd: S, values: &mut [f32]) {
    for vector in values.chunks_exact_mut(S::LANES) {
        let rounded = simd.round_to_f16(simd.load(vector));
        simd.store(rounded, vector);
    }
}
