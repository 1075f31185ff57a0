//! Products of a query with keys that are numbers. Knows no mask and no softmax.

use half::f16;

use super::lanes::Lanes;
use super::table::Number;

/// Vectors of products that are summed side by side.
pub(super) const CHAINS: usize = 4;

/// Numbers whose rows are multiplied.
pub(super) trait Dot: Number {
    /// x · y.
    fn dot<L: Lanes>(lanes: L, x: &[Self], y: &[f32]) -> f32;
}

/// The products of whole groups of vectors, added to one vector.
#[inline(always)]
pub(super) fn sum_of_vectors<L: Lanes, T: Number>(lanes: L, x: &[T], y: &[f32]) -> L::F32 {
    let group = CHAINS * L::WIDTH;
    let mut sums = [lanes.splat(0.0); CHAINS];
    for (x, y) in x.chunks_exact(group).zip(y.chunks_exact(group)) {
        for (chain, sum) in sums.iter_mut().enumerate() {
            let start = chain * L::WIDTH;
            *sum = lanes.fma(T::load(lanes, &x[start..]), lanes.load(&y[start..]), *sum);
        }
    }
    let [a, b, c, d] = sums;
    lanes.add(lanes.add(a, c), lanes.add(b, d))
}

/// The sum of products of whole groups of vectors, and how many elements these are.
#[inline(always)]
fn dot_vectors<L: Lanes, T: Number>(lanes: L, x: &[T], y: &[f32]) -> (f32, usize) {
    let group = CHAINS * L::WIDTH;
    let sum = sum_of_vectors(lanes, x, y);
    (lanes.sum(sum), x.len() / group * group)
}

impl Dot for f16 {
    /// What remains behind whole groups of vectors is added in double precision.
    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, x: &[f16], y: &[f32]) -> f32 {
        let (sum, done) = dot_vectors(lanes, x, y);
        if done == x.len() {
            return sum;
        }
        let mut sum = f64::from(sum);
        for (&x, &y) in x[done..].iter().zip(&y[done..]) {
            sum += f64::from(lanes.half(x) * y);
        }
        sum as f32
    }
}

impl Dot for f32 {
    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, x: &[f32], y: &[f32]) -> f32 {
        let (mut sum, done) = dot_vectors(lanes, x, y);
        for (&x, &y) in x[done..].iter().zip(&y[done..]) {
            sum += x * y;
        }
        sum
    }
}
