//! Attention over the KV cache.
//!
//! Up to 63 tokens each row is computed by itself ([`decode`]), more in tiles ([`prefill`]): from
//! the same number on as in ggml, and on x86-64 bit-identical to ggml compiled for the same
//! instruction set. Results depend neither on the number of threads nor on which thread computes
//! what.

mod decode;
mod kv_tensor;
mod operands;
mod output;
mod prefill;
mod scores;
mod scratch;
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

/// Tokens from which on they are computed in tiles.
const PREFILL_TOKENS: usize = 64;

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
