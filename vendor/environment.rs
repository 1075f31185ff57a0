//! The only file that reads environment variables; each one read is registered for rebuilds.
//!
//! (The `cc` crate reads `CC`, `CXX`, `CFLAGS`, `CXXFLAGS`, `AR` and their per-target forms itself
//! and registers them too.)

use std::env;
use std::path::PathBuf;

use crate::Result;

/// What cmake, which is run only for backends that need it, reads of the environment by itself.
const READ_BY_CMAKE: [&str; 5] = [
    "VULKAN_SDK",
    "CUDACXX",
    "CUDAARCHS",
    "CUDAToolkit_ROOT",
    "CUDA_PATH",
];

/// What cargo and the user tell the build.
pub(crate) struct Environment {
    /// Where this package lies; the build runs there.
    pub(crate) package: PathBuf,
    /// Where the build may write.
    pub(crate) out: PathBuf,
    /// The cargo that runs this build.
    pub(crate) cargo: PathBuf,
    /// Processor the code is for, in Rust's spelling: `x86_64`, `aarch64`.
    pub(crate) architecture: String,
    /// Bits of an address there: `64` or `32`.
    pub(crate) pointer_width: String,
    /// Operating system the code is for: `linux`, `macos` …
    pub(crate) system: String,
    /// C library or toolchain family the code is for: `gnu`, `musl`, `msvc` …
    pub(crate) toolchain: String,
    /// The code will run on another kind of machine than the one that builds it.
    pub(crate) cross: bool,
    /// Docs are being built on docs.rs (or as there): nothing is fetched or compiled.
    pub(crate) documentation_only: bool,
    /// `GGML_SOURCE_DIR`: the user's own tree of ggml.
    pub(crate) source: Option<PathBuf>,
    /// `GGML_CPU_ARCH`: the compiler's `-march` instead of the default for the target.
    pub(crate) cpu: Option<String>,
    /// `OBJCOPY`: the tool that hides symbols, instead of the compiler's own.
    pub(crate) objcopy: Option<PathBuf>,
    /// `GGML_UPDATE_BINDINGS`: write regenerated bindings over the committed ones.
    #[cfg(feature = "bindgen")]
    pub(crate) update_bindings: bool,
}

impl Environment {
    /// Reads everything at once.
    ///
    /// # Errors
    /// When a variable that cargo sets is missing: the script was not started by cargo.
    pub(crate) fn read() -> Result<Self> {
        for name in READ_BY_CMAKE {
            println!("cargo::rerun-if-env-changed={name}");
        }
        Ok(Self {
            package: set_by_cargo("CARGO_MANIFEST_DIR")?.into(),
            out: set_by_cargo("OUT_DIR")?.into(),
            cargo: set_by_cargo("CARGO")?.into(),
            architecture: set_by_cargo("CARGO_CFG_TARGET_ARCH")?,
            pointer_width: set_by_cargo("CARGO_CFG_TARGET_POINTER_WIDTH")?,
            system: set_by_cargo("CARGO_CFG_TARGET_OS")?,
            toolchain: set_by_cargo("CARGO_CFG_TARGET_ENV")?,
            cross: set_by_cargo("HOST")? != set_by_cargo("TARGET")?,
            documentation_only: set_by_user("DOCS_RS").is_some(),
            source: set_by_user("GGML_SOURCE_DIR").map(PathBuf::from),
            cpu: set_by_user("GGML_CPU_ARCH"),
            objcopy: set_by_user("OBJCOPY").map(PathBuf::from),
            #[cfg(feature = "bindgen")]
            update_bindings: set_by_user("GGML_UPDATE_BINDINGS").is_some(),
        })
    }

    /// The folder that a variable names, or that is given as it is, from the root on.
    #[expect(
        clippy::unused_self,
        reason = "the environment is asked, wherever it keeps the answer"
    )]
    pub(crate) fn folder(&self, name: &str) -> Option<PathBuf> {
        if name.starts_with('/') {
            return Some(name.into());
        }
        set_by_user(name).map(PathBuf::from)
    }

    /// Whether the cargo feature `name` of this package is on.
    #[expect(
        clippy::unused_self,
        reason = "the environment is asked, wherever it keeps the answer"
    )]
    pub(crate) fn feature(&self, name: &str) -> bool {
        let variable = format!("CARGO_FEATURE_{}", name.to_uppercase().replace('-', "_"));
        env::var_os(variable).is_some()
    }
}

fn set_by_cargo(name: &str) -> Result<String> {
    env::var(name).map_err(|error| {
        format!(
            "environment variable {name}: {error}; build.rs expects to be started by cargo, in a \
             folder whose path is UTF-8"
        )
    })
}

/// A variable that is set and not empty.
fn set_by_user(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}
