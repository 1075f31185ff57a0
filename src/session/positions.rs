//! How much of the cache is taken, for whoever divides it.

use super::run::Session;
use crate::model::kv_cache::SequenceSet;

impl Session {
    /// Positions of the cache that no sequence holds.
    pub fn free_positions(&self) -> usize {
        self.cells.free()
    }

    /// Positions of the cache that some of `sequences` hold, and no other sequence.
    pub fn positions_only_of(&self, sequences: SequenceSet) -> usize {
        self.cells.only_of(sequences)
    }
}
