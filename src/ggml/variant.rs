//! The CPU backend: compiled for one instruction set or for several, of which the best one that
//! this processor runs is registered with ggml at start.
//!
//! Everything of ggml that is compiled for an instruction set is reached through here, so that a
//! program built for another processor says so instead of ending with an illegal instruction.

use std::sync::OnceLock;

use super::sys;
use crate::error::{Error, Result};
use gpt2_kernels::cpu_features;

/// The environment variable that chooses a variant.
const CHOICE: &str = "GPT2_CPU";

/// The CPU backend as it was compiled for one instruction set.
#[derive(Clone, Copy)]
struct Variant {
    /// As [`CHOICE`] spells it.
    name: &'static str,
    /// What the compiler was allowed to use, in the names of Rust's feature detection.
    needs: &'static [&'static str],
    /// Gives the backend's entry for ggml's registry.
    registration: unsafe extern "C" fn() -> sys::ggml_backend_reg_t,
    /// Gives what the backend computes with a type of tensor.
    type_traits: unsafe extern "C" fn(sys::ggml_type) -> *const sys::ggml_type_traits_cpu,
}

include!(concat!(env!("OUT_DIR"), "/cpu_variants.rs"));

/// Which variant of the CPU backend runs, and what else there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuVariant {
    /// Its name: `native`, or an instruction set such as `x86-64-v3`.
    pub name: &'static str,
    /// All that this build has, the least demanding first.
    pub available: Vec<&'static str>,
}

/// The variant that runs: the one that the environment variable `GPT2_CPU` names, otherwise the
/// most demanding that this processor runs. It is chosen once in a process. Our own kernels keep to
/// a named one's instructions.
///
/// # Errors
/// [`Error::Argument`] when `GPT2_CPU` names a variant that this build does not have,
/// [`Error::Unsupported`] when the processor does not run it, or none of this build.
pub fn cpu_variant() -> Result<CpuVariant> {
    Ok(CpuVariant {
        name: chosen()?.name,
        available: VARIANTS.iter().map(|variant| variant.name).collect(),
    })
}

/// Makes ggml's registry know the CPU.
///
/// # Errors
/// As [`cpu_variant`].
pub(super) fn register() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    let variant = chosen()?;
    DONE.get_or_init(|| {
        // SAFETY: the processor has what the variant was compiled for; its entry is a constant.
        unsafe { sys::ggml_backend_register((variant.registration)()) };
    });
    Ok(())
}

/// Whether the CPU multiplies matrices of type `raw`.
///
/// # Errors
/// As [`cpu_variant`].
pub(super) fn multiplies(raw: sys::ggml_type) -> Result<bool> {
    let variant = chosen()?;
    // SAFETY: the caller's number is one of ggml's types; returns a pointer into a constant table.
    let traits = unsafe { &*(variant.type_traits)(raw) };
    Ok(traits.vec_dot.is_some())
}

fn chosen() -> Result<&'static Variant> {
    static CHOSEN: OnceLock<&Variant> = OnceLock::new();
    if let Some(variant) = CHOSEN.get() {
        return Ok(variant);
    }
    let wanted = std::env::var_os(CHOICE).filter(|name| !name.is_empty());
    let wanted = wanted.as_deref().map(std::ffi::OsStr::to_string_lossy);
    let variant = choose(VARIANTS, wanted.as_deref(), cpu_features::is_detected)?;
    Ok(CHOSEN.get_or_init(|| {
        if wanted.is_some() {
            cpu_features::restrict_to(variant.needs);
        }
        variant
    }))
}

/// The variant called `wanted`, or the last that the processor runs; `has` says what it can do.
fn choose<'a>(
    variants: &'a [Variant],
    wanted: Option<&str>,
    has: impl Fn(&str) -> bool,
) -> Result<&'a Variant> {
    let missing = |variant: &Variant| -> Vec<&str> {
        let needs = variant.needs.iter().copied();
        needs.filter(|feature| !has(feature)).collect()
    };
    let refuse = |variant: &Variant, advice: &str| {
        Error::Unsupported(format!(
            "code for {} on this processor, which lacks {}; {advice}",
            variant.name,
            missing(variant).join(", ")
        ))
    };
    if let Some(wanted) = wanted {
        let variant = variants.iter().find(|variant| is_called(variant, wanted));
        let variant = variant.ok_or_else(|| {
            let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
            Error::Argument(format!(
                "{CHOICE}={wanted}: expected what this build has: {}",
                names.join(", ")
            ))
        })?;
        return if missing(variant).is_empty() {
            Ok(variant)
        } else {
            Err(refuse(
                variant,
                &format!("choose another or unset {CHOICE}"),
            ))
        };
    }
    let mut fitting = variants
        .iter()
        .filter(|variant| missing(variant).is_empty());
    match (fitting.next_back(), variants.first()) {
        (Some(variant), _) => Ok(variant),
        (None, Some(least)) if variants.len() > 1 => Err(refuse(least, "there is no lesser")),
        (None, Some(only)) => Err(refuse(
            only,
            "build with the feature dispatch, or on this machine",
        )),
        (None, None) => Err(Error::Unsupported("a build without CPU code".to_owned())),
    }
}

/// Whether `name` means `variant`: its name, with or without the family before and the extension
/// behind: `v3` is `x86-64-v3`, `v8.2` is `armv8.2-dotprod`.
fn is_called(variant: &Variant, name: &str) -> bool {
    let (own, name) = (variant.name, name.to_ascii_lowercase());
    let short = own.trim_start_matches("x86-64-").trim_start_matches("arm");
    let shortest = short.split('-').next().unwrap_or(short);
    [own, short, shortest].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(wanted: Option<&str>, has: &[&str]) -> String {
        let variant = |name, needs| Variant {
            name,
            needs,
            ..VARIANTS[0]
        };
        let several = [
            variant("x86-64-v2", &["sse4.2"]),
            variant("x86-64-v3", &["sse4.2", "avx2"]),
            variant("x86-64-v4-vnni", &["sse4.2", "avx2", "avx512f"]),
        ];
        match choose(&several, wanted, |feature| has.contains(&feature)) {
            Ok(variant) => variant.name.to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        assert_eq!(name(None, &["sse4.2"]), "x86-64-v2");
        assert_eq!(name(None, &["sse4.2", "avx2"]), "x86-64-v3");
        assert_eq!(name(None, &["sse4.2", "avx512f"]), "x86-64-v2");
        assert_eq!(name(None, &["sse4.2", "avx2", "avx512f"]), "x86-64-v4-vnni");
        assert_eq!(
            name(None, &[]),
            "unsupported: code for x86-64-v2 on this processor, which lacks sse4.2; there is no \
             lesser"
        );
    }

    #[test]
    fn a_variant_can_be_forced_where_it_runs() {
        for wanted in ["v2", "x86-64-v2", "V2"] {
            assert_eq!(name(Some(wanted), &["sse4.2", "avx2"]), "x86-64-v2");
        }
        for wanted in ["v4", "v4-vnni", "x86-64-v4-vnni"] {
            assert_eq!(
                name(Some(wanted), &["sse4.2", "avx2"]),
                "unsupported: code for x86-64-v4-vnni on this processor, which lacks avx512f; \
                 choose another or unset GPT2_CPU"
            );
        }
        assert_eq!(
            name(Some("v5"), &["sse4.2"]),
            "GPT2_CPU=v5: expected what this build has: x86-64-v2, x86-64-v3, x86-64-v4-vnni"
        );
    }

    #[test]
    fn what_this_build_needs_is_known() {
        for variant in VARIANTS.iter().filter(|variant| variant.name != "none") {
            // A name that is never detected would keep the variant from running anywhere.
            let known =
                |feature: &&str| cpu_features::is_detected(feature) || variant.name != "native";
            assert!(variant.needs.iter().all(known), "{:?}", variant.needs);
        }
        assert!(
            VARIANTS
                .iter()
                .any(|variant| variant.name == chosen().unwrap().name)
        );
    }
}
