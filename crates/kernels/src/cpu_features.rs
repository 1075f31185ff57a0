//! What the processor can do, and what of it may be used: the one place that our own code asks.
//!
//! `GPT2_CPU` forces one of the CPU codes of a `dispatch` build, to compare or to find a fault; our kernels then keep
//! to the instructions that it was compiled for. Knows no kernel and nothing of ggml.

use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of the features, in the order of [`FEATURES`], that must not be used.
static FORBIDDEN: AtomicU32 = AtomicU32::new(0);

/// Defines the list of features that are known and how they are asked for.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! features {
    ($detected:ident: $($feature:tt)*) => {
        /// The features that can be asked for, in the names of Rust's feature detection.
        const FEATURES: &[&str] = &[$($feature),*];

        /// Whether this processor, and the system on it, has `feature`.
        #[inline]
        pub fn is_detected(feature: &str) -> bool {
            match feature {
                $($feature => std::arch::$detected!($feature),)*
                _ => false,
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
features! { is_x86_feature_detected:
    "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt" "movbe"
    "avx512f" "avx512cd" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512vbmi" "avx512bf16"
}

#[cfg(target_arch = "aarch64")]
features! { is_aarch64_feature_detected: "crc" "lse" "rdm" "dotprod" "fp16" "i8mm" "bf16" "sve" }

/// Nothing is detected on other processors, and nothing is asked for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FEATURES: &[&str] = &[];

/// Nothing is detected on other processors, and nothing is asked for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn is_detected(_: &str) -> bool {
    false
}

/// Whether our own code may use `feature`: the processor has it, and no choice of the user's rules it out.
#[inline]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "there are no kernels to choose from")
)]
pub fn is_allowed(feature: &str) -> bool {
    let forbidden = FORBIDDEN.load(Ordering::Relaxed);
    is_detected(feature) && (forbidden == 0 || forbidden & bit(feature) == 0)
}

/// From now on [`is_allowed`] allows nothing but `features`, and what every processor of this kind has.
pub fn restrict_to(features: &[&str]) {
    let others = FEATURES.iter().filter(|name| !features.contains(name));
    let forbidden = others.fold(0, |bits, name| bits | bit(name));
    FORBIDDEN.store(forbidden, Ordering::Relaxed);
}

/// The bit of `feature` in [`FORBIDDEN`]; none for what is not known.
fn bit(feature: &str) -> u32 {
    let position = FEATURES.iter().position(|known| *known == feature);
    position.map_or(0, |position| 1 << position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_bit_of_its_own() {
        let mut seen = 0;
        for bit in FEATURES.iter().map(|name| bit(name)) {
            assert!(bit != 0 && seen & bit == 0);
            seen |= bit;
        }
        assert_eq!(bit("an unknown one"), 0);
    }
}
