//! Attention over the KV cache.
//!
//! Up to 63 tokens each row is computed by itself ([`decode`]), more in tiles ([`prefill`]): from
//! the same number on as in ggml, and on x86-64 bit-identical to ggml compiled for the same
//! instruction set. Results depend neither on the number of threads nor on which thread computes
//! what.

mod decode;
mod kv_tensor;
mod output;
mod prefill;
mod scores;
mod scratch;
mod softmax;
mod transpose;

#[cfg(test)]
mod tests;

use half::f16;

use super::pool::Pool;
pub use crate::simd::InstructionSet;
use crate::simd::{Simd, Task};
use kv_tensor::Head;
pub use kv_tensor::KvTensor;
use output::Output;

/// The widest head that is computed.
pub const MAX_HEAD_WIDTH: usize = 256;

/// Tokens from which on they are computed in tiles.
const PREFILL_TOKENS: usize = 64;

/// Bits of −∞ as f16: the cell is not visible.
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
    pub keys: KvTensor<'a>,
    /// `[cells, heads × head_width]`.
    pub values: KvTensor<'a>,
    /// `[tokens, cells]`: added to scores. 0 where a token sees a cell, otherwise −∞.
    pub mask: &'a [f16],
    /// Queries; with 64 or more, they are computed in tiles.
    pub tokens: usize,
    /// Cells of the cache that are read.
    pub cells: usize,
    /// Attention heads.
    pub heads: usize,
    /// Elements of a head: 1 to [`MAX_HEAD_WIDTH`]; a multiple of 32 where a tensor has blocks.
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
            stride: self.heads * self.head_width,
            first: head * self.head_width,
            width: self.head_width,
        }
    }
}

/// Writes softmax(scale × queries · keysᵀ + mask) · values to `output` (`[tokens, heads ×
/// head_width]`). A token that sees no cell gets zeros.
///
/// # Panics
/// When something is shorter than its shape says, or the head width is out of range.
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
    masks: Vec<prefill::TileMasks>,
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
        // Twice as many chunks as threads, so that a thread that is late delays the others less.
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let turns = attention.tokens.div_ceil(decode::MAX_TOKENS);
        let groups = wanted.div_ceil(turns).min(attention.heads);
        let tiles = attention.tokens.div_ceil(prefill::QUERIES);
        let tiles = if attention.tokens >= PREFILL_TOKENS {
            tiles
        } else {
            0
        };
        Some(Self {
            attention,
            groups,
            masks: (0..tiles).map(|_| prefill::TileMasks::new()).collect(),
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
        if tokens >= PREFILL_TOKENS {
            self.masks.len() * self.attention.heads
        } else {
            tokens.div_ceil(decode::MAX_TOKENS) * self.groups
        }
    }

    /// The work of a chunk.
    fn work<'w>(&'w self, chunk: usize, output: &'w Output<'w>) -> Work<'w> {
        let attention = self.attention;
        if attention.tokens >= PREFILL_TOKENS {
            // One head after the other, whose keys and values stay in the cache; of a head's
            // queries the last see most and come first.
            let tiles = self.masks.len();
            let tile = tiles - 1 - chunk % tiles;
            Work::Prefill(prefill::PrefillTile {
                attention,
                head: chunk / tiles,
                first: tile * prefill::QUERIES,
                masks: &self.masks[tile],
                output,
            })
        } else {
            let group = chunk % self.groups;
            let bound = |group: usize| group * attention.heads / self.groups;
            let first = chunk / self.groups * decode::MAX_TOKENS;
            Work::Decode(decode::DecodeRows {
                attention,
                tokens: first..attention.tokens.min(first + decode::MAX_TOKENS),
                heads: bound(group)..bound(group + 1),
                output,
            })
        }
    }
}

/// A chunk of work.
enum Work<'a> {
    Decode(decode::DecodeRows<'a>),
    Prefill(prefill::PrefillTile<'a>),
}

impl<S: Simd> Task<S> for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        match self {
            Self::Decode(rows) => rows.run(simd),
            Self::Prefill(tile) => tile.run(simd),
        }
    }
}
