//! Both ways to compute e^x.

#[cfg(target_arch = "aarch64")]
use super::Neon;
#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{Baseline, Portable, Simd, Task, Token};

/// Arguments in [−105, 0], near 0 and far from it.
fn arguments() -> Vec<f32> {
    let steps = (0..400_000).map(|step| -105.0 * step as f32 / 400_000.0);
    let small = (0..2_000).map(|step| -f32::from_bits(step * 500_000));
    steps
        .chain(small.filter(|x| x.is_finite()))
        .chain([f32::NEG_INFINITY, -0.0, 0.0, -1e30])
        .collect()
}

/// e^x in vectors, as the C library's, and by the polynomial.
struct Exponentials<'a> {
    exact: &'a mut [f32],
    close: &'a mut [f32],
}

impl<S: Simd> Task<S> for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        simd.exp_libm(self.exact);
        for vector in self.close.chunks_exact_mut(S::LANES) {
            simd.store(simd.exp(simd.load(vector)), vector);
        }
    }
}

fn check<S: Simd>(name: &str, simd: S) {
    let mut x = arguments();
    x.truncate(x.len() / 16 * 16);
    x.extend([f32::NEG_INFINITY; 16]);
    let (mut exact, mut close) = (x.clone(), x.clone());
    simd.vectorize(Exponentials {
        exact: &mut exact,
        close: &mut close,
    });
    let mut unlike = 0;
    let mut worst = 0.0f64;
    for ((&x, exact), close) in x.iter().zip(exact).zip(close) {
        unlike += usize::from(x.exp().to_bits() != exact.to_bits());
        let expected = f64::from(x).exp();
        let unit = (expected * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
        worst = worst.max((f64::from(close) - expected).abs() / unit);
    }
    println!(
        "{name}: {unlike} of {} unlike f32::exp; polynomial within {worst:.2} units",
        x.len()
    );
    assert_eq!(unlike, 0, "{name}");
    assert!(worst < 2.0, "{name}: {worst}");
    let mut values = [f32::NAN; 16];
    let mut also_close = values;
    simd.vectorize(Exponentials {
        exact: &mut values,
        close: &mut also_close,
    });
    assert!(
        values.iter().chain(&also_close).all(|value| value.is_nan()),
        "{name}"
    );
}

#[test]
fn exponentials_are_the_librarys_and_within_two_units() {
    check("baseline", Baseline::default());
    check("portable, 16", Portable::<16, true>);
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = Avx2::detect() {
            check("AVX2", simd);
        }
        if let Some(simd) = Avx512::detect() {
            check("AVX-512", simd);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = Neon::detect() {
        check("NEON", simd);
    }
}
