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

use super::lanes::{BLOCK, Lanes, Q4_0_BYTES, Q8_0_BYTES, Task};
use super::output::Output;
use super::products::{CHAINS, Dot, sum_of_vectors};
use super::scratch::Scratch;
use super::table::{Head, Table, expand, quantize_q8_0};
use super::weighing::{KEYS, State, one_by_one, together};
use super::{Attention, is_visible};

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

/// Values of a head in a block of cells, expanded for all tokens.
struct Expanded<'a> {
    /// `[KEYS, head_width]`.
    numbers: &'a mut [f32],
    /// The block's first cell.
    start: usize,
    /// A bit for each of its cells that is there.
    ready: u64,
}

impl Expanded<'_> {
    /// Where the values of `cell` are.
    #[inline(always)]
    fn place<L: Lanes>(&mut self, lanes: L, values: Table<'_>, head: Head, cell: usize) -> u32 {
        let place = cell - self.start;
        if self.ready >> place & 1 == 0 {
            self.ready |= 1 << place;
            let to = &mut self.numbers[place * head.width..][..head.width];
            expand(lanes, values, head, cell, to);
        }
        place as u32
    }
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
        let mask = |token: usize| &self.attention.mask[token * cells..][..cells];
        let mut ends = [0; TOGETHER];
        for (end, token) in ends.iter_mut().zip(self.tokens.clone()) {
            let last = mask(token).iter().rposition(|&mask| is_visible(mask));
            *end = last.map_or(0, |last| last + 1);
        }
        let last_end = ends.into_iter().fold(0, usize::max);
        for cell in 0..last_end.min(KEYS) {
            keys.prefetch(lanes, self.attention.head(self.heads.start), cell);
        }
        let splits = matches!(
            (keys, values),
            (Table::F32(_), Table::F32(_)) | (Table::F16(_), Table::F16(_))
        );

        let padded = head_width.next_multiple_of(super::lanes::MAX_WIDTH);
        let query_bytes = head_width / BLOCK * Q8_0_BYTES;
        let heads = self.heads.len();
        let count = self.tokens.len() * heads;
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
        self.prepare(lanes, padded, queries, bytes);

        let mut seen = [Seen::NOTHING; TOGETHER];
        for start in (0..last_end).step_by(KEYS) {
            for ((seen, &end), token) in seen.iter_mut().zip(&ends).zip(self.tokens.clone()) {
                seen.find(mask(token), start..end.min(start + KEYS));
            }
            for index in 0..heads {
                let head = self.attention.head(self.heads.start + index);
                let mut expanded = Expanded {
                    numbers: &mut *expanded,
                    start,
                    ready: 0,
                };
                for token in 0..self.tokens.len() {
                    let (seen, row) = (&seen[token], token * heads + index);
                    if seen.count == 0 {
                        continue;
                    }
                    let query = &queries[row * padded..][..head_width];
                    let query_blocks = &bytes[row * query_bytes..][..query_bytes];
                    let mut weights = [f32::NEG_INFINITY; KEYS];
                    // The first asks for what all need later.
                    let ahead = (token == 0).then(|| self.ahead(index, start));
                    self.score(lanes, head, seen, query, query_blocks, ahead, &mut weights);
                    let state = State {
                        greatest: &mut greatest[row],
                        total: &mut totals[row],
                        sums: &mut sums[row * padded..][..padded],
                    };
                    let cells = &seen.cells[..seen.count];
                    let long = splits && ends[token].next_multiple_of(STEP) >= LONG;
                    self.add_values(lanes, head, cells, weights, long, state, &mut expanded);
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
    fn prepare<L: Lanes>(&self, lanes: L, padded: usize, queries: &mut [f32], bytes: &mut [u8]) {
        let width = self.attention.head_width;
        let query_bytes = width / BLOCK * Q8_0_BYTES;
        for (row, place) in queries.chunks_exact_mut(padded).enumerate() {
            let (token, head) = self.token_and_head(row);
            let query = self.attention.query(token, head);
            place[..width].copy_from_slice(query);
            place[width..].fill(0.0);
            match self.attention.keys {
                Table::F32(_) => {}
                Table::F16(_) => round_to_half(lanes, place),
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

    /// Adds the values of a head's `cells`, of the given scores.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "where a loop of five levels is cut"
    )]
    fn add_values<L: Lanes>(
        &self,
        lanes: L,
        head: Head,
        cells: &[u32],
        weights: [f32; KEYS],
        long: bool,
        state: State<'_>,
        expanded: &mut Expanded<'_>,
    ) {
        match self.attention.values {
            Table::F32(data) if long => together(lanes, state, data, head, cells, weights),
            Table::F16(data) if long => together(lanes, state, data, head, cells, weights),
            Table::F32(data) => {
                one_by_one::<L, f32, false>(lanes, state, data, head, cells, weights);
            }
            Table::F16(data) => {
                one_by_one::<L, f16, true>(lanes, state, data, head, cells, weights);
            }
            values @ (Table::Q8_0(_) | Table::Q4_0(_)) => {
                let mut places = [0; KEYS];
                for (place, &cell) in places.iter_mut().zip(cells) {
                    *place = expanded.place(lanes, values, head, cell as usize);
                }
                let cells = &places[..cells.len()];
                let (data, head) = (&*expanded.numbers, head.alone());
                one_by_one::<L, f32, false>(lanes, state, data, head, cells, weights);
            }
        }
    }

    /// How many elements later keys are due that are asked for when those of a block are read: a block of cells; for the first
    /// block, which nobody asked for, the next head's as well.
    #[inline(always)]
    fn ahead(&self, index: usize, start: usize) -> [usize; 2] {
        let width = self.attention.head_width;
        let block = KEYS * self.attention.heads * width;
        if start == 0 && index + 1 < self.heads.len() {
            [width, block]
        } else {
            [block; 2]
        }
    }

    /// The scores of the cells that are seen by one of the heads, scaled and masked.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "where a loop of five levels is cut"
    )]
    fn score<L: Lanes>(
        &self,
        lanes: L,
        head: Head,
        seen: &Seen,
        query: &[f32],
        query_blocks: &[u8],
        ahead: Option<[usize; 2]>,
        scores: &mut [f32; KEYS],
    ) {
        let cells = &seen.cells[..seen.count];
        match self.attention.keys {
            Table::F32(data) => self.dots(lanes, data, head, cells, query, ahead, scores),
            Table::F16(data) => self.dots(lanes, data, head, cells, query, ahead, scores),
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

    /// The products of `y` with the keys of `cells`: four side by side where vectors leave nothing over, else one by one.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn dots<L: Lanes, T: Dot>(
        &self,
        lanes: L,
        keys: &[T],
        head: Head,
        cells: &[u32],
        y: &[f32],
        ahead: Option<[usize; 2]>,
        products: &mut [f32; KEYS],
    ) {
        let whole = head.width.is_multiple_of(CHAINS * L::WIDTH);
        let together = if whole { cells.len() / 4 * 4 } else { 0 };
        let (fours, rest) = cells.split_at(together);
        let (of_fours, of_rest) = products.split_at_mut(together);
        for (products, cells) in of_fours.chunks_exact_mut(4).zip(fours.chunks_exact(4)) {
            let mut sums = [lanes.splat(0.0); 4];
            for (sum, &cell) in sums.iter_mut().zip(cells) {
                self.prefetch(lanes, keys, head, cell as usize, ahead);
                *sum = sum_of_vectors(lanes, head.of(keys, cell as usize), y);
            }
            products.copy_from_slice(&lanes.sums(sums));
        }
        for (product, &cell) in of_rest.iter_mut().zip(rest) {
            self.prefetch(lanes, keys, head, cell as usize, ahead);
            *product = T::dot(lanes, head.of(keys, cell as usize), y);
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
        ahead: Option<[usize; 2]>,
    ) {
        let Some(ahead) = ahead else { return };
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
