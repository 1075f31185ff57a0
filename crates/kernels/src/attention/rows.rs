//! Attention of one token or a few, for some of the heads: decoding, and checking proposals.
//!
//! A row's result depends on its query, on the cells it sees and on nothing else: not on the other
//! tokens, nor on how many cells the mask spans. So a token gets the same bits whether it is decoded
//! alone or checked among proposals. Tokens only take turns with the keys and values of a block of cells
//! and a head, which the first of them brings into the cache.
//!
//! Up to [`LONG`] cells the arithmetic is that of ggml on one token: keys in their order, the maximum
//! and the sum of weights corrected whenever a score exceeds all before it, and with half precision
//! values the sum of values rounded to half precision after each key. Beyond, ggml splits the cells by
//! its number of threads; here they are taken in fixed blocks, the sums in single precision.

use std::ops::Range;

use half::f16;

use super::output::Output;
use super::products::{Ahead, Products};
use super::scratch::Scratch;
use super::table::{Head, Table, expand, quantize_q8_0};
use super::weighing::{KEYS, Scored, State, Values, Weighing};
use super::{Attention, is_visible};
use crate::simd::{BLOCK, MAX_INTERLEAVE, MAX_LANES, Q4_0_BYTES, Q8_0_BYTES, Simd, Task};

/// Cells (in steps of [`STEP`], as graphs are built for them) from which on ggml splits them.
const LONG: usize = 512;

/// Cells are added to graphs in such steps.
const STEP: usize = 32;

/// Most tokens that take turns.
pub(super) const TOGETHER: usize = 16;

/// The work.
pub(super) struct Rows<'a> {
    pub(super) attention: &'a Attention<'a>,
    /// At most [`TOGETHER`].
    pub(super) tokens: Range<usize>,
    pub(super) heads: Range<usize>,
    pub(super) output: &'a Output<'a>,
}

/// The cells seen among [`KEYS`] in a row.
struct Seen {
    cells: [u32; KEYS],
    masks: [f32; KEYS],
    count: usize,
}

impl Seen {
    const NOTHING: Self = Self {
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

/// Values of neighbouring heads in a block of cells, expanded for all tokens.
struct Expanded<'a> {
    /// `[KEYS, heads × head_width]`.
    numbers: &'a mut [f32],
    /// The block's first cell.
    start: usize,
    /// A bit for each of its cells that is there.
    ready: u64,
}

impl Expanded<'_> {
    /// Where the values of `cell` are. `heads` are all of these heads.
    #[inline(always)]
    fn place<S: Simd>(&mut self, simd: S, values: Table<'_>, heads: Head, cell: usize) -> u32 {
        let place = cell - self.start;
        if self.ready >> place & 1 == 0 {
            self.ready |= 1 << place;
            let to = &mut self.numbers[place * heads.width..][..heads.width];
            expand(simd, values, heads, cell, to);
        }
        place as u32
    }
}

impl<S: Simd> Task<S> for Rows<'_> {
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
        let mut ends = [0; TOGETHER];
        for (end, token) in ends.iter_mut().zip(self.tokens.clone()) {
            let last = mask(token).iter().rposition(|&mask| is_visible(mask));
            *end = last.map_or(0, |last| last + 1);
        }
        let last_end = ends.into_iter().fold(0, usize::max);
        for cell in 0..last_end.min(KEYS) {
            keys.prefetch(self.attention.head(self.heads.start), cell);
        }
        let splits = matches!(
            (keys, values),
            (Table::F32(_), Table::F32(_)) | (Table::F16(_), Table::F16(_))
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
        let (sums, floats) = floats.split_at_mut(count * padded);
        let (expanded, floats) = floats.split_at_mut(KEYS * MAX_INTERLEAVE * padded);
        let (greatest, totals) = floats.split_at_mut(count);
        sums.fill(0.0);
        greatest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        self.prepare(simd, padded, queries, bytes);

        // Cells that a block's length further on there is another one.
        let until = last_end.saturating_sub(KEYS);
        let mut seen = [Seen::NOTHING; TOGETHER];
        for start in (0..last_end).step_by(KEYS) {
            for ((seen, &end), token) in seen.iter_mut().zip(&ends).zip(self.tokens.clone()) {
                seen.find(mask(token), start..end.min(start + KEYS));
            }
            let mut first = 0;
            while first < heads {
                let group = first..first + side_by_side(heads - first, S::INTERLEAVE);
                first = group.end;
                let mut expanded = Expanded {
                    numbers: &mut *expanded,
                    start,
                    ready: 0,
                };
                for token in 0..self.tokens.len() {
                    let seen = &seen[token];
                    if seen.count == 0 {
                        continue;
                    }
                    let mut scores = [[f32::NEG_INFINITY; KEYS]; MAX_INTERLEAVE];
                    let scores = &mut scores[..group.len()];
                    for (index, scores) in group.clone().zip(&mut *scores) {
                        let row = token * heads + index;
                        let query = Query {
                            numbers: &queries[row * padded..][..head_width],
                            blocks: &bytes[row * query_bytes..][..query_bytes],
                        };
                        let ahead = (token == 0).then(|| self.ahead(index, start, until));
                        self.score(simd, index, seen, query, ahead, scores);
                    }
                    let rows = token * heads + group.start..token * heads + group.end;
                    let state = State {
                        greatest: &mut greatest[rows.clone()],
                        totals: &mut totals[rows.clone()],
                        sums: &mut sums[rows.start * padded..rows.end * padded],
                        padded,
                    };
                    let scored = Scored {
                        cells: &seen.cells[..seen.count],
                        scores,
                        at_once: splits && ends[token].next_multiple_of(STEP) >= LONG,
                        state,
                    };
                    // The first asks for what all need later.
                    let until = if token == 0 { until } else { 0 };
                    self.weigh(simd, group.clone(), until, scored, &mut expanded);
                }
            }
        }
        self.finish(padded, totals, sums);
    }
}

impl Rows<'_> {
    /// Where a row's query and results are: token and head.
    #[inline(always)]
    fn token_and_head(&self, row: usize) -> (usize, usize) {
        let heads = self.heads.len();
        (
            self.tokens.start + row / heads,
            self.heads.start + row % heads,
        )
    }

    /// Writes the queries as the keys want them, a token's heads one after the other, each filled up to `padded`.
    #[inline(always)]
    fn prepare<S: Simd>(&self, simd: S, padded: usize, queries: &mut [f32], bytes: &mut [u8]) {
        let width = self.attention.head_width;
        let query_bytes = width / BLOCK * Q8_0_BYTES;
        for (row, place) in queries.chunks_exact_mut(padded).enumerate() {
            let (token, head) = self.token_and_head(row);
            let query = self.attention.query(token, head);
            place[..width].copy_from_slice(query);
            place[width..].fill(0.0);
            match self.attention.keys {
                Table::F32(_) => {}
                Table::F16(_) => round_to_half(simd, place),
                Table::Q8_0(_) | Table::Q4_0(_) => {
                    quantize_q8_0(query, &mut bytes[row * query_bytes..][..query_bytes]);
                }
            }
        }
    }

    /// Writes each row's sums divided by its total.
    #[inline(always)]
    fn finish(&self, padded: usize, totals: &[f32], sums: &mut [f32]) {
        let width = self.attention.head_width;
        for (row, (&total, sums)) in totals.iter().zip(sums.chunks_exact_mut(padded)).enumerate() {
            let (token, head) = self.token_and_head(row);
            let sums = &mut sums[..width];
            let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
            for sum in &mut *sums {
                *sum *= inverse;
            }
            self.output.write(token, head * width, sums);
        }
    }

    /// Adds values, weighted by scores, for neighbouring heads; those a block further on, of cells below `until`, are asked for.
    #[inline(always)]
    fn weigh<S: Simd>(
        &self,
        simd: S,
        group: Range<usize>,
        until: usize,
        scored: Scored<'_>,
        expanded: &mut Expanded<'_>,
    ) {
        let head = self.attention.head(self.heads.start + group.start);
        let mut places = [0; KEYS];
        match self.attention.values {
            Table::F32(values) => simd.vectorize(Weighing::<_, false> {
                values: Values::new(values, head, until),
                scored,
            }),
            Table::F16(values) => simd.vectorize(Weighing::<_, true> {
                values: Values::new(values, head, until),
                scored,
            }),
            values @ (Table::Q8_0(_) | Table::Q4_0(_)) => {
                let heads = Head {
                    width: head.width * group.len(),
                    ..head
                };
                for (place, &cell) in places.iter_mut().zip(scored.cells) {
                    *place = expanded.place(simd, values, heads, cell as usize);
                }
                let head = Head {
                    row: heads.width,
                    first: 0,
                    width: head.width,
                };
                simd.vectorize(Weighing::<_, false> {
                    values: Values::new(&*expanded.numbers, head, 0),
                    scored: Scored {
                        cells: &places[..scored.cells.len()],
                        ..scored
                    },
                });
            }
        }
    }

    /// What to ask for when keys of a block are read: the first block's were asked for by nobody.
    #[inline(always)]
    fn ahead(&self, index: usize, start: usize, until: usize) -> Ahead<'_> {
        Ahead {
            until,
            next_head: start == 0 && index + 1 < self.heads.len(),
            values: (start == 0).then_some(self.attention.values),
        }
    }

    /// The scores of the cells that are seen by one of the heads, scaled and masked.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        index: usize,
        seen: &Seen,
        query: Query<'_>,
        ahead: Option<Ahead<'_>>,
        scores: &mut [f32; KEYS],
    ) {
        let head = self.attention.head(self.heads.start + index);
        let cells = &seen.cells[..seen.count];
        match self.attention.keys {
            Table::F32(keys) => simd.vectorize(Products {
                keys,
                head,
                cells,
                query: query.numbers,
                ahead,
                to: scores,
            }),
            Table::F16(keys) => simd.vectorize(Products {
                keys,
                head,
                cells,
                query: query.numbers,
                ahead,
                to: scores,
            }),
            Table::Q8_0(data) => {
                let head = head.in_blocks(Q8_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = simd.dot_q8_0(head.of(data, cell as usize), query.blocks);
                }
            }
            Table::Q4_0(data) => {
                let head = head.in_blocks(Q4_0_BYTES);
                for (score, &cell) in scores.iter_mut().zip(cells) {
                    *score = simd.dot_q4_0(head.of(data, cell as usize), query.blocks);
                }
            }
        }
        for (score, &mask) in scores[..seen.count].iter_mut().zip(&seen.masks) {
            *score = simd.fma_scalar(*score, self.attention.scale, mask);
        }
    }
}

/// How many of so many heads to take next: `most` or one.
fn side_by_side(heads: usize, most: usize) -> usize {
    if heads >= most { most } else { 1 }
}

/// A row's query, as the keys want it.
#[derive(Clone, Copy)]
struct Query<'a> {
    /// `[head_width]`
    numbers: &'a [f32],
    /// `q8_0` blocks, for keys in blocks.
    blocks: &'a [u8],
}

/// Rounds whole vectors to half floats' numbers.
#[inline(always)]
fn round_to_half<S: Simd>(simd: S, numbers: &mut [f32]) {
    for vector in numbers.chunks_exact_mut(S::LANES) {
        let rounded = simd.round_to_f16(simd.load(vector));
        simd.store(rounded, vector);
    }
}
