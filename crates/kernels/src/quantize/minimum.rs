//! K-quants whose groups have a scale and a minimum: x ≈ scale · level − minimum.

use half::f16;

use super::lanes::{SUPER_BLOCK, lanes, nearest, transposed};

const GROUPS: usize = 8;
const PLACES: usize = SUPER_BLOCK / GROUPS;

/// Bytes of the two f16 and the packed 6-bit scales and minima before the levels.
const HEAD: usize = 4 + 12;
const Q4_K_BYTES: usize = HEAD + SUPER_BLOCK / 2;
const Q5_K_BYTES: usize = HEAD + SUPER_BLOCK / 8 + SUPER_BLOCK / 2;

/// A value for each group.
type Lanes = [f32; GROUPS];
/// A level for each value: `[place][group]`.
type Levels = [[i32; GROUPS]; PLACES];

/// How the scale of a group is looked for: range / (largest + first + step/10) for each step.
struct Search {
    /// The largest level.
    largest: i32,
    first: f32,
    steps: u8,
}

const Q4_K: Search = Search {
    largest: 15,
    first: -1.0,
    steps: 20,
};
const Q5_K: Search = Search {
    largest: 31,
    first: -0.5,
    steps: 15,
};
const STEP: f32 = 0.1;

#[inline(always)]
pub(super) fn q4_k(source: &[f32], target: &mut [u8]) {
    let blocks = target.as_chunks_mut::<Q4_K_BYTES>().0;
    for (source, block) in source.chunks_exact(SUPER_BLOCK).zip(blocks) {
        let (head, low) = block.split_at_mut(HEAD);
        let levels = quantize(source, &Q4_K, head);
        pack_low_bits(&levels, low);
    }
}

#[inline(always)]
pub(super) fn q5_k(source: &[f32], target: &mut [u8]) {
    let blocks = target.as_chunks_mut::<Q5_K_BYTES>().0;
    for (source, block) in source.chunks_exact(SUPER_BLOCK).zip(blocks) {
        let (head, rest) = block.split_at_mut(HEAD);
        let (high, low) = rest.split_at_mut(PLACES);
        let levels = quantize(source, &Q5_K, head);
        pack_low_bits(&levels, low);
        // Bit g of a byte is the fifth bit of group g.
        for (byte, levels) in high.iter_mut().zip(&levels) {
            *byte = (0..GROUPS).fold(0, |bits, group| bits | (levels[group] >> 4) << group) as u8;
        }
    }
}

/// Two groups share bytes: the even one has the low halves.
#[inline(always)]
fn pack_low_bits(levels: &Levels, target: &mut [u8]) {
    for (pair, bytes) in target.chunks_exact_mut(PLACES).enumerate() {
        for (byte, levels) in bytes.iter_mut().zip(levels) {
            *byte = (levels[2 * pair] & 15 | (levels[2 * pair + 1] & 15) << 4) as u8;
        }
    }
}

/// Finds scales and minima, writes them into `head` and gives the levels.
#[inline(always)]
fn quantize(source: &[f32], search: &Search, head: &mut [u8]) -> Levels {
    let x = transposed::<GROUPS, PLACES>(source);
    let Found {
        scales,
        minima,
        mut levels,
    } = search.run(&x);

    // Scales and minima are stored as 6 bits of the largest one each.
    let largest = |values: &Lanes| {
        values
            .iter()
            .fold(0.0, |max, &x| if x > max { x } else { max })
    };
    let (max_scale, max_minimum) = (largest(&scales), largest(&minima));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let (by_scale, by_minimum) = (inverse(max_scale), inverse(max_minimum));
    let six_bits = |x: f32| (nearest(x) as u8).min(63);
    let scale_bits: [u8; GROUPS] = lanes(|group| six_bits(by_scale * scales[group]));
    let minimum_bits: [u8; GROUPS] = lanes(|group| six_bits(by_minimum * minima[group]));
    let scale_unit = f16::from_f32(max_scale / 63.0);
    let minimum_unit = f16::from_f32(max_minimum / 63.0);

    // The levels once more, with the scales that a reader will have; a group whose scale is stored
    // as 0 keeps what the search found.
    let scale: Lanes = lanes(|group| scale_unit.to_f32() * f32::from(scale_bits[group]));
    let minimum: Lanes = lanes(|group| minimum_unit.to_f32() * f32::from(minimum_bits[group]));
    for (levels, x) in levels.iter_mut().zip(&x) {
        for group in 0..GROUPS {
            let level = nearest((x[group] + minimum[group]) / scale[group]);
            let level = level.clamp(0, search.largest);
            levels[group] = if scale[group] == 0.0 {
                levels[group]
            } else {
                level
            };
        }
    }

    head[..2].copy_from_slice(&scale_unit.to_le_bytes());
    head[2..4].copy_from_slice(&minimum_unit.to_le_bytes());
    pack_six_bits(&scale_bits, &minimum_bits, &mut head[4..]);
    levels
}

/// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole, with the
/// upper two bits of the last four above them; then the lower four bits of those.
#[inline(always)]
fn pack_six_bits(scales: &[u8; GROUPS], minima: &[u8; GROUPS], target: &mut [u8]) {
    for group in 0..4 {
        target[group] = scales[group] | (scales[group + 4] >> 4) << 6;
        target[group + 4] = minima[group] | (minima[group + 4] >> 4) << 6;
        target[group + 8] = scales[group + 4] & 15 | (minima[group + 4] & 15) << 4;
    }
}

/// What the search gives: x ≈ scales · levels − minima.
struct Found {
    scales: Lanes,
    minima: Lanes,
    levels: Levels,
}

/// Sums over the values of each group that do not depend on the step.
struct Sums {
    weights: [Lanes; PLACES],
    weight: Lanes,
    x: Lanes,
    /// The smallest value, or 0 when that is smaller.
    minimum: Lanes,
    maximum: Lanes,
}

impl Search {
    /// Minimizes Σ w (scale · level + minimum − x)² with w = |x| + √(Σx²/32), over a few scales.
    #[inline(always)]
    fn run(&self, x: &[Lanes; PLACES]) -> Found {
        let sums = Sums::of(x);
        let range: Lanes = lanes(|group| sums.maximum[group] - sums.minimum[group]);
        let inverse: Lanes = lanes(|group| self.largest as f32 / range[group]);
        let mut levels = self.levels(x, &sums.minimum, &inverse);
        let mut scales: Lanes = lanes(|group| 1.0 / inverse[group]);
        let mut minima = sums.minimum;
        let mut min_errors = error(x, &sums.weights, &levels, &scales, &minima);
        for step in 0..=self.steps {
            let divisions = self.first + STEP * f32::from(step) + self.largest as f32;
            // From the best minimum so far, which need not be the smallest value.
            let inverse: Lanes = lanes(|group| divisions / (sums.maximum[group] - minima[group]));
            let tried = self.levels(x, &minima, &inverse);
            let (scale, minimum, solvable) = sums.solve(x, &tried);
            let errors = error(x, &sums.weights, &tried, &scale, &minimum);
            let better: [bool; GROUPS] =
                lanes(|group| solvable[group] && errors[group] < min_errors[group]);
            if better.contains(&true) {
                for group in 0..GROUPS {
                    if better[group] {
                        (scales[group], minima[group]) = (scale[group], minimum[group]);
                        min_errors[group] = errors[group];
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
            if range[group] == 0.0 {
                scales[group] = 0.0;
                minima[group] = sums.minimum[group];
                for levels in &mut levels {
                    levels[group] = 0;
                }
            }
        }
        Found {
            scales,
            minima: lanes(|group| -minima[group]),
            levels,
        }
    }

    /// The level of each value when a level is worth 1/`inverse`.
    #[inline(always)]
    fn levels(&self, x: &[Lanes; PLACES], minimum: &Lanes, inverse: &Lanes) -> Levels {
        let mut levels = [[0; GROUPS]; PLACES];
        for (levels, x) in levels.iter_mut().zip(x) {
            for group in 0..GROUPS {
                let level = nearest(inverse[group] * (x[group] - minimum[group]));
                levels[group] = level.clamp(0, self.largest);
            }
        }
        levels
    }
}

impl Sums {
    #[inline(always)]
    fn of(x: &[Lanes; PLACES]) -> Self {
        let mut squares = [0.0; GROUPS];
        for x in x {
            for group in 0..GROUPS {
                squares[group] += x[group] * x[group];
            }
        }
        let typical: Lanes = lanes(|group| (squares[group] / PLACES as f32).sqrt());
        let mut weights = [[0.0; GROUPS]; PLACES];
        for (weights, x) in weights.iter_mut().zip(x) {
            for group in 0..GROUPS {
                weights[group] = typical[group] + x[group].abs();
            }
        }
        let (mut smallest, mut maximum) = (x[0], x[0]);
        let mut weight = weights[0];
        let mut weighted: Lanes = lanes(|group| weights[0][group] * x[0][group]);
        for (x, weights) in x.iter().zip(&weights).skip(1) {
            for group in 0..GROUPS {
                let (x, w) = (x[group], weights[group]);
                smallest[group] = if x < smallest[group] {
                    x
                } else {
                    smallest[group]
                };
                maximum[group] = if x > maximum[group] {
                    x
                } else {
                    maximum[group]
                };
                weight[group] += w;
                weighted[group] += w * x;
            }
        }
        let minimum: Lanes = lanes(|group| {
            if smallest[group] > 0.0 {
                0.0
            } else {
                smallest[group]
            }
        });
        Self {
            weights,
            weight,
            x: weighted,
            minimum,
            maximum,
        }
    }

    /// The scale and minimum with the smallest error for given levels (weighted linear regression;
    /// the minimum may not be positive), and whether there is one.
    #[inline(always)]
    fn solve(&self, x: &[Lanes; PLACES], levels: &Levels) -> (Lanes, Lanes, [bool; GROUPS]) {
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; GROUPS], [0.0; GROUPS], [0.0; GROUPS]);
        for ((x, weights), levels) in x.iter().zip(&self.weights).zip(levels) {
            for group in 0..GROUPS {
                let level = levels[group] as f32;
                let weighted = weights[group] * level;
                sum_l[group] += weighted;
                sum_l2[group] += weighted * level;
                sum_xl[group] += weighted * x[group];
            }
        }
        let determinant: Lanes = lanes(|g| self.weight[g] * sum_l2[g] - sum_l[g] * sum_l[g]);
        let free: Lanes =
            lanes(|g| (sum_l2[g] * self.x[g] - sum_l[g] * sum_xl[g]) / determinant[g]);
        let scale = lanes(|g| {
            if free[g] > 0.0 {
                sum_xl[g] / sum_l2[g]
            } else {
                (self.weight[g] * sum_xl[g] - self.x[g] * sum_l[g]) / determinant[g]
            }
        });
        let minimum = lanes(|g| if free[g] > 0.0 { 0.0 } else { free[g] });
        (scale, minimum, lanes(|g| determinant[g] > 0.0))
    }
}

/// Σ w (scale · level + minimum − x)² of each group.
#[inline(always)]
fn error(
    x: &[Lanes; PLACES],
    weights: &[Lanes; PLACES],
    levels: &Levels,
    scale: &Lanes,
    minimum: &Lanes,
) -> Lanes {
    let mut sums = [0.0; GROUPS];
    for ((x, weights), levels) in x.iter().zip(weights).zip(levels) {
        for group in 0..GROUPS {
            let difference = scale[group] * levels[group] as f32 + minimum[group] - x[group];
            sums[group] += weights[group] * (difference * difference);
        }
    }
    sums
}
