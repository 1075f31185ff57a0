//! What the searches share: one lane for each group of a super-block.

/// Values in a super-block.
pub(super) const SUPER_BLOCK: usize = 256;

/// `source` transposed: the values at one place of all groups side by side, `[places, groups]`.
#[inline(always)]
pub(super) fn transposed<const GROUPS: usize, const PLACES: usize>(
    source: &[f32],
) -> [[f32; GROUPS]; PLACES] {
    let mut lanes = [[0.0; GROUPS]; PLACES];
    for (group, values) in source.chunks_exact(PLACES).enumerate().take(GROUPS) {
        for (place, &value) in lanes.iter_mut().zip(values) {
            place[group] = value;
        }
    }
    lanes
}

/// The nearest integer of a value below 2²² in magnitude, halves to even: adding 1.5 · 2²³ leaves
/// it in the low bits.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    const TO_INTEGER: f32 = 12_582_912.0;
    ((x + TO_INTEGER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// A lane for each group, from a function of the lane.
#[inline(always)]
pub(super) fn lanes<T: Copy + Default, const N: usize>(of: impl Fn(usize) -> T) -> [T; N] {
    let mut all = [T::default(); N];
    for (lane, to) in all.iter_mut().enumerate() {
        *to = of(lane);
    }
    all
}
