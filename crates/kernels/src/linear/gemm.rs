//! A product as threads share it out.

use std::cell::RefCell;

use super::dispatch::{self, InstructionSet};
use super::epilogue::SliceEpilogue;
use super::f16_accumulation;
use super::format::Format;
use super::layout::{AlignedBuffer, PANEL};
use super::matrix::{Matrix, Shape};
use super::microkernel::{BatchSize, Job, KernelSet, Microkernel, Unpacking};
use super::quantize_activations::{ActivationFormat, Activations, LARGE_TILE, Tile};
use crate::pool::Pool;
use crate::shared::Parts;

/// How a product is computed.
pub struct Options<'a> {
    /// What follows.
    pub epilogue: SliceEpilogue<'a>,
    /// Batch-invariant: every token gets the bits that it has when it is computed alone.
    pub batch_invariant: bool,
}

impl<'a> From<SliceEpilogue<'a>> for Options<'a> {
    fn from(epilogue: SliceEpilogue<'a>) -> Self {
        Self {
            epilogue,
            batch_invariant: false,
        }
    }
}

/// Weights that a thread reads again for every tile: they should stay in its cache.
const CACHED_BYTES: usize = 96 * 1024;
/// Chunks for each thread, so that one that is late leaves work to the others.
const CHUNKS_PER_THREAD: usize = 12;
/// A chunk is at least this many bytes of weights: claiming it costs as much as reading a few
/// hundred.
const LEAST_BYTES: usize = 16 * 1024;

thread_local! {
    /// The caller's memory for activations.
    static ACTIVATIONS: RefCell<AlignedBuffer> = const { RefCell::new(AlignedBuffer::new()) };
    /// A thread's memory for unpacked rows.
    static UNPACKED: RefCell<AlignedBuffer> = const { RefCell::new(AlignedBuffer::new()) };
}

/// Multiplies `matrix` with the tokens of `x`, `[tokens, columns]`, and writes `[tokens, rows]` to
/// `output`.
///
/// # Panics
/// When a length does not fit, or this processor has no kernels ([`Format::is_fast`]).
pub fn multiply(
    matrix: &Matrix,
    x: &[f32],
    options: &Options<'_>,
    pool: &Pool,
    output: &mut [f32],
) {
    let Some(set) = dispatch::best() else {
        panic!("no kernels for this processor");
    };
    multiply_with(set, matrix, x, options, pool, output);
}

/// [`multiply`] with a certain instruction set, which this processor must have.
pub(super) fn multiply_with(
    set: InstructionSet,
    matrix: &Matrix,
    x: &[f32],
    options: &Options<'_>,
    pool: &Pool,
    output: &mut [f32],
) {
    let Shape {
        format,
        rows,
        columns,
    } = matrix.shape;
    let tokens = x.len() / columns;
    assert_eq!(x.len(), tokens * columns, "activations");
    assert_eq!(output.len(), tokens * rows, "results");
    options.epilogue.check(rows, output.len());
    // Weights that are infinite or NaN cannot be kept in range, and there is no code for the end of
    // a row that is not a multiple.
    let bound = (matrix.f16_bound)
        .filter(|_| set.accumulates_f16() && columns.is_multiple_of(f16_accumulation::MULTIPLE));
    let set = if format == Format::F16 && bound.is_none() {
        set.accumulating_f32()
    } else {
        set
    };
    let batch = if options.batch_invariant {
        BatchSize::One
    } else {
        set.batch_size(format, tokens)
    };
    let activations = Activations::new(
        set.quantizer(),
        x,
        columns,
        bound.map_or(
            ActivationFormat::of(format, batch),
            ActivationFormat::ScaledF16,
        ),
        set.tile_sizes(format, batch),
        pool,
        ACTIVATIONS.take(),
    );
    let panels = matrix.shape.panels();
    let per_chunk = panels_per_chunk(matrix.shape, set, tokens, batch, pool.threads());
    if let Some((next, bytes)) = matrix.next().filter(|_| tokens < LARGE_TILE) {
        let per_chunk = panels_per_chunk(next, set, tokens, batch, pool.threads());
        pool.prefetch(bytes, per_chunk * next.panel_bytes());
    }
    let product = Product {
        set,
        matrix,
        activations: &activations,
        epilogue: &options.epilogue,
        batch,
        output: Parts::new(output),
    };
    pool.run(panels.div_ceil(per_chunk), &|chunk| {
        let first = chunk * per_chunk;
        product.compute(first, per_chunk.min(panels - first));
    });
    ACTIVATIONS.set(activations.into_buffer());
}

/// How many panels of a matrix a thread claims at a time.
fn panels_per_chunk(
    shape: Shape,
    set: InstructionSet,
    tokens: usize,
    batch: BatchSize,
    threads: usize,
) -> usize {
    if let Some(float_gemm) = set
        .float_gemm(shape.format)
        .filter(|_| tokens >= LARGE_TILE)
    {
        return float_gemm.rows / PANEL;
    }
    let largest_tile = set.tile_sizes(shape.format, batch)[0];
    let fair = shape.panels().div_ceil(CHUNKS_PER_THREAD * threads);
    let least = if tokens < LARGE_TILE { LEAST_BYTES } else { 0 };
    fair.min(CACHED_BYTES / shape.panel_bytes())
        .max(least / shape.panel_bytes())
        .max(1)
        .next_multiple_of(set.panels_together(shape.format, largest_tile, batch))
}

struct Product<'a> {
    set: InstructionSet,
    matrix: &'a Matrix,
    activations: &'a Activations,
    epilogue: &'a SliceEpilogue<'a>,
    batch: BatchSize,
    output: Parts<'a, f32>,
}

impl Product<'_> {
    /// Computes the rows of `panels` panels from `first` on, for all tokens.
    fn compute(&self, first: usize, panels: usize) {
        let Shape {
            format,
            rows: stride,
            columns,
        } = self.matrix.shape;
        let blocks = self.matrix.shape.blocks();
        let first_row = first * PANEL;
        let rows = (panels * PANEL).min(stride - first_row);
        let float_gemm = self.set.float_gemm(format);
        let float_microkernel = |tile: &Tile| float_gemm?.microkernel(tile.tokens);
        let mut unpacked = UNPACKED.take();
        let (packed, _) = self.matrix.panels(first, panels);
        let (mut panel_data, mut panel_bytes) = (packed, self.matrix.shape.panel_bytes());
        let first_tile = self.activations.tiles.first();
        if let Some(float_gemm) =
            float_gemm.filter(|_| first_tile.and_then(float_microkernel).is_some())
        {
            unpacked.resize(columns * float_gemm.rows * size_of::<f32>());
            // SAFETY: what unpacking needs every instruction set with kernels has.
            unsafe {
                (float_gemm.unpack)(packed, columns, float_gemm.rows, unpacked.values_mut());
            }
        } else if let Some(unpacking) = self.unpacking() {
            panel_bytes = unpacking.block_bytes * blocks;
            unpacked.resize(panels * panel_bytes);
            self.unpack(first, unpacking, unpacked.bytes_mut(), panel_bytes, panels);
            panel_data = &unpacked.bytes()[..panels * panel_bytes];
        }
        for tile in &self.activations.tiles {
            let place = |token: usize| {
                let start = (tile.first + token) * stride + first_row;
                // SAFETY: chunks have rows of their own, and a chunk uses one part at a time.
                unsafe { self.output.slice(start, rows) }
            };
            // Results of the first and the last token are within the output.
            let output = place(0).as_mut_ptr();
            place(tile.tokens - 1);
            let job = Job {
                panels: panel_data,
                panel_stride: 0,
                rows,
                blocks,
                tile: self.activations.tile(tile),
                output,
                output_stride: stride,
            };
            if let Some(microkernel) = float_microkernel(tile) {
                let panels = unpacked.bytes();
                // SAFETY: the instruction set is there; results are within the output, see above.
                unsafe { microkernel(&Job { panels, ..job }) };
            } else {
                let microkernel = self.set.microkernel(format, tile.tokens, self.batch);
                let together = self.set.panels_together(format, tile.tokens, self.batch);
                // SAFETY: as above.
                unsafe { each_panel(microkernel, &job, panel_bytes, together) };
            }
            for token in 0..tile.tokens {
                let offset = (tile.first + token) * stride + first_row;
                self.epilogue.apply(place(token), first_row, offset);
            }
        }
        UNPACKED.set(unpacked);
    }

    /// How panels are unpacked first, if they are.
    fn unpacking(&self) -> Option<Unpacking> {
        let is_large = self.batch == BatchSize::Large;
        is_large
            .then(|| self.set.unpacking(self.matrix.shape.format))
            .flatten()
    }

    /// Unpacks `panels` panels from `first` on to `panel_bytes` bytes each.
    fn unpack(
        &self,
        first: usize,
        unpacking: Unpacking,
        output: &mut [u8],
        panel_bytes: usize,
        panels: usize,
    ) {
        let output = output.chunks_exact_mut(panel_bytes);
        for (panel, output) in (first..first + panels).zip(output) {
            let (source, rows) = self.matrix.panels(panel, 1);
            // SAFETY: the instruction set that has the unpacking is there.
            unsafe { (unpacking.unpack)(source, rows, self.matrix.shape.blocks(), output) };
        }
    }
}

/// Runs a microkernel for all panels of `job`, `together` at a time.
///
/// # Safety
/// That of [`Microkernel`].
unsafe fn each_panel(microkernel: Microkernel, job: &Job<'_>, panel_bytes: usize, together: usize) {
    for (index, panels) in job.panels.chunks(together * panel_bytes).enumerate() {
        let done = index * together * PANEL;
        let job = Job {
            panels,
            panel_stride: if panels.len() > panel_bytes {
                panel_bytes
            } else {
                0
            },
            rows: (together * PANEL).min(job.rows - done),
            output: job.output.wrapping_add(done),
            ..*job
        };
        // SAFETY: the caller's condition; these rows are some of the job's.
        unsafe { microkernel(&job) };
    }
}
