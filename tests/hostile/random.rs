//! Random changes to bytes, the same on every run.

/// Values that break arithmetic, whichever width they are cut to.
pub(crate) const EXTREMES: [u64; 20] = [
    0,
    1,
    2,
    7,
    9,
    31,
    64,
    255,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFE0,
    0xFFFF_FFFF,
    1 << 32,
    1 << 60,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 31,
    u64::MAX - 7,
    u64::MAX,
];

/// How many random changes a test makes: all of them where `GPT2_EXHAUSTIVE` is set, as the stage
/// `exhaustive` of `.ci/run` does, else the first fifth.
pub(crate) fn changes(all: usize) -> usize {
    if std::env::var_os("GPT2_EXHAUSTIVE").is_some() {
        all
    } else {
        all / 5
    }
}

/// Steele, Lea and Flood's `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A number from −1 to 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Writes `value`, cut to `width` bytes, at `place`.
pub(crate) fn overwrite(bytes: &mut [u8], place: usize, width: usize, value: u64) {
    let value = value.to_le_bytes();
    for (byte, new) in bytes.iter_mut().skip(place).zip(&value[..width]) {
        *byte = *new;
    }
}
