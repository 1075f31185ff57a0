//! A model at work: texts go through it, and their keys and values stay for what follows.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use super::batch::{Batch, BatchToken, DeviceMemory, Memory, Output};
use super::graphs::{ReadyGraph, ReadyGraphs};
use super::memory::compute::compute_bytes;
use super::memory::fit;
use super::model::Model;
use super::options::{CacheType, FlashAttention, ResolvedOptions, SessionOptions};
use super::sights;
use crate::TokenId;
use crate::error::{Error, Result};
use crate::ggml::backend::Backends;
use crate::ggml::context::Tensor;
use crate::ggml::device::Device;
use crate::ggml::graph::{AllocatedGraph, Allocator};
use crate::model::cells::Cells;
use crate::model::graph::{self, AttentionKind, GraphShape};
use crate::model::kv_cache::{KvCache, SequenceId, SequenceSet};
use crate::model::ops::RunSights;
use gpt2_kernels::pool::Pool;

/// A mask spans a multiple of this many cells, so that one graph serves many steps.
const KEYS_STEP: usize = 32;

/// A model with a KV cache and threads of its own. Sessions that share a model do not disturb each
/// other.
///
/// In a child made by `fork()` a session goes on with threads of the child's, unless it was at work
/// on another thread when the process forked, or computes on other devices than the CPU: those are
/// refused there ([`Error::Unsupported`]). It can be dropped in any case.
pub struct Session {
    model: Arc<Model>,
    resolved: ResolvedOptions,
    pub(super) backends: Backends,
    /// The threads of this library's kernels, where they compute all steps; ggml then has one.
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) cache: KvCache,
    pub(super) cells: Cells,
    /// What the tokens of the run see, for the attention steps of every graph.
    sights: Arc<RwLock<RunSights>>,
    graphs: ReadyGraphs,
    pub(super) output: Output,
    /// Position embeddings read since their pages were given back.
    positions_read: usize,
}

/// Position embeddings that are read before their pages are given back: a few hundred kilobytes.
const POSITIONS_KEPT: usize = 64;

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("resolved", &self.resolved)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a session.
    ///
    /// # Errors
    /// [`Error::Argument`] when an option is out of its range, [`Error::Unsupported`] when the
    /// cache type does not fit the model's heads, [`Error::Memory`] when there is no room for it.
    /// Options that were left open are chosen so that there is ([`fit`]).
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        let devices = model.devices();
        for device in devices.others() {
            device.check_process()?;
        }
        let options = fit(&model, &options, u64::MAX)?;
        let mut resolved = options.resolve(model.hyperparameters(), model.matrix_type()?)?;
        if options.flash_attention == FlashAttention::Auto {
            let (hyperparameters, cache) = (model.hyperparameters(), resolved.cache_type);
            let (width, heads) = (hyperparameters.head_size(), hyperparameters.n_head);
            for device in devices.gpus() {
                resolved.flash_attention &= device.attends(cache.tensor_type(), width, heads)?;
            }
        }
        let cache = KvCache::new(
            devices,
            model.hyperparameters(),
            resolved.context,
            resolved.cache_type.tensor_type(),
        )?;
        let budget = compute_bytes(model.hyperparameters(), &resolved);
        let own = model.weights().all_packed;
        let ggml_threads = if own { 1 } else { resolved.threads };
        let backends = Backends::start(&devices.others(), devices.cpu(), ggml_threads)?;
        let pool = own.then(|| Arc::new(Pool::new(resolved.threads)));
        Ok(Self {
            cells: Cells::new(resolved.context),
            model,
            resolved,
            backends,
            pool,
            cache,
            sights: Arc::default(),
            graphs: ReadyGraphs::new(budget.unwrap_or(usize::MAX)),
            output: Output::default(),
            positions_read: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Positions that the cache holds, of all sequences together.
    pub fn context_size(&self) -> usize {
        self.resolved.context
    }

    /// Sequences that the cache tells apart.
    pub fn sequences(&self) -> usize {
        self.resolved.sequences
    }

    /// The type of the cache.
    pub fn cache_type(&self) -> CacheType {
        self.resolved.cache_type
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.resolved.threads
    }

    /// Most tokens that are computed together.
    pub fn batch_size(&self) -> usize {
        self.resolved.batch_size
    }

    /// Positions of `sequence` in the cache.
    pub fn length(&self, sequence: SequenceId) -> usize {
        self.cells.length(sequence)
    }

    /// The tokens of `sequence` in the cache, in the order of their positions.
    pub fn tokens(&self, sequence: SequenceId) -> Vec<TokenId> {
        self.cells.tokens(sequence)
    }

    /// Cuts `sequence` back to its first `length` positions; longer than it is changes nothing.
    ///
    /// # Errors
    /// [`Error::Argument`] when the session has no such sequence.
    pub fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<()> {
        self.check_sequence(sequence)?;
        self.cells.truncate(sequence, length);
        Ok(())
    }

    /// Keeps of `sequence` the longest beginning that it has in common with `tokens`, cuts the rest
    /// and gives the number of tokens that are left. A prompt whose logits are wanted is given
    /// without its last token, which must be computed in any case: logits are not in the cache.
    ///
    /// # Errors
    /// [`Error::Argument`] when the session has no such sequence.
    pub fn retain_prefix(&mut self, sequence: SequenceId, tokens: &[TokenId]) -> Result<usize> {
        self.check_sequence(sequence)?;
        let common = self.cells.common_prefix(sequence, tokens);
        self.cells.truncate(sequence, common);
        Ok(common)
    }

    /// Makes `to` a second continuation of what is in `from`: they share the cached positions, and
    /// go on apart. What was in `to` is let go.
    ///
    /// # Errors
    /// [`Error::Argument`] when the session has no such sequence.
    pub fn fork(&mut self, from: SequenceId, to: SequenceId) -> Result<()> {
        self.check_sequence(from)?;
        self.check_sequence(to)?;
        if from != to {
            self.cells.truncate(to, 0);
            self.cells.share(from, to);
        }
        Ok(())
    }

    /// Makes every sequence n below `parents.len()` a continuation of what sequence `parents[n]`
    /// holds, all at once: how beams change places. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::Argument`] when the session has no such sequence.
    pub fn reorder(&mut self, parents: &[SequenceId]) -> Result<()> {
        self.reorder_from(0, parents)
    }

    /// [`Session::reorder`] of the sequences from `first` on: sequence `first + n` becomes a
    /// continuation of what `first + parents[n]` holds.
    ///
    /// # Errors
    /// As [`Session::reorder`].
    pub fn reorder_from(&mut self, first: SequenceId, parents: &[SequenceId]) -> Result<()> {
        let last = parents.iter().copied().max();
        if let Some(last) = last.max(parents.len().checked_sub(1)) {
            self.check_sequence(first.saturating_add(last))?;
        }
        self.cells.reorder(first, parents);
        Ok(())
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        self.cells = Cells::new(self.resolved.context);
    }

    /// Set to true, it ends the running computation with [`Error::Stopped`], and each later one
    /// until it is false again. What the ended computation had added to the cache is taken back.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.backends.stop_flag())
    }

    /// Bytes of the session and of the weights it uses, on all devices together.
    pub fn memory(&self) -> Memory {
        let devices = self.device_memory();
        let sum = |part: fn(&Memory) -> usize| devices.iter().map(|on| part(&on.memory)).sum();
        Memory {
            weights: sum(|memory| memory.weights),
            kv: sum(|memory| memory.kv),
            compute: sum(|memory| memory.compute),
        }
    }

    /// Bytes of the session and of the weights it uses, on each device; the CPU is the last.
    pub fn device_memory(&self) -> Vec<DeviceMemory> {
        let model = &self.model;
        let (mapped, own) = model.weight_bytes();
        let others = model.devices().others();
        let all = others.into_iter().chain([model.devices().cpu()]);
        let graphs = self.graphs.iter();
        let compute: Vec<_> = graphs.flat_map(|ready| ready.graph.bytes()).collect();
        all.map(|device| {
            let on_it = |parts: &[(Device, usize)]| -> usize {
                let parts = parts.iter().filter(|(of, _)| *of == device);
                parts.map(|(_, bytes)| bytes).sum()
            };
            let host = if device == model.devices().cpu() {
                mapped + own
            } else {
                0
            };
            DeviceMemory {
                device: device.argument(),
                memory: Memory {
                    weights: host + on_it(&model.weights().device_bytes),
                    kv: on_it(self.cache.bytes()),
                    compute: on_it(&compute),
                },
            }
        })
        .collect()
    }

    /// Appends `tokens` to sequence 0 and gives the logits of the last one, `[vocabulary]`.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Argument`] when there are no tokens.
    pub fn prefill(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
        if tokens.is_empty() {
            return Err(Error::Argument(
                "expected at least one token, found none".to_owned(),
            ));
        }
        let last = tokens.len() - 1;
        let first = self.length(0);
        let batch = Batch::of_text(tokens, first, SequenceSet::of(0)?, |index| index == last);
        Ok(self.run(&batch)?.row(0))
    }

    /// Appends one token to sequence 0 and gives its logits, `[vocabulary]`.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn decode(&mut self, token: TokenId) -> Result<&[f32]> {
        self.prefill(&[token])
    }

    /// Appends `tokens` to sequence 0 and gives the logits of each, row-major `[tokens,
    /// vocabulary]`.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn forward(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
        let batch = Batch::of_text(tokens, self.length(0), SequenceSet::of(0)?, |_| true);
        Ok(&self.run(&batch)?.logits)
    }

    /// Computes a batch and keeps its keys and values. The result is valid until the next call.
    ///
    /// # Errors
    /// [`Error::Argument`] when a token or sequence is out of range, or a position of a sequence is
    /// given twice or is in the cache already; [`Error::ContextFull`] when positions or cells run
    /// out, [`Error::Stopped`] when the stop flag is set. After an error the cache is as it was
    /// before the call.
    pub fn run(&mut self, batch: &Batch) -> Result<&Output> {
        self.check(batch)?;
        self.backends.prepare()?;
        self.output = Output {
            rows: batch.tokens.iter().filter(|token| token.output).count(),
            vocabulary: self.model.hyperparameters().vocab_size,
            logits: std::mem::take(&mut self.output.logits),
            positions: end_of(&batch.tokens),
            ..Output::default()
        };
        self.output.logits.clear();
        let mut taken = Vec::with_capacity(batch.tokens.len());
        for tokens in batch.tokens.chunks(self.resolved.batch_size) {
            if let Err(error) = self.run_chunk(tokens, batch, &mut taken) {
                self.cells.free_again(&taken);
                return Err(error);
            }
        }
        Ok(&self.output)
    }

    /// Refuses a sequence that the session does not have.
    ///
    /// # Errors
    /// [`Error::NoSuchSequence`] with the number of those it has.
    pub fn check_sequence(&self, sequence: SequenceId) -> Result<()> {
        if sequence < self.resolved.sequences {
            return Ok(());
        }
        Err(Error::NoSuchSequence {
            found: sequence,
            available: self.resolved.sequences,
        })
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let hyperparameters = self.model.hyperparameters();
        if batch.logits && !hyperparameters.predicts_tokens() {
            return Err(Error::Unsupported(format!(
                "logits of tokens from a {}, which has no language-model head",
                hyperparameters.class.name()
            )));
        }
        for (index, token) in batch.tokens.iter().enumerate() {
            self.model.check_tokens(&[token.token])?;
            self.model.check_tokens(token.token_type.as_slice())?;
            if token.sequences.is_empty() {
                return Err(Error::Argument(format!(
                    "token {index} of the batch has no sequence"
                )));
            }
            self.check_sequence(token.sequences.end() - 1)?;
        }
        let typed = batch
            .tokens
            .iter()
            .filter(|token| token.token_type.is_some());
        if !matches!(typed.count(), 0) && !batch.tokens.iter().all(|t| t.token_type.is_some()) {
            return Err(Error::Argument(
                "expected token types for all tokens of a batch or for none".to_owned(),
            ));
        }
        let position_ids = batch.tokens.iter().filter_map(|token| token.position_id);
        let positions = position_ids
            .map(|id| id.saturating_add(1))
            .fold(end_of(&batch.tokens), usize::max);
        let cells = self.resolved.context - self.cells.free() + batch.tokens.len();
        let (needed, available) = if positions > hyperparameters.n_positions {
            (
                positions,
                hyperparameters.n_positions.min(self.resolved.context),
            )
        } else {
            (cells, self.resolved.context)
        };
        if needed > available {
            let model_limit = hyperparameters.n_positions;
            return Err(Error::ContextFull {
                needed,
                available,
                model_limit,
            });
        }
        self.check_places(&batch.tokens)
    }

    /// Refuses a position of a sequence that is given twice, or is in the cache already: attention
    /// would see both tokens.
    fn check_places(&self, tokens: &[BatchToken]) -> Result<()> {
        let first = tokens.iter().map(|token| token.position).min();
        let first = first.unwrap_or(0);
        let mut taken = vec![SequenceSet::default(); end_of(tokens) - first];
        for token in tokens {
            let (position, own) = (token.position, token.sequences);
            let place = position - first;
            let twice = own.common(taken[place]);
            let refused = |&sequence: &SequenceId| {
                twice.contains(sequence) || self.cells.holds(sequence, position)
            };
            if let Some(sequence) = own.iter().find(refused) {
                let found = if twice.is_empty() {
                    "in the cache already; cut the sequence back before"
                } else {
                    "in the batch twice"
                };
                return Err(Error::Argument(format!(
                    "expected new positions, found position {position} of sequence {sequence} \
                     {found}"
                )));
            }
            taken[place] = taken[place].union(own);
        }
        Ok(())
    }

    /// Computes tokens that go into one graph; the cells they take are appended to `taken`, also
    /// when it fails.
    fn run_chunk(
        &mut self,
        tokens: &[BatchToken],
        batch: &Batch,
        taken: &mut Vec<usize>,
    ) -> Result<()> {
        let mut cells = Vec::with_capacity(tokens.len());
        for token in tokens {
            let cell = self
                .cells
                .take(token.token, token.position, token.sequences);
            let cell = cell.ok_or_else(|| Error::ContextFull {
                needed: self.resolved.context + 1,
                available: self.resolved.context,
                model_limit: self.model.hyperparameters().n_positions,
            })?;
            if token.masked {
                self.cells.mask(cell);
            }
            taken.push(cell);
            cells.push(cell);
        }
        let selected: Vec<usize> = (0..tokens.len())
            .filter(|&index| tokens[index].output)
            .collect();
        let keys = self.cells.end().next_multiple_of(KEYS_STEP);
        let keys = keys.min(self.resolved.context);
        let attention = if batch.attentions || !self.resolved.flash_attention {
            AttentionKind::Plain { keys }
        } else if AttentionKind::has_kernel(self.model.hyperparameters(), self.pool.as_ref()) {
            AttentionKind::Kernel
        } else {
            AttentionKind::Flash { keys }
        };
        let shape = GraphShape {
            tokens: tokens.len(),
            outputs: selected.len(),
            attention,
            row_kernels: self.model.uses_row_kernels(),
            gelu_by_table: self.resolved.gelu_by_table,
            token_types: tokens.iter().any(|token| token.token_type.is_some()),
            logits: batch.logits,
            last_hidden_state: batch.last_hidden_state,
            hidden_states: batch.hidden_states && !selected.is_empty(),
            attentions: batch.attentions && !selected.is_empty(),
            batch_invariant: batch.batch_invariant && tokens.len() > 1,
        };
        let mut ready = match self.graphs.take(&shape) {
            Some(ready) => ready,
            None => self.prepare(shape)?,
        };
        let result = self.compute(&mut ready, tokens, &cells, &selected);
        self.graphs.keep(ready);
        result
    }

    /// Builds the graph of `shape`, in the memory of one that is not wanted any more when there is
    /// one.
    fn prepare(&mut self, shape: GraphShape) -> Result<ReadyGraph> {
        let old = self.graphs.make_room(&shape, self.model.hyperparameters());
        let built = graph::build(
            self.model.weights(),
            self.model.hyperparameters(),
            &self.cache,
            self.model.devices(),
            self.pool.as_ref(),
            &self.sights,
            shape,
        )?;
        let allocator = match old.and_then(|old| old.into_allocator_for(&shape)) {
            Some(allocator) => allocator,
            None => Allocator::new(&self.backends, &built.graph)?,
        };
        Ok(ReadyGraph {
            shape,
            graph: built.graph.allocate(allocator)?,
            io: built.io,
        })
    }

    fn compute(
        &mut self,
        ready: &mut ReadyGraph,
        tokens: &[BatchToken],
        cells: &[usize],
        selected: &[usize],
    ) -> Result<()> {
        let ReadyGraph { shape, graph, io } = ready;
        let ids: Vec<i32> = tokens.iter().map(|token| token.token as i32).collect();
        let positions: Vec<i32> = tokens
            .iter()
            .map(|token| token.position_id.unwrap_or(token.position) as i32)
            .collect();
        let places: Vec<i64> = cells.iter().map(|&cell| cell as i64).collect();
        write(graph, &io.tokens, &ids)?;
        write(graph, &io.positions, &positions)?;
        write(graph, &io.cells, &places)?;
        match shape.attention.mask_keys() {
            None => {
                let by_rows = shape.batch_invariant;
                let lists = sights::lists(&self.cells, tokens, cells, selected, by_rows);
                *self.sights.write().unwrap_or_else(PoisonError::into_inner) = lists;
            }
            Some(keys) => {
                let all: Vec<usize> = (0..tokens.len()).collect();
                let selection = io
                    .selection
                    .as_ref()
                    .and_then(|selection| selection.mask.as_ref());
                for (port, of) in [(io.mask.as_ref(), &all[..]), (selection, selected)] {
                    if let Some(port) = port {
                        let mask = sights::mask(&self.cells, tokens, cells, of, keys);
                        write(graph, port, &mask)?;
                    }
                }
            }
        }
        if let Some(port) = &io.token_types {
            let types = tokens.iter().filter_map(|token| token.token_type);
            write(graph, port, &types.map(|id| id as i32).collect::<Vec<_>>())?;
        }
        if let Some(selection) = &io.selection {
            let rows: Vec<i32> = selected.iter().map(|&index| index as i32).collect();
            write(graph, &selection.rows, &rows)?;
        }
        graph.compute(&mut self.backends)?;
        self.positions_read += tokens.len();
        if self.positions_read >= POSITIONS_KEPT {
            self.positions_read = 0;
            self.model.release_positions();
        }
        self.collect(&*ready, tokens, selected)
    }
}

/// One more than the highest position.
fn end_of(tokens: &[BatchToken]) -> usize {
    let ends = tokens.iter().map(|token| token.position.saturating_add(1));
    ends.max().unwrap_or(0)
}

/// Writes an input that the graph uses; ggml places only those.
fn write<T: crate::ggml::graph::Plain>(
    graph: &mut AllocatedGraph,
    tensor: &Tensor,
    values: &[T],
) -> Result<()> {
    if tensor.is_placed() {
        graph.write(tensor, values)
    } else {
        Ok(())
    }
}
