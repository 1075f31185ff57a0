//! Files that are parts of a model: llama.cpp splits large ones.

use std::path::Path;

use super::Gguf;
use crate::error::{Error, Result};

/// How many files the model is split into, and which of them this is, from 0.
const COUNT_KEY: &str = "split.count";
const NUMBER_KEY: &str = "split.no";

/// Refuses a part of a split model; `path` is where it is, for the names of the other parts.
///
/// # Errors
/// [`Error::Unsupported`] for a part; [`Error::Format`] for keys of the wrong type.
pub(crate) fn refuse_part(gguf: &Gguf, path: Option<&Path>) -> Result<()> {
    let metadata = gguf.metadata();
    let count = metadata.u64(COUNT_KEY)?.unwrap_or(1);
    if count <= 1 {
        return Ok(());
    }
    let number = metadata.u64(NUMBER_KEY)?.unwrap_or(0).saturating_add(1);
    let (parts, first, whole) = path
        .and_then(|path| names(path, count))
        .unwrap_or_else(|| (String::new(), "FIRST-PART".to_owned(), "OUT".to_owned()));
    Err(Error::Unsupported(format!(
        "part {number} of {count} of a split model{parts}; put the parts together with \
         `llama-gguf-split --merge {first} {whole}`"
    )))
}

/// The parts in words, the first, and the whole, from `PREFIX-00002-of-00003.gguf`.
fn names(path: &Path, count: u64) -> Option<(String, String, String)> {
    let name = path.file_stem()?.to_str()?;
    let prefix = name.strip_suffix(&format!("-of-{count:05}"))?;
    let (prefix, _) = prefix.rsplit_once('-')?;
    let part = |number: u64| {
        let name = format!("{prefix}-{number:05}-of-{count:05}.gguf");
        path.with_file_name(name).display().to_string()
    };
    let whole = path.with_file_name(format!("{prefix}.gguf"));
    Some((
        format!(", {} to {}", part(1), part(count)),
        part(1),
        whole.display().to_string(),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gguf::GgufHeader;

    #[test]
    fn a_part_names_all_parts_and_the_way_out() {
        let gguf = |number: u32, count: u32| {
            let mut header = GgufHeader::new();
            header.set(COUNT_KEY, count).unwrap();
            header.set(NUMBER_KEY, number).unwrap();
            Gguf::parse(Arc::new(header.encode())).unwrap()
        };
        let path = Path::new("models/big-00002-of-00003.gguf");
        let message = refuse_part(&gguf(1, 3), Some(path))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("part 2 of 3")
                && message.contains("models/big-00003-of-00003.gguf")
                && message.contains(
                    "llama-gguf-split --merge models/big-00001-of-00003.gguf models/big.gguf"
                ),
            "{message}"
        );
        let message = refuse_part(&gguf(0, 2), None).unwrap_err().to_string();
        assert!(message.contains("part 1 of 2"), "{message}");
        refuse_part(&gguf(0, 1), Some(path)).unwrap();
    }
}
