//! Packing: the blocks of eight rows are interleaved, so that kernels read one stream and a vector
//! has a lane for each row.

use super::format::Format;
use super::layout::{
    BlockQ4_0, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, Lanes, Layout, Mins, PANEL, Q4_0Panel,
    Q4KPanel, Q5KPanel, Q6KPanel, Q8_0Panel, cast, cast_mut, scale_and_min, set_scale_and_min,
};

/// How matrices of a format are packed.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    /// Bytes of a packed block of eight rows.
    pub(super) panel_bytes: usize,
    /// Packs rows of `blocks` blocks, as GGUF files hold them, into panels; the rows that the last
    /// panel lacks are left as they are.
    pub(super) pack: fn(source: &[u8], blocks: usize, packed: &mut [u8]),
    /// Writes one row of a panel as GGUF files hold it.
    pub(super) unpack_row: fn(panel: &[u8], row: usize, output: &mut [u8]),
}

impl Packing {
    /// The packing of a format; none where the kernels read rows as they are.
    pub(super) fn of(format: Format) -> Option<Self> {
        // Only the kernels on ARM want 5 and 6 bits interleaved.
        let all = cfg!(target_arch = "aarch64");
        match format {
            Format::Q4_0 | Format::Iq4Nl => Some(Self::new::<Q4_0Panel>()),
            Format::Q8_0 => Some(Self::new::<Q8_0Panel>()),
            Format::Q4K => Some(Self::new::<Q4KPanel>()),
            Format::Q5K if all => Some(Self::new::<Q5KPanel>()),
            Format::Q6K if all => Some(Self::new::<Q6KPanel>()),
            _ => None,
        }
    }

    fn new<P: Packed>() -> Self {
        Self {
            panel_bytes: size_of::<P>(),
            pack: pack::<P>,
            unpack_row: unpack_row::<P>,
        }
    }
}

fn pack<P: Packed>(source: &[u8], blocks: usize, packed: &mut [u8]) {
    let panels = cast_mut::<P>(packed).chunks_exact_mut(blocks);
    for (rows, panels) in cast(source).chunks(PANEL * blocks).zip(panels) {
        for (row, blocks) in rows.chunks_exact(blocks).enumerate() {
            for (block, panel) in blocks.iter().zip(&mut *panels) {
                panel.set_row(row, block);
            }
        }
    }
}

fn unpack_row<P: Packed>(panel: &[u8], row: usize, output: &mut [u8]) {
    for (block, panel) in cast_mut(output).iter_mut().zip(cast::<P>(panel)) {
        *block = panel.row(row);
    }
}

/// A packed block of eight rows.
trait Packed: Layout {
    /// A block of one row.
    type Block: Layout;

    /// Puts a block of one row in its places.
    fn set_row(&mut self, row: usize, block: &Self::Block);

    /// The block of one row.
    fn row(&self, row: usize) -> Self::Block;
}

impl Packed for Q4_0Panel {
    type Block = BlockQ4_0;

    fn set_row(&mut self, row: usize, block: &BlockQ4_0) {
        self.d[row] = block.d;
        interleave(&block.qs, row, &mut self.qs);
    }

    fn row(&self, row: usize) -> BlockQ4_0 {
        BlockQ4_0 {
            d: self.d[row],
            qs: deinterleave(&self.qs, row),
        }
    }
}

impl Packed for Q8_0Panel {
    type Block = BlockQ8_0;

    fn set_row(&mut self, row: usize, block: &BlockQ8_0) {
        self.d[row] = block.d;
        interleave(&block.qs, row, &mut self.qs);
    }

    fn row(&self, row: usize) -> BlockQ8_0 {
        BlockQ8_0 {
            d: self.d[row],
            qs: deinterleave(&self.qs, row),
        }
    }
}

impl Packed for Q4KPanel {
    type Block = BlockQ4K;

    fn set_row(&mut self, row: usize, block: &BlockQ4K) {
        (self.d[row], self.dmin[row]) = (block.d, block.dmin);
        interleave_scales(&block.scales, row, &mut self.scales, &mut self.mins);
        interleave(&block.qs, row, self.qs.as_flattened_mut());
    }

    fn row(&self, row: usize) -> BlockQ4K {
        BlockQ4K {
            d: self.d[row],
            dmin: self.dmin[row],
            scales: deinterleave_scales(&self.scales, &self.mins, row),
            qs: deinterleave(self.qs.as_flattened(), row),
        }
    }
}

impl Packed for Q5KPanel {
    type Block = BlockQ5K;

    fn set_row(&mut self, row: usize, block: &BlockQ5K) {
        (self.d[row], self.dmin[row]) = (block.d, block.dmin);
        interleave_scales(&block.scales, row, &mut self.scales, &mut self.mins);
        interleave(&block.qh, row, &mut self.qh);
        interleave(&block.qs, row, self.qs.as_flattened_mut());
    }

    fn row(&self, row: usize) -> BlockQ5K {
        BlockQ5K {
            d: self.d[row],
            dmin: self.dmin[row],
            scales: deinterleave_scales(&self.scales, &self.mins, row),
            qh: deinterleave(&self.qh, row),
            qs: deinterleave(self.qs.as_flattened(), row),
        }
    }
}

impl Packed for Q6KPanel {
    type Block = BlockQ6K;

    fn set_row(&mut self, row: usize, block: &BlockQ6K) {
        self.d[row] = block.d;
        for (scales, &scale) in self.scales.iter_mut().zip(&block.scales) {
            scales[row] = scale;
        }
        interleave(&block.ql, row, self.ql.as_flattened_mut());
        interleave(&block.qh, row, self.qh.as_flattened_mut());
    }

    fn row(&self, row: usize) -> BlockQ6K {
        BlockQ6K {
            ql: deinterleave(self.ql.as_flattened(), row),
            qh: deinterleave(self.qh.as_flattened(), row),
            scales: self.scales.map(|scales| scales[row]),
            d: self.d[row],
        }
    }
}

/// Vector v holds bytes 4v to 4v + 3 of every row.
fn interleave<T: Copy>(bytes: &[T], row: usize, vectors: &mut [Lanes<T>]) {
    for (four, vector) in bytes.as_chunks().0.iter().zip(vectors) {
        vector[row] = *four;
    }
}

/// The reverse of [`interleave`].
fn deinterleave<T: Copy + Default, const N: usize>(vectors: &[Lanes<T>], row: usize) -> [T; N] {
    let mut bytes = [T::default(); N];
    for (four, vector) in bytes.as_chunks_mut().0.iter_mut().zip(vectors) {
        *four = vector[row];
    }
    bytes
}

/// Puts the groups' scales and minimums of one row in their places.
fn interleave_scales(
    packed: &[u8; 12],
    row: usize,
    scales: &mut [[u8; PANEL]; 8],
    mins: &mut Mins,
) {
    for (group, scales) in scales.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(packed, group);
        scales[row] = scale;
        *min_mut(mins, group, row) = min;
    }
}

/// The reverse of [`interleave_scales`].
fn deinterleave_scales(scales: &[[u8; PANEL]; 8], mins: &Mins, row: usize) -> [u8; 12] {
    let mut packed = [0; 12];
    let mut mins = *mins;
    for (group, scales) in scales.iter().enumerate() {
        let min = *min_mut(&mut mins, group, row);
        set_scale_and_min(&mut packed, group, (scales[row], min));
    }
    packed
}

/// The minimum of a group and row.
fn min_mut(mins: &mut Mins, group: usize, row: usize) -> &mut u8 {
    #[cfg(target_arch = "aarch64")]
    return &mut mins[group][row];
    #[cfg(not(target_arch = "aarch64"))]
    return &mut mins[group / 2][row][group % 2];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::layout::F16Bytes;
    use super::*;

    /// Packs `rows` rows of `blocks` blocks of `bytes` and unpacks each.
    fn check<P: Packed>(bytes: &[u8], rows: usize, blocks: usize) {
        let row_bytes = blocks * size_of::<P::Block>();
        let source = &bytes[..rows * row_bytes];
        let mut packed = vec![0; rows.div_ceil(PANEL) * blocks * size_of::<P>()];
        pack::<P>(source, blocks, &mut packed);
        let panels = packed.chunks(blocks * size_of::<P>());
        let mut unpacked = vec![0xaa; row_bytes];
        for (panel, rows) in panels.zip(source.chunks(PANEL * row_bytes)) {
            for (row, expected) in rows.chunks_exact(row_bytes).enumerate() {
                unpack_row::<P>(panel, row, &mut unpacked);
                assert_eq!(unpacked, expected, "row {row}");
            }
        }
    }

    proptest! {
        /// Of every format, also those that this processor's kernels read row by row.
        #[test]
        fn rows_of_any_bytes_are_unpacked_as_they_were(
            bytes in prop::collection::vec(any::<u8>(), 20 * 3 * 210),
            rows in 1usize..=20,
            blocks in 1usize..=3,
        ) {
            check::<Q4_0Panel>(&bytes, rows, blocks);
            check::<Q8_0Panel>(&bytes, rows, blocks);
            check::<Q4KPanel>(&bytes, rows, blocks);
            check::<Q5KPanel>(&bytes, rows, blocks);
            check::<Q6KPanel>(&bytes, rows, blocks);
        }
    }

    #[test]
    fn a_vector_holds_the_same_four_bytes_of_every_row() {
        let mut panels = [0; size_of::<Q8_0Panel>()];
        let source: Vec<u8> = (0..PANEL as u8)
            .flat_map(|row| (0..34).map(move |byte| 16 * row + byte))
            .collect();
        pack::<Q8_0Panel>(&source, 1, &mut panels);
        let [panel] = cast::<Q8_0Panel>(&panels) else {
            panic!("one panel")
        };
        for (vector, lanes) in panel.qs.iter().enumerate() {
            for (row, lane) in lanes.iter().enumerate() {
                let first = 16 * row + 2 + 4 * vector;
                assert_eq!(*lane, [0, 1, 2, 3].map(|index| (first + index) as i8));
            }
        }
        assert_eq!(panel.d[3], cast::<F16Bytes>(&source[3 * 34..][..2])[0]);
    }

    #[test]
    fn packed_types_are_as_large_as_what_they_hold() {
        fn ratio<P: Packed>() -> (usize, usize) {
            (size_of::<P>(), PANEL * size_of::<P::Block>())
        }
        // Six-bit scales and minimums become bytes: 4 more for each row.
        for (packed, rows) in [ratio::<Q4KPanel>(), ratio::<Q5KPanel>()] {
            assert_eq!(packed, rows + 4 * PANEL);
        }
        for (packed, rows) in [
            ratio::<Q4_0Panel>(),
            ratio::<Q8_0Panel>(),
            ratio::<Q6KPanel>(),
        ] {
            assert_eq!(packed, rows);
        }
    }
}
