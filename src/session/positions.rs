//! How much of the cache is taken, for whoever divides it.

use std::collections::HashSet;

use super::run::Session;
use crate::model::kv_cache::SequenceSet;

impl Session {
    /// Positions of the cache that no sequence holds.
    pub fn free_positions(&self) -> usize {
        self.cells.free()
    }

    /// Positions of the cache that some of `sequences` hold, and no other sequence.
    pub fn positions_only_of(&self, sequences: SequenceSet) -> usize {
        if sequences.is_empty() {
            return 0;
        }
        let mut others = HashSet::new();
        for sequence in (0..self.sequences()).filter(|&other| !sequences.contains(other)) {
            others.extend(self.cells.of(sequence).iter().copied());
        }
        self.context_size() - self.free_positions() - others.len()
    }
}
