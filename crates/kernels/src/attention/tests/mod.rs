mod company;
mod properties;

use half::f16;

use super::kv_tensor::QuantizeQ8_0;
use super::output::Output;
use super::{Attention, InstructionSet, KvTensor, Queries, Schedule, Sight, Sights, attend_with};
use crate::pool::Pool;
use crate::simd::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, Simd, autovectorize};

/// Types of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Q8_0,
    Q4_0,
}

const KINDS: [Kind; 4] = [Kind::F32, Kind::F16, Kind::Q8_0, Kind::Q4_0];

/// Which cells tokens see.
#[derive(Debug, Clone, Copy)]
enum Visibility {
    /// Token n of N sees all cells but the last N − n − 1.
    Causal,
    /// As [`Visibility::Causal`] of a half of the cells, in any order.
    Random,
    /// As [`Visibility::Causal`], with the last `.0` cells unused.
    Unfilled(usize),
}

/// Repeatable pseudorandom values.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Between −1 and 1.
    fn uniform(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 30) as f32 - 1.0
    }

    /// The numbers below `count` in a random order.
    fn order(&mut self, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        for place in (1..count).rev() {
            order.swap(place, self.bits() as usize % (place + 1));
        }
        order
    }

    /// Roughly normally distributed.
    fn normal(&mut self) -> f32 {
        self.uniform() + self.uniform() + self.uniform()
    }
}

/// Elements of keys or values.
#[derive(Clone)]
enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8_0(Vec<u8>),
    Q4_0(Vec<u8>),
}

impl Elements {
    fn new(kind: Kind, values: &[f32]) -> Self {
        match kind {
            Kind::F32 => Self::F32(values.to_vec()),
            Kind::F16 => Self::F16(values.iter().map(|&value| f16::from_f32(value)).collect()),
            Kind::Q8_0 => {
                let mut bytes = vec![0; values.len() / BLOCK * Q8_0_BYTES];
                autovectorize(QuantizeQ8_0 {
                    values,
                    to: &mut bytes,
                });
                Self::Q8_0(bytes)
            }
            Kind::Q4_0 => {
                let mut bytes = Vec::new();
                for block in values.chunks_exact(BLOCK) {
                    let max = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                    let scale = f16::from_f32(max / 7.5);
                    bytes.extend(scale.to_le_bytes());
                    let integer = |value: f32| {
                        (value / scale.to_f32().max(1e-9) + 8.0)
                            .round()
                            .clamp(0.0, 15.0) as u8
                    };
                    let (low, high) = block.split_at(BLOCK / 2);
                    bytes.extend(
                        low.iter()
                            .zip(high)
                            .map(|(&l, &h)| integer(l) | integer(h) << 4),
                    );
                }
                Self::Q4_0(bytes)
            }
        }
    }

    fn tensor(&self) -> KvTensor<'_> {
        match self {
            Self::F32(data) => KvTensor::F32(data),
            Self::F16(data) => KvTensor::F16(data),
            Self::Q8_0(data) => KvTensor::Q8_0(data),
            Self::Q4_0(data) => KvTensor::Q4_0(data),
        }
    }

    /// The values of the elements.
    fn values(&self) -> Vec<f64> {
        match self {
            Self::F32(data) => data.iter().map(|&value| f64::from(value)).collect(),
            Self::F16(data) => data.iter().map(|&value| f64::from(value)).collect(),
            Self::Q8_0(data) => data
                .chunks_exact(Q8_0_BYTES)
                .flat_map(|block| {
                    let scale = f64::from(f16::from_le_bytes([block[0], block[1]]));
                    block[2..]
                        .iter()
                        .map(move |&byte| scale * f64::from(byte as i8))
                })
                .collect(),
            Self::Q4_0(data) => data
                .chunks_exact(Q4_0_BYTES)
                .flat_map(|block| {
                    let scale = f64::from(f16::from_le_bytes([block[0], block[1]]));
                    let low = block[2..].iter().map(|byte| byte & 15);
                    let high = block[2..].iter().map(|byte| byte >> 4);
                    low.chain(high)
                        .map(move |integer| scale * (f64::from(integer) - 8.0))
                })
                .collect(),
        }
    }
}

/// Everything that attention is computed of.
#[derive(Clone)]
struct Case {
    queries: Vec<f32>,
    keys: Elements,
    values: Elements,
    sights: Sights,
    tokens: usize,
    cells: usize,
    heads: usize,
    head_width: usize,
}

impl Case {
    fn new(
        kind: Kind,
        [tokens, cells, heads, head_width]: [usize; 4],
        visibility: Visibility,
        seed: u64,
    ) -> Self {
        let mut random = Random(seed);
        let width = heads * head_width;
        let mut normals = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| scale * random.normal()).collect()
        };
        // The joint projection holds keys and values behind the queries.
        let queries = normals(tokens * 3 * width, 1.5);
        let keys = Elements::new(kind, &normals(cells * width, 1.5));
        let values = Elements::new(kind, &normals(cells * width, 1.0));
        let mut list: Vec<u32> = (0..cells as u32).collect();
        match visibility {
            Visibility::Causal => {}
            Visibility::Unfilled(unused) => list.truncate(cells.saturating_sub(unused).max(1)),
            Visibility::Random => {
                list = random.order(cells);
                list.truncate(cells.div_ceil(2));
            }
        }
        let seen = |token: usize| list.len().saturating_sub(tokens - token - 1).max(1);
        let seen = (0..tokens).map(|token| Sight {
            first: 0,
            count: seen(token),
        });
        let sights = Sights::new(list.clone(), seen.collect(), false);
        Self {
            queries,
            keys,
            values,
            sights,
            tokens,
            cells,
            heads,
            head_width,
        }
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    fn attention(&self) -> Attention<'_> {
        Attention {
            queries: Queries {
                data: &self.queries,
                stride: 3 * self.width(),
            },
            keys: self.keys.tensor(),
            values: self.values.tensor(),
            sights: &self.sights,
            heads: self.heads,
            head_width: self.head_width,
            scale: 1.0 / (self.head_width as f32).sqrt(),
        }
    }

    fn result(&self, instruction_set: InstructionSet, threads: usize) -> Vec<f32> {
        let mut output = vec![f32::NAN; self.tokens * self.width()];
        attend_with(
            instruction_set,
            &self.attention(),
            &Pool::new(threads),
            &mut output,
        );
        output
    }

    /// The result by particular vectors, the chunks in reverse order.
    fn result_by<S: Simd>(&self, simd: S) -> Vec<f32> {
        let mut output = vec![f32::NAN; self.tokens * self.width()];
        let attention = self.attention();
        let schedule = Schedule::new(&attention, 3).unwrap();
        let places: Output<'_> = schedule.output(&mut output);
        for chunk in (0..schedule.chunks()).rev() {
            simd.vectorize(schedule.work(chunk, &places));
        }
        output
    }

    /// The formula in double precision.
    fn reference(&self) -> Vec<f64> {
        let (keys, values) = (self.keys.values(), self.values.values());
        let width = self.width();
        let scale = f64::from(self.attention().scale);
        let mut output = vec![0.0; self.tokens * width];
        for token in 0..self.tokens {
            for head in 0..self.heads {
                let columns = head * self.head_width..(head + 1) * self.head_width;
                let query = &self.queries[token * 3 * width..][columns.clone()];
                let seen = self.sights.seen(token);
                let scores: Vec<f64> = seen
                    .iter()
                    .map(|&cell| {
                        let key = &keys[cell as usize * width..][columns.clone()];
                        let product: f64 =
                            key.iter().zip(query).map(|(k, &q)| k * f64::from(q)).sum();
                        scale * product
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                for (&cell, score) in seen.iter().zip(&scores) {
                    let weight = (score - max).exp() / total;
                    if weight > 0.0 {
                        let output = &mut output[token * width..][columns.clone()];
                        let value = &values[cell as usize * width..][columns.clone()];
                        for (output, value) in output.iter_mut().zip(value) {
                            *output += weight * value;
                        }
                    }
                }
            }
        }
        output
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The instruction sets that this processor has.
fn available() -> Vec<InstructionSet> {
    let best = InstructionSet::detect();
    #[cfg(target_arch = "x86_64")]
    if best == InstructionSet::Avx512 {
        return vec![InstructionSet::Portable, InstructionSet::Avx2, best];
    }
    let mut all = vec![InstructionSet::Portable, best];
    all.dedup();
    all
}

/// The largest difference, relative to the largest value.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let pairs = found.iter().zip(expected);
    // A NaN is the largest of all.
    pairs
        .map(|(&found, expected)| (f64::from(found) - expected).abs())
        .fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a })
        / largest.max(1e-30)
}
