//! Scores become weights, and weighted values are added: what a row has come to so far, a block of keys at a time. Knows no
//! query and no mask.

use super::lanes::Lanes;
use super::table::{Head, Number};

/// Keys whose weights are computed together.
pub(super) const KEYS: usize = 64;

/// Greatest score and sum of weights so far.
pub(super) struct State<'a> {
    pub(super) greatest: &'a mut f32,
    pub(super) total: &'a mut f32,
    /// Sums of weighted values; filled up to whole vectors.
    pub(super) sums: &'a mut [f32],
}

/// Adds the values of `cells`, of the given scores, as ggml does: one after the other.
#[inline(always)]
pub(super) fn one_by_one<L: Lanes, T: Number, const HALF: bool>(
    lanes: L,
    State {
        greatest,
        total,
        sums,
    }: State<'_>,
    data: &[T],
    head: Head,
    cells: &[u32],
    mut weights: [f32; KEYS],
) {
    let count = cells.len();
    let mut highest = *greatest;
    // A bit for each score that exceeds all before it: its weight is 1, and what is in its place
    // becomes the factor for the sums so far.
    let mut exceeding = 0u64;
    for (index, weight) in weights[..count].iter_mut().enumerate() {
        let score = *weight;
        let exceeds = score > highest;
        exceeding |= u64::from(exceeds) << index;
        *weight = if exceeds {
            highest - score
        } else {
            score - highest
        };
        highest = if exceeds { score } else { highest };
    }
    *greatest = highest;
    lanes.exp_as_libm(&mut weights[..count]);
    let mut sum = *total;
    for (index, &weight) in weights[..count].iter().enumerate() {
        sum = if exceeding >> index & 1 == 1 {
            lanes.fma_one(sum, weight, 1.0)
        } else {
            sum + weight
        };
    }
    *total = sum;

    let mut start = 0;
    while start < count {
        let mut end = start + 1;
        if exceeding >> start & 1 == 1 {
            scale::<L, HALF>(lanes, sums, weights[start]);
            weights[start] = 1.0;
        }
        while end < count && exceeding >> end & 1 == 0 {
            end += 1;
        }
        let (cells, weights) = (&cells[start..end], &weights[start..end]);
        add_values::<L, T, HALF>(lanes, sums, data, head, cells, weights);
        start = end;
    }
}

/// Adds the values of `cells`, of the given scores, correcting once for the greatest of them.
#[inline(always)]
pub(super) fn together<L: Lanes, T: Number>(
    lanes: L,
    State {
        greatest,
        total,
        sums,
    }: State<'_>,
    data: &[T],
    head: Head,
    cells: &[u32],
    mut weights: [f32; KEYS],
) {
    let highest = weights.iter().fold(*greatest, |a, &b| a.max(b));
    if highest == f32::NEG_INFINITY {
        return;
    }
    let mut correction = [*greatest - highest];
    lanes.exp_as_libm(&mut correction);
    let [correction] = correction;
    *greatest = highest;
    let negative = lanes.splat(-highest);
    let mut sum = lanes.splat(0.0);
    for vector in weights.chunks_exact_mut(L::WIDTH) {
        let exponentials = lanes.exp(lanes.add(lanes.load(vector), negative));
        lanes.store(exponentials, vector);
        sum = lanes.add(sum, exponentials);
    }
    *total = lanes.fma_one(*total, correction, lanes.sum(sum));
    if correction != 1.0 {
        scale::<L, false>(lanes, sums, correction);
    }
    let weights = &weights[..cells.len()];
    add_values::<L, T, false>(lanes, sums, data, head, cells, weights);
}

/// Multiplies whole vectors.
#[inline(always)]
fn scale<L: Lanes, const HALF: bool>(lanes: L, sums: &mut [f32], factor: f32) {
    let factor = lanes.splat(factor);
    for vector in sums.chunks_exact_mut(L::WIDTH) {
        let mut scaled = lanes.mul(lanes.load(vector), factor);
        if HALF {
            scaled = lanes.round_to_half(scaled);
        }
        lanes.store(scaled, vector);
    }
}

/// Adds weighted values, as many columns at a time as sums fit into registers.
#[inline(always)]
fn add_values<L: Lanes, T: Number, const HALF: bool>(
    lanes: L,
    sums: &mut [f32],
    data: &[T],
    head: Head,
    cells: &[u32],
    weights: &[f32],
) {
    let mut column = 0;
    macro_rules! columns {
        ($vectors:literal) => {
            while column + $vectors * L::WIDTH <= head.width {
                let head = Head {
                    first: head.first + column,
                    width: $vectors * L::WIDTH,
                    ..head
                };
                let sums = &mut sums[column..];
                add_columns::<L, T, HALF, $vectors>(lanes, sums, data, head, cells, weights);
                column += $vectors * L::WIDTH;
            }
        };
    }
    columns!(8);
    columns!(4);
    columns!(1);
    if column < head.width {
        let head = Head {
            first: head.first + column,
            width: head.width - column,
            ..head
        };
        add_columns::<L, T, HALF, 1>(lanes, &mut sums[column..], data, head, cells, weights);
    }
}

/// Adds weighted values in `N` vectors of columns; the last one may be short.
#[inline(always)]
fn add_columns<L: Lanes, T: Number, const HALF: bool, const N: usize>(
    lanes: L,
    sums: &mut [f32],
    data: &[T],
    head: Head,
    cells: &[u32],
    weights: &[f32],
) {
    let mut held = [lanes.splat(0.0); N];
    for (vector, held) in held.iter_mut().enumerate() {
        *held = lanes.load(&sums[vector * L::WIDTH..]);
    }
    for (&cell, &weight) in cells.iter().zip(weights) {
        let row = head.of(data, cell as usize);
        let weight = lanes.splat(weight);
        for (vector, held) in held.iter_mut().enumerate() {
            let value = if N == 1 {
                T::load_some(lanes, row)
            } else {
                T::load(lanes, &row[vector * L::WIDTH..])
            };
            *held = lanes.fma(value, weight, *held);
            if HALF {
                *held = lanes.round_to_half(*held);
            }
        }
    }
    for (vector, &held) in held.iter().enumerate() {
        lanes.store(held, &mut sums[vector * L::WIDTH..]);
    }
}
