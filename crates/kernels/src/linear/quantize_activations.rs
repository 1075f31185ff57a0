//! Activations as the kernels read them: quantized, and packed in tiles of a few tokens.
//!
//! Within a tile everything that a microkernel needs at one step lies together, so that it reads
//! one stream.

use half::{bf16, f16};

use super::f16_accumulation;
use super::format::Format;
use super::layout::{
    AlignedBuffer, Q8_0LanesStep, Q8_0LanesTile, Q8_0Step, Q8_0Tile, Q8_1Step, Q8_1Tile, Q8KStep,
    Q8KTile, cast_mut,
};
use super::microkernel::BatchSize;
use super::quantize_block::{BLOCK, QuantizeBlock};
use crate::f16_convert;
use crate::pool::Pool;
use crate::shared::Parts;
use crate::simd::Task;

/// Elements of a super-block.
const SUPER_BLOCK: usize = 256;

/// How activations are stored, see the functions of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActivationFormat {
    /// f32, rounded so.
    F32(Rounding),
    /// f32 in large tiles; in small ones f16, scaled for weights of this bound.
    ScaledF16(i32),
    /// Blocks of [`Q8_0Tile`], for unsigned weights whose zero point this is.
    Q8_0(i32),
    /// Blocks of [`Q8_0LanesTile`].
    Q8_0Lanes,
    /// Blocks of [`Q8_1Tile`].
    Q8_1,
    /// Super-blocks of [`Q8KTile`].
    Q8K,
}

impl ActivationFormat {
    /// What goes with matrices of `format`.
    pub(super) fn of(format: Format, batch: BatchSize) -> Self {
        match format {
            Format::F32 => Self::F32(Rounding::None),
            Format::Bf16 => Self::F32(Rounding::Bf16),
            Format::F16 => Self::F32(BESIDE_F16),
            Format::Q4_0 => Self::Q8_0(8),
            Format::Iq4Nl => Self::Q8_0(128),
            Format::Q5_0 | Format::Q8_0 if batch == BatchSize::Large => Self::Q8_0(128),
            Format::Q8_0 => Self::Q8_0Lanes,
            Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => Self::Q8_1,
            Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K | Format::Iq4Xs => {
                Self::Q8K
            }
        }
    }

    /// Bytes of a token of `columns` elements.
    fn token_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32(_) | Self::ScaledF16(_) => columns * size_of::<f32>(),
            Self::Q8_0(_) => columns / BLOCK * size_of::<Q8_0Tile<1>>(),
            Self::Q8_0Lanes => columns / BLOCK * size_of::<Q8_0LanesTile<1>>(),
            Self::Q8_1 => columns / BLOCK * size_of::<Q8_1Tile<1>>(),
            Self::Q8K => columns / SUPER_BLOCK * size_of::<Q8KTile<1>>(),
        }
    }
}

/// What f32 activations are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    None,
    F16,
    Bf16,
}

/// Beside f16 weights ggml rounds activations to f16 on x86-64, but not on ARM (unless it computes
/// in f16 altogether).
pub(super) const BESIDE_F16: Rounding = if cfg!(target_arch = "aarch64") {
    Rounding::None
} else {
    Rounding::F16
};

impl Rounding {
    /// Rounds each of `x` to the nearest, ties to even.
    #[inline(always)]
    fn round(self, x: &[f32], rounded: &mut [f32]) {
        match self {
            Self::None => rounded.copy_from_slice(x),
            Self::F16 => {
                let mut halves = [f16::ZERO; BLOCK];
                let halves = &mut halves[..x.len()];
                f16_convert::from_f32(x, halves);
                f16_convert::to_f32(halves, rounded);
            }
            Self::Bf16 => {
                for (rounded, &x) in rounded.iter_mut().zip(x) {
                    *rounded = bf16::from_f32(x).to_f32();
                }
            }
        }
    }
}

/// Tokens that a microkernel works on together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// The first of them.
    pub(super) first: usize,
    /// How many.
    pub(super) tokens: usize,
    /// Where they begin in the bytes.
    start: usize,
}

/// The activations of some tokens, in tiles.
pub(super) struct Activations {
    pub(super) tiles: Vec<Tile>,
    buffer: AlignedBuffer,
    token_bytes: usize,
}

impl Activations {
    /// Quantizes the rows of `x`, `[tokens, columns]`, into tiles of the given `sizes` (the largest
    /// first, the last is 1), in the memory of `buffer`.
    pub(super) fn new(
        simd: impl QuantizeBlock + Sync,
        x: &[f32],
        columns: usize,
        format: ActivationFormat,
        sizes: &[usize],
        pool: &Pool,
        mut buffer: AlignedBuffer,
    ) -> Self {
        let tokens = x.len() / columns;
        let token_bytes = format.token_bytes(columns);
        let mut tiles = Vec::new();
        let (mut first, mut start) = (0, 0);
        while first < tokens {
            let size = tile_size(sizes, tokens - first);
            tiles.push(Tile {
                first,
                tokens: size,
                start,
            });
            first += size;
            start += (size * token_bytes).next_multiple_of(64);
        }
        buffer.resize(start);
        let parts = Parts::new(buffer.bytes_mut());
        pool.run(tiles.len(), &|index| {
            let tile = tiles[index];
            // SAFETY: tiles do not overlap.
            let output = unsafe { parts.slice(tile.start, tile.tokens * token_bytes) };
            simd.vectorize(Quantize {
                x: &x[tile.first * columns..][..tile.tokens * columns],
                columns,
                tokens: tile.tokens,
                format,
                output,
            });
        });
        Self {
            tiles,
            buffer,
            token_bytes,
        }
    }

    /// The bytes of a tile.
    pub(super) fn tile(&self, tile: &Tile) -> &[u8] {
        &self.buffer.bytes()[tile.start..][..tile.tokens * self.token_bytes]
    }

    /// The memory, for the next activations.
    pub(super) fn into_buffer(self) -> AlignedBuffer {
        self.buffer
    }
}

/// The tokens of the next tile, of those that are `left`: as many as possible, but rather two tiles
/// of half as many than a large and a small one.
fn tile_size(sizes: &[usize], left: usize) -> usize {
    let halves_it = |&size: &usize| size >= LARGE_TILE && 2 * size == left;
    let mut sizes = sizes.iter().copied();
    let half = sizes.clone().find(halves_it);
    half.or_else(|| sizes.find(|&size| size <= left))
        .unwrap_or(1)
}

/// Tiles of at least this many tokens hold f32 activations column by column, smaller ones row by
/// row.
pub(super) const LARGE_TILE: usize = 6;

/// Quantizes the rows of `x` into a tile.
struct Quantize<'a> {
    x: &'a [f32],
    columns: usize,
    tokens: usize,
    format: ActivationFormat,
    output: &'a mut [u8],
}

impl<S: QuantizeBlock> Task<S> for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Self {
            x,
            columns,
            tokens,
            format,
            output,
        } = self;
        match format {
            ActivationFormat::ScaledF16(bound) if tokens < LARGE_TILE => {
                f16_accumulation::quantize(x, columns, tokens, bound, output);
            }
            ActivationFormat::F32(_) | ActivationFormat::ScaledF16(_) => {
                let rounding = match format {
                    ActivationFormat::F32(rounding) => rounding,
                    _ => BESIDE_F16,
                };
                f32(x, columns, tokens, rounding, output);
            }
            ActivationFormat::Q8_0(zero_point) => {
                q8_0(simd, x, columns, tokens, zero_point, output);
            }
            ActivationFormat::Q8_0Lanes => q8_0_lanes(simd, x, columns, tokens, output),
            ActivationFormat::Q8_1 => q8_1(simd, x, columns, tokens, output),
            ActivationFormat::Q8K => q8_k(simd, x, columns, tokens, output),
        }
    }
}

/// f32, rounded: `[columns][tokens]` in large tiles, `[tokens][columns]` in small ones.
#[inline(always)]
fn f32(x: &[f32], columns: usize, tokens: usize, rounding: Rounding, output: &mut [u8]) {
    let output = cast_mut::<f32>(output);
    let mut values = [0.0; BLOCK];
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let values = &mut values[..x.len()];
            rounding.round(x, values);
            let first = block * BLOCK;
            if tokens < LARGE_TILE {
                output[token * columns + first..][..values.len()].copy_from_slice(values);
            } else {
                for (index, value) in values.iter().enumerate() {
                    output[(first + index) * tokens + token] = *value;
                }
            }
        }
    }
}

/// The scale of a `q8_0` block, rounded to f16, and what its values are multiplied with: as ggml
/// does.
#[inline(always)]
fn q8_0_scales(max_abs: f32) -> (f32, f32) {
    let inverse = if max_abs == 0.0 { 0.0 } else { 127.0 / max_abs };
    (f16::from_f32(max_abs / 127.0).to_f32(), inverse)
}

/// Writes the steps of a [`Q8_0Tile`].
#[inline(always)]
fn q8_0<S: QuantizeBlock>(
    simd: S,
    x: &[f32],
    columns: usize,
    tokens: usize,
    zero_point: i32,
    output: &mut [u8],
) {
    let step_bytes = tokens * size_of::<Q8_0Tile<1>>();
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, step) in (x.as_chunks().0.iter()).zip(output.chunks_exact_mut(step_bytes)) {
            let step = Q8_0Step::new(step, tokens);
            let (scale, inverse) = q8_0_scales(simd.max_abs(x));
            let quantized = simd.quantize(x, inverse);
            step.qs[token] = quantized.qs;
            step.d[token] = scale;
            step.correction[token] = -zero_point * quantized.sum();
        }
    }
}

/// Writes the steps of a [`Q8_0LanesTile`].
#[inline(always)]
fn q8_0_lanes<S: QuantizeBlock>(
    simd: S,
    x: &[f32],
    columns: usize,
    tokens: usize,
    output: &mut [u8],
) {
    let step_bytes = tokens * size_of::<Q8_0LanesTile<1>>();
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, step) in (x.as_chunks().0.iter()).zip(output.chunks_exact_mut(step_bytes)) {
            let step = Q8_0LanesStep::new(step, tokens);
            let (scale, inverse) = q8_0_scales(simd.max_abs(x));
            let quantized = simd.quantize(x, inverse);
            step.qs[token] = quantized.qs;
            step.corrections[token] = quantized.sums_of_4.map(|sum| -128 * sum);
            step.d[token] = scale;
        }
    }
}

/// Writes the steps of a [`Q8_1Tile`].
#[inline(always)]
fn q8_1<S: QuantizeBlock>(simd: S, x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) {
    let step_bytes = tokens * size_of::<Q8_1Tile<1>>();
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, step) in (x.as_chunks().0.iter()).zip(output.chunks_exact_mut(step_bytes)) {
            let step = Q8_1Step::new(step, tokens);
            let max_abs = simd.max_abs(x);
            let (scale, inverse) = q8_0_scales(max_abs);
            let quantized = simd.quantize(x, inverse);
            let sum = max_abs / 127.0 * quantized.sum() as f32;
            step.qs[token] = quantized.qs;
            step.d[token] = scale;
            step.s[token] = f16::from_f32(sum).to_f32();
        }
    }
}

/// Writes the steps of a [`Q8KTile`].
#[inline(always)]
fn q8_k<S: QuantizeBlock>(simd: S, x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) {
    let step_bytes = tokens * size_of::<Q8KTile<1>>();
    for (token, x) in x.chunks_exact(columns).enumerate() {
        let blocks = x.as_chunks::<SUPER_BLOCK>().0.iter();
        for (x, step) in blocks.zip(output.chunks_exact_mut(step_bytes)) {
            let step = Q8KStep::new(step, tokens);
            // ggml's scale has the opposite sign of the value of largest magnitude, which becomes
            // −127.
            let (min, max) = simd.min_max(x);
            let largest = if -min >= max { min } else { max };
            let inverse = if largest == 0.0 {
                0.0
            } else {
                -127.0 / largest
            };
            let mut sums = [[0i16; 2]; 8];
            for (group, x) in x.as_chunks().0.iter().enumerate() {
                let quantized = simd.quantize(x, inverse);
                step.qs[group * tokens + token] = quantized.qs;
                let fours = quantized.sums_of_4.as_chunks::<4>().0.iter();
                for (sum, fours) in sums[group].iter_mut().zip(fours) {
                    *sum = fours.iter().sum::<i32>() as i16;
                }
            }
            for (pair, groups) in sums.as_chunks::<2>().0.iter().enumerate() {
                step.pair_sums[pair * tokens + token] = groups.map(|[a, b]| a + b);
            }
            step.sums[token] = sums;
            step.d[token] = if inverse == 0.0 { 0.0 } else { 1.0 / inverse };
        }
    }
}
