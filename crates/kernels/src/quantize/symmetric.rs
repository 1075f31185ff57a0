//! K-quants whose groups have a scale alone: x ≈ scale · level, levels of both signs.

use half::f16;

use super::lanes::{SUPER_BLOCK, lanes, nearest, transposed};

const GROUPS: usize = 16;
const PLACES: usize = SUPER_BLOCK / GROUPS;

/// Levels go from −32 to 31, stored 32 higher.
const HALF: i32 = 32;
/// A group, or block, with nothing above this is all zeros.
const NOTHING: f32 = 1e-15;

const LOW_BYTES: usize = SUPER_BLOCK / 2;
const HIGH_BYTES: usize = SUPER_BLOCK / 4;
const Q6_K_BYTES: usize = LOW_BYTES + HIGH_BYTES + GROUPS + 2;

/// A value for each group.
type Lanes = [f32; GROUPS];
/// A level for each value, 0 to 63: `[place][group]`.
type Levels = [[i32; GROUPS]; PLACES];

#[inline(always)]
pub(super) fn q6_k(source: &[f32], target: &mut [u8]) {
    let blocks = target.as_chunks_mut::<Q6_K_BYTES>().0;
    for (source, block) in source.chunks_exact(SUPER_BLOCK).zip(blocks) {
        quantize(source, block);
    }
}

#[inline(always)]
fn quantize(source: &[f32], block: &mut [u8; Q6_K_BYTES]) {
    let x = transposed::<GROUPS, PLACES>(source);
    let (scales, mut levels) = search(&x);
    let mut largest = 0.0f32;
    for &scale in &scales {
        if scale.abs() > largest.abs() {
            largest = scale;
        }
    }
    if largest.abs() < NOTHING {
        block.fill(0);
        return;
    }
    let inverse = -128.0 / largest;
    let unit = f16::from_f32(1.0 / inverse);
    let stored: [i8; GROUPS] = lanes(|group| nearest(inverse * scales[group]).min(127) as i8);

    // The levels once more, with the scales that a reader will have; a group whose scale is stored
    // as 0 keeps what the search found.
    let scale: Lanes = lanes(|group| unit.to_f32() * f32::from(stored[group]));
    for (levels, x) in levels.iter_mut().zip(&x) {
        for group in 0..GROUPS {
            let level = nearest(x[group] / scale[group]).clamp(-HALF, HALF - 1) + HALF;
            levels[group] = if scale[group] == 0.0 {
                levels[group]
            } else {
                level
            };
        }
    }

    let (low, rest) = block.split_at_mut(LOW_BYTES);
    let (high, rest) = rest.split_at_mut(HIGH_BYTES);
    let (scale_bytes, unit_bytes) = rest.split_at_mut(GROUPS);
    pack(&levels, low, high);
    for (byte, scale) in scale_bytes.iter_mut().zip(stored) {
        *byte = scale.cast_unsigned();
    }
    unit_bytes.copy_from_slice(&unit.to_le_bytes());
}

/// Each half of the block has four quarters of 32 values (two groups): the low four bits of the
/// first and third share bytes, as do those of the second and fourth, and all four share the bytes
/// of the upper two bits.
#[inline(always)]
fn pack(levels: &Levels, low: &mut [u8], high: &mut [u8]) {
    let halves = low.chunks_exact_mut(64).zip(high.chunks_exact_mut(32));
    for (half, (low, high)) in halves.enumerate() {
        for index in 0..32 {
            let quarter =
                |quarter: usize| levels[index % PLACES][8 * half + 2 * quarter + index / PLACES];
            let [a, b, c, d] = [0, 1, 2, 3].map(quarter);
            low[index] = (a & 15 | (c & 15) << 4) as u8;
            low[index + 32] = (b & 15 | (d & 15) << 4) as u8;
            high[index] = (a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6) as u8;
        }
    }
}

/// For each group the scale, among a few, with the smallest Σ x² (scale · level − x)², and its
/// levels.
#[inline(always)]
fn search(x: &[Lanes; PLACES]) -> (Lanes, Levels) {
    let mut largest = [0.0f32; GROUPS];
    for x in x {
        for group in 0..GROUPS {
            let larger = x[group].abs() > largest[group].abs();
            largest[group] = if larger { x[group] } else { largest[group] };
        }
    }
    let inverse: Lanes = lanes(|group| -HALF as f32 / largest[group]);
    let mut levels = levels_at(x, &inverse);
    let (sum_xl, sum_l2) = sums(x, &levels);
    let mut scales: Lanes = lanes(|g| {
        if sum_l2[g] == 0.0 {
            0.0
        } else {
            sum_xl[g] / sum_l2[g]
        }
    });
    let mut best: Lanes = lanes(|g| scales[g] * sum_xl[g]);
    for step in (-9i8..=9).filter(|&step| step != 0) {
        let divisions = -(HALF as f32 + 0.1 * f32::from(step));
        let inverse: Lanes = lanes(|group| divisions / largest[group]);
        let tried = levels_at(x, &inverse);
        let (sum_xl, sum_l2) = sums(x, &tried);
        let better: [bool; GROUPS] =
            lanes(|g| sum_l2[g] > 0.0 && sum_xl[g] * sum_xl[g] > best[g] * sum_l2[g]);
        if better.contains(&true) {
            for group in 0..GROUPS {
                if better[group] {
                    scales[group] = sum_xl[group] / sum_l2[group];
                    best[group] = scales[group] * sum_xl[group];
                }
            }
            let masks: [i32; GROUPS] = lanes(|group| -i32::from(better[group]));
            for (levels, tried) in levels.iter_mut().zip(&tried) {
                for group in 0..GROUPS {
                    let mask = masks[group];
                    levels[group] = levels[group] & !mask | tried[group] & mask;
                }
            }
        }
    }
    for group in 0..GROUPS {
        if largest[group].abs() < NOTHING {
            scales[group] = 0.0;
            for levels in &mut levels {
                levels[group] = 0;
            }
        }
    }
    (scales, levels)
}

/// The level of each value, stored form, when a level is worth 1/`inverse`.
#[inline(always)]
fn levels_at(x: &[Lanes; PLACES], inverse: &Lanes) -> Levels {
    let mut levels = [[0; GROUPS]; PLACES];
    for (levels, x) in levels.iter_mut().zip(x) {
        for group in 0..GROUPS {
            let level = nearest(inverse[group] * x[group]);
            levels[group] = level.clamp(-HALF, HALF - 1) + HALF;
        }
    }
    levels
}

/// Σ x² · x · level and Σ x² · level² of each group.
#[inline(always)]
fn sums(x: &[Lanes; PLACES], levels: &Levels) -> (Lanes, Lanes) {
    let (mut sum_xl, mut sum_l2) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (x, levels) in x.iter().zip(levels) {
        for group in 0..GROUPS {
            let level = (levels[group] - HALF) as f32;
            let weight = x[group] * x[group];
            sum_xl[group] += weight * x[group] * level;
            sum_l2[group] += weight * level * level;
        }
    }
    (sum_xl, sum_l2)
}
