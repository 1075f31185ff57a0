//! Builds with ggml's cmake files what `plan.rs` says.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::environment::Environment;
use crate::plan::Plan;

/// Builds the libraries of `plan` from the ggml at `root`. Returns the folder they are in.
///
/// # Errors
/// When cmake is missing or the build fails, saying what it needs.
#[cfg(any(
    feature = "cuda",
    feature = "metal",
    feature = "vulkan",
    feature = "blas"
))]
pub(crate) fn build(environment: &Environment, root: &Path, plan: &Plan) -> Result<PathBuf> {
    if let Some(missing) = plan
        .files
        .iter()
        .map(|file| root.join("src").join(file))
        .find(|path| !path.exists())
    {
        return Err(format!(
            "{} is missing; is this tree of ggml complete, and of the pinned version?",
            missing.display()
        ));
    }
    let folder = environment.out.join("backends");
    // cmake reads a backslash as an escape, wherever the path comes from.
    let ggml = root.display().to_string().replace('\\', "/");
    crate::fetch::write(
        &folder.join("CMakeLists.txt"),
        &crate::plan::wrapper(&ggml, &plan.targets),
    )?;
    let mut configuration = cmake::Config::new(&folder);
    configuration
        .out_dir(&folder)
        .profile("Release") // in a debug build too, as all of ggml
        .build_target("backends");
    for (name, value) in &plan.options {
        configuration.define(name, value);
    }
    // The crate's way to say that cmake failed is a panic, below what cmake itself wrote.
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| configuration.build()));
    match built {
        Ok(folder) => Ok(folder.join("build").join("archives")),
        Err(_) => Err(format!(
            "building ggml's backends with cmake failed; what it wrote is above\n\
             It needs cmake 3.19 or later (Debian: \
             apt-get install cmake).\n{}",
            plan.needs.join("\n")
        )),
    }
}

/// Without the features that need cmake there is nothing to build.
#[cfg(not(any(
    feature = "cuda",
    feature = "metal",
    feature = "vulkan",
    feature = "blas"
)))]
pub(crate) fn build(_: &Environment, _: &Path, plan: &Plan) -> Result<PathBuf> {
    Err(format!("no feature asks for {}", plan.targets.join(", ")))
}
