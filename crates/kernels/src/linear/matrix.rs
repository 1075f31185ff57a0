//! Weight matrices as the kernels read them.

use super::layout::PANEL;
use std::ops::Range;
use std::sync::Arc;

use super::arena::Arena;
use super::dispatch;
use super::f16_accumulation;
use super::format::Format;
use super::microkernel::KernelSet;
use super::packing::Packing;

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
        self.columns / self.format.block_elements()
    }

    /// Panels, of which the last may have fewer rows.
    pub(super) fn panels(self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes of a row as GGUF files hold it.
    fn row_bytes(self) -> usize {
        self.blocks() * self.format.block_bytes()
    }

    /// Bytes from one panel to the next.
    pub(super) fn panel_bytes(self) -> usize {
        match Packing::of(self.format) {
            Some(packing) => self.blocks() * packing.panel_bytes,
            None => PANEL * self.row_bytes(),
        }
    }

    /// Bytes of the matrix as the kernels read it. Packed panels are whole.
    fn bytes(self) -> usize {
        match Packing::of(self.format) {
            Some(_) => self.panels() * self.panel_bytes(),
            None => self.rows * self.row_bytes(),
        }
    }
}

/// A matrix ready to be multiplied: `[rows, columns]`, row by row or packed in panels.
pub struct Matrix {
    pub(super) shape: Shape,
    /// Of f16 where the kernels need it: see [`f16_accumulation::bound`].
    pub(super) f16_bound: Option<i32>,
    arena: Arc<Arena>,
    range: Range<usize>,
    /// The one that is multiplied next, where that is known, and its place in the arena.
    next: Option<(Shape, Range<usize>)>,
}

impl Matrix {
    /// Bytes of a packed matrix.
    pub fn packed_bytes(format: Format, rows: usize, columns: usize) -> usize {
        let shape = Shape {
            format,
            rows,
            columns,
        };
        shape.bytes()
    }

    /// Packs the rows in `source`, as GGUF files hold them, for the kernels.
    ///
    /// # Panics
    /// When `source` or `packed` is not as long as the shape says, or the columns do not fit the
    /// format.
    pub fn pack(format: Format, rows: usize, columns: usize, source: &[u8], packed: &mut [u8]) {
        assert!(
            columns.is_multiple_of(format.block_elements()),
            "{columns} columns of {format:?}"
        );
        let shape = Shape {
            format,
            rows,
            columns,
        };
        assert_eq!(
            rows * shape.row_bytes(),
            source.len(),
            "{rows} × {columns} of {format:?}"
        );
        assert_eq!(shape.bytes(), packed.len());
        match Packing::of(format) {
            Some(packing) => (packing.pack)(source, shape.blocks(), packed),
            None => packed.copy_from_slice(source),
        }
    }

    /// The matrix that was packed in `range` of `arena`.
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
        let shape = Shape {
            format,
            rows,
            columns,
        };
        let bytes = &arena.as_bytes()[range.clone()];
        assert_eq!(bytes.len(), shape.bytes());
        let is_bounded =
            format == Format::F16 && dispatch::best().is_some_and(KernelSet::accumulates_f16);
        Self {
            shape,
            f16_bound: if is_bounded {
                f16_accumulation::bound(bytes)
            } else {
                None
            },
            arena,
            range,
            next: None,
        }
    }

    /// Says that these are multiplied one after the other and then from the first again.
    ///
    /// # Panics
    /// When they are not of one arena.
    pub fn set_execution_order(matrices: &mut [Self]) {
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
        Some((shape, &self.arena.as_bytes()[range]))
    }

    /// A matrix in memory of its own.
    #[cfg(test)]
    pub(super) fn alone(format: Format, rows: usize, columns: usize, source: &[u8]) -> Self {
        let bytes = Self::packed_bytes(format, rows, columns);
        let mut arena = Arena::new(bytes).unwrap();
        let packed = &mut arena.bytes_mut()[..bytes];
        Self::pack(format, rows, columns, source, packed);
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
        self.shape.row_bytes()
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
        let (panel, _) = self.panels(index / PANEL, 1);
        let row = index % PANEL;
        match Packing::of(self.shape.format) {
            Some(packing) => (packing.unpack_row)(panel, row, output),
            None => output.copy_from_slice(&panel[row * output.len()..][..output.len()]),
        }
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.arena.as_bytes()[self.range.clone()]
    }

    /// The bytes of `count` panels from `first` on, and how many rows they have; fewer at the end.
    /// Rows that are not packed end with the last.
    pub(super) fn panels(&self, first: usize, count: usize) -> (&[u8], usize) {
        let bytes = self.bytes();
        let start = first * self.shape.panel_bytes();
        let end = (start + count * self.shape.panel_bytes()).min(bytes.len());
        let rows = (count * PANEL).min(self.shape.rows - first * PANEL);
        (&bytes[start..end], rows)
    }
}
