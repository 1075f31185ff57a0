//! The products written plainly, element by element, for tests to compare with: from the bytes of a GGUF file, and
//! with activations rounded by themselves.

use half::f16;

use super::f16_accumulation;
use super::format::Format;
use super::packing::scale_and_minimum;
use super::quantize_activations::AS_THEY_ARE;

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Activations of one token in blocks: the rounded bytes of each, and its scale.
fn rounded(x: &[f32], format: Format) -> Vec<(Vec<i32>, f32)> {
    match format {
        Format::Q4_0 | Format::Q8_0 => x.chunks(32).map(|x| {
            let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
            let bytes = x
                .iter()
                .map(|x| i32::from((x * inverse).round_ties_even() as i8));
            (bytes.collect(), f16::from_f32(largest / 127.0).to_f32())
        }),
        _ => {
            return x
                .chunks(256)
                .map(|x| {
                    let largest = x.iter().copied().fold(0.0f32, |largest, x| {
                        if x.abs() > largest.abs() { x } else { largest }
                    });
                    if largest == 0.0 {
                        return (vec![0; 256], 0.0);
                    }
                    let inverse = -127.0 / largest;
                    let bytes = x
                        .iter()
                        .map(|x| i32::from((x * inverse).round_ties_even() as i8));
                    (bytes.collect(), 1.0 / inverse)
                })
                .collect();
        }
    }
    .collect()
}

fn dot(weights: impl IntoIterator<Item = i32>, x: &[i32]) -> i32 {
    weights
        .into_iter()
        .zip(x)
        .map(|(weight, x)| weight * x)
        .sum()
}

/// The sum of eight numbers in the kernels' order.
fn sum_of_lanes(lanes: [f32; 8]) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|lane| lanes[lane + 4] + lanes[lane]);
    let two = [four[0] + four[2], four[1] + four[3]];
    two[0] + two[1]
}

/// The integers of lanes: element 4i to 4i + 3 of every 32 belong to lane i.
fn lanes(products: impl Iterator<Item = i32>) -> [i32; 8] {
    let mut lanes = [0; 8];
    for (index, product) in products.enumerate() {
        lanes[index / 4 % 8] += product;
    }
    lanes
}

/// The half float nearest to `x`.
fn nearest_half(x: f64) -> f16 {
    // Odd where digits are lost, so that rounding again does not take it for the middle between two.
    let mut single = x as f32;
    if f64::from(single) != x {
        if f64::from(single).abs() > x.abs() {
            single = f32::from_bits(single.to_bits() - 1);
        }
        single = f32::from_bits(single.to_bits() | 1);
    }
    f16::from_f32(single)
}

/// A row of half floats times a token, of which eight lanes add four products each in half precision.
fn short_product(row: &[u8], x: &[f32], bound: i32) -> f32 {
    let largest = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let exponent = f16_accumulation::exponent(largest, bound);
    let mut sums = [0.0f32; 8];
    for (row, x) in row.chunks(64).zip(x.chunks(32)) {
        let mut chains = [f16::ZERO; 8];
        for (index, (weight, x)) in row.chunks(2).zip(x).enumerate() {
            let x = f16::from_f32(x * f16_accumulation::power(exponent));
            let chain = &mut chains[index % 8];
            let sum = f64::from(half(weight)).mul_add(x.to_f64(), chain.to_f64());
            *chain = nearest_half(sum);
        }
        for (sum, chain) in sums.iter_mut().zip(chains) {
            *sum += chain.to_f32();
        }
    }
    let four: [f32; 4] = std::array::from_fn(|lane| sums[lane] + sums[lane + 4]);
    (four[0] + four[1] + (four[2] + four[3])) * f16_accumulation::power(-exponent)
}

/// What decides the order of sums.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// The token is one of four that are multiplied together.
    pub(super) four: bool,
    /// There are many tokens in all, or the kernels do as if there were.
    pub(super) many: bool,
    /// Of f16: sums of few products are taken in half precision, with weights of this bound.
    pub(super) short: Option<i32>,
}

/// What a super-block of `q4_k` or `q5_k` gives as one integer, without the token's scale.
fn less_minimums(block: &[u8], dot: i32, minimums: i32) -> f32 {
    let scaled = half(block) * dot as f32;
    (-half(&block[2..])).mul_add(minimums as f32, scaled)
}

/// One row times one token.
#[expect(clippy::too_many_lines, reason = "an arm for each format")]
pub(super) fn product(format: Format, row: &[u8], x: &[f32], order: Order) -> f32 {
    let tokens = || rounded(x, format);
    if let Some(bound) = order.short {
        return short_product(row, x, bound);
    }
    match format {
        Format::F16 => row
            .chunks(2)
            .zip(x)
            .map(|(weight, &x)| {
                let x = if AS_THEY_ARE {
                    x
                } else {
                    f16::from_f32(x).to_f32()
                };
                f64::from(half(weight)) * f64::from(x)
            })
            .sum::<f64>() as f32,
        Format::Q4_0 => row
            .chunks(18)
            .zip(tokens())
            .fold(0.0, |sum, (block, (x, scale))| {
                let nibbles = &block[2..];
                let low = nibbles.iter().map(|byte| i32::from(byte & 15) - 8);
                let high = nibbles.iter().map(|byte| i32::from(byte >> 4) - 8);
                (dot(low.chain(high), &x) as f32).mul_add(half(block) * scale, sum)
            }),
        Format::Q8_0 if order.many => {
            row.chunks(34)
                .zip(tokens())
                .fold(0.0, |sum, (block, (x, scale))| {
                    let weights = block[2..].iter().map(|&byte| i32::from(byte as i8));
                    (dot(weights, &x) as f32).mul_add(half(block) * scale, sum)
                })
        }
        Format::Q8_0 => {
            let mut sums = [0.0f32; 8];
            for (block, (x, scale)) in row.chunks(34).zip(tokens()) {
                let products = block[2..]
                    .iter()
                    .zip(&x)
                    .map(|(&w, x)| i32::from(w as i8) * x);
                for (sum, dot) in sums.iter_mut().zip(lanes(products)) {
                    *sum = (half(block) * scale).mul_add(dot as f32, *sum);
                }
            }
            sum_of_lanes(sums)
        }
        Format::Q4K => {
            let (mut sum, mut minimums) = (0.0f32, 0.0f32);
            for (block, (x, scale)) in row.chunks(144).zip(tokens()) {
                let (mut all, mut all_minimums) = (0, 0);
                for group in 0..8 {
                    let (group_scale, minimum) = scale_and_minimum(&block[4..16], group);
                    let nibbles = block[16 + 32 * (group / 2)..][..32].iter();
                    let weights = nibbles.map(|byte| i32::from(byte >> (4 * (group % 2)) & 15));
                    let x = &x[32 * group..][..32];
                    all += i32::from(group_scale) * dot(weights, x);
                    all_minimums += i32::from(minimum) * x.iter().sum::<i32>();
                    if order.many {
                        continue;
                    }
                    if group == 7 || order.four && group % 2 == 1 {
                        sum = (all as f32).mul_add(half(block) * scale, sum);
                        let minimum_scale = half(&block[2..]) * scale;
                        minimums = (all_minimums as f32).mul_add(minimum_scale, minimums);
                        (all, all_minimums) = (0, 0);
                    }
                }
                if order.many {
                    sum = less_minimums(block, all, all_minimums).mul_add(scale, sum);
                }
            }
            sum - minimums
        }
        Format::Q5K => {
            let (mut sums, mut minimums) = ([0.0f32; 8], 0.0f32);
            for (block, (x, scale)) in row.chunks(176).zip(tokens()) {
                let (mut all, mut all_minimums) = ([0; 8], 0);
                for group in 0..8 {
                    let (group_scale, minimum) = scale_and_minimum(&block[4..16], group);
                    let nibbles = block[48 + 32 * (group / 2)..][..32].iter();
                    let weights = nibbles.zip(&block[16..48]).map(|(byte, fifth)| {
                        i32::from(byte >> (4 * (group % 2)) & 15 | (fifth >> group & 1) << 4)
                    });
                    let x = &x[32 * group..][..32];
                    let products = weights.zip(x).map(|(weight, x)| weight * x);
                    for (sum, dot) in all.iter_mut().zip(lanes(products)) {
                        *sum += i32::from(group_scale) * dot;
                    }
                    all_minimums += i32::from(minimum) * x.iter().sum::<i32>();
                }
                if order.many {
                    let result = less_minimums(block, all.iter().sum(), all_minimums);
                    minimums = result.mul_add(scale, minimums);
                    continue;
                }
                for (sum, dot) in sums.iter_mut().zip(all) {
                    *sum = (scale * half(block)).mul_add(dot as f32, *sum);
                }
                minimums = (-scale * half(&block[2..])).mul_add(all_minimums as f32, minimums);
            }
            sum_of_lanes(sums) + minimums
        }
        Format::Q6K => {
            let mut sums = [0.0f32; 8];
            for (block, (x, scale)) in row.chunks(210).zip(tokens()) {
                let (mut all, mut excess) = ([0; 8], [0; 8]);
                for group in 0..8 {
                    let (half_block, part) = (group / 4, group % 4);
                    let low = &block[64 * half_block + 32 * (part % 2)..][..32];
                    let high = &block[128 + 32 * half_block..][..32];
                    for index in 0..32 {
                        let weight = i32::from(low[index] >> (4 * (part / 2)) & 15)
                            | i32::from(high[index] >> (2 * part) & 3) << 4;
                        let sixteenth = 2 * group + index / 16;
                        let group_scale = i32::from(block[192 + sixteenth] as i8);
                        let x = x[32 * group + index];
                        all[index / 4] += group_scale * weight * x;
                        // Which lane the excess of a sixteenth is taken from matters to the last bit.
                        excess[sixteenth / 2] += 32 * group_scale * x;
                    }
                }
                if order.many {
                    let dot: i32 = all
                        .iter()
                        .zip(excess)
                        .map(|(all, excess)| all - excess)
                        .sum();
                    sums[0] = (half(&block[208..]) * dot as f32).mul_add(scale, sums[0]);
                    continue;
                }
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let dot = all[lane] - excess[lane];
                    *sum = (scale * half(&block[208..])).mul_add(dot as f32, *sum);
                }
            }
            sum_of_lanes(sums)
        }
    }
}
