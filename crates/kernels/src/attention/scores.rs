//! Scores: dot products of a query with keys that are f32 or f16. Knows no mask and no softmax.

use half::f16;

use super::kv_tensor::{Element, Head, KvTensor};
use crate::simd::{Simd, Task};

/// Vectors of accumulators of a dot product.
const ACCUMULATORS: usize = 4;

/// The head width of every size of GPT-2: loops over it are unrolled.
const GPT2_HEAD_WIDTH: usize = 64;

/// The work: dot products of a query with a head's keys of some cells. A task of its own, so that
/// nothing else competes for registers.
pub(super) struct DotKeys<'a, T> {
    pub(super) keys: &'a [T],
    pub(super) head: Head,
    pub(super) cells: &'a [u32],
    /// `[head_width]`
    pub(super) query: &'a [f32],
    /// What to prefetch meanwhile.
    pub(super) prefetch: Option<Prefetch<'a>>,
    /// Where the scores go: at least as many as cells.
    pub(super) to: &'a mut [f32],
}

/// What is read after the keys that are being read. The rows of a head lie far apart from cell to
/// cell, too far for the processor's own prefetching.
#[derive(Clone, Copy)]
pub(super) struct Prefetch<'a> {
    /// The cells of the next block, whose keys are wanted; the first while the first cell is read.
    pub(super) next: &'a [u32],
    /// The keys of the next head for the same cells, if nothing has prefetched them before.
    pub(super) next_head: bool,
    /// The values of the same cells, if nothing has prefetched them before.
    pub(super) values: Option<KvTensor<'a>>,
}

impl<S: Simd, T: Dot> Task<S> for DotKeys<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        if !S::COMPACT && self.head.width == GPT2_HEAD_WIDTH {
            self.compute::<S, GPT2_HEAD_WIDTH>(simd);
        } else {
            self.compute::<S, 0>(simd);
        }
    }
}

impl<T: Dot> DotKeys<'_, T> {
    /// Four keys side by side where they are whole groups of vectors, else one by one. `WIDTH` is
    /// the head width where it is known, else 0.
    #[inline(always)]
    fn compute<S: Simd, const WIDTH: usize>(self, simd: S) {
        let Self {
            keys,
            head,
            cells,
            query,
            prefetch,
            to,
        } = self;
        let width = if WIDTH == 0 { head.width } else { WIDTH };
        let head = Head { width, ..head };
        let query = &query[..width];
        let whole = !S::COMPACT && width.is_multiple_of(ACCUMULATORS * S::LANES);
        let in_fours = if whole { cells.len() / 4 * 4 } else { 0 };
        let (fours, rest) = cells.split_at(in_fours);
        let (to_fours, to_rest) = to.split_at_mut(in_fours);
        for (four, (scores, cells)) in (to_fours.chunks_exact_mut(4))
            .zip(fours.chunks_exact(4))
            .enumerate()
        {
            if let Some(prefetch) = prefetch {
                for (index, &cell) in cells.iter().enumerate() {
                    prefetch.run::<S, T, WIDTH>(simd, keys, head, cell, 4 * four + index);
                }
            }
            let sums = [
                dot_vectors(simd, head.of(keys, cells[0] as usize), query),
                dot_vectors(simd, head.of(keys, cells[1] as usize), query),
                dot_vectors(simd, head.of(keys, cells[2] as usize), query),
                dot_vectors(simd, head.of(keys, cells[3] as usize), query),
            ];
            scores.copy_from_slice(&simd.reduce_add_4(sums));
        }
        for (index, (score, &cell)) in to_rest.iter_mut().zip(rest).enumerate() {
            if let Some(prefetch) = prefetch {
                prefetch.run::<S, T, WIDTH>(simd, keys, head, cell, in_fours + index);
            }
            *score = T::dot(simd, head.of(keys, cell as usize), query);
        }
    }
}

impl Prefetch<'_> {
    /// Prefetches what goes with `cell`, which is the block's cell `index`: inlined where the width
    /// is known, otherwise a call, since loops take more code than what they do.
    #[inline(always)]
    fn run<S: Simd, T, const WIDTH: usize>(
        self,
        simd: S,
        keys: &[T],
        head: Head,
        cell: u32,
        index: usize,
    ) {
        if WIDTH == 0 {
            self.run_any(simd, keys, head, cell, index);
        } else {
            self.run_here(simd, keys, head, cell, index);
        }
    }

    #[inline(never)]
    fn run_any<S: Simd, T>(self, simd: S, keys: &[T], head: Head, cell: u32, index: usize) {
        self.run_here(simd, keys, head, cell, index);
    }

    #[inline(always)]
    fn run_here<S: Simd, T>(self, simd: S, keys: &[T], head: Head, cell: u32, index: usize) {
        if let Some(&next) = self.next.get(index) {
            simd.prefetch(keys, next as usize * head.stride + head.first, head.width);
        }
        let start = cell as usize * head.stride + head.first;
        if self.next_head {
            simd.prefetch(keys, start + head.width, head.width);
        }
        match self.values {
            Some(KvTensor::F32(data)) => simd.prefetch(data, start, head.width),
            Some(KvTensor::F16(data)) => simd.prefetch(data, start, head.width),
            Some(KvTensor::Q8_0(_) | KvTensor::Q4_0(_)) | None => {}
        }
    }
}

/// Elements with a dot product.
pub(super) trait Dot: Element {
    /// x · y.
    fn dot<S: Simd>(simd: S, x: &[Self], y: &[f32]) -> f32;
}

/// The products of whole groups of vectors, added to one vector.
#[inline(always)]
fn dot_vectors<S: Simd, T: Element>(simd: S, x: &[T], y: &[f32]) -> S::F32 {
    let group = ACCUMULATORS * S::LANES;
    let mut accumulators = [simd.splat(0.0); ACCUMULATORS];
    for (x, y) in x.chunks_exact(group).zip(y.chunks_exact(group)) {
        for (index, accumulator) in accumulators.iter_mut().enumerate() {
            let start = index * S::LANES;
            let (x, y) = (T::load(simd, &x[start..]), simd.load(&y[start..]));
            *accumulator = simd.fma(x, y, *accumulator);
        }
    }
    let [a, b, c, d] = accumulators;
    simd.add(simd.add(a, c), simd.add(b, d))
}

/// The dot product of whole groups of vectors, and how many elements these are.
#[inline(always)]
fn dot_groups<S: Simd, T: Element>(simd: S, x: &[T], y: &[f32]) -> (f32, usize) {
    let group = ACCUMULATORS * S::LANES;
    let sum = dot_vectors(simd, x, y);
    (simd.reduce_add(sum), x.len() / group * group)
}

impl Dot for f16 {
    /// The remainder behind whole groups of vectors is added in double precision.
    #[inline(always)]
    fn dot<S: Simd>(simd: S, x: &[f16], y: &[f32]) -> f32 {
        let (sum, done) = dot_groups(simd, x, y);
        if done == x.len() {
            return sum;
        }
        let mut sum = f64::from(sum);
        for (&x, &y) in x[done..].iter().zip(&y[done..]) {
            sum += f64::from(simd.f16_to_f32(x) * y);
        }
        sum as f32
    }
}

impl Dot for f32 {
    #[inline(always)]
    fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
        let (mut sum, done) = dot_groups(simd, x, y);
        for (&x, &y) in x[done..].iter().zip(&y[done..]) {
            sum += x * y;
        }
        sum
    }
}
