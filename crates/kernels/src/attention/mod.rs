//! Attention over the cache.
//!
//! Up to 63 tokens each row is computed by itself (`rows`), more in tiles (`tiles`), at the same number as
//! ggml, and on x86-64 with the same roundings as ggml compiled for the same instructions. Results
//! depend neither on the number of threads nor on which thread does what.

mod output;
mod products;
mod rows;
mod scratch;
mod table;
mod tiles;
mod turn;
mod weighing;

#[cfg(test)]
mod tests;

use half::f16;

use super::pool::Pool;
pub use crate::simd::InstructionSet;
use crate::simd::{Simd, Task};
use output::Output;
use table::Head;
pub use table::Table;

/// Widest head that is computed.
pub const MAX_HEAD_WIDTH: usize = 256;

/// Tokens from which on they are computed in tiles.
const TILED: usize = 64;

/// Bits of −∞ as a half float: the cell is not seen.
const MASKED: u16 = 0xfc00;

#[inline(always)]
fn is_visible(mask: f16) -> bool {
    mask.to_bits() != MASKED
}

/// Queries, f32: those of token n begin at element n × `stride`, head after head.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `[tokens, stride]`; the last row may end after its heads.
    pub data: &'a [f32],
    /// Elements from one token's queries to the next's.
    pub stride: usize,
}

/// What attention is computed of.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// `[tokens, heads × head_width]`, at a stride.
    pub queries: Queries<'a>,
    /// `[cells, heads × head_width]`.
    pub keys: Table<'a>,
    /// `[cells, heads × head_width]`.
    pub values: Table<'a>,
    /// `[tokens, cells]`: added to scores. 0 where a token sees a cell, −∞ elsewhere.
    pub mask: &'a [f16],
    /// Queries; from [`TILED`] on, rows are computed in tiles.
    pub tokens: usize,
    /// Cells of the cache that are looked at.
    pub cells: usize,
    /// Attention heads.
    pub heads: usize,
    /// Elements of a head: 1 to [`MAX_HEAD_WIDTH`]; a multiple of 32 where a table has blocks.
    pub head_width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl Attention<'_> {
    /// Whether everything is as long as it must be.
    fn is_consistent(&self) -> bool {
        let width = self.heads * self.head_width;
        let queries = (self.tokens - 1) * self.queries.stride + width;
        (1..=MAX_HEAD_WIDTH).contains(&self.head_width)
            && self.queries.data.len() >= queries
            && self.mask.len() >= self.tokens * self.cells
            && self.keys.holds(self.cells, width, self.head_width)
            && self.values.holds(self.cells, width, self.head_width)
    }

    #[inline(always)]
    fn query(&self, token: usize, head: usize) -> &[f32] {
        &self.queries.data[token * self.queries.stride + head * self.head_width..]
            [..self.head_width]
    }

    #[inline(always)]
    fn head(&self, head: usize) -> Head {
        Head {
            row: self.heads * self.head_width,
            first: head * self.head_width,
            width: self.head_width,
        }
    }
}

/// Writes softmax(scale × queries · keysᵀ + mask) · values to `output` (`[tokens, heads × head_width]`).
/// A token that sees no cell gets zeros.
///
/// # Panics
/// Where something is shorter than its shape says, or a head's width is not one that is computed.
pub fn attend(attention: &Attention<'_>, pool: &Pool, output: &mut [f32]) {
    attend_with(InstructionSet::detect(), attention, pool, output);
}

/// [`attend`], with a chosen instruction set, or the best below it that the processor has.
///
/// # Panics
/// As [`attend`].
pub fn attend_with(
    instruction_set: InstructionSet,
    attention: &Attention<'_>,
    pool: &Pool,
    output: &mut [f32],
) {
    let schedule = Schedule::new(attention, pool.threads());
    let Some(schedule) = schedule else { return };
    let output = schedule.output(output);
    pool.run(schedule.chunks(), &|chunk| {
        instruction_set.dispatch(schedule.work(chunk, &output));
    });
}

/// How the work is cut into chunks.
struct Schedule<'a> {
    attention: &'a Attention<'a>,
    /// Few tokens: groups that the heads are cut into.
    groups: usize,
    /// Many tokens: what each tile of queries sees.
    views: Vec<tiles::Views>,
}

impl<'a> Schedule<'a> {
    /// For a number of threads; none where there is nothing to do.
    fn new(attention: &'a Attention<'a>, threads: usize) -> Option<Self> {
        if attention.tokens == 0 || attention.heads == 0 {
            return None;
        }
        assert!(
            attention.is_consistent(),
            "attention: tensors shorter than their shapes"
        );
        // Twice as many chunks as threads, so that one who is late delays the others less.
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let turns = attention.tokens.div_ceil(rows::TOGETHER);
        let groups = wanted.div_ceil(turns).min(attention.heads);
        let tiles = attention.tokens.div_ceil(tiles::QUERIES);
        let views = if attention.tokens >= TILED { tiles } else { 0 };
        Some(Self {
            attention,
            groups,
            views: (0..views).map(|_| tiles::Views::new()).collect(),
        })
    }

    fn output<'o>(&self, output: &'o mut [f32]) -> Output<'o> {
        let width = self.attention.heads * self.attention.head_width;
        assert!(
            output.len() >= self.attention.tokens * width,
            "attention: output shorter than its shape"
        );
        Output::new(output, width)
    }

    fn chunks(&self) -> usize {
        let tokens = self.attention.tokens;
        if tokens >= TILED {
            self.views.len() * self.attention.heads
        } else {
            tokens.div_ceil(rows::TOGETHER) * self.groups
        }
    }

    /// The work of a chunk.
    fn work<'w>(&'w self, chunk: usize, output: &'w Output<'w>) -> Work<'w> {
        let attention = self.attention;
        if attention.tokens >= TILED {
            // One head after the other, whose keys and values stay in the cache; of a head's queries the last see most and come
            // first.
            let tiles = self.views.len();
            let tile = tiles - 1 - chunk % tiles;
            Work::Tile(tiles::Tile {
                attention,
                head: chunk / tiles,
                first: tile * tiles::QUERIES,
                views: &self.views[tile],
                output,
            })
        } else {
            let group = chunk % self.groups;
            let bound = |group: usize| group * attention.heads / self.groups;
            let first = chunk / self.groups * rows::TOGETHER;
            Work::Rows(rows::Rows {
                attention,
                tokens: first..attention.tokens.min(first + rows::TOGETHER),
                heads: bound(group)..bound(group + 1),
                output,
            })
        }
    }
}

/// A chunk of work.
enum Work<'a> {
    Rows(rows::Rows<'a>),
    Tile(tiles::Tile<'a>),
}

impl<S: Simd> Task<S> for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        match self {
            Self::Rows(rows) => rows.run(simd),
            Self::Tile(tile) => tile.run(simd),
        }
    }
}
