//! What `--version` says.

use std::fmt::Write;

use gpt2::ggml::system;

/// The program's version, ggml's, the compiled backends and the features of the CPU in use.
pub(crate) fn text(program: &str) -> String {
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
    text
}
