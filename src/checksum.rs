//! A fast checksum that compares what was written with what is read back. It detects damage, not
//! manipulation.

/// Odd constants of the `SplitMix64` generator's mixing steps.
const MULTIPLIERS: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
];

/// Bytes of a stride.
const STRIDE: usize = 32;

/// A running checksum. Bytes may be added in pieces of any size.
#[derive(Debug, Clone)]
pub(crate) struct Checksum {
    lanes: [u64; 4],
    pending: Vec<u8>,
    length: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            lanes: MULTIPLIERS,
            pending: Vec::with_capacity(STRIDE),
            length: 0,
        }
    }
}

impl Checksum {
    /// Adds bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if !self.pending.is_empty() {
            let missing = (STRIDE - self.pending.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(missing);
            self.pending.extend_from_slice(head);
            bytes = rest;
            if self.pending.len() < STRIDE {
                return;
            }
            let pending = std::mem::take(&mut self.pending);
            self.mix(&pending);
        }
        let whole = bytes.len() - bytes.len() % STRIDE;
        let (strides, rest) = bytes.split_at(whole);
        self.mix(strides);
        self.pending.extend_from_slice(rest);
    }

    /// Mixes whole strides.
    fn mix(&mut self, bytes: &[u8]) {
        for stride in bytes.as_chunks::<STRIDE>().0 {
            let words = stride.as_chunks::<8>().0;
            for ((lane, word), multiplier) in self.lanes.iter_mut().zip(words).zip(MULTIPLIERS) {
                *lane = (*lane ^ u64::from_le_bytes(*word))
                    .wrapping_mul(multiplier)
                    .rotate_left(29);
            }
        }
    }

    /// The checksum of all bytes so far.
    pub(crate) fn finish(mut self) -> u64 {
        self.pending.resize(STRIDE, 0);
        let pending = std::mem::take(&mut self.pending);
        self.mix(&pending);
        self.lanes
            .iter()
            .zip(MULTIPLIERS)
            .fold(self.length, |sum, (lane, multiplier)| {
                (sum ^ lane ^ (lane >> 31))
                    .wrapping_mul(multiplier)
                    .rotate_left(17)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> u64 {
        let mut checksum = Checksum::default();
        for piece in pieces {
            checksum.update(piece);
        }
        checksum.finish()
    }

    #[test]
    fn pieces_do_not_matter_and_every_bit_does() {
        let bytes: Vec<u8> = (0..200_u8).collect();
        let whole = of(&[&bytes]);
        for cut in [1, 31, 32, 33, 199] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(of(&[head, tail]), whole);
        }
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            if let Some(byte) = changed.get_mut(index) {
                *byte ^= 1;
            }
            assert_ne!(of(&[&changed]), whole, "byte {index}");
        }
        assert_ne!(of(&[&bytes, &[0]]), whole);
    }
}
