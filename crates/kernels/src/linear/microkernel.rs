//! What the microkernels of every processor have in common. A microkernel multiplies a panel of
//! rows, or some panels, with a tile of tokens.

use super::format::Format;
use super::layout::{Layout, cast_unchecked};
use super::quantize_block::QuantizeBlock;

/// What a microkernel works on. Row r of token t goes to `output[t * output_stride + r]`.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    /// The rows, as [`super::Matrix`] holds them, panel after panel.
    pub(super) panels: &'a [u8],
    /// Bytes from one panel to the next; 0 when there is one.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "microkernels there take one panel")
    )]
    pub(super) panel_stride: usize,
    /// How many rows there are, at most eight of each panel.
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// The tokens, as [`super::quantize_activations`] packs them.
    pub(super) tile: &'a [u8],
    pub(super) output: *mut f32,
    pub(super) output_stride: usize,
}

impl<'a> Job<'a> {
    /// The steps of the tile, one for each block.
    ///
    /// # Safety
    /// The tile has as many of this type.
    #[inline(always)]
    pub(super) unsafe fn steps<T: Layout>(&self) -> &'a [T] {
        // SAFETY: the caller's condition.
        unsafe { cast_unchecked(self.tile, self.blocks) }
    }

    /// `count` values of the tile.
    ///
    /// # Safety
    /// The tile has as many of this type.
    #[inline(always)]
    pub(super) unsafe fn tile<T: Layout>(&self, count: usize) -> &'a [T] {
        // SAFETY: the caller's condition.
        unsafe { cast_unchecked(self.tile, count) }
    }

    /// The blocks of a packed panel.
    ///
    /// # Safety
    /// The panel has as many blocks of this type.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(super) unsafe fn packed<P: Layout>(&self) -> &'a [P] {
        // SAFETY: the caller's condition.
        unsafe { cast_unchecked(self.panels, self.blocks) }
    }

    /// The blocks of the first packed panel. Those of the next begin [`Job::panel_stride`] bytes
    /// later.
    ///
    /// # Safety
    /// The panels have as many blocks of this type.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) unsafe fn packed<P: Layout>(&self) -> *const P {
        debug_assert!(self.panels.len() >= self.panel_stride + self.blocks * size_of::<P>());
        debug_assert!(self.panels.as_ptr().cast::<P>().is_aligned());
        self.panels.as_ptr().cast()
    }

    /// Unpacked floating-point rows, `[columns][rows]`, see [`FloatGemm`].
    ///
    /// # Safety
    /// The panels have as many values.
    #[inline(always)]
    pub(super) unsafe fn columns(&self, rows: usize) -> &'a [f32] {
        // SAFETY: the caller's condition.
        unsafe { cast_unchecked(self.panels, self.blocks * rows) }
    }

    /// The rows of a matrix that is not packed, `[rows][blocks]`.
    ///
    /// # Safety
    /// The panels have as many blocks of this type.
    #[inline(always)]
    pub(super) unsafe fn row_blocks<B: Layout>(&self) -> &'a [B] {
        // SAFETY: the caller's condition.
        unsafe { cast_unchecked(self.panels, self.rows * self.blocks) }
    }

    /// The rows of a matrix that is not packed, up to `together` at a time.
    ///
    /// # Safety
    /// The panels have as many blocks of this type.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) unsafe fn rows_together<B: Layout + 'static>(
        &self,
        together: usize,
    ) -> impl Iterator<Item = Rows<B>> {
        let row_blocks = self.blocks;
        // SAFETY: the caller's condition.
        let blocks = unsafe { self.row_blocks::<B>() };
        let groups = blocks.chunks(together * row_blocks).enumerate();
        groups.map(move |(index, blocks)| {
            let count = blocks.len() / row_blocks;
            Rows {
                first: index * together,
                count,
                blocks: blocks.as_ptr(),
                stride: if count > 1 {
                    row_blocks * size_of::<B>()
                } else {
                    0
                },
            }
        })
    }

    /// Where the results of a token go.
    ///
    /// # Safety
    /// The output has places for this token.
    #[inline(always)]
    pub(super) unsafe fn output(&self, token: usize) -> *mut f32 {
        // SAFETY: the caller's condition.
        unsafe { self.output.add(token * self.output_stride) }
    }
}

/// Neighbouring rows of a matrix that is not packed.
#[cfg(target_arch = "x86_64")]
pub(super) struct Rows<B> {
    /// The index of the first of them.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
    /// The blocks of the first.
    pub(super) blocks: *const B,
    /// Bytes from one to the next; 0 when there is one.
    pub(super) stride: usize,
}

/// Batch size class: what decides how tokens are multiplied together, and the order of
/// accumulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "one order serves every batch there")
)]
pub(super) enum BatchSize {
    /// One token, or each with the bits it has alone.
    One,
    /// A few.
    Small,
    /// Too few to unpack panels for; accumulated as in a large batch.
    Medium,
    /// Many, for which panels are unpacked where [`KernelSet::unpacking`] says how.
    Large,
}

/// Computes the products of the panels' rows with a tile's tokens.
///
/// # Safety
/// The processor has the microkernel's instructions; panels and tile are those of a matrix and of
/// activations of the microkernel's formats, as long as rows and blocks say; and the output has
/// places for the rows of each of the tile's tokens.
pub(super) type Microkernel = unsafe fn(job: &Job<'_>);

/// How the panels of a format are unpacked once for a large batch, where microkernels take them so.
#[derive(Clone, Copy)]
pub(super) struct Unpacking {
    /// Bytes of an unpacked block of eight rows.
    pub(super) block_bytes: usize,
    /// Writes `blocks` blocks of a panel of `rows` rows; missing rows become 0.
    pub(super) unpack: Unpack,
}

/// See [`Unpacking`].
///
/// # Safety
/// The processor has the instructions of the set that has the unpacking.
pub(super) type Unpack = unsafe fn(panel: &[u8], rows: usize, blocks: usize, unpacked: &mut [u8]);

/// The product of floating-point rows with a batch: rows are converted to f32 and transposed once,
/// so that a vector contains a column of them, and then used for tile after tile.
#[derive(Clone, Copy)]
pub(super) struct FloatGemm {
    /// Rows that are unpacked together.
    pub(super) rows: usize,
    /// Unpacks that number of rows.
    pub(super) unpack: FloatUnpack,
    /// Sizes of tiles, and the microkernel that multiplies one with unpacked rows.
    pub(super) tiles: &'static [(usize, Microkernel)],
}

/// Writes up to `rows` rows of `columns` columns as `[columns][rows]` f32; missing rows become 0.
///
/// # Safety
/// The processor has the instructions of the set that has the product.
pub(super) type FloatUnpack =
    unsafe fn(weights: &[u8], columns: usize, rows: usize, unpacked: &mut [f32]);

impl FloatGemm {
    /// The microkernel for a tile of `tokens`, if there is one.
    pub(super) fn microkernel(&self, tokens: usize) -> Option<Microkernel> {
        let mut tiles = self.tiles.iter();
        tiles.find_map(|&(size, microkernel)| (size == tokens).then_some(microkernel))
    }
}

/// The microkernels of an instruction set.
pub(super) trait KernelSet: Sized + Copy {
    /// The instructions that quantize activations.
    type Quantizer: QuantizeBlock + Sync;

    /// See [`KernelSet::Quantizer`].
    fn quantizer(self) -> Self::Quantizer;

    /// The sets that this processor has, the best first.
    fn available() -> impl Iterator<Item = Self>;

    /// Whether products of f16 with few tokens are accumulated in f16, see
    /// [`f16_accumulation`](super::f16_accumulation).
    fn accumulates_f16(self) -> bool {
        false
    }

    /// The set whose products of f16 are accumulated in f32.
    fn accumulating_f32(self) -> Self {
        self
    }

    /// The class of a batch of `tokens`.
    fn batch_size(self, format: Format, tokens: usize) -> BatchSize {
        // Unpacking takes longer than it saves where tokens do not fill a large tile.
        let is_few = tokens < self.tile_sizes(format, BatchSize::Small)[0];
        if format.is_float() && is_few {
            BatchSize::One
        } else {
            BatchSize::Small
        }
    }

    /// Whether the order of accumulation for a token of a batch of `tokens` is that for one.
    fn is_batch_invariant(self, format: Format, tokens: usize) -> bool {
        !format.is_float() || self.batch_size(format, tokens) == BatchSize::One
    }

    /// Tokens that microkernels for `format` work on together, the most first, down to 1.
    fn tile_sizes(self, format: Format, batch: BatchSize) -> &'static [usize];

    /// Panels that the microkernel for `format` and tiles of `tokens` takes together.
    fn panels_together(self, _format: Format, _tokens: usize, _batch: BatchSize) -> usize {
        1
    }

    /// How panels of `format` are unpacked for large batches, if they are.
    fn unpacking(self, _format: Format) -> Option<Unpacking> {
        None
    }

    /// The product of rows of `format` with a batch, of floating-point formats.
    fn float_gemm(self, format: Format) -> Option<FloatGemm>;

    /// The microkernel for `format` and tiles of `tokens`, one of [`Self::tile_sizes`]. (Those
    /// of [`Self::float_gemm`] are other ones.)
    fn microkernel(self, format: Format, tokens: usize, batch: BatchSize) -> Microkernel;
}
