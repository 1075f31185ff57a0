//! The products written plainly, element by element, for tests to compare with: from the blocks of
//! a GGUF file, and with a quantization of activations of its own.

use half::{bf16, f16};

use super::f16_accumulation;
use super::format::Format;
use super::layout::{
    BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, F16Bytes, IQ4_VALUES, cast, scale_and_min,
};
use super::quantize_activations::{BESIDE_F16, Rounding};

fn f32(value: F16Bytes) -> f32 {
    f16::from_bits(value.to_bits()).to_f32()
}

fn quantize(x: &[f32], inverse: f32) -> Vec<i32> {
    let values = x.iter().map(|x| (x * inverse).round_ties_even() as i8);
    values.map(i32::from).collect()
}

/// Activations of one token in blocks of 32: the quantized values of each, and its scale.
fn quantize_q8_0(x: &[f32]) -> impl Iterator<Item = (Vec<i32>, f32)> {
    x.chunks(32).map(|x| {
        let max_abs = x.iter().fold(0.0f32, |max_abs, x| max_abs.max(x.abs()));
        let inverse = if max_abs == 0.0 { 0.0 } else { 127.0 / max_abs };
        let scale = f16::from_f32(max_abs / 127.0).to_f32();
        (quantize(x, inverse), scale)
    })
}

/// Activations of one token in blocks of 256.
fn quantize_q8_k(x: &[f32]) -> impl Iterator<Item = (Vec<i32>, f32)> {
    x.chunks(256).map(|x| {
        let largest =
            x.iter().copied().fold(
                0.0f32,
                |largest, x| {
                    if x.abs() > largest.abs() { x } else { largest }
                },
            );
        if largest == 0.0 {
            return (vec![0; 256], 0.0);
        }
        let inverse = -127.0 / largest;
        (quantize(x, inverse), 1.0 / inverse)
    })
}

fn dot(weights: impl IntoIterator<Item = i32>, x: &[i32]) -> i32 {
    weights
        .into_iter()
        .zip(x)
        .map(|(weight, x)| weight * x)
        .sum()
}

/// Lanes of the accumulators that go with rows that are not packed.
const LANES: usize = if cfg!(target_arch = "aarch64") { 4 } else { 8 };

/// The sum of [`LANES`] values in the kernels' order.
fn sum_of_lanes(lanes: [f32; LANES]) -> f32 {
    if let [eight] = lanes.as_chunks::<8>().0 {
        return reduce_add(*eight);
    }
    lanes[0] + lanes[1] + (lanes[2] + lanes[3])
}

/// The sum of eight values in the kernels' order.
fn reduce_add(lanes: [f32; 8]) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|lane| lanes[lane + 4] + lanes[lane]);
    let two = [four[0] + four[2], four[1] + four[3]];
    two[0] + two[1]
}

/// The integers of lanes: element 4i to 4i + 3 of every 4 · N belong to lane i.
fn lanes<const N: usize>(products: impl Iterator<Item = i32>) -> [i32; N] {
    let mut lanes = [0; N];
    for (index, product) in products.enumerate() {
        lanes[index / 4 % N] += product;
    }
    lanes
}

/// The f16 nearest to `x`.
fn nearest_f16(x: f64) -> f16 {
    // Odd where digits are lost, so that rounding again does not take it for the middle between
    // two.
    let mut single = x as f32;
    if f64::from(single) != x {
        if f64::from(single).abs() > x.abs() {
            single = f32::from_bits(single.to_bits() - 1);
        }
        single = f32::from_bits(single.to_bits() | 1);
    }
    f16::from_f32(single)
}

/// A row of f16 times a token, of which eight lanes accumulate four products each in f16.
fn f16_accumulated(row: &[F16Bytes], x: &[f32], bound: i32) -> f32 {
    let max_abs = x.iter().fold(0.0, |max_abs: f32, x| max_abs.max(x.abs()));
    let exponent = f16_accumulation::exponent(max_abs, bound);
    let mut sums = [0.0f32; 8];
    for (row, x) in row.chunks(32).zip(x.chunks(32)) {
        let mut chains = [f16::ZERO; 8];
        for (index, (&weight, x)) in row.iter().zip(x).enumerate() {
            let x = f16::from_f32(x * f16_accumulation::power(exponent));
            let chain = &mut chains[index % 8];
            let sum = f64::from(f32(weight)).mul_add(x.to_f64(), chain.to_f64());
            *chain = nearest_f16(sum);
        }
        for (sum, chain) in sums.iter_mut().zip(chains) {
            *sum += chain.to_f32();
        }
    }
    let four: [f32; 4] = std::array::from_fn(|lane| sums[lane] + sums[lane + 4]);
    (four[0] + four[1] + (four[2] + four[3])) * f16_accumulation::power(-exponent)
}

/// What decides the order of accumulation.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// The token is one of four that are multiplied together.
    pub(super) four: bool,
    /// The batch is large, or the kernels do as if it were.
    pub(super) large: bool,
    /// Of f16: a few products are accumulated in f16, with weights of this bound.
    pub(super) f16_bound: Option<i32>,
}

/// What a super-block of `q5_k` gives as one integer, without the token's scale.
fn sub_mins(d: F16Bytes, dmin: F16Bytes, dot: i32, min_dot: i32) -> f32 {
    (-f32(dmin)).mul_add(min_dot as f32, f32(d) * dot as f32)
}

/// One row, as GGUF files hold it, times one token.
pub(super) fn product(format: Format, row: &[u8], x: &[f32], order: Order) -> f32 {
    match (format, order.f16_bound) {
        (Format::F16, Some(bound)) => f16_accumulated(cast(row), x, bound),
        (Format::F16, None) => floats(cast(row).iter().copied().map(f32), x, BESIDE_F16),
        (Format::F32, _) => floats(cast(row).iter().copied(), x, Rounding::None),
        (Format::Bf16, _) => floats(
            cast::<bf16>(row).iter().map(|x| x.to_f32()),
            x,
            Rounding::Bf16,
        ),
        (Format::Q4_1, _) => blocks(cast(row).iter().map(q4_1), x),
        (Format::Q5_0, _) if order.large && LANES == 8 => q5_0_by_block(cast(row), x),
        (Format::Q5_0, _) => blocks(cast(row).iter().map(q5_0), x),
        (Format::Q5_1, _) => blocks(cast(row).iter().map(q5_1), x),
        (Format::Iq4Nl, _) => iq4_nl(cast(row), x),
        (Format::Q2K, _) => super_blocks(cast(row).iter().map(q2_k), x),
        (Format::Q3K, _) => super_blocks(cast(row).iter().map(q3_k), x),
        (Format::Iq4Xs, _) => super_blocks(cast(row).iter().map(iq4_xs), x),
        (Format::Q4_0, _) => q4_0(cast(row), x),
        (Format::Q8_0, _) if order.large => q8_0_by_block(cast(row), x),
        (Format::Q8_0, _) => q8_0_in_lanes(cast(row), x),
        (Format::Q4K, _) => q4_k(cast(row), x, order),
        (Format::Q5K, _) => q5_k(cast(row), x, order),
        (Format::Q6K, _) => q6_k(cast(row), x, order),
    }
}

fn floats(row: impl Iterator<Item = f32>, x: &[f32], rounding: Rounding) -> f32 {
    let products = row.zip(x).map(|(weight, &x)| {
        let x = match rounding {
            Rounding::None => x,
            Rounding::F16 => f16::from_f32(x).to_f32(),
            Rounding::Bf16 => bf16::from_f32(x).to_f32(),
        };
        f64::from(weight) * f64::from(x)
    });
    products.sum::<f64>() as f32
}

/// The lower nibbles of some bytes, then the upper ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = i32> {
    let low = bytes.iter().map(|byte| i32::from(byte & 15));
    low.chain(bytes.iter().map(|byte| i32::from(byte >> 4)))
}

/// Nibbles with a fifth bit each.
fn five_bits(nibbles: impl Iterator<Item = i32>, fifth: [u8; 4]) -> Vec<i32> {
    let fifth = u32::from_le_bytes(fifth);
    let bit = |index: usize| (fifth >> index & 1) as i32;
    (nibbles.enumerate())
        .map(|(index, nibble)| nibble | bit(index) << 4)
        .collect()
}

/// Weights of 32 elements, their scale and their minimum.
type Block = (Vec<i32>, f32, f32);

fn q4_1(block: &BlockQ4_1) -> Block {
    (nibbles(&block.qs).collect(), f32(block.d), f32(block.m))
}

fn q5_0(block: &BlockQ5_0) -> Block {
    let weights = five_bits(nibbles(&block.qs), block.qh);
    let weights = weights.into_iter().map(|weight| weight - 16).collect();
    (weights, f32(block.d), 0.0)
}

fn q5_0_by_block(row: &[BlockQ5_0], x: &[f32]) -> f32 {
    row.iter()
        .zip(quantize_q8_0(x))
        .fold(0.0, |sum, (block, (x, scale))| {
            let (weights, d, _) = q5_0(block);
            (dot(weights, &x) as f32).mul_add(d * scale, sum)
        })
}

fn q5_1(block: &BlockQ5_1) -> Block {
    let weights = five_bits(nibbles(&block.qs), block.qh);
    (weights, f32(block.d), f32(block.m))
}

fn blocks(row: impl Iterator<Item = Block>, x: &[f32]) -> f32 {
    let (mut sums, mut mins) = ([0.0f32; LANES], 0.0f32);
    for (((weights, d, min), (quantized, scale)), x) in row.zip(quantize_q8_0(x)).zip(x.chunks(32))
    {
        let products = weights.iter().zip(&quantized).map(|(weight, x)| weight * x);
        for (sum, dot) in sums.iter_mut().zip(lanes::<LANES>(products)) {
            *sum = (dot as f32).mul_add(d * scale, *sum);
        }
        let max_abs = x.iter().fold(0.0f32, |max_abs, x| max_abs.max(x.abs()));
        let sum = max_abs / 127.0 * quantized.iter().sum::<i32>() as f32;
        mins = min.mul_add(f16::from_f32(sum).to_f32(), mins);
    }
    sum_of_lanes(sums) + mins
}

fn iq4_nl(row: &[BlockQ4_0], x: &[f32]) -> f32 {
    row.iter()
        .zip(quantize_q8_0(x))
        .fold(0.0, |sum, (block, (x, scale))| {
            let weights = nibbles(&block.qs).map(|index| i32::from(IQ4_VALUES[index as usize]));
            (dot(weights, &x) as f32).mul_add(f32(block.d) * scale, sum)
        })
}

/// A super-block: weights, each times the scale of its group, and the scale of all; a minimum of
/// every 16, and the scale of these.
type SuperBlock = (Vec<i32>, f32, [i32; 16], f32);

/// Bits from 2 · j on of the bytes of each half, for the 32 elements from 32 · j on.
fn two_bits(qs: &[u8; 64]) -> impl Iterator<Item = i32> {
    (0..256).map(|index| i32::from(qs[index / 128 * 32 + index % 32] >> (index / 32 % 4 * 2) & 3))
}

fn q2_k(block: &BlockQ2K) -> SuperBlock {
    let weights = two_bits(&block.qs).enumerate();
    let weights = weights.map(|(index, q)| q * i32::from(block.scales[index / 16] & 15));
    let mins = block.scales.map(|scale| i32::from(scale >> 4));
    (weights.collect(), f32(block.d), mins, f32(block.dmin))
}

fn q3_k(block: &BlockQ3K) -> SuperBlock {
    let scale = |group: usize| {
        let low = block.scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = block.scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        i32::from(low | high << 4) - 32
    };
    let weights = two_bits(&block.qs).enumerate().map(|(index, low)| {
        let third = i32::from(block.hmask[index % 32] >> (index / 32) & 1);
        (low + 4 * third - 4) * scale(index / 16)
    });
    (weights.collect(), f32(block.d), [0; 16], 0.0)
}

fn iq4_xs(block: &BlockIq4Xs) -> SuperBlock {
    let high = u16::from_le_bytes(block.scales_h);
    let groups = block.qs.chunks(16).enumerate().flat_map(|(group, qs)| {
        let low = block.scales_l[group / 2] >> (4 * (group % 2)) & 15;
        let scale = i32::from(low) + i32::from(high >> (2 * group) & 3) * 16 - 32;
        nibbles(qs).map(move |index| scale * i32::from(IQ4_VALUES[index as usize]))
    });
    (groups.collect(), f32(block.d), [0; 16], 0.0)
}

fn super_blocks(row: impl Iterator<Item = SuperBlock>, x: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for ((weights, d, mins, dmin), (x, scale)) in row.zip(quantize_q8_k(x)) {
        // Those of the two groups 2i and 2i + 1 belong to lane i.
        let mut min_dots = [0; LANES];
        for (group, (min, x)) in mins.iter().zip(x.chunks(16)).enumerate() {
            min_dots[group / 2 % LANES] += min * x.iter().sum::<i32>();
        }
        for (sum, min_dot) in sums.iter_mut().zip(min_dots) {
            *sum = (-scale * dmin).mul_add(min_dot as f32, *sum);
        }
        let products = weights.iter().zip(&x).map(|(weight, x)| weight * x);
        for (sum, dot) in sums.iter_mut().zip(lanes::<LANES>(products)) {
            *sum = (scale * d).mul_add(dot as f32, *sum);
        }
    }
    sum_of_lanes(sums)
}

fn q4_0(row: &[BlockQ4_0], x: &[f32]) -> f32 {
    row.iter()
        .zip(quantize_q8_0(x))
        .fold(0.0, |sum, (block, (x, scale))| {
            let low = block.qs.iter().map(|byte| i32::from(byte & 15) - 8);
            let high = block.qs.iter().map(|byte| i32::from(byte >> 4) - 8);
            (dot(low.chain(high), &x) as f32).mul_add(f32(block.d) * scale, sum)
        })
}

fn q8_0_by_block(row: &[BlockQ8_0], x: &[f32]) -> f32 {
    row.iter()
        .zip(quantize_q8_0(x))
        .fold(0.0, |sum, (block, (x, scale))| {
            let weights = block.qs.iter().map(|&q| i32::from(q));
            (dot(weights, &x) as f32).mul_add(f32(block.d) * scale, sum)
        })
}

fn q8_0_in_lanes(row: &[BlockQ8_0], x: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (block, (x, scale)) in row.iter().zip(quantize_q8_0(x)) {
        let products = block.qs.iter().zip(&x).map(|(&q, x)| i32::from(q) * x);
        for (sum, dot) in sums.iter_mut().zip(lanes::<8>(products)) {
            *sum = (f32(block.d) * scale).mul_add(dot as f32, *sum);
        }
    }
    reduce_add(sums)
}

fn q4_k(row: &[BlockQ4K], x: &[f32], order: Order) -> f32 {
    let (mut sum, mut mins) = (0.0f32, 0.0f32);
    for (block, (x, scale)) in row.iter().zip(quantize_q8_k(x)) {
        let (mut all, mut all_mins) = (0, 0);
        for group in 0..8 {
            let (group_scale, min) = scale_and_min(&block.scales, group);
            let nibbles = block.qs[32 * (group / 2)..][..32].iter();
            let weights = nibbles.map(|byte| i32::from(byte >> (4 * (group % 2)) & 15));
            let x = &x[32 * group..][..32];
            all += i32::from(group_scale) * dot(weights, x);
            all_mins += i32::from(min) * x.iter().sum::<i32>();
            if group == 7 || order.four && group % 2 == 1 {
                sum = (all as f32).mul_add(f32(block.d) * scale, sum);
                mins = (all_mins as f32).mul_add(f32(block.dmin) * scale, mins);
                (all, all_mins) = (0, 0);
            }
        }
    }
    sum - mins
}

fn q5_k(row: &[BlockQ5K], x: &[f32], order: Order) -> f32 {
    let (mut sums, mut mins) = ([0.0f32; 8], 0.0f32);
    for (block, (x, scale)) in row.iter().zip(quantize_q8_k(x)) {
        let (mut all, mut all_mins) = ([0; 8], 0);
        for group in 0..8 {
            let (group_scale, min) = scale_and_min(&block.scales, group);
            let nibbles = block.qs[32 * (group / 2)..][..32].iter();
            let weights = nibbles.zip(&block.qh).map(|(byte, fifth)| {
                i32::from(byte >> (4 * (group % 2)) & 15 | (fifth >> group & 1) << 4)
            });
            let x = &x[32 * group..][..32];
            let products = weights.zip(x).map(|(weight, x)| weight * x);
            for (sum, dot) in all.iter_mut().zip(lanes::<8>(products)) {
                *sum += i32::from(group_scale) * dot;
            }
            all_mins += i32::from(min) * x.iter().sum::<i32>();
        }
        if order.large {
            let result = sub_mins(block.d, block.dmin, all.iter().sum(), all_mins);
            mins = result.mul_add(scale, mins);
            continue;
        }
        for (sum, dot) in sums.iter_mut().zip(all) {
            *sum = (scale * f32(block.d)).mul_add(dot as f32, *sum);
        }
        mins = (-scale * f32(block.dmin)).mul_add(all_mins as f32, mins);
    }
    reduce_add(sums) + mins
}

fn q6_k(row: &[BlockQ6K], x: &[f32], order: Order) -> f32 {
    let mut sums = [0.0f32; 8];
    for (block, (x, scale)) in row.iter().zip(quantize_q8_k(x)) {
        let (mut all, mut offsets) = ([0; 8], [0; 8]);
        for group in 0..8 {
            let (half, part) = (group / 4, group % 4);
            let low = &block.ql[64 * half + 32 * (part % 2)..][..32];
            let high = &block.qh[32 * half..][..32];
            for index in 0..32 {
                let weight = i32::from(low[index] >> (4 * (part / 2)) & 15)
                    | i32::from(high[index] >> (2 * part) & 3) << 4;
                let sixteenth = 2 * group + index / 16;
                let group_scale = i32::from(block.scales[sixteenth]);
                let x = x[32 * group + index];
                all[index / 4] += group_scale * weight * x;
                // Which lane the offset of a sixteenth is taken from matters to the last bit.
                offsets[sixteenth / 2] += 32 * group_scale * x;
            }
        }
        let dots: [i32; 8] = std::array::from_fn(|lane| all[lane] - offsets[lane]);
        if order.large {
            let dot: i32 = dots.iter().sum();
            sums[0] = (f32(block.d) * dot as f32).mul_add(scale, sums[0]);
            continue;
        }
        for (sum, dot) in sums.iter_mut().zip(dots) {
            *sum = (scale * f32(block.d)).mul_add(dot as f32, *sum);
        }
    }
    reduce_add(sums)
}
