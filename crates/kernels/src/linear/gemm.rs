//! A product as threads share it out.

use std::cell::RefCell;

use super::PANEL;
#[cfg(target_arch = "aarch64")]
pub(super) use super::aarch64::InstructionSet;
use super::epilogue::SliceEpilogue;
use super::format::Format;
use super::matrix::{Matrix, Shape};
use super::microkernel::{Count, Expansion, Job};
use super::quantize_activations::{
    Activations, COLUMN_BY_COLUMN, Line, Rounding, Tile, as_bytes, as_bytes_mut, as_floats,
    as_floats_mut,
};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use super::unsupported::InstructionSet;
#[cfg(target_arch = "x86_64")]
pub(super) use super::x86::InstructionSet;
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
/// A chunk is at least this many bytes of weights: claiming it costs as much as reading a few hundred.
const LEAST_BYTES: usize = 16 * 1024;

thread_local! {
    /// The caller's memory for activations.
    static ACTIVATIONS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// A thread's memory for expanded rows.
    static EXPANDED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// The kernels of this processor.
#[derive(Clone, Copy)]
pub(super) struct Kernels(pub(super) InstructionSet);

impl Kernels {
    /// The best there are, if any.
    pub(super) fn best() -> Option<Self> {
        InstructionSet::available().next().map(Self)
    }
}

/// Multiplies `matrix` with the tokens of `x`, `[tokens, columns]`, and writes `[tokens, rows]` to `output`.
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
    let Some(kernels) = Kernels::best() else {
        panic!("no kernels for this processor");
    };
    multiply_with(kernels, matrix, x, options, pool, output);
}

/// [`multiply`] with certain kernels, which this processor must have.
pub(super) fn multiply_with(
    kernels: Kernels,
    matrix: &Matrix,
    x: &[f32],
    options: &Options<'_>,
    pool: &Pool,
    output: &mut [f32],
) {
    let tokens = x.len() / matrix.shape.columns;
    assert_eq!(x.len(), tokens * matrix.shape.columns, "activations");
    assert_eq!(output.len(), tokens * matrix.shape.rows, "results");
    options.epilogue.check(matrix.shape.rows, output.len());
    // Weights that are infinite or no numbers cannot be kept in range.
    let (set, bound) = kernels.0.short_sums(matrix.bound);
    let kernels = if matrix.shape.format == Format::F16 {
        Kernels(set)
    } else {
        kernels
    };
    let count = match tokens {
        _ if options.batch_invariant => Count::One,
        // Expanding half floats takes longer than it saves where they do not fill a large tile.
        _ if matrix.shape.format == Format::F16
            && tokens < kernels.0.tile_sizes(Format::F16, Count::Few)[0] =>
        {
            Count::One
        }
        _ if tokens >= kernels.0.many(matrix.shape.format) => Count::Many,
        _ => Count::Few,
    };
    let activations = Activations::new(
        x,
        matrix.shape.columns,
        bound.map_or(Rounding::of(matrix.shape.format, count), Rounding::Short),
        kernels.0.tile_sizes(matrix.shape.format, count),
        pool,
        ACTIVATIONS.take(),
    );
    let panels = matrix.shape.panels();
    let per_chunk = panels_per_chunk(matrix.shape, kernels, tokens, count, pool.threads());
    if let Some((next, bytes)) = matrix.next().filter(|_| tokens < COLUMN_BY_COLUMN) {
        let per_chunk = panels_per_chunk(next, kernels, tokens, count, pool.threads());
        pool.prefetch(bytes, per_chunk * next.panel_bytes());
    }
    let product = Product {
        kernels,
        matrix,
        activations: &activations,
        epilogue: &options.epilogue,
        count,
        expansion: kernels
            .0
            .expansion(matrix.shape.format)
            .filter(|_| count == Count::Many),
        output: Parts::new(output),
    };
    pool.run(panels.div_ceil(per_chunk), &|chunk| {
        let first = chunk * per_chunk;
        product.compute(first, per_chunk.min(panels - first));
    });
    ACTIVATIONS.set(activations.into_scratch());
}

/// How many panels of a matrix a thread claims at a time.
fn panels_per_chunk(
    shape: Shape,
    kernels: Kernels,
    tokens: usize,
    count: Count,
    threads: usize,
) -> usize {
    if shape.format == Format::F16 && tokens >= COLUMN_BY_COLUMN {
        return kernels.0.wide().rows / PANEL;
    }
    let largest_tile = kernels.0.tile_sizes(shape.format, count)[0];
    let fair = shape.panels().div_ceil(CHUNKS_PER_THREAD * threads);
    let least = if tokens < COLUMN_BY_COLUMN {
        LEAST_BYTES
    } else {
        0
    };
    fair.min(CACHED_BYTES / shape.panel_bytes())
        .max(least / shape.panel_bytes())
        .max(1)
        .next_multiple_of(kernels.0.panels_together(shape.format, largest_tile, count))
}

struct Product<'a> {
    kernels: Kernels,
    matrix: &'a Matrix,
    activations: &'a Activations,
    epilogue: &'a SliceEpilogue<'a>,
    count: Count,
    /// How panels are expanded first.
    expansion: Option<Expansion>,
    output: Parts<'a, f32>,
}

impl Product<'_> {
    /// Computes the rows of `panels` panels from `first` on, for all tokens.
    fn compute(&self, first: usize, panels: usize) {
        let shape = self.matrix.shape;
        let (columns, stride) = (shape.columns, shape.rows);
        let first_row = first * PANEL;
        let rows = (panels * PANEL).min(stride - first_row);
        let set = self.kernels.0;
        let wide = set.wide();
        let is_wide = |tile: &Tile| shape.format == Format::F16 && wide.takes(tile.tokens);
        let mut expanded = EXPANDED.take();
        let mut block_bytes = 0;
        if self.activations.tiles.first().is_some_and(is_wide) {
            expanded.resize((columns * wide.rows).div_ceil(16), Line::EMPTY);
            let start = first_row * columns * 2;
            let halves = &self.matrix.bytes()[start..start + rows * columns * 2];
            // SAFETY: what expanding needs every instruction set with kernels has.
            unsafe { wide.expand(halves, columns, as_floats_mut(&mut expanded)) };
        } else if let Some(expansion) = self.expansion {
            block_bytes = expansion.block_bytes;
            self.expand(first, panels, expansion, &mut expanded);
        }
        let (panel_data, panel_bytes) = if block_bytes > 0 {
            let panel_bytes = block_bytes * shape.blocks();
            (&as_bytes(&expanded)[..panels * panel_bytes], panel_bytes)
        } else {
            (self.matrix.panels(first, panels).0, shape.panel_bytes())
        };
        for tile in &self.activations.tiles {
            let tile_bytes = self.activations.tile(tile);
            let place = |token: usize, row: usize, rows: usize| {
                // SAFETY: chunks have rows of their own, and a chunk uses one part at a time.
                unsafe { self.output.slice((tile.first + token) * stride + row, rows) }
            };
            if is_wide(tile) {
                let output = place(0, first_row, rows).as_mut_ptr();
                place(tile.tokens - 1, first_row, rows);
                // SAFETY: the instruction set is there; the results of the first and the last token are within the
                // output, as `place` checked.
                unsafe {
                    wide.multiply(
                        as_floats(&expanded),
                        tile_bytes,
                        tile.tokens,
                        columns,
                        rows,
                        output,
                        stride,
                    );
                }
            } else {
                let kernel = set.kernel(shape.format, tile.tokens, self.count);
                let output = place(0, first_row, rows).as_mut_ptr();
                place(tile.tokens - 1, first_row, rows);
                let together = set.panels_together(shape.format, tile.tokens, self.count);
                for (index, panel) in panel_data.chunks(together * panel_bytes).enumerate() {
                    let done = index * together * PANEL;
                    let job = Job {
                        panel,
                        other: if panel.len() > panel_bytes {
                            panel_bytes
                        } else {
                            0
                        },
                        rows: (together * PANEL).min(rows - done),
                        blocks: shape.blocks(),
                        tile: tile_bytes,
                    };
                    // SAFETY: the instruction set is there; the matrix and the activations hold what their shapes
                    // say; results are within the output, as `place` checked.
                    unsafe { kernel(job, output.add(done), stride) };
                }
            }
            for token in 0..tile.tokens {
                let at = (tile.first + token) * stride + first_row;
                self.epilogue
                    .apply(place(token, first_row, rows), first_row, at);
            }
        }
        EXPANDED.set(expanded);
    }

    /// Expands `panels` panels from `first` on.
    fn expand(&self, first: usize, panels: usize, expansion: Expansion, output: &mut Vec<Line>) {
        let bytes = expansion.block_bytes * self.matrix.shape.blocks();
        output.resize((panels * bytes).div_ceil(64), Line::EMPTY);
        let output = as_bytes_mut(output).chunks_exact_mut(bytes);
        for (panel, output) in (first..first + panels).zip(output) {
            let (source, rows) = self.matrix.panel(panel);
            // SAFETY: the instruction set that has the expansion is there.
            unsafe { (expansion.expand)(source, rows, self.matrix.shape.blocks(), output) };
        }
    }
}
