//! Weight matrices as the kernels read them.

use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

use super::PANEL;
use super::f16_accumulation;
use super::format::Format;
use super::gemm::Kernels;
use super::packing::{Arrangement, arrangement};

/// What a format looks like.
struct Layout {
    /// Elements of a block.
    elements: usize,
    /// Bytes of a block as GGUF files hold it.
    bytes: usize,
    /// How the blocks of eight rows are interleaved for the kernels; none where rows are read as they are.
    panel: Option<Panel>,
}

/// The blocks of eight rows, interleaved.
struct Panel {
    /// Bytes that they take.
    bytes: usize,
    arrangement: Arrangement,
}

impl Format {
    fn layout(self) -> Layout {
        let (elements, bytes, panel_bytes) = match self {
            Self::F16 => (1, 2, PANEL * 2),
            Self::Q4_0 => (32, 18, PANEL * 18),
            Self::Q8_0 => (32, 34, PANEL * 34),
            Self::Q4K => (256, 144, Q4K_PANEL),
            Self::Q5K => (256, 176, Q5K_PANEL),
            Self::Q6K => (256, 210, PANEL * 210),
        };
        Layout {
            elements,
            bytes,
            panel: arrangement(self).map(|arrangement| Panel {
                bytes: panel_bytes,
                arrangement,
            }),
        }
    }

    /// Whether this processor has kernels for rows of so many `columns`.
    pub fn is_fast(self, columns: usize) -> bool {
        Kernels::best().is_some() && columns.is_multiple_of(self.granularity())
    }

    /// Columns come in multiples of this.
    fn granularity(self) -> usize {
        match self {
            Self::F16 => 16,
            other => other.layout().elements,
        }
    }
}

/// Scales and minimum scales of eight rows (f16), eight groups of eight scales, four groups of eight pairs of
/// minimums (bytes), then 32 vectors of nibbles.
const Q4K_PANEL: usize = 16 + 16 + 64 + 64 + PANEL * 128;

/// The same with 8 vectors of fifth bits.
const Q5K_PANEL: usize = Q4K_PANEL + PANEL * 32;

/// Memory for the matrices of a model, in pages as large as the system has them: weights are read from one end to the
/// other for every token, and with small pages finding them takes longer than reading them.
pub struct Arena {
    pages: MmapMut,
}

/// Where matrices begin in an arena: where lines of the cache do.
pub const ALIGNMENT: usize = 64;

impl Arena {
    /// `bytes` of zeros, which take memory when they are written.
    ///
    /// # Errors
    /// When the system has not that much.
    pub fn new(bytes: usize) -> std::io::Result<Self> {
        let pages = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        {
            // Where there are no large pages, small ones do.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { pages })
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.pages.len()
    }

    /// Keeps the memory from being swapped out.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lock(&self) -> std::io::Result<()> {
        #[cfg(unix)]
        self.pages.lock()?;
        Ok(())
    }

    /// The memory, to be divided and filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.pages
    }
}

/// `[rows, columns]` of a format.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Shape {
    /// Blocks of a row.
    pub(super) fn blocks(self) -> usize {
        self.columns / self.format.layout().elements
    }

    /// Panels, of which the last may have fewer rows.
    pub(super) fn panels(self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes from one panel to the next.
    pub(super) fn panel_bytes(self) -> usize {
        let layout = self.format.layout();
        let bytes = layout.panel.map(|panel| panel.bytes);
        self.blocks() * bytes.unwrap_or(PANEL * layout.bytes)
    }
}

/// A matrix ready to be multiplied: `[rows, columns]`, row by row or panel by panel.
pub struct Matrix {
    pub(super) shape: Shape,
    /// Of f16 where the kernels want it: see [`f16_accumulation::bound`].
    pub(super) bound: Option<i32>,
    arena: Arc<Arena>,
    range: Range<usize>,
    /// The one that is multiplied next, where that is known, and its place in the arena.
    next: Option<(Shape, Range<usize>)>,
}

impl Matrix {
    /// Bytes that the kernels' arrangement of a matrix takes.
    pub fn arranged_bytes(format: Format, rows: usize, columns: usize) -> usize {
        let layout = format.layout();
        let blocks = columns / layout.elements;
        match layout.panel {
            Some(panel) => rows.div_ceil(PANEL) * blocks * panel.bytes,
            None => rows * blocks * layout.bytes,
        }
    }

    /// Arranges the rows in `source`, which is what a GGUF file holds, for the kernels.
    ///
    /// # Panics
    /// When `source` or `arranged` is not as long as the shape says, or the columns do not fit the format.
    pub fn arrange(
        format: Format,
        rows: usize,
        columns: usize,
        source: &[u8],
        arranged: &mut [u8],
    ) {
        let layout = format.layout();
        let blocks = columns / layout.elements;
        assert!(
            columns.is_multiple_of(format.granularity()),
            "{columns} columns of {format:?}"
        );
        assert_eq!(
            rows * blocks * layout.bytes,
            source.len(),
            "{rows} × {columns} of {format:?}"
        );
        assert_eq!(Self::arranged_bytes(format, rows, columns), arranged.len());
        let Some(panel) = layout.panel else {
            arranged.copy_from_slice(source);
            return;
        };
        for (rows, output) in source
            .chunks(PANEL * blocks * layout.bytes)
            .zip(arranged.chunks_exact_mut(blocks * panel.bytes))
        {
            for (row, bytes) in rows.chunks_exact(blocks * layout.bytes).enumerate() {
                let blocks = bytes
                    .chunks_exact(layout.bytes)
                    .zip(output.chunks_exact_mut(panel.bytes));
                for (source, output) in blocks {
                    (panel.arrangement.interleave)(source, row, output);
                }
            }
        }
    }

    /// The matrix that was arranged in `range` of `arena`.
    ///
    /// # Panics
    /// When the range is not as long as the shape says.
    pub fn new(
        format: Format,
        rows: usize,
        columns: usize,
        arena: Arc<Arena>,
        range: Range<usize>,
    ) -> Self {
        let expected = Self::arranged_bytes(format, rows, columns);
        let bytes = &arena.pages[range.clone()];
        assert_eq!(bytes.len(), expected);
        let wanted = |kernels: Kernels| kernels.0.short_sums(Some(0)).1.is_some();
        let bound = if format == Format::F16 && Kernels::best().is_some_and(wanted) {
            f16_accumulation::bound(bytes)
        } else {
            None
        };
        Self {
            shape: Shape {
                format,
                rows,
                columns,
            },
            bound,
            arena,
            range,
            next: None,
        }
    }

    /// Says that these are multiplied one after the other and then from the first again.
    ///
    /// # Panics
    /// When they are not of one arena.
    pub fn put_in_order(matrices: &mut [Self]) {
        let mut pairs = matrices.windows(2);
        assert!(pairs.all(|pair| Arc::ptr_eq(&pair[0].arena, &pair[1].arena)));
        let places = matrices
            .iter()
            .map(|matrix| (matrix.shape, matrix.range.clone()));
        let places: Vec<_> = places.collect();
        let nexts = places.iter().cycle().skip(1);
        for (matrix, next) in matrices.iter_mut().zip(nexts) {
            matrix.next = Some(next.clone());
        }
    }

    /// The matrix that is multiplied next, where that is known.
    pub(super) fn next(&self) -> Option<(Shape, &[u8])> {
        let (shape, range) = self.next.clone()?;
        Some((shape, &self.arena.pages[range]))
    }

    /// A matrix in memory of its own.
    #[cfg(test)]
    pub(super) fn alone(format: Format, rows: usize, columns: usize, source: &[u8]) -> Self {
        let bytes = Self::arranged_bytes(format, rows, columns);
        let mut arena = Arena::new(bytes).unwrap();
        Self::arrange(
            format,
            rows,
            columns,
            source,
            &mut arena.bytes_mut()[..bytes],
        );
        Self::new(format, rows, columns, Arc::new(arena), 0..bytes)
    }

    /// How the elements are stored.
    pub fn format(&self) -> Format {
        self.shape.format
    }

    /// Rows, which are the outputs of a product.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Elements of a row.
    pub fn columns(&self) -> usize {
        self.shape.columns
    }

    /// Bytes of a row as GGUF files hold it.
    pub fn row_bytes(&self) -> usize {
        self.shape.blocks() * self.shape.format.layout().bytes
    }

    /// Writes row `index` as GGUF files hold it.
    ///
    /// # Panics
    /// When there is no such row, or `output` has not [`Matrix::row_bytes`] bytes.
    pub fn copy_row(&self, index: usize, output: &mut [u8]) {
        assert!(
            index < self.shape.rows,
            "row {index} of {}",
            self.shape.rows
        );
        assert_eq!(output.len(), self.row_bytes());
        let layout = self.shape.format.layout();
        let (panel, _) = self.panel(index / PANEL);
        let row = index % PANEL;
        match layout.panel {
            Some(Panel { bytes, arrangement }) => {
                let blocks = output.chunks_exact_mut(layout.bytes);
                for (blocks, output) in panel.chunks_exact(bytes).zip(blocks) {
                    (arrangement.separate)(blocks, row, output);
                }
            }
            None => output.copy_from_slice(&panel[row * output.len()..][..output.len()]),
        }
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.arena.pages[self.range.clone()]
    }

    /// The panel that begins with row `PANEL * index`, and its rows; shorter at the end when rows are read as they
    /// are.
    pub(super) fn panel(&self, index: usize) -> (&[u8], usize) {
        self.panels(index, 1)
    }

    /// The bytes of `count` panels from `first` on, and how many rows they have.
    pub(super) fn panels(&self, first: usize, count: usize) -> (&[u8], usize) {
        let bytes = self.bytes();
        let start = first * self.shape.panel_bytes();
        let end = (start + count * self.shape.panel_bytes()).min(bytes.len());
        let rows = (count * PANEL).min(self.shape.rows - first * PANEL);
        (&bytes[start..end], rows)
    }
}
