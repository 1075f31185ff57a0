//! Packs ggml into one static archive and tells cargo, and the Rust code, what is in it.

use std::path::PathBuf;

use crate::Result;
use crate::backends;
use crate::environment::Environment;

/// The C++ library of each system; others have `stdc++`.
const CPP_LIBRARIES: [(&str, &str); 5] = [
    ("macos", "c++"),
    ("ios", "c++"),
    ("freebsd", "c++"),
    ("openbsd", "c++"),
    ("android", "c++_shared"),
];

/// Tells the Rust code what it is linked with: `GPT2_EDGE_GGML_VERSION`, `GPT2_EDGE_BACKENDS` (commas between).
pub(crate) fn describe(environment: &Environment, version: &str) {
    let backends: Vec<&str> = backends::enabled(environment)
        .map(|backend| backend.name)
        .collect();
    println!("cargo::rustc-env=GPT2_EDGE_GGML_VERSION={version}");
    println!("cargo::rustc-env=GPT2_EDGE_BACKENDS={}", backends.join(","));
}

/// Packs the objects and links the archive.
///
/// # Errors
/// When the archiver is missing or fails.
pub(crate) fn archive(environment: &Environment, objects: &[PathBuf]) -> Result<()> {
    cc::Build::new()
        .cargo_metadata(false)
        .objects(objects)
        .try_compile("ggml")
        .map_err(|error| {
            format!("packing ggml into an archive failed: {error}\nIt needs `ar` (Debian: apt-get install binutils); AR names another one.")
        })?;
    println!(
        "cargo::rustc-link-search=native={}",
        environment.out.display()
    );
    println!("cargo::rustc-link-lib=static=ggml");
    let cpp = CPP_LIBRARIES
        .iter()
        .find(|(system, _)| *system == environment.system)
        .map_or("stdc++", |(_, library)| library);
    println!("cargo::rustc-link-lib={cpp}");
    if environment.feature("openmp") {
        println!("cargo::rustc-link-lib=gomp");
    }
    Ok(())
}
