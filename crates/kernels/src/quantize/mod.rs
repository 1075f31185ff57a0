//! Quantizing weights to K-quants faster than ggml does, to the same bytes.
//!
//! A super-block of 256 values is cut into groups that each search for their own scale. ggml
//! searches group after group, one value at a time, and its sums cannot be reordered without
//! changing bytes. Here all groups of a super-block search in step, one in each lane of a vector:
//! every lane does ggml's operations in ggml's order, so the bytes are the same and the time is a
//! fraction.

mod lanes;
mod minimum;
mod symmetric;

use crate::simd::{Task, autovectorize};

/// Quantizes whole super-blocks: values in, bytes out.
pub type Quantizer = fn(&[f32], &mut [u8]);

/// Declares a quantizer from the function that holds its loops.
macro_rules! quantizer {
    ($(#[$attribute:meta])* $name:ident = $body:path) => {
        $(#[$attribute])*
        pub fn $name(source: &[f32], target: &mut [u8]) {
            struct Quantize<'a>(&'a [f32], &'a mut [u8]);

            impl<S> Task<S> for Quantize<'_> {
                type Output = ();

                #[inline(always)]
                fn run(self, _: S) {
                    $body(self.0, self.1);
                }
            }

            autovectorize(Quantize(source, target));
        }
    };
}

quantizer! {
    /// `q4_k`: groups of 32 values with a scale and a minimum, 4 bits a value.
    q4_k = minimum::q4_k
}

quantizer! {
    /// `q5_k`: groups of 32 values with a scale and a minimum, 5 bits a value.
    q5_k = minimum::q5_k
}

quantizer! {
    /// `q6_k`: groups of 16 values with a scale, 6 bits a value.
    q6_k = symmetric::q6_k
}
