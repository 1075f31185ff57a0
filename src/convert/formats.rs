//! The formats weights come in: the names of their files, and which parser reads one.

use std::path::Path;

use super::stored_tensor::Parser;
use super::{llm_c, safetensors};
use crate::error::{Error, Result};
use crate::recognize::{FileKind, recognize};

/// A format of weights.
struct Format {
    /// What messages call it.
    name: &'static str,
    /// Endings of its files' names.
    extensions: &'static [&'static str],
    /// What its files begin with, where that tells.
    kind: Option<FileKind>,
    /// The cargo feature that reads it.
    feature: &'static str,
    /// Its parser, unless the library was built without the feature.
    parser: Option<Parser>,
}

#[cfg(feature = "pickle")]
const PICKLE: Option<Parser> = Some(super::pickle::parse);
#[cfg(not(feature = "pickle"))]
const PICKLE: Option<Parser> = None;
#[cfg(feature = "hdf5")]
const HDF5: Option<Parser> = Some(super::hdf5::parse);
#[cfg(not(feature = "hdf5"))]
const HDF5: Option<Parser> = None;
#[cfg(feature = "msgpack")]
const MSGPACK: Option<Parser> = Some(super::msgpack::parse);
#[cfg(not(feature = "msgpack"))]
const MSGPACK: Option<Parser> = None;

const FORMATS: &[Format] = &[
    Format {
        name: "safetensors",
        extensions: &["safetensors"],
        kind: Some(FileKind::Safetensors),
        feature: "",
        parser: Some(safetensors::parse),
    },
    Format {
        name: "PyTorch's pickle",
        extensions: &["bin", "pt", "pth", "ckpt", "pkl"],
        kind: Some(FileKind::Zip),
        feature: "pickle",
        parser: PICKLE,
    },
    Format {
        name: "TensorFlow's HDF5",
        extensions: &["h5", "hdf5"],
        kind: Some(FileKind::Hdf5),
        feature: "hdf5",
        parser: HDF5,
    },
    Format {
        name: "Flax's msgpack",
        extensions: &["msgpack"],
        kind: None,
        feature: "msgpack",
        parser: MSGPACK,
    },
    // Its files end in .bin, as PyTorch's.
    Format {
        name: "llm.c's checkpoint",
        extensions: &[],
        kind: Some(FileKind::LlmC),
        feature: "",
        parser: Some(llm_c::parse),
    },
];

/// Files that hold a folder's weights, or the index of their shards. The first four are in
/// transformers' order; the last two, which it reads on request, come when nothing else is there,
/// and after them a TensorFlow checkpoint, whose name varies.
pub(super) const WEIGHTS: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
];

/// Whether a folder has weights under a name that is looked for.
pub(super) fn has_weights(folder: &Path) -> bool {
    WEIGHTS.iter().any(|name| folder.join(name).is_file())
}

/// Whether a file of this name is one that could be named as the source.
pub(super) fn can_be_named(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending == "gguf"
        || FORMATS
            .iter()
            .any(|format| format.extensions.contains(&ending))
}

/// The parser for a file: by its first bytes where they tell, else by its name.
///
/// # Errors
/// [`Error::Format`] for a file that is something else; [`Error::Unsupported`] for a name of no
/// format, and for one this build does not read.
pub(super) fn parser_for(path: &Path, bytes: &[u8]) -> Result<Parser> {
    let kind = recognize(bytes);
    if let Some(kind) = kind.filter(|kind| is_no_checkpoint(*kind)) {
        return Err(Error::format(
            path.display().to_string(),
            format!("expected weights, found {}", kind.what()),
        ));
    }
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let by_kind = FORMATS
        .iter()
        .find(|format| format.kind.is_some() && format.kind == kind);
    let by_name = || {
        FORMATS
            .iter()
            .find(|format| format.extensions.contains(&extension))
    };
    let Some(format) = by_kind.or_else(by_name) else {
        let known: Vec<String> = FORMATS
            .iter()
            .flat_map(|format| format.extensions)
            .map(|extension| format!(".{extension}"))
            .collect();
        return Err(Error::Unsupported(format!(
            "{}: the name ends in none of {}, .index.json, .gguf",
            path.display(),
            known.join(", ")
        )));
    };
    format.parser.ok_or_else(|| {
        Error::Unsupported(format!(
            "{}: {} is read by the cargo feature '{}', which this build is without",
            path.display(),
            format.name,
            format.feature
        ))
    })
}

/// Whether a file of this kind has no weights that a parser here could read.
fn is_no_checkpoint(kind: FileKind) -> bool {
    kind.is_stand_in()
        || matches!(
            kind,
            FileKind::OldGgml
                | FileKind::OldGgmlAdapter
                | FileKind::OldGgmlSession
                | FileKind::LlmCOther(_)
                | FileKind::Json
                | FileKind::Gguf
        )
        || matches!(kind, FileKind::Packed(command) if !command.starts_with("tar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_no_format_lists_those_there_are() {
        let message = parser_for(Path::new("model.onnx"), b"")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(".safetensors, .bin, .pt") && message.contains(".msgpack"),
            "{message}"
        );
    }

    #[test]
    fn a_format_left_out_is_named_with_its_feature() {
        for format in FORMATS.iter().filter(|format| format.parser.is_none()) {
            let name = format!("weights.{}", format.extensions[0]);
            let message = parser_for(Path::new(&name), b"").unwrap_err().to_string();
            assert!(message.contains(format.feature), "{message}");
        }
    }
}
