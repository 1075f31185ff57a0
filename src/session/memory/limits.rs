//! What bounds the memory of a model and its sessions, and what they need.

use crate::error::MemoryLimit;
use crate::machine::memory::{Counts, Limit, limits, resident};
use crate::machine::{default_threads, parallel};
use crate::session::Memory;
use crate::spec::Hyperparameters;

/// The limits of this process's memory before the weights are loaded.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Limits {
    all: Vec<Limit>,
    /// Bytes of the mapped file.
    pub(in crate::session) mapped: usize,
    /// Bytes of the process that were resident then.
    resident: u64,
}

impl Limits {
    /// The limits of this process now, without the `mapped` bytes of the model's file, and `stated`
    /// as one more.
    pub(in crate::session) fn now(stated: Option<u64>, mapped: usize) -> Self {
        let mut all = limits();
        for limit in &mut all {
            if limit.counts == Counts::AddressSpace {
                limit.available = limit.available.saturating_add(mapped as u64);
            }
        }
        let found = Self {
            all,
            mapped,
            resident: resident().unwrap_or(0),
        };
        stated.map_or_else(|| found.clone(), |total| found.and(total))
    }

    /// These and one more, of `total` bytes ([`u64::MAX`] for none). A stated limit replaces what
    /// happens to be free.
    pub(in crate::session) fn and(&self, total: u64) -> Self {
        let mut more = self.clone();
        if total < u64::MAX {
            more.all.retain(|limit| !limit.soft);
            more.all.push(Limit {
                counts: Counts::Resident,
                source: MemoryLimit::Stated,
                total,
                available: total.saturating_sub(self.resident),
                soft: false,
            });
        }
        more
    }

    /// These with a margin: what is recommended must still fit in the next process, whose memory is
    /// never exactly the same.
    pub(in crate::session) fn with_margin(&self) -> Self {
        const MARGIN: u64 = 1 << 20;
        let mut less = self.clone();
        for limit in &mut less.all {
            limit.available = limit.available.saturating_sub(MARGIN);
        }
        less
    }

    /// Whether the address space is bounded, where a mapped file and a copy of it both count.
    pub(in crate::session) fn bound_addresses(&self) -> bool {
        let bounds = |limit: &Limit| limit.counts != Counts::Resident;
        self.all.iter().any(bounds)
    }

    /// The limit that `need` exceeds by most.
    pub(in crate::session) fn exceeded(&self, need: &Need) -> Option<&Limit> {
        let short = |limit: &&Limit| need.of(limit).saturating_sub(limit.available);
        let exceeded = self.all.iter().filter(|limit| short(limit) > 0);
        exceeded.max_by_key(short)
    }
}

/// Bytes that a model with one session takes beyond what the process has already.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Need {
    /// Weights, cache and computation.
    pub(in crate::session) parts: Memory,
    /// The file, when it is mapped.
    pub(in crate::session) file: usize,
    /// The part of the weights that is copied or packed.
    pub(in crate::session) own_weights: usize,
    /// Everything else that is allocated: the tokenizer, descriptions of tensors, working memory.
    pub(in crate::session) other: usize,
    /// Address space of the threads' stacks.
    pub(in crate::session) stacks: usize,
}

impl Need {
    /// Bytes of the weights that count towards `limit`.
    pub(in crate::session) fn of_weights(&self, limit: &Limit) -> usize {
        match limit.counts {
            Counts::Resident => self.parts.weights,
            Counts::AddressSpace => self.file.saturating_add(self.own_weights),
            Counts::Data => self.own_weights,
        }
    }

    /// Bytes that count towards `limit` in total.
    pub(in crate::session) fn of(&self, limit: &Limit) -> u64 {
        let stacks = match limit.counts {
            Counts::Resident => 0,
            Counts::AddressSpace | Counts::Data => self.stacks,
        };
        let Memory { kv, compute, .. } = self.parts;
        let parts = [self.of_weights(limit), kv, compute, self.other, stacks];
        parts
            .into_iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part as u64))
    }
}

/// Address space of the stacks of `threads` computing threads and of those that pack the weights.
pub(in crate::session) fn stacks(threads: usize) -> usize {
    let computing = threads.saturating_sub(1);
    let computing = computing.saturating_mul(crate::ggml::system::thread_stack_bytes());
    computing.saturating_add(default_threads() * parallel::STACK)
}

/// What is allocated beside weights, cache and computation, measured with GPT-2's vocabulary of
/// 50,257: the tokenizer's tables, the logits of one token, the descriptions of the graphs; and the
/// logits of the other sequences' tokens, and ggml's working memory, in which it quantizes the
/// activations.
pub(in crate::session) fn other(
    hyperparameters: &Hyperparameters,
    tokens: usize,
    sequences: usize,
) -> usize {
    const FIXED: usize = 5 << 20;
    const PER_VOCABULARY_TOKEN: usize = 100;
    let vocabulary = hyperparameters
        .vocab_size
        .saturating_mul(sequences.saturating_mul(4) + PER_VOCABULARY_TOKEN);
    let widest = hyperparameters.n_inner.max(hyperparameters.n_embd);
    let working = widest.saturating_mul(tokens).saturating_mul(4);
    FIXED.saturating_add(vocabulary).saturating_add(working)
}
