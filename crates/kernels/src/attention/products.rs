//! Products of a query with keys that are numbers. Knows no mask and no softmax.

use half::f16;

use super::table::{Head, Number, Table};
use super::weighing::KEYS;
use crate::simd::{self, Simd, Task};

/// Vectors of products that are summed side by side.
const CHAINS: usize = 4;

/// The head width of GPT-2 in every size: loops over it are unrolled.
const USUAL_WIDTH: usize = 64;

/// The work: products of a query with a head's keys of some cells. A task of its own, so that nothing else competes for
/// registers.
pub(super) struct Products<'a, T> {
    pub(super) keys: &'a [T],
    pub(super) head: Head,
    pub(super) cells: &'a [u32],
    /// `[head_width]`
    pub(super) query: &'a [f32],
    /// What to ask for meanwhile.
    pub(super) ahead: Option<Ahead<'a>>,
    /// Where they go: at least as many as cells.
    pub(super) to: &'a mut [f32],
}

/// What comes after the keys that are read. A head's rows lie far apart from cell to cell, too far for the processor to guess.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    /// The keys a block further on, of cells below this one.
    pub(super) until: usize,
    /// Those of the next head, where nobody asked for these before.
    pub(super) next_head: bool,
    /// The values of the same cells, where nobody asked for these before.
    pub(super) values: Option<Table<'a>>,
}

impl<S: Simd, T: Dot> Task<S> for Products<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        if self.head.width == USUAL_WIDTH {
            self.compute::<S, USUAL_WIDTH>(simd);
        } else {
            self.compute::<S, 0>(simd);
        }
    }
}

impl<T: Dot> Products<'_, T> {
    /// Four keys side by side where vectors leave nothing over, else one by one. `WIDTH` is a head's where it is known.
    #[inline(always)]
    fn compute<S: Simd, const WIDTH: usize>(self, simd: S) {
        let Self {
            keys,
            head,
            cells,
            query,
            ahead,
            to,
        } = self;
        let width = if WIDTH == 0 { head.width } else { WIDTH };
        let head = Head { width, ..head };
        let query = &query[..width];
        let whole = width.is_multiple_of(CHAINS * S::LANES);
        let together = if whole { cells.len() / 4 * 4 } else { 0 };
        let (fours, rest) = cells.split_at(together);
        let (of_fours, of_rest) = to.split_at_mut(together);
        for (products, cells) in of_fours.chunks_exact_mut(4).zip(fours.chunks_exact(4)) {
            if let Some(ahead) = ahead {
                for &cell in cells {
                    ahead.prefetch(keys, head, cell as usize);
                }
            }
            let sums = [
                sum_of_vectors(simd, head.of(keys, cells[0] as usize), query),
                sum_of_vectors(simd, head.of(keys, cells[1] as usize), query),
                sum_of_vectors(simd, head.of(keys, cells[2] as usize), query),
                sum_of_vectors(simd, head.of(keys, cells[3] as usize), query),
            ];
            products.copy_from_slice(&simd.reduce_add_4(sums));
        }
        for (product, &cell) in of_rest.iter_mut().zip(rest) {
            if let Some(ahead) = ahead {
                ahead.prefetch(keys, head, cell as usize);
            }
            *product = T::dot(simd, head.of(keys, cell as usize), query);
        }
    }
}

impl Ahead<'_> {
    #[inline(always)]
    fn prefetch<T>(self, keys: &[T], head: Head, cell: usize) {
        let place = cell * head.row + head.first;
        if cell < self.until {
            simd::prefetch(keys, place + KEYS * head.row, head.width);
        }
        if self.next_head {
            simd::prefetch(keys, place + head.width, head.width);
        }
        match self.values {
            Some(Table::F32(data)) => simd::prefetch(data, place, head.width),
            Some(Table::F16(data)) => simd::prefetch(data, place, head.width),
            Some(Table::Q8_0(_) | Table::Q4_0(_)) | None => {}
        }
    }
}

/// Numbers whose rows are multiplied.
pub(super) trait Dot: Number {
    /// x · y.
    fn dot<S: Simd>(simd: S, x: &[Self], y: &[f32]) -> f32;
}

/// The products of whole groups of vectors, added to one vector.
#[inline(always)]
fn sum_of_vectors<S: Simd, T: Number>(simd: S, x: &[T], y: &[f32]) -> S::F32 {
    let group = CHAINS * S::LANES;
    let mut sums = [simd.splat(0.0); CHAINS];
    for (x, y) in x.chunks_exact(group).zip(y.chunks_exact(group)) {
        for (chain, sum) in sums.iter_mut().enumerate() {
            let start = chain * S::LANES;
            *sum = simd.fma(T::load(simd, &x[start..]), simd.load(&y[start..]), *sum);
        }
    }
    let [a, b, c, d] = sums;
    simd.add(simd.add(a, c), simd.add(b, d))
}

/// The sum of products of whole groups of vectors, and how many elements these are.
#[inline(always)]
fn dot_vectors<S: Simd, T: Number>(simd: S, x: &[T], y: &[f32]) -> (f32, usize) {
    let group = CHAINS * S::LANES;
    let sum = sum_of_vectors(simd, x, y);
    (simd.reduce_add(sum), x.len() / group * group)
}

impl Dot for f16 {
    /// What remains behind whole groups of vectors is added in double precision.
    #[inline(always)]
    fn dot<S: Simd>(simd: S, x: &[f16], y: &[f32]) -> f32 {
        let (sum, done) = dot_vectors(simd, x, y);
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
        let (mut sum, done) = dot_vectors(simd, x, y);
        for (&x, &y) in x[done..].iter().zip(&y[done..]) {
            sum += x * y;
        }
        sum
    }
}
