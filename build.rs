//! Builds ggml, the tensor library underneath, and links it into the library.
//!
//! `vendor/` holds one file per concern; `vendor/README.md` says how to move to another ggml.

#[path = "vendor/backends.rs"]
mod backends;
#[path = "vendor/bind.rs"]
mod bind;
#[path = "vendor/cmake.rs"]
mod cmake_build;
#[path = "vendor/compile.rs"]
mod compile;
#[path = "vendor/environment.rs"]
mod environment;
#[path = "vendor/fetch.rs"]
mod fetch;
#[path = "vendor/link.rs"]
mod link;
#[cfg_attr(
    not(any(
        feature = "cuda",
        feature = "metal",
        feature = "vulkan",
        feature = "blas"
    )),
    allow(
        dead_code,
        reason = "planned in every build, carried out by these features"
    )
)]
#[path = "vendor/plan.rs"]
mod plan;
#[path = "vendor/sha256.rs"]
mod sha256;
#[path = "vendor/symbols.rs"]
mod symbols;
#[path = "vendor/variants.rs"]
mod variants;

use environment::Environment;

/// What every step of the build returns; the message says what to do.
type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(message) = build() {
        for line in message.lines().filter(|line| !line.is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<()> {
    let environment = Environment::read()?;
    for path in ["build.rs", "vendor", bind::COMMITTED] {
        println!("cargo::rerun-if-changed={path}");
    }
    let version = bind::committed_version(&environment)?;
    link::describe(&environment, &version);
    bind::provide_for_32_bits(&environment)?;
    if environment.documentation_only {
        return variants::write_stand_in(&environment);
    }
    let enabled = backends::enabled(|feature| environment.feature(feature));
    let plan = plan::plan(enabled, &environment.system)?;
    let source = fetch::locate(&environment)?;
    bind::provide(&environment, &source, &version)?;
    let objects = compile::objects(&environment, &source)?;
    link::archive(&environment, &objects)?;
    if let Some(plan) = &plan {
        let folder = cmake_build::build(&environment, &source.root, plan)?;
        link::backends(&environment, plan, &folder);
    }
    link::system(&environment);
    Ok(())
}
