//! What a file is, by its first bytes.
//!
//! Whoever reads a file and finds another there asks here what it is, so that the message can say
//! it and what to do. Knows no path, no format's contents and nothing of models.

/// Bytes that are looked at where a kind has no magic number at a fixed place.
pub(crate) const LOOKED_AT: usize = 4096;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// This library's own.
    Gguf,
    /// Weights in ggml's formats before GGUF.
    OldGgml,
    /// An adapter in a format of ggml before GGUF.
    OldGgmlAdapter,
    /// A session that old llama.cpp saved.
    OldGgmlSession,
    Safetensors,
    /// A zip archive, as `torch.save` writes it.
    Zip,
    /// A pickle that is not in an archive.
    Pickle,
    Hdf5,
    /// Weights that llm.c wrote.
    LlmC,
    /// What llm.c writes beside weights.
    LlmCOther(&'static str),
    /// What Git has in place of a large file.
    LfsPointer,
    /// What git-annex has in place of a large file.
    AnnexPointer,
    WebPage,
    Xml,
    Json,
    /// Compressed or packed: the command that unpacks it.
    Packed(&'static str),
    /// Zeros: the space of a file whose download did not begin.
    Zeros,
}

/// Magic numbers at the beginning.
const BEGINNINGS: &[(&[u8], FileKind)] = &[
    (b"GGUF", FileKind::Gguf),
    (b"lmgg", FileKind::OldGgml),
    (b"fmgg", FileKind::OldGgml),
    (b"tjgg", FileKind::OldGgml),
    (b"algg", FileKind::OldGgmlAdapter),
    (b"nsgg", FileKind::OldGgmlSession),
    (b"qsgg", FileKind::OldGgmlSession),
    (b"PK\x03\x04", FileKind::Zip),
    (b"\x89HDF\r\n\x1a\n", FileKind::Hdf5),
    (b"version https://git-lfs", FileKind::LfsPointer),
    (b"version https://hawser", FileKind::LfsPointer),
    (b"/annex/objects/", FileKind::AnnexPointer),
    (b"\x1f\x8b", FileKind::Packed("gunzip")),
    (b"\xfd7zXZ\0", FileKind::Packed("unxz")),
    (b"\x28\xb5\x2f\xfd", FileKind::Packed("unzstd")),
    (b"BZh", FileKind::Packed("bunzip2")),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Packed("7z x")),
    (b"Rar!\x1a\x07", FileKind::Packed("unrar x")),
    (&20_240_326_u32.to_le_bytes(), FileKind::LlmC),
    (
        &20_240_327_u32.to_le_bytes(),
        FileKind::LlmCOther("a state for testing llm.c"),
    ),
    (
        &20_240_328_u32.to_le_bytes(),
        FileKind::LlmCOther("the tokenizer of llm.c, which only decodes"),
    ),
    (
        &20_240_520_u32.to_le_bytes(),
        FileKind::LlmCOther("tokens of a text for llm.c"),
    ),
    (
        &20_240_522_u32.to_le_bytes(),
        FileKind::LlmCOther("an evaluation for llm.c"),
    ),
    (
        &20_240_527_u32.to_le_bytes(),
        FileKind::LlmCOther("the optimizer's state of llm.c"),
    ),
    (
        &20_240_803_u32.to_le_bytes(),
        FileKind::LlmCOther("a Llama 3 of llm.c"),
    ),
];

/// What the bytes of a file are; `None` when they are nothing that is known.
pub(crate) fn recognize(bytes: &[u8]) -> Option<FileKind> {
    let found = BEGINNINGS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, kind)) = found {
        return Some(*kind);
    }
    if is_safetensors(bytes) {
        return Some(FileKind::Safetensors);
    }
    if bytes.first() == Some(&0x80)
        && bytes
            .get(1)
            .is_some_and(|version| (2..=5).contains(version))
    {
        return Some(FileKind::Pickle);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(FileKind::Packed("tar xf"));
    }
    let beginning = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    if beginning.len() == LOOKED_AT && beginning.iter().all(|byte| *byte == 0) {
        return Some(FileKind::Zeros);
    }
    text(beginning)
}

/// The kinds of text.
fn text(beginning: &[u8]) -> Option<FileKind> {
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    let text = text.trim_ascii_start();
    let begins = |with: &[u8]| {
        let start = text.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") {
        Some(FileKind::WebPage)
    } else if begins(b"<?xml") || begins(b"<error>") {
        Some(FileKind::Xml)
    } else if begins(b"{") || begins(b"[") {
        Some(FileKind::Json)
    } else {
        None
    }
}

/// A length that a header may have, and the beginning of a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    const LONGEST: u64 = 100_000_000;
    bytes
        .split_first_chunk::<8>()
        .is_some_and(|(length, rest)| {
            (2..=LONGEST).contains(&u64::from_le_bytes(*length)) && rest.starts_with(b"{\"")
        })
}

impl FileKind {
    /// What it is, for messages, and what to do where it stands for another file.
    pub(crate) fn what(self) -> String {
        match self {
            Self::Gguf => "a GGUF file",
            Self::OldGgml => {
                "a ggml file from before GGUF, a format that is not read any more; convert the \
                 model again from its checkpoint"
            }
            Self::OldGgmlAdapter => "an adapter in a ggml format from before GGUF",
            Self::OldGgmlSession => "a session that an old llama.cpp saved",
            Self::Safetensors => "a safetensors file",
            Self::Zip => "a zip archive, as PyTorch writes checkpoints",
            Self::Pickle => "a pickle, as PyTorch writes checkpoints",
            Self::Hdf5 => "an HDF5 file, as Keras writes checkpoints",
            Self::LlmC => "a checkpoint of llm.c",
            Self::LlmCOther(what) => what,
            Self::LfsPointer => {
                "a Git LFS pointer in place of the file; fetch the file with `git lfs pull`, or \
                 download it"
            }
            Self::AnnexPointer => {
                "a git-annex pointer in place of the file; fetch the file with `git annex get`"
            }
            Self::WebPage => {
                "a web page (HTML) in place of the file; download the file itself, not the page \
                 about it"
            }
            Self::Xml => {
                "an XML document in place of the file, as servers answer with an error; download \
                 the file again"
            }
            Self::Json => "a JSON text",
            Self::Packed(command) => {
                return format!("a compressed or packed file; unpack it first, with `{command}`");
            }
            Self::Zeros => "nothing but zeros; it is an unfinished download",
        }
        .to_owned()
    }

    /// Whether a checkpoint that can be converted begins so.
    pub(crate) fn is_checkpoint(self) -> bool {
        matches!(
            self,
            Self::Safetensors | Self::Zip | Self::Pickle | Self::Hdf5 | Self::LlmC
        )
    }

    /// Whether the file stands in for another, whatever that was to be.
    pub(crate) fn is_stand_in(self) -> bool {
        matches!(
            self,
            Self::LfsPointer | Self::AnnexPointer | Self::WebPage | Self::Xml | Self::Zeros
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_first_bytes() {
        let header = [&12_u64.to_le_bytes()[..], b"{\"a\":{}}    "].concat();
        let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
        let cases: [(&[u8], FileKind); 17] = [
            (b"GGUF\x03\0\0\0", FileKind::Gguf),
            (&0x6767_6d6c_u32.to_le_bytes(), FileKind::OldGgml),
            (&0x6767_6d66_u32.to_le_bytes(), FileKind::OldGgml),
            (&0x6767_6a74_u32.to_le_bytes(), FileKind::OldGgml),
            (&0x6767_6c61_u32.to_le_bytes(), FileKind::OldGgmlAdapter),
            (&0x6767_736e_u32.to_le_bytes(), FileKind::OldGgmlSession),
            (&header, FileKind::Safetensors),
            (b"PK\x03\x04\0\0", FileKind::Zip),
            (b"\x80\x02}q\0.", FileKind::Pickle),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
                FileKind::LfsPointer,
            ),
            (b"\n <!DOCTYPE html>", FileKind::WebPage),
            (b"\xef\xbb\xbf<HTML>", FileKind::WebPage),
            (b"<?xml version=\"1.0\"?><Error>", FileKind::Xml),
            (b"{\"error\":\"not found\"}", FileKind::Json),
            (b"\x1f\x8b\x08", FileKind::Packed("gunzip")),
            (&tar, FileKind::Packed("tar xf")),
            (&[0; LOOKED_AT], FileKind::Zeros),
        ];
        for (bytes, kind) in cases {
            assert_eq!(recognize(bytes), Some(kind), "{}", kind.what());
        }
        for unknown in [&b""[..], b"GGU", b"x", &[0; 64], &[0xff; 300]] {
            assert_eq!(recognize(unknown), None);
        }
    }

    #[test]
    fn no_beginning_hides_another() {
        for (place, (magic, _)) in BEGINNINGS.iter().enumerate() {
            let others = BEGINNINGS.iter().enumerate();
            for (other, (longer, _)) in others.filter(|(other, _)| *other != place) {
                assert!(!longer.starts_with(magic), "{other} begins as {place}");
            }
        }
    }
}
