//! Packs ggml into one static archive and tells cargo, and the Rust code, what is in it.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::backends;
use crate::environment::Environment;
use crate::plan::{Library, Plan};

/// The C++ library of each system; others have `stdc++`.
const CPP_LIBRARIES: [(&str, &str); 5] = [
    ("macos", "c++"),
    ("ios", "c++"),
    ("freebsd", "c++"),
    ("openbsd", "c++"),
    ("android", "c++_shared"),
];

/// Tells the Rust code what it is linked with: `GPT2_EDGE_GGML_VERSION`, `GPT2_EDGE_BACKENDS`
/// (commas between).
pub(crate) fn describe(environment: &Environment, version: &str) {
    let backends: Vec<&str> = backends::enabled(|feature| environment.feature(feature))
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
            format!(
                "packing ggml into an archive failed: {error}\n\
                 It needs `ar` (Debian: apt-get install binutils); AR names another one."
            )
        })?;
    println!(
        "cargo::rustc-link-search=native={}",
        environment.out.display()
    );
    println!("cargo::rustc-link-lib=static=ggml");
    Ok(())
}

/// Links the libraries that cmake built into `folder`, and what they stand on. Behind ggml's own
/// archive: its registry is what calls them.
pub(crate) fn backends(environment: &Environment, plan: &Plan, folder: &Path) {
    println!("cargo::rustc-link-search=native={}", folder.display());
    for target in &plan.targets {
        println!("cargo::rustc-link-lib=static={target}");
    }
    // They call ggml's base in turn.
    println!("cargo::rustc-link-lib=static=ggml");
    for (root, folders) in &plan.search {
        let Some(root) = environment.folder(root) else {
            continue;
        };
        let folders = folders.iter().map(|folder| root.join(folder));
        for folder in folders.filter(|folder| folder.is_dir()) {
            println!("cargo::rustc-link-search=native={}", folder.display());
        }
    }
    for library in &plan.libraries {
        match library {
            Library::System(name) => println!("cargo::rustc-link-lib={name}"),
            Library::Framework(name) => println!("cargo::rustc-link-lib=framework={name}"),
        }
    }
}

/// Links what the compilers' code needs of the system.
pub(crate) fn system(environment: &Environment) {
    let cpp = CPP_LIBRARIES
        .iter()
        .find(|(system, _)| *system == environment.system)
        .map_or("stdc++", |(_, library)| library);
    println!("cargo::rustc-link-lib={cpp}");
    if environment.feature("openmp") {
        println!("cargo::rustc-link-lib=gomp");
    }
}
