//! Activations as the kernels read them: rounded, and in tiles of a few tokens.
//!
//! Within a tile everything that a kernel needs at one step lies together, so that it reads one stream.

use half::f16;

use super::f16_accumulation;
use super::format::Format;
use super::microkernel::Count;
#[cfg(target_arch = "x86_64")]
use super::quantize_block::Avx2;
use super::quantize_block::{Portable, Round};
use crate::f16_convert;
use crate::pool::Pool;
use crate::shared::Parts;
#[cfg(target_arch = "x86_64")]
use crate::simd::{self, Token};
use crate::wide;

/// Elements of a block of eight-bit activations.
pub(super) const BLOCK: usize = 32;
/// Elements of a super-block beside K-quants.
pub(super) const SUPER_BLOCK: usize = 256;

/// What a kernel reads of each token, see the functions of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Half floats, expanded again; [`AS_THEY_ARE`] where they are not rounded.
    Half,
    /// The same in large tiles; in small ones half floats that a power of two keeps in range with weights of this bound.
    Short(i32),
    /// Blocks of 32 bytes with a scale, and what weights that are so much too large add, taken away.
    Blocks(i32),
    /// Blocks of 32 bytes with a scale, and what weights that are 128 too large add to each fourth, taken away.
    Fourths,
    /// Super-blocks of 256 bytes with a scale and sums.
    Super,
}

impl Rounding {
    /// What goes with matrices of `format` and so many tokens.
    pub(super) fn of(format: Format, count: Count) -> Self {
        match format {
            Format::F16 => Self::Half,
            Format::Q4_0 => Self::Blocks(8),
            Format::Q8_0 if count == Count::Many => Self::Blocks(128),
            Format::Q8_0 => Self::Fourths,
            Format::Q4K | Format::Q5K | Format::Q6K => Self::Super,
        }
    }

    /// Elements of a step, and bytes that one token takes in it.
    pub(super) fn step(self) -> (usize, usize) {
        match self {
            Self::Half | Self::Short(_) => (1, 4),
            Self::Blocks(_) => (BLOCK, BLOCK + 4 + 4),
            Self::Fourths => (BLOCK, BLOCK + 32 + 4),
            Self::Super => (SUPER_BLOCK, SUPER_BLOCK + 16 + 32 + 4),
        }
    }
}

/// Tokens that a kernel works on together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// The first of them.
    pub(super) first: usize,
    /// How many.
    pub(super) tokens: usize,
    /// Where they begin in the bytes.
    start: usize,
}

/// Memory whose lines begin where the processor's do.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

impl Line {
    /// Nothing written yet.
    pub(super) const EMPTY: Self = Self([0; 64]);
}

/// The activations of some tokens, in tiles.
pub(super) struct Activations {
    pub(super) tiles: Vec<Tile>,
    lines: Vec<Line>,
    tile_bytes: usize,
}

impl Activations {
    /// Rounds the rows of `x`, `[tokens, columns]`, into tiles of the given `sizes` (the largest first, the last
    /// is 1), in the memory of `scratch`.
    pub(super) fn new(
        x: &[f32],
        columns: usize,
        rounding: Rounding,
        sizes: &[usize],
        pool: &Pool,
        mut scratch: Vec<Line>,
    ) -> Self {
        let tokens = x.len() / columns;
        let (elements, bytes) = rounding.step();
        let token_bytes = columns / elements * bytes;
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
        scratch.resize(start / 64, Line::EMPTY);
        let parts = Parts::new(as_bytes_mut(&mut scratch));
        pool.run(tiles.len(), &|index| {
            let tile = tiles[index];
            // SAFETY: tiles do not overlap.
            let output = unsafe { parts.slice(tile.start, tile.tokens * token_bytes) };
            let x = &x[tile.first * columns..][..tile.tokens * columns];
            match rounding {
                Rounding::Short(bound) if tile.tokens < COLUMN_BY_COLUMN => {
                    f16_accumulation::activations(x, columns, tile.tokens, bound, output);
                }
                Rounding::Half | Rounding::Short(_) => halves(x, columns, tile.tokens, output),
                Rounding::Blocks(excess) => blocks(x, columns, tile.tokens, excess, output),
                Rounding::Fourths => fourths(x, columns, tile.tokens, output),
                Rounding::Super => super_blocks(x, columns, tile.tokens, output),
            }
        });
        Self {
            tiles,
            lines: scratch,
            tile_bytes: token_bytes,
        }
    }

    /// The bytes of a tile.
    pub(super) fn tile(&self, tile: &Tile) -> &[u8] {
        &as_bytes(&self.lines)[tile.start..][..tile.tokens * self.tile_bytes]
    }

    /// The memory, for the next activations.
    pub(super) fn into_scratch(self) -> Vec<Line> {
        self.lines
    }
}

/// The tokens of the next tile, when so many are `left`: as many as possible, but rather two middling tiles than a large and
/// a small one.
fn tile_size(sizes: &[usize], left: usize) -> usize {
    let halves_it = |&size: &usize| size >= COLUMN_BY_COLUMN && 2 * size == left;
    let mut sizes = sizes.iter().copied();
    let half = sizes.clone().find(halves_it);
    half.or_else(|| sizes.find(|&size| size <= left))
        .unwrap_or(1)
}

pub(super) fn as_bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 64) }
}

pub(super) fn as_bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes without padding, and any bytes are a line.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
}

pub(super) fn as_floats(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 f32 without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 16) }
}

pub(super) fn as_floats_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is 16 f32 without padding, and any bits are an f32.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}

/// Tiles of at least this many tokens hold half floats column by column, smaller ones row by row.
pub(super) const COLUMN_BY_COLUMN: usize = 6;

/// Whether activations beside f16 weights are left in f32. ggml rounds them to half floats on x86-64, but not on ARM
/// (unless it computes in half floats altogether).
pub(super) const AS_THEY_ARE: bool = cfg!(target_arch = "aarch64");

wide! {
    /// f32, rounded to half floats unless [`AS_THEY_ARE`]: `[columns][tokens]` in large tiles, `[tokens][columns]` in small ones.
    fn halves(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) = halves_body
}

#[inline(always)]
fn halves_body(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) {
    let mut rounded = [f16::ZERO; BLOCK];
    let mut expanded = [0.0; BLOCK];
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (rounded, expanded) = (&mut rounded[..x.len()], &mut expanded[..x.len()]);
            if AS_THEY_ARE {
                expanded.copy_from_slice(x);
            } else {
                f16_convert::from_f32(x, rounded);
                f16_convert::to_f32(rounded, expanded);
            }
            let first = block * BLOCK;
            if tokens < COLUMN_BY_COLUMN {
                let row = &mut output[4 * (token * columns + first)..][..4 * expanded.len()];
                for (place, value) in row.as_chunks_mut().0.iter_mut().zip(&*expanded) {
                    *place = value.to_ne_bytes();
                }
            } else {
                for (index, value) in expanded.iter().enumerate() {
                    put(
                        output,
                        (first + index) * tokens + token,
                        value.to_ne_bytes(),
                    );
                }
            }
        }
    }
}

/// Compiles a function's body for the instruction sets worth having, and runs the best one: `body` is an
/// `#[inline(always)]` function of the same arguments, which rounds with its type parameter.
macro_rules! rounding {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$attribute])*
        fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,f16c")]
                fn avx2($($argument: $type),*) {
                    // SAFETY: AVX2 is there.
                    unsafe { $body::<Avx2>($($argument),*) };
                }
                if simd::Avx2::detect().is_some() {
                    // SAFETY: the processor has both, as just asked.
                    return unsafe { avx2($($argument),*) };
                }
            }
            // SAFETY: it needs nothing.
            unsafe { $body::<Portable>($($argument),*) };
        }
    };
}

/// A block's scale as a half float gives it, and what to multiply with: as ggml rounds to `q8_0`.
#[inline(always)]
fn scales(largest: f32) -> (f32, f32) {
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    (f16::from_f32(largest / 127.0).to_f32(), inverse)
}

#[inline(always)]
fn put(output: &mut [u8], index: usize, word: [u8; 4]) {
    output[4 * index..4 * index + 4].copy_from_slice(&word);
}

rounding! {
    /// For each block: `[tokens][32]` bytes, `[tokens]` scales (f32), `[tokens]` −`excess` · sum (i32).
    fn blocks(x: &[f32], columns: usize, tokens: usize, excess: i32, output: &mut [u8]) = blocks_body
}

#[inline(always)]
unsafe fn blocks_body<R: Round>(
    x: &[f32],
    columns: usize,
    tokens: usize,
    excess: i32,
    output: &mut [u8],
) {
    let step = tokens * Rounding::Blocks(excess).step().1;
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, output) in x.as_chunks().0.iter().zip(output.chunks_exact_mut(step)) {
            let (bytes, words) = output.split_at_mut(tokens * BLOCK);
            // SAFETY: the caller's condition.
            let (scale, rounded) = unsafe {
                let (scale, inverse) = scales(R::largest(x));
                (scale, R::round(x, inverse))
            };
            bytes[token * BLOCK..][..BLOCK].copy_from_slice(&rounded.bytes);
            put(words, token, scale.to_ne_bytes());
            put(
                words,
                tokens + token,
                (-excess * rounded.sum()).to_ne_bytes(),
            );
        }
    }
}

rounding! {
    /// For each block: `[tokens][32]` bytes, `[tokens][8]` −128 · sum of four (i32), `[tokens]` scales (f32).
    fn fourths(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) = fourths_body
}

#[inline(always)]
unsafe fn fourths_body<R: Round>(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) {
    let step = tokens * Rounding::Fourths.step().1;
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, output) in x.as_chunks().0.iter().zip(output.chunks_exact_mut(step)) {
            let (bytes, words) = output.split_at_mut(tokens * BLOCK);
            // SAFETY: the caller's condition.
            let (scale, rounded) = unsafe {
                let (scale, inverse) = scales(R::largest(x));
                (scale, R::round(x, inverse))
            };
            bytes[token * BLOCK..][..BLOCK].copy_from_slice(&rounded.bytes);
            for (fourth, sum) in rounded.fours.iter().enumerate() {
                put(words, token * 8 + fourth, (-128 * sum).to_ne_bytes());
            }
            put(words, tokens * 8 + token, scale.to_ne_bytes());
        }
    }
}

rounding! {
    /// For each super-block: `[8][tokens][32]` bytes, `[4][tokens]` pairs of sums of 32 (i16), `[tokens][16]` sums of
    /// 16 (i16), `[tokens]` scales (f32).
    fn super_blocks(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) = super_blocks_body
}

#[inline(always)]
unsafe fn super_blocks_body<R: Round>(x: &[f32], columns: usize, tokens: usize, output: &mut [u8]) {
    let step = tokens * Rounding::Super.step().1;
    for (token, x) in x.chunks_exact(columns).enumerate() {
        for (x, output) in x
            .as_chunks::<SUPER_BLOCK>()
            .0
            .iter()
            .zip(output.chunks_exact_mut(step))
        {
            let (bytes, rest) = output.split_at_mut(tokens * SUPER_BLOCK);
            let (pairs, rest) = rest.split_at_mut(tokens * 16);
            let (sums, scale_words) = rest.split_at_mut(tokens * 32);
            // ggml's scale has the sign of the largest value turned round, so that this becomes −127.
            // SAFETY: the caller's condition.
            let (high, low) = unsafe { R::extremes(x) };
            let largest = if -low >= high { low } else { high };
            let inverse = if largest == 0.0 {
                0.0
            } else {
                -127.0 / largest
            };
            let mut sixteenths = [0i16; 16];
            for (group, x) in x.as_chunks().0.iter().enumerate() {
                // SAFETY: the caller's condition.
                let rounded = unsafe { R::round(x, inverse) };
                bytes[(group * tokens + token) * BLOCK..][..BLOCK].copy_from_slice(&rounded.bytes);
                let fours = rounded.fours.as_chunks::<4>().0.iter();
                for (sum, fours) in sixteenths[2 * group..].iter_mut().zip(fours) {
                    *sum = fours.iter().sum::<i32>() as i16;
                }
            }
            for (pair, four) in sixteenths.as_chunks::<4>().0.iter().enumerate() {
                let (first, second) = (four[0] + four[1], four[2] + four[3]);
                let word = u32::from(first as u16) | u32::from(second as u16) << 16;
                put(pairs, pair * tokens + token, word.to_ne_bytes());
            }
            for (index, sum) in sixteenths.iter().enumerate() {
                sums[token * 32 + 2 * index..][..2].copy_from_slice(&sum.to_ne_bytes());
            }
            let scale = if inverse == 0.0 { 0.0 } else { 1.0 / inverse };
            put(scale_words, token, scale.to_ne_bytes());
        }
    }
}
