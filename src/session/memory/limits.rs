//! What bounds a model and its sessions, and what they need of it.

use crate::error::MemoryLimit;
use crate::machine::memory::{Counts, Limit, limits, resident};
use crate::machine::{default_threads, parallel};
use crate::session::Memory;
use crate::spec::Hyperparameters;

/// What bounded this process before the weights were brought into memory.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Limits {
    all: Vec<Limit>,
    /// Bytes of the mapped file.
    pub(in crate::session) mapped: usize,
    /// What of the process was in memory then.
    resident: u64,
}

impl Limits {
    /// The limits of this process, now but for the `mapped` bytes of the model's file, and `stated` as one
    /// more.
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

    /// These and one more, of `total` bytes ([`u64::MAX`] for none). Whoever states one knows better than
    /// what happens to be free.
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

    /// These with a little less available: what is recommended must still fit in the next process, whose
    /// memory is never the same to the byte.
    pub(in crate::session) fn with_margin(&self) -> Self {
        const MARGIN: u64 = 1 << 20;
        let mut less = self.clone();
        for limit in &mut less.all {
            limit.available = limit.available.saturating_sub(MARGIN);
        }
        less
    }

    /// Whether addresses are bounded, so that copies of mapped files count beside these.
    pub(in crate::session) fn bound_addresses(&self) -> bool {
        let bounds = |limit: &Limit| limit.counts != Counts::Resident;
        self.all.iter().any(bounds)
    }

    /// The limit that `need` exceeds most.
    pub(in crate::session) fn exceeded(&self, need: &Need) -> Option<&Limit> {
        let short = |limit: &&Limit| need.of(limit).saturating_sub(limit.available);
        let exceeded = self.all.iter().filter(|limit| short(limit) > 0);
        exceeded.max_by_key(short)
    }
}

/// Bytes that a model with one session takes beyond what the process has before.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Need {
    /// Weights, cache and computation.
    pub(in crate::session) parts: Memory,
    /// The file, when it is mapped.
    pub(in crate::session) file: usize,
    /// Of the weights, what is copied or rearranged into memory of its own.
    pub(in crate::session) own_weights: usize,
    /// Everything else that is written to: the tokenizer, descriptions of tensors, working memory.
    pub(in crate::session) other: usize,
    /// Address space of the threads' stacks.
    pub(in crate::session) stacks: usize,
}

impl Need {
    /// What the weights count for `limit`, in bytes.
    pub(in crate::session) fn of_weights(&self, limit: &Limit) -> usize {
        match limit.counts {
            Counts::Resident => self.parts.weights,
            Counts::AddressSpace => self.file.saturating_add(self.own_weights),
            Counts::Data => self.own_weights,
        }
    }

    /// What everything counts for `limit`, in bytes.
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

/// Address space of the stacks of `threads` threads that compute, and of those that arrange the weights.
pub(in crate::session) fn stacks(threads: usize) -> usize {
    let computing = threads.saturating_sub(1);
    let computing = computing.saturating_mul(crate::ggml::system::thread_stack_bytes());
    computing.saturating_add(default_threads() * parallel::STACK)
}

/// What is allocated beside weights, cache and computation, measured with GPT-2's vocabulary of 50,257:
/// the tokenizer's tables, the logits, the descriptions of the graphs; and ggml's working memory, in which
/// it keeps the activations as the kernels want them.
pub(in crate::session) fn other(hyperparameters: &Hyperparameters, tokens: usize) -> usize {
    const FIXED: usize = 5 << 20;
    const A_TOKEN_OF_THE_VOCABULARY: usize = 100;
    let vocabulary = hyperparameters
        .vocab_size
        .saturating_mul(A_TOKEN_OF_THE_VOCABULARY);
    let widest = hyperparameters.n_inner.max(hyperparameters.n_embd);
    let working = widest.saturating_mul(tokens).saturating_mul(4);
    FIXED.saturating_add(vocabulary).saturating_add(working)
}
