//! The Rust declarations of ggml's headers: committed, and made again by the feature `bindgen`.
//!
//! With the feature, the library is compiled against fresh declarations and a test compares them
//! with the committed ones. `GGML_UPDATE_BINDINGS=1` writes them over the committed ones instead.

use crate::Result;
use crate::environment::Environment;
use crate::fetch::{self, Source};

/// The committed declarations.
pub(crate) const COMMITTED: &str = "src/ggml/bindings.rs";

/// Begins the line of [`COMMITTED`] that says which ggml it was made from.
const VERSION_LINE: &str = "// ggml ";

/// The version of ggml that the committed declarations are of.
///
/// # Errors
/// When the file or its version line is missing.
pub(crate) fn committed_version(environment: &Environment) -> Result<String> {
    let text = fetch::read(&environment.package.join(COMMITTED))?;
    text.lines()
        .find_map(|line| line.strip_prefix(VERSION_LINE))
        .map(str::to_owned)
        .ok_or_else(|| {
            format!(
                "{COMMITTED}: expected a line {VERSION_LINE:?} with a version; restore the file \
                 from git"
            )
        })
}

/// Writes the committed declarations for a 32-bit target: without the checks of sizes and offsets,
/// which are those of 64 bits. The declarations themselves are the same.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn provide_for_32_bits(environment: &Environment) -> Result<()> {
    if environment.pointer_width == "64" {
        return Ok(());
    }
    let text = fetch::read(&environment.package.join(COMMITTED))?;
    let mut kept = String::new();
    let mut in_check = false;
    for line in text.lines() {
        in_check |= line.starts_with("const _: () = {");
        if !in_check {
            kept.push_str(line);
            kept.push('\n');
        }
        in_check &= line != "};";
    }
    fetch::write(&environment.out.join("bindings.rs"), &kept)
}

/// Makes sure that the committed declarations fit the sources.
///
/// # Errors
/// When `source` is another version than `committed`.
#[cfg(not(feature = "bindgen"))]
pub(crate) fn provide(_: &Environment, source: &Source, committed: &str) -> Result<()> {
    if source.version == committed {
        return Ok(());
    }
    Err(format!(
        "{}: this is ggml {}, the declarations in {COMMITTED} are of ggml {committed}; use that \
         version, or build with --features bindgen (needs libclang)",
        source.root.display(),
        source.version
    ))
}

/// Regenerates the declarations.
///
/// # Errors
/// When bindgen fails or a file cannot be written.
#[cfg(feature = "bindgen")]
pub(crate) fn provide(environment: &Environment, source: &Source, _: &str) -> Result<()> {
    /// The headers whose functions, types and constants are wanted.
    const HEADERS: [&str; 4] = ["ggml.h", "ggml-alloc.h", "ggml-backend.h", "ggml-cpu.h"];

    let include = source.root.join("include");
    let mut builder = bindgen::Builder::default()
        .clang_arg(format!("-I{}", include.display()))
        .raw_line("// Declarations of ggml's C interface, made by bindgen; vendor/README.md says \
                   how.")
        .raw_line(format!("{VERSION_LINE}{}", source.version))
        .disable_header_comment()
        .allowlist_function("ggml_.*")
        .allowlist_type("ggml_.*")
        .allowlist_var("GGML_.*")
        .blocklist_function("ggml_fopen") // it would bring the C library's own structures
        .blocklist_type("FILE|_IO_.*|__off.*")
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease);
    for header in HEADERS {
        builder = builder.header(include.join(header).display().to_string());
    }
    let bindings = builder.generate().map_err(|error| {
        format!(
            "bindgen: {error}\n\
             It needs libclang (Debian: apt-get install libclang-dev); LIBCLANG_PATH names its \
             folder."
        )
    })?;
    let text = bindings.to_string();
    if environment.update_bindings {
        fetch::write(&environment.package.join(COMMITTED), &text)?;
    }
    fetch::write(&environment.out.join("bindings.rs"), &text)
}
