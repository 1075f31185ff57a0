//! Attention of one token or a few, for some of the heads: decoding, and checking drafted tokens.
//!
//! A token's result depends on its query, on the cells it sees and on nothing else: not on the
//! other tokens, nor on how many cells the mask spans. So a token gets the same bits whether it is
//! decoded alone or checked in a draft. Tokens only take turns with the keys and values of a block
//! of cells and a head, which the first of them brings into the cache.
//!
//! Below [`SPLIT_CELLS`] cells the arithmetic is that of ggml for one token: keys in their order,
//! the maximum and the sum of weights rescaled whenever a score exceeds all before it, and with f16
//! values the accumulators rounded to f16 after each key. From there on ggml splits the cells by
//! its number of threads; here they are taken in fixed blocks, accumulated in f32.

use std::ops::Range;

use half::f16;

use super::kv_tensor::{Dequantize, Head, KvTensor, QuantizeQ8_0};
use super::operands::{Attention, is_visible};
use super::output::Output;
use super::scores::{DotKeys, Prefetch};
use super::scratch::Scratch;
use super::softmax::{Block, KEYS, SoftmaxV, State, Values};
use crate::simd::{BLOCK, MAX_INTERLEAVE, MAX_LANES, Q4_0_BYTES, Q8_0_BYTES, Simd, Task};

/// Cells (in steps of [`GRAPH_STEP`], as graphs are built for them) from which on ggml splits them.
const SPLIT_CELLS: usize = 512;

/// Cells are added to graphs in such steps.
const GRAPH_STEP: usize = 32;

/// The most tokens that take turns.
pub(super) const MAX_TOKENS: usize = 16;

/// The work: attention of some tokens in some heads.
pub(super) struct DecodeRows<'a> {
    pub(super) attention: &'a Attention<'a>,
    /// At most [`MAX_TOKENS`].
    pub(super) tokens: Range<usize>,
    pub(super) heads: Range<usize>,
    pub(super) output: &'a Output<'a>,
}

/// The cells that a token sees among [`KEYS`] of them.
struct VisibleCells {
    cells: [u32; KEYS],
    masks: [f32; KEYS],
    count: usize,
}

impl VisibleCells {
    const NONE: Self = Self {
        cells: [0; KEYS],
        masks: [0.0; KEYS],
        count: 0,
    };

    /// Makes it those of `range`.
    #[inline(always)]
    fn find(&mut self, mask: &[f16], range: Range<usize>) {
        self.count = 0;
        for cell in range {
            if is_visible(mask[cell]) {
                self.cells[self.count] = cell as u32;
                // Nearly always 0; the conversion is a call.
                self.masks[self.count] = if mask[cell].to_bits() == 0 {
                    0.0
                } else {
                    mask[cell].to_f32()
                };
                self.count += 1;
            }
        }
    }
}

/// Values of neighbouring heads in a block of cells, dequantized for all tokens.
struct DequantizedValues<'a> {
    /// `[KEYS, heads × head_width]`.
    rows: &'a mut [f32],
    /// The block's first cell.
    start: usize,
    /// A bit for each of its cells that is dequantized.
    ready: u64,
}

impl DequantizedValues<'_> {
    /// The row that holds the values of `cell`. `heads` are all of these heads.
    #[inline(always)]
    fn row<S: Simd>(&mut self, simd: S, values: KvTensor<'_>, heads: Head, cell: usize) -> u32 {
        let row = cell - self.start;
        if self.ready >> row & 1 == 0 {
            self.ready |= 1 << row;
            simd.vectorize(Dequantize {
                tensor: values,
                head: heads,
                cell,
                to: &mut self.rows[row * heads.width..][..heads.width],
            });
        }
        row as u32
    }
}

impl<S: Simd> Task<S> for DecodeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Attention {
            keys,
            values,
            cells,
            head_width,
            ..
        } = *self.attention;
        let mask = |token: usize| &self.attention.mask[token * cells..][..cells];
        let mut ends = [0; MAX_TOKENS];
        for (end, token) in ends.iter_mut().zip(self.tokens.clone()) {
            let last = mask(token).iter().rposition(|&mask| is_visible(mask));
            *end = last.map_or(0, |last| last + 1);
        }
        let last_end = ends.into_iter().fold(0, usize::max);
        keys.prefetch(self.attention.head(self.heads.start), 0..last_end.min(KEYS));
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

        // Below it, a cell has another one in the next block.
        let prefetch_until = last_end.saturating_sub(KEYS);
        let mut visible = [VisibleCells::NONE; MAX_TOKENS];
        for start in (0..last_end).step_by(KEYS) {
            for ((visible, &end), token) in visible.iter_mut().zip(&ends).zip(self.tokens.clone()) {
                visible.find(mask(token), start..end.min(start + KEYS));
            }
            let mut first = 0;
            while first < heads {
                let group = first..first + next_heads(heads - first, S::INTERLEAVE);
                first = group.end;
                let mut dequantized = DequantizedValues {
                    rows: &mut *dequantized,
                    start,
                    ready: 0,
                };
                for token in 0..self.tokens.len() {
                    let visible = &visible[token];
                    if visible.count == 0 {
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
                        let prefetch =
                            (token == 0).then(|| self.prefetch(index, start, prefetch_until));
                        self.score(simd, index, visible, query, prefetch, scores);
                    }
                    let rows = token * heads + group.start..token * heads + group.end;
                    let state = State {
                        maxima: &mut maxima[rows.clone()],
                        totals: &mut totals[rows.clone()],
                        accumulators: &mut accumulators[rows.start * padded..rows.end * padded],
                        padded,
                    };
                    let graph_cells = ends[token].next_multiple_of(GRAPH_STEP);
                    let block = Block {
                        cells: &visible.cells[..visible.count],
                        scores,
                        rescale_once: ggml_splits && graph_cells >= SPLIT_CELLS,
                        state,
                    };
                    // The first token prefetches for all.
                    let until = if token == 0 { prefetch_until } else { 0 };
                    self.add_values(simd, group.clone(), until, block, &mut dequantized);
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
        (
            self.tokens.start + row / heads,
            self.heads.start + row % heads,
        )
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

    /// Adds values, weighted by scores, for neighbouring heads; for cells below `prefetch_until`
    /// those of the next block are prefetched.
    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        simd: S,
        group: Range<usize>,
        prefetch_until: usize,
        block: Block<'_>,
        dequantized: &mut DequantizedValues<'_>,
    ) {
        let head = self.attention.head(self.heads.start + group.start);
        let mut rows = [0; KEYS];
        match self.attention.values {
            KvTensor::F32(values) => simd.vectorize(SoftmaxV::<_, false> {
                values: Values::new(values, head, prefetch_until),
                block,
            }),
            KvTensor::F16(values) => simd.vectorize(SoftmaxV::<_, true> {
                values: Values::new(values, head, prefetch_until),
                block,
            }),
            values @ (KvTensor::Q8_0(_) | KvTensor::Q4_0(_)) => {
                let heads = Head {
                    width: head.width * group.len(),
                    ..head
                };
                for (row, &cell) in rows.iter_mut().zip(block.cells) {
                    *row = dequantized.row(simd, values, heads, cell as usize);
                }
                let head = Head {
                    stride: heads.width,
                    first: 0,
                    width: head.width,
                };
                simd.vectorize(SoftmaxV::<_, false> {
                    values: Values::new(&*dequantized.rows, head, 0),
                    block: Block {
                        cells: &rows[..block.cells.len()],
                        ..block
                    },
                });
            }
        }
    }

    /// What to prefetch while the keys of a block are read: nothing has prefetched those of the
    /// first block.
    #[inline(always)]
    fn prefetch(&self, index: usize, start: usize, until: usize) -> Prefetch<'_> {
        Prefetch {
            until,
            next_head: start == 0 && index + 1 < self.heads.len(),
            values: (start == 0).then_some(self.attention.values),
        }
    }

    /// The scores of the visible cells in one of the heads, scaled and masked.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        index: usize,
        visible: &VisibleCells,
        query: Query<'_>,
        prefetch: Option<Prefetch<'_>>,
        scores: &mut [f32; KEYS],
    ) {
        let head = self.attention.head(self.heads.start + index);
        let cells = &visible.cells[..visible.count];
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
        for (score, &mask) in scores[..visible.count].iter_mut().zip(&visible.masks) {
            *score = simd.fma_scalar(*score, self.attention.scale, mask);
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
