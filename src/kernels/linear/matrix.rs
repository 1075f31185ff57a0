//! Weight matrices as the kernels read them.

use std::ops::Range;
use std::sync::Arc;

use super::PANEL;
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
    /// Bytes of the blocks of eight rows, interleaved for the kernels; none where rows are read as they are.
    panel: Option<usize>,
}

impl Format {
    fn layout(self) -> Layout {
        let (elements, bytes, panel) = match self {
            Self::F16 => (1, 2, None),
            Self::Q4_0 => (32, 18, Some(PANEL * 18)),
            Self::Q8_0 => (32, 34, None),
            Self::Q4K => (256, 144, Some(Q4K_PANEL)),
            Self::Q5K => (256, 176, None),
            Self::Q6K => (256, 210, None),
        };
        Layout {
            elements,
            bytes,
            panel,
        }
    }

    /// Whether rows are rearranged, so that the file's bytes are no longer needed.
    pub(crate) fn rearranges(self) -> bool {
        self.layout().panel.is_some()
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

/// Where the bytes are.
enum Storage {
    Own(Vec<u8>),
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>, Range<usize>),
}

/// A matrix ready to be multiplied: `[rows, columns]`, row by row or panel by panel.
pub(crate) struct Matrix {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: usize,
    storage: Storage,
}

impl Matrix {
    /// Rearranges (or copies) the rows in `source`, which is what a GGUF file holds.
    ///
    /// # Panics
    /// When `source` is not as long as the shape says, or the columns do not fit the format.
    pub(crate) fn new(format: Format, rows: usize, columns: usize, source: &[u8]) -> Self {
        let matrix = |bytes| Self {
            format,
            rows,
            columns,
            storage: Storage::Own(bytes),
        };
        check(format, rows, columns, source.len());
        let layout = format.layout();
        let Some(panel) = layout.panel else {
            return matrix(source.to_vec());
        };
        let blocks = columns / layout.elements;
        let mut bytes = vec![0; rows.div_ceil(PANEL) * blocks * panel];
        for (rows, output) in source
            .chunks(PANEL * blocks * layout.bytes)
            .zip(bytes.chunks_exact_mut(blocks * panel))
        {
            let rows: Vec<&[u8]> = rows.chunks_exact(blocks * layout.bytes).collect();
            for (block, output) in output.chunks_exact_mut(panel).enumerate() {
                for (row, bytes) in rows.iter().enumerate() {
                    let source = &bytes[block * layout.bytes..][..layout.bytes];
                    match format {
                        Format::Q4_0 => interleave_q4_0(source, row, output),
                        _ => interleave_q4_k(source, row, output),
                    }
                }
            }
        }
        matrix(bytes)
    }

    /// Rows used where they lie, in `range` of `bytes`.
    ///
    /// # Panics
    /// When the format rearranges rows, or the range is not as long as the shape says.
    pub(crate) fn in_place(
        format: Format,
        rows: usize,
        columns: usize,
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
        range: Range<usize>,
    ) -> Self {
        assert!(!format.rearranges(), "{format:?} is not used in place");
        check(format, rows, columns, (*bytes).as_ref()[range.clone()].len());
        Self {
            format,
            rows,
            columns,
            storage: Storage::Shared(bytes, range),
        }
    }

    /// Rows, which are the outputs of a product.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, which are the inputs of a product.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory of its own.
    pub(crate) fn own_bytes(&self) -> usize {
        match &self.storage {
            Storage::Own(bytes) => bytes.len(),
            Storage::Shared(..) => 0,
        }
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.columns / self.format.layout().elements
    }

    /// Bytes from one panel to the next.
    pub(super) fn panel_bytes(&self) -> usize {
        let layout = self.format.layout();
        self.blocks() * layout.panel.unwrap_or(PANEL * layout.bytes)
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Own(bytes) => bytes,
            Storage::Shared(bytes, range) => &(**bytes).as_ref()[range.clone()],
        }
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

fn check(format: Format, rows: usize, columns: usize, bytes: usize) {
    let layout = format.layout();
    assert!(
        columns.is_multiple_of(format.granularity()),
        "{columns} columns of {format:?}"
    );
    assert_eq!(
        rows * (columns / layout.elements) * layout.bytes,
        bytes,
        "{rows} rows of {columns} in {format:?}"
    );
}

/// Vector v holds bytes 4v to 4v+3 of every row's `source`.
fn spread(source: &[u8], row: usize, output: &mut [u8]) {
    for (bytes, vector) in source.chunks_exact(4).zip(output.chunks_exact_mut(4 * PANEL)) {
        vector[4 * row..4 * row + 4].copy_from_slice(bytes);
    }
}

/// Eight scales, then four vectors of nibbles.
fn interleave_q4_0(source: &[u8], row: usize, output: &mut [u8]) {
    output[2 * row..2 * row + 2].copy_from_slice(&source[..2]);
    spread(&source[2..18], row, &mut output[2 * PANEL..]);
}

/// As [`Q4K_PANEL`] says.
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
