//! Attention over the KV cache.
//!
//! Each token sees the first cells of a list, that of its sequences ([`Sights`]). Up to 63 tokens
//! of a list are computed row by row ([`decode`]), more in tiles ([`prefill`]): from the same
//! number on as in ggml, and on x86-64 bit-identical to ggml compiled for the same instruction set,
//! where the cells lie one after the other. Results depend neither on the tokens of other lists,
//! nor on where the cells lie, nor on the number of threads or which of them computes what.

mod decode;
mod kv_tensor;
mod operands;
mod output;
mod prefill;
mod scores;
mod scratch;
mod sights;
mod softmax;
mod transpose;

#[cfg(test)]
mod tests;

use super::pool::Pool;
pub use crate::simd::InstructionSet;
use crate::simd::{Simd, Task};
pub use kv_tensor::KvTensor;
pub use operands::{Attention, MAX_HEAD_WIDTH, Queries};
use output::Output;
pub use sights::{Sight, Sights};

/// Writes softmax(scale × queries · keysᵀ) · values to `output` (`[tokens, heads × head_width]`),
/// over the cells that each token sees. A token that sees no cell gets zeros.
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
    /// What is computed in tiles.
    lists: Vec<TiledList<'a>>,
    /// What is not: groups that the heads are cut into.
    groups: usize,
}

/// Tokens of one list of cells, computed in tiles.
struct TiledList<'a> {
    tokens: &'a [u32],
    /// What each tile of queries sees.
    masks: Vec<prefill::TileMasks>,
}

impl<'a> Schedule<'a> {
    /// For a number of threads; none where there is nothing to do.
    fn new(attention: &'a Attention<'a>, threads: usize) -> Option<Self> {
        let sights = attention.sights;
        if sights.tokens() == 0 || attention.heads == 0 {
            return None;
        }
        assert!(
            attention.is_consistent(),
            "attention: tensors shorter than their shapes"
        );
        // Twice as many chunks as threads, so that a thread that is late delays the others less.
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let groups = wanted.div_ceil(sights.turns().max(1)).min(attention.heads);
        let list = |tokens: &'a [u32]| {
            let tiles = tokens.len().div_ceil(prefill::QUERIES);
            TiledList {
                tokens,
                masks: (0..tiles).map(|_| prefill::TileMasks::new()).collect(),
            }
        };
        Some(Self {
            attention,
            lists: sights.tiled().map(list).collect(),
            groups,
        })
    }

    fn output<'o>(&self, output: &'o mut [f32]) -> Output<'o> {
        let width = self.attention.heads * self.attention.head_width;
        assert!(
            output.len() >= self.attention.sights.tokens() * width,
            "attention: output shorter than its shape"
        );
        Output::new(output, width)
    }

    fn chunks(&self) -> usize {
        let tiles: usize = self.lists.iter().map(|list| list.masks.len()).sum();
        tiles * self.attention.heads + self.attention.sights.turns() * self.groups
    }

    /// The work of a chunk. Tiles, which take longest, come first.
    fn work<'w>(&'w self, chunk: usize, output: &'w Output<'w>) -> Work<'w> {
        let attention = self.attention;
        let mut chunk = chunk;
        for TiledList { tokens, masks } in &self.lists {
            let tiles = masks.len();
            if chunk >= tiles * attention.heads {
                chunk -= tiles * attention.heads;
                continue;
            }
            // One head after the other, whose keys and values stay in the cache; of a head's
            // queries the last see most and come first.
            let tile = tiles - 1 - chunk % tiles;
            let first = tile * prefill::QUERIES;
            let last = tokens.len().min(first + prefill::QUERIES);
            return Work::Prefill(prefill::PrefillTile {
                attention,
                head: chunk / tiles,
                tokens: &tokens[first..last],
                masks: &masks[tile],
                output,
            });
        }
        let group = chunk % self.groups;
        let bound = |group: usize| group * attention.heads / self.groups;
        Work::Decode(decode::DecodeRows {
            attention,
            tokens: attention.sights.turn(chunk / self.groups),
            heads: bound(group)..bound(group + 1),
            output,
        })
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
