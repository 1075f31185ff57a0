//! What the processor can do, and what of it this project's own code may use: the one place that
//! detects features.
//!
//! `GPT2_CPU` forces one of the CPU codes of a `dispatch` build, to compare or to find a fault; the
//! kernels then keep to the instructions that it was compiled for ([`restrict_to`]).

use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of the features that may be used, in the order of [`FEATURES`], and [`KNOWN`]; 0 before the
/// first look.
static ALLOWED: AtomicU32 = AtomicU32::new(0);

/// Set in [`ALLOWED`] when it is filled in.
const KNOWN: u32 = 1 << 31;

/// Defines the list of known features and how they are detected.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! features {
    ($detected:ident: $($feature:tt)*) => {
        /// The known features, in the names of Rust's feature detection.
        const FEATURES: &[&str] = &[$($feature),*];

        /// Whether this processor, and the system on it, has `feature`.
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
    "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt"
    "movbe" "avx512f" "avx512cd" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512vbmi"
    "avx512bf16"
}

#[cfg(target_arch = "aarch64")]
features! { is_aarch64_feature_detected: "crc" "lse" "rdm" "dotprod" "fp16" "i8mm" "bf16" "sve" }

/// Nothing is detected on other processors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FEATURES: &[&str] = &[];

/// Nothing is detected on other processors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn is_detected(_: &str) -> bool {
    false
}

const _: () = assert!(FEATURES.len() < 31);

/// From now on the kernels use none but `features`, and what every processor of the target has.
pub fn restrict_to(features: &[&str]) {
    let allowed = |feature: &str| features.contains(&feature) && is_detected(feature);
    ALLOWED.store(KNOWN | bits(allowed), Ordering::Relaxed);
}

/// Features that are needed together, by name: an unknown one does not compile.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "there are no kernels to choose from")
)]
pub(crate) struct Features(u32);

#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "there are no kernels to choose from")
)]
impl Features {
    /// Those of these names. For constants.
    pub(crate) const fn new(names: &[&str]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < names.len() {
            bits |= 1 << position(names[index]);
            index += 1;
        }
        Self(bits)
    }

    /// Whether all may be used: the processor has them, and [`restrict_to`] does not rule them out.
    #[inline]
    pub(crate) fn are_allowed(&self) -> bool {
        let mut allowed = ALLOWED.load(Ordering::Relaxed);
        if allowed == 0 {
            allowed = detect_all();
        }
        allowed & self.0 == self.0
    }
}

/// Fills in [`ALLOWED`] with everything that is detected, unless it is filled in by now.
#[cold]
fn detect_all() -> u32 {
    let all = KNOWN | bits(is_detected);
    match ALLOWED.compare_exchange(0, all, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => all,
        Err(current) => current,
    }
}

/// A bit for each feature that is `included`.
fn bits(included: impl Fn(&str) -> bool) -> u32 {
    let names = FEATURES.iter().enumerate();
    names.fold(0, |bits, (index, name)| {
        bits | u32::from(included(name)) << index
    })
}

/// The place of a feature in [`FEATURES`].
const fn position(name: &str) -> usize {
    let mut index = 0;
    while index < FEATURES.len() {
        if equal(name.as_bytes(), FEATURES[index].as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("an unknown feature");
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_bit_of_its_own() {
        let mut seen = 0;
        for name in FEATURES {
            let Features(bit) = Features::new(&[name]);
            assert!(bit.is_power_of_two() && seen & bit == 0, "{name}");
            seen |= bit;
            assert_eq!(bits(|other| other == *name), bit, "{name}");
        }
        assert_eq!(Features::new(FEATURES).0, seen);
    }

    #[test]
    #[should_panic(expected = "an unknown feature")]
    fn unknown_features_have_none() {
        Features::new(&["avx3"]);
    }

    #[test]
    fn what_is_detected_is_allowed() {
        for name in FEATURES {
            let allowed = Features::new(&[name]).are_allowed();
            assert_eq!(allowed, is_detected(name), "{name}");
        }
    }
}
