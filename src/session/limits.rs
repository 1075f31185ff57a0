//! What bounds a model and its sessions, and what they need of it.

use super::Memory;
use crate::machine::memory::{Counts, Limit, limits};
use crate::machine::parallel;
use crate::model::Hyperparameters;

/// Bytes of a limit, taken before the weights are brought into memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub(super) all: Vec<Limit>,
}

impl Limits {
    /// The limits of this process, and `stated` as one more. Whoever states one knows better than what
    /// happens to be free.
    pub(super) fn now(stated: Option<u64>) -> Self {
        let mut all = limits();
        if let Some(total) = stated {
            all.retain(|limit| !limit.soft);
            all.push(own_limit(total));
        }
        Self { all }
    }

    /// These and one more, of `total` bytes.
    pub(super) fn and(&self, total: u64) -> Self {
        let mut all = self.all.clone();
        if total < u64::MAX {
            all.retain(|limit| !limit.soft);
            all.push(own_limit(total));
        }
        Self { all }
    }

    /// Whether mapped files or rearranged copies of them count: addresses are bounded, not memory.
    pub(super) fn bound_addresses(&self) -> bool {
        self.all
            .iter()
            .any(|limit| limit.counts != Counts::Resident)
    }

    /// The limit that `need` exceeds most.
    pub(super) fn exceeded(&self, need: &Need) -> Option<&Limit> {
        let short = |limit: &&Limit| need.of(limit).saturating_sub(limit.available);
        self.all
            .iter()
            .filter(|limit| short(limit) > 0)
            .max_by_key(short)
    }
}

fn own_limit(total: u64) -> Limit {
    Limit {
        counts: Counts::Resident,
        name: "--mem",
        total,
        available: total.saturating_sub(crate::machine::memory::resident().unwrap_or(0)),
        soft: false,
    }
}

/// Bytes that a model with one session takes beyond what the process has when it maps the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Weights, cache and computation.
    pub(super) parts: Memory,
    /// Of the weights, what is copied or rearranged into memory of its own.
    pub(super) own_weights: usize,
    /// Everything else: the tokenizer, descriptions of tensors, working memory.
    pub(super) other: usize,
    /// Address space of the threads' stacks.
    pub(super) stacks: usize,
}

impl Need {
    pub(super) fn new(
        parts: Memory,
        own_weights: usize,
        hyperparameters: &Hyperparameters,
        threads: usize,
        tokens: usize,
    ) -> Self {
        Self {
            parts,
            own_weights,
            other: other_bytes(hyperparameters, tokens),
            stacks: (threads - 1).saturating_mul(crate::ggml::system::thread_stack_bytes())
                + rayon_stacks(),
        }
    }

    /// What counts for `limit`.
    pub(super) fn of(&self, limit: &Limit) -> u64 {
        let Memory {
            weights,
            kv,
            compute,
        } = self.parts;
        let counted = match limit.counts {
            Counts::Resident => [weights, 0],
            // The file is mapped already.
            Counts::AddressSpace | Counts::Data => [self.own_weights, self.stacks],
        };
        let parts = counted.into_iter().chain([kv, compute, self.other]);
        parts.fold(0, |sum: u64, part| sum.saturating_add(part as u64))
    }
}

/// Address space of the threads that arrange the weights.
fn rayon_stacks() -> usize {
    crate::machine::default_threads() * parallel::STACK
}

/// What is allocated beside weights, cache and computation, measured with GPT-2's vocabulary of 50,257:
/// the tokenizer's tables, the logits, the descriptions of the graphs; and ggml's working memory, in which
/// it keeps the activations as the kernels want them.
fn other_bytes(hyperparameters: &Hyperparameters, tokens: usize) -> usize {
    const FIXED: usize = 6 << 20;
    const A_TOKEN_OF_THE_VOCABULARY: usize = 200;
    let vocabulary = hyperparameters
        .vocabulary
        .saturating_mul(A_TOKEN_OF_THE_VOCABULARY);
    let widest = hyperparameters.inner.max(hyperparameters.width);
    let working = widest.saturating_mul(tokens).saturating_mul(2);
    FIXED.saturating_add(vocabulary).saturating_add(working)
}
