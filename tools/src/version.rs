//! What `--version` says.

use std::fmt::Write;

use gpt2::system;

use crate::failure::Failure;

/// The program's version, ggml's, the compiled backends and the features of the CPU in use.
///
/// # Errors
/// When the CPU code of this build does not run here, or not as asked.
pub(crate) fn text(program: &str) -> Result<String, Failure> {
    let variant = system::cpu_variant()?;
    let mut text = format!(
        "{program} {}\nggml {}\n",
        env!("CARGO_PKG_VERSION"),
        system::ggml_version()
    );
    for device in system::devices() {
        let _ = writeln!(text, "backend {}: {}", device.name, device.description);
        if !device.features.is_empty() {
            let _ = writeln!(
                text,
                "{} features: {}",
                device.name,
                device.features.join(" ")
            );
        }
    }
    let _ = writeln!(
        text,
        "CPU code: {} (of {})",
        variant.name,
        variant.available.join(", ")
    );
    Ok(text)
}
