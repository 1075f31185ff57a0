//! The KV cache: the keys and values of the tokens of each sequence.

use crate::error::{Error, Result};
use crate::ggml::buffer::{self, Buffer};
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::Device;
use crate::gguf::TensorType;

use super::device_map::DeviceMap;
use crate::TokenId;
use crate::spec::Hyperparameters;

/// Number of a sequence in a session, from 0.
pub type SequenceId = usize;

/// The most sequences a cache holds: one bit each in [`SequenceSet`].
pub const MAX_SEQUENCES: usize = 64;

/// A set of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SequenceSet(u64);

impl SequenceSet {
    /// The set of one sequence.
    ///
    /// # Errors
    /// [`Error::Argument`] when `sequence` is not below [`MAX_SEQUENCES`].
    pub fn of(sequence: SequenceId) -> Result<Self> {
        Self::default().with(sequence)
    }

    /// This set and `sequence`.
    ///
    /// # Errors
    /// [`Error::Argument`] when `sequence` is not below [`MAX_SEQUENCES`].
    pub fn with(self, sequence: SequenceId) -> Result<Self> {
        if sequence < MAX_SEQUENCES {
            Ok(Self(self.0 | 1 << sequence))
        } else {
            Err(Error::Argument(format!(
                "expected a sequence below {MAX_SEQUENCES}, found {sequence}"
            )))
        }
    }

    /// Whether `sequence` is in the set.
    pub fn contains(self, sequence: SequenceId) -> bool {
        sequence < MAX_SEQUENCES && self.0 >> sequence & 1 == 1
    }

    /// Whether every sequence of `other` is in this set.
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The sequences of both sets.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The sequences of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no sequence is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One more than the highest sequence in the set; 0 for the empty set.
    pub fn end(self) -> usize {
        (u64::BITS - self.0.leading_zeros()) as usize
    }

    /// The sequences in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = SequenceId> {
        (0..MAX_SEQUENCES).filter(move |&sequence| self.contains(sequence))
    }

    fn remove(&mut self, sequence: SequenceId) {
        self.0 &= !(1 << sequence);
    }
}

/// A cell of the cache: one token of some sequences. Free when it is of no sequence.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    token: TokenId,
    position: usize,
    sequences: SequenceSet,
    /// Whether attention skips it.
    masked: bool,
}

/// The bookkeeping of the cache: which cell holds which position of which sequences. Sequences may
/// share cells, so a common prefix is stored once.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    all: Vec<Cell>,
    /// Every cell from here on is free.
    end: usize,
    /// Every cell below is in use.
    first_free: usize,
}

impl Cells {
    /// `capacity` free cells.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            all: vec![Cell::default(); capacity],
            end: 0,
            first_free: 0,
        }
    }

    /// One more than the highest cell in use.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// One more than the highest position of `sequence`; 0 when it is empty.
    pub(crate) fn length(&self, sequence: SequenceId) -> usize {
        let used = self.all[..self.end].iter();
        used.filter(|cell| cell.sequences.contains(sequence))
            .map(|cell| cell.position + 1)
            .max()
            .unwrap_or(0)
    }

    /// The tokens of `sequence` in the order of their positions.
    pub(crate) fn tokens(&self, sequence: SequenceId) -> Vec<TokenId> {
        let cells = self.of(sequence).into_iter();
        cells.map(|cell| self.all[cell].token).collect()
    }

    /// The cells of `sequence` in the order of their positions.
    pub(crate) fn of(&self, sequence: SequenceId) -> Vec<usize> {
        let mut cells: Vec<usize> = (0..self.end)
            .filter(|&cell| self.all[cell].sequences.contains(sequence))
            .collect();
        cells.sort_by_key(|&cell| self.all[cell].position);
        cells
    }

    /// Adds to each position of `places`, from 0, the sequences that have it.
    pub(crate) fn mark_places(&self, places: &mut [SequenceSet]) {
        for cell in &self.all[..self.end] {
            if let Some(place) = places.get_mut(cell.position) {
                *place = place.union(cell.sequences);
            }
        }
    }

    /// The position of `cell`.
    pub(crate) fn position(&self, cell: usize) -> usize {
        self.all[cell].position
    }

    /// The number of free cells.
    pub(crate) fn free(&self) -> usize {
        let used = self.all[..self.end]
            .iter()
            .filter(|cell| !cell.sequences.is_empty())
            .count();
        self.all.len() - used
    }

    /// Allocates a free cell for `token` at `position` of `sequences`; `None` when there is none.
    pub(crate) fn take(
        &mut self,
        token: TokenId,
        position: usize,
        sequences: SequenceSet,
    ) -> Option<usize> {
        let free = self.all[self.first_free..]
            .iter()
            .position(|cell| cell.sequences.is_empty())?;
        let index = self.first_free + free;
        self.all[index] = Cell {
            token,
            position,
            sequences,
            masked: false,
        };
        self.first_free = index + 1;
        self.end = self.end.max(index + 1);
        Some(index)
    }

    /// Makes attention skip `cell` from now on.
    pub(crate) fn mask(&mut self, cell: usize) {
        self.all[cell].masked = true;
    }

    /// Frees cells that were taken, whatever their sequences.
    pub(crate) fn free_again(&mut self, cells: &[usize]) {
        for &cell in cells {
            self.all[cell] = Cell::default();
        }
        self.trim();
    }

    /// How many of `tokens` equal the first tokens of `sequence`, without a gap and none masked.
    pub(crate) fn common_prefix(&self, sequence: SequenceId, tokens: &[TokenId]) -> usize {
        let cells = self.of(sequence);
        let pairs = cells.into_iter().zip(tokens).enumerate();
        let equal = pairs.take_while(|(position, (cell, token))| {
            let cell = self.all[*cell];
            cell.position == *position && cell.token == **token && !cell.masked
        });
        equal.count()
    }

    /// Removes the positions of `sequence` from `length` on.
    pub(crate) fn truncate(&mut self, sequence: SequenceId, length: usize) {
        for cell in &mut self.all[..self.end] {
            if cell.position >= length {
                cell.sequences.remove(sequence);
            }
        }
        self.trim();
    }

    /// Updates the ends of what is in use.
    fn trim(&mut self) {
        let used = |cell: &Cell| !cell.sequences.is_empty();
        self.end = self.all[..self.end]
            .iter()
            .rposition(used)
            .map_or(0, |last| last + 1);
        let free = self.all[..self.end].iter().position(|cell| !used(cell));
        self.first_free = free.unwrap_or(self.end);
    }

    /// Makes `to`, which must be empty, share every cell of `from`.
    pub(crate) fn share(&mut self, from: SequenceId, to: SequenceId) {
        for cell in &mut self.all[..self.end] {
            if cell.sequences.contains(from) {
                cell.sequences.0 |= 1 << to;
            }
        }
    }

    /// Makes every sequence `first + n`, n below `parents.len()`, what sequence `first +
    /// parents[n]` was.
    pub(crate) fn reorder(&mut self, first: SequenceId, parents: &[SequenceId]) {
        for cell in &mut self.all[..self.end] {
            let before = cell.sequences;
            for (child, &parent) in parents.iter().enumerate() {
                if before.contains(first + parent) {
                    cell.sequences.0 |= 1 << (first + child);
                } else {
                    cell.sequences.remove(first + child);
                }
            }
        }
        self.trim();
    }

    /// Whether `cell` is of all of `sequences`.
    pub(crate) fn is_of(&self, cell: usize, sequences: SequenceSet) -> bool {
        let of_cell = self.all[cell].sequences;
        !of_cell.is_empty() && of_cell.includes(sequences)
    }

    /// Whether a token at `position` of `sequences` attends to `cell`.
    pub(crate) fn is_visible(&self, index: usize, position: usize, sequences: SequenceSet) -> bool {
        let cell = self.all[index];
        self.is_of(index, sequences) && !cell.masked && cell.position <= position
    }
}

/// The tensors of the cache. One layout for every kind of attention: a row for each cell, `[n_embd,
/// cells]` for the keys and for the values of each layer.
pub(crate) struct KvCache {
    pub(crate) keys: Vec<Tensor>,
    pub(crate) values: Vec<Tensor>,
    /// Bytes on each device.
    bytes: Vec<(Device, usize)>,
}

impl KvCache {
    /// A cache of `cells` rows of `tensor_type` for each layer, on the layer's device. On the CPU
    /// the system provides the memory as rows are written.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `head_size` is not a multiple of the type's block size,
    /// [`Error::Memory`] when the memory cannot be allocated.
    pub(crate) fn new(
        devices: &DeviceMap,
        hyperparameters: &Hyperparameters,
        cells: usize,
        tensor_type: TensorType,
    ) -> Result<Self> {
        let head = hyperparameters.head_size();
        if !head.is_multiple_of(tensor_type.block_size()) {
            return Err(Error::Unsupported(format!(
                "a {} cache needs a head size that is a multiple of {}, this model's is {head}; \
                 use f16 or f32",
                tensor_type.name(),
                tensor_type.block_size()
            )));
        }
        let layers = hyperparameters.n_layer;
        let context = Context::new(2 * layers + 1)?;
        let shape = [hyperparameters.n_embd, cells];
        let describe = |kind: &str| -> Result<Vec<Tensor>> {
            (0..layers)
                .map(|layer| context.tensor(&format!("cache.{layer}.{kind}"), tensor_type, &shape))
                .collect()
        };
        let (keys, values) = (describe("keys")?, describe("values")?);
        let mut cache_devices = Vec::with_capacity(layers);
        for layer in 0..layers {
            cache_devices.push(device_of(
                devices,
                layer,
                tensor_type,
                hyperparameters.n_embd,
            )?);
        }
        let mut bytes = Vec::new();
        for device in devices.gpus().into_iter().chain([devices.cpu()]) {
            let on_device = |tensors: &[Tensor]| -> Vec<Tensor> {
                let tensors = tensors.iter().zip(&cache_devices);
                let tensors = tensors.filter(|(_, of)| **of == device);
                tensors.map(|(tensor, _)| tensor.clone()).collect()
            };
            let (keys, values) = (on_device(&keys), on_device(&values));
            let memory = device.buffer_type()?;
            let size = buffer::bytes_for(memory, keys.iter().chain(&values));
            if size == 0 {
                continue;
            }
            let buffer = if device == devices.cpu() {
                Buffer::zeroed(device, size)?
            } else {
                let buffer = Buffer::allocate(memory, size)?;
                // Cells that were never written are masked, but 0 · NaN would be NaN.
                buffer.clear()?;
                buffer
            };
            for tensor in keys.iter().chain(&values) {
                buffer.place_next(tensor)?;
            }
            bytes.push((device, size));
        }
        Ok(Self {
            keys,
            values,
            bytes,
        })
    }

    /// Keys and values of each layer, in this order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Tensor> {
        self.keys
            .iter()
            .zip(&self.values)
            .flat_map(|(keys, values)| [keys, values])
    }

    /// Bytes of the cache on each device.
    pub(crate) fn bytes(&self) -> &[(Device, usize)] {
        &self.bytes
    }
}

/// The device that has the cache of `layer`: the layer's own, unless it cannot write rows of that
/// type.
fn device_of(
    devices: &DeviceMap,
    layer: usize,
    tensor_type: TensorType,
    n_embd: usize,
) -> Result<Device> {
    let device = devices.layer(layer);
    if device == devices.cpu() || device.stores(tensor_type, n_embd)? {
        return Ok(device);
    }
    tracing::warn!(
        "{} does not support a {} cache; that of layer {layer} is on the CPU",
        device.name(),
        tensor_type.name()
    );
    Ok(devices.cpu())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(sequence: SequenceId) -> SequenceSet {
        SequenceSet::of(sequence).unwrap()
    }

    #[test]
    fn cells_are_taken_in_order_and_reused() {
        let mut cells = Cells::new(4);
        for position in 0..3 {
            assert_eq!(cells.take(7, position, set(0)), Some(position));
        }
        assert_eq!((cells.length(0), cells.end(), cells.free()), (3, 3, 1));
        cells.truncate(0, 1);
        assert_eq!((cells.length(0), cells.end(), cells.free()), (1, 1, 3));
        assert_eq!(cells.take(10, 0, set(1)), Some(1));
        assert_eq!(cells.take(11, 1, set(1)), Some(2));
        cells.truncate(0, 0);
        assert_eq!(cells.take(12, 2, set(1)), Some(0));
        assert_eq!(cells.take(13, 3, set(1)), Some(3));
        assert_eq!(cells.take(14, 4, set(1)), None);
    }

    #[test]
    fn a_shared_prefix_is_seen_by_both_sequences_and_outlives_one() {
        let mut cells = Cells::new(8);
        cells.take(10, 0, set(0));
        cells.take(11, 1, set(0));
        cells.share(0, 5);
        assert_eq!((cells.length(5), cells.tokens(5)), (2, vec![10, 11]));
        cells.take(12, 2, set(0));
        assert!(cells.is_visible(1, 2, set(5)) && cells.is_visible(1, 2, set(0)));
        assert!(
            !cells.is_visible(2, 2, set(5)),
            "what sequence 0 added is its own"
        );
        assert!(!cells.is_visible(1, 0, set(0)), "no token sees the future");
        cells.truncate(0, 0);
        assert_eq!((cells.length(0), cells.length(5), cells.free()), (0, 2, 6));
    }

    #[test]
    fn freed_cells_leave_the_others_as_they_were() {
        let mut cells = Cells::new(4);
        cells.take(10, 0, set(0));
        let taken = [cells.take(11, 1, set(0)), cells.take(12, 0, set(1))].map(Option::unwrap);
        cells.mask(taken[0]);
        cells.free_again(&taken);
        assert_eq!((cells.end(), cells.free(), cells.length(1)), (1, 3, 0));
        assert_eq!(cells.tokens(0), [10]);
        assert_eq!(cells.take(13, 1, set(0)), Some(1));
        assert!(
            cells.is_visible(1, 1, set(0)),
            "nothing of the mask is left"
        );
    }

    #[test]
    fn a_common_prefix_ends_at_another_token_a_gap_or_a_masked_one() {
        let mut cells = Cells::new(8);
        for (position, token) in [(0, 7), (1, 8), (2, 9), (4, 5)] {
            cells.take(token, position, set(3));
        }
        assert_eq!(cells.common_prefix(3, &[7, 8, 1]), 2);
        assert_eq!(cells.common_prefix(3, &[7, 8]), 2);
        assert_eq!(
            cells.common_prefix(3, &[7, 8, 9, 5]),
            3,
            "position 3 is missing"
        );
        assert_eq!(cells.common_prefix(0, &[7, 8]), 0);
        cells.mask(1);
        assert_eq!(cells.common_prefix(3, &[7, 8]), 1);
    }

    #[test]
    fn a_token_of_two_sequences_sees_only_what_both_have() {
        let both = set(0).with(1).unwrap();
        let mut cells = Cells::new(4);
        cells.take(10, 0, both);
        cells.take(11, 1, set(0));
        assert!(cells.is_visible(0, 1, both));
        assert!(!cells.is_visible(1, 1, both));
        assert!(set(MAX_SEQUENCES - 1).with(MAX_SEQUENCES).is_err());
        assert_eq!(both.end(), 2);
    }
}
