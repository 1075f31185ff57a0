//! Weight matrices as the kernels read them.

use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

use super::PANEL;
#[cfg(target_arch = "aarch64")]
use super::aarch64::arrangement::{Interleave, interleave};
use super::product::Kernels;

/// How the elements of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    F16,
    Q4_0,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

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
    interleave: Interleave,
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
            panel: interleave(self).map(|interleave| Panel {
                bytes: panel_bytes,
                interleave,
            }),
        }
    }

    /// Whether this processor has kernels for rows of so many `columns`.
    pub(crate) fn is_fast(self, columns: usize) -> bool {
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

/// Writes a block of one row, `source`, to its places among the `output` of eight.
#[cfg(not(target_arch = "aarch64"))]
type Interleave = fn(source: &[u8], row: usize, output: &mut [u8]);

/// How blocks of a format are interleaved.
#[cfg(not(target_arch = "aarch64"))]
fn interleave(format: Format) -> Option<Interleave> {
    match format {
        Format::Q4_0 => Some(interleave_q4_0),
        Format::Q8_0 => Some(interleave_q8_0),
        Format::Q4K => Some(interleave_q4_k),
        Format::F16 | Format::Q5K | Format::Q6K => None,
    }
}

/// Memory for the matrices of a model, in pages as large as the system has them: weights are read from one end to the
/// other for every token, and with small pages finding them takes longer than reading them.
pub(crate) struct Arena {
    pages: MmapMut,
}

/// Where matrices begin in an arena: where lines of the cache do.
pub(crate) const ALIGNMENT: usize = 64;

impl Arena {
    /// `bytes` of zeros, which take memory when they are written.
    ///
    /// # Errors
    /// When the system has not that much.
    pub(crate) fn new(bytes: usize) -> std::io::Result<Self> {
        let pages = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        {
            // Where there are no large pages, small ones do.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { pages })
    }

    /// The memory, to be divided and filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.pages
    }
}

/// A matrix ready to be multiplied: `[rows, columns]`, row by row or panel by panel.
pub(crate) struct Matrix {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: usize,
    arena: Arc<Arena>,
    range: Range<usize>,
}

impl Matrix {
    /// Bytes that the kernels' arrangement of a matrix takes.
    pub(crate) fn arranged_bytes(format: Format, rows: usize, columns: usize) -> usize {
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
    pub(crate) fn arrange(
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
                    (panel.interleave)(source, row, output);
                }
            }
        }
    }

    /// The matrix that was arranged in `range` of `arena`.
    ///
    /// # Panics
    /// When the range is not as long as the shape says.
    pub(crate) fn new(
        format: Format,
        rows: usize,
        columns: usize,
        arena: Arc<Arena>,
        range: Range<usize>,
    ) -> Self {
        let expected = Self::arranged_bytes(format, rows, columns);
        assert_eq!(arena.pages[range.clone()].len(), expected);
        Self {
            format,
            rows,
            columns,
            arena,
            range,
        }
    }

    /// A matrix in memory of its own.
    #[cfg(test)]
    pub(crate) fn alone(format: Format, rows: usize, columns: usize, source: &[u8]) -> Self {
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
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Rows, which are the outputs of a product.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.columns / self.format.layout().elements
    }

    /// Bytes from one panel to the next.
    pub(super) fn panel_bytes(&self) -> usize {
        let layout = self.format.layout();
        let bytes = layout.panel.map(|panel| panel.bytes);
        self.blocks() * bytes.unwrap_or(PANEL * layout.bytes)
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.arena.pages[self.range.clone()]
    }

    /// The panel that begins with row `PANEL * index`, and its rows; shorter at the end when rows are read as they
    /// are.
    pub(super) fn panel(&self, index: usize) -> (&[u8], usize) {
        let bytes = self.bytes();
        let start = index * self.panel_bytes();
        let end = (start + self.panel_bytes()).min(bytes.len());
        (&bytes[start..end], PANEL.min(self.rows - index * PANEL))
    }
}

/// Vector v holds bytes 4v to 4v+3 of every row's `source`.
pub(super) fn spread(source: &[u8], row: usize, output: &mut [u8]) {
    for (bytes, vector) in source
        .chunks_exact(4)
        .zip(output.chunks_exact_mut(4 * PANEL))
    {
        vector[4 * row..4 * row + 4].copy_from_slice(bytes);
    }
}

/// Eight scales, then four vectors of nibbles.
#[cfg(not(target_arch = "aarch64"))]
fn interleave_q4_0(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    spread(&source[2..18], row, &mut output[2 * PANEL..]);
}

/// Eight scales, then eight vectors of bytes.
#[cfg(not(target_arch = "aarch64"))]
fn interleave_q8_0(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    spread(&source[2..34], row, &mut output[2 * PANEL..]);
}

/// As [`Q4K_PANEL`] says.
#[cfg(not(target_arch = "aarch64"))]
fn interleave_q4_k(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    output[16 + 2 * row..18 + 2 * row].copy_from_slice(&source[2..4]);
    let packed = &source[4..16];
    for group in 0..8 {
        let (scale, minimum) = scale_and_minimum(packed, group);
        output[32 + group * PANEL + row] = scale;
        output[96 + (group / 2) * 2 * PANEL + 2 * row + group % 2] = minimum;
    }
    spread(&source[16..], row, &mut output[160..]);
}

/// The six-bit scale and minimum of one of eight groups, from the twelve bytes that K-quants pack them into.
pub(super) fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            low & 15 | packed[group - 4] >> 6 << 4,
            low >> 4 | packed[group] >> 6 << 4,
        )
    }
}
