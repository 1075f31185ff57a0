//! Graphs that can run again: a session keeps those of the shapes it used last, since texts come
//! and go and each number of them is a shape of its own.

use super::memory::compute::graph_bytes;
use crate::ggml::graph::{AllocatedGraph, Allocator};
use crate::model::graph::{AttentionKind, GraphIo, GraphShape};
use crate::spec::Hyperparameters;

/// The most graphs that are kept; the description of one takes some 100 KiB.
const MAX_GRAPHS: usize = 8;

/// A graph that can run again for the same shape.
pub(super) struct ReadyGraph {
    pub(super) shape: GraphShape,
    pub(super) graph: AllocatedGraph,
    pub(super) io: GraphIo,
}

impl ReadyGraph {
    /// Bytes of its intermediate results, on all devices.
    fn bytes(&self) -> usize {
        self.graph.bytes().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Its memory, for a graph of `shape`. ggml keeps its plan for a graph of as many nodes,
    /// whichever of them are outputs: what the old plan lets be overwritten must not be read.
    pub(super) fn into_allocator_for(self, shape: &GraphShape) -> Option<Allocator> {
        let outputs = |shape: &GraphShape| {
            let states = (shape.last_hidden_state, shape.hidden_states);
            (shape.logits, states, shape.attentions)
        };
        (outputs(&self.shape) == outputs(shape)).then(|| self.graph.into_allocator())
    }
}

/// The graphs that were used last.
#[derive(Default)]
pub(super) struct ReadyGraphs {
    /// The one that was used last is the last.
    kept: Vec<ReadyGraph>,
    /// Bytes that their results may take together, as the session's memory was planned.
    budget: usize,
}

impl ReadyGraphs {
    /// No graphs, which together may take `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            kept: Vec::new(),
            budget,
        }
    }

    /// The graphs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ReadyGraph> {
        self.kept.iter()
    }

    /// Takes out the graph of `shape`, if there is one.
    pub(super) fn take(&mut self, shape: &GraphShape) -> Option<ReadyGraph> {
        let place = self.kept.iter().position(|ready| ready.shape == *shape)?;
        Some(self.kept.remove(place))
    }

    /// Lets graphs go until there is room for one of `shape`, the longest unused first. The last of
    /// them is returned: its memory can serve the new one.
    pub(super) fn make_room(
        &mut self,
        shape: &GraphShape,
        hyperparameters: &Hyperparameters,
    ) -> Option<ReadyGraph> {
        // A mask grows with every few tokens: the graph of the shorter one is of no use any more.
        if shape.attention != AttentionKind::Kernel {
            let one = shape.tokens == 1;
            let place = self.kept.iter().position(|ready| {
                ready.shape.attention != AttentionKind::Kernel && (ready.shape.tokens == 1) == one
            });
            if let Some(place) = place {
                return Some(self.kept.remove(place));
            }
        }
        let needed = graph_bytes(
            hyperparameters,
            shape.tokens,
            shape.outputs,
            shape.attention,
        );
        let needed = needed.unwrap_or(usize::MAX);
        let mut last = None;
        while !self.kept.is_empty() {
            let taken: usize = self.kept.iter().map(ReadyGraph::bytes).sum();
            if self.kept.len() < MAX_GRAPHS && taken.saturating_add(needed) <= self.budget {
                break;
            }
            last = Some(self.kept.remove(0));
        }
        last
    }

    /// Keeps a graph that was used.
    pub(super) fn keep(&mut self, ready: ReadyGraph) {
        self.kept.push(ready);
    }
}
