//! Writing a file: header first, then the tensors' data as it comes.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{ALIGNMENTS, GgufHeader, quoted};
use crate::error::{Error, Result};
use crate::output::AtomicFile;

/// Zeros for the padding behind a tensor.
static PADDING: [u8; *ALIGNMENTS.end() as usize] = [0; *ALIGNMENTS.end() as usize];

/// A GGUF file being written. It appears under its name when [`finish`](Self::finish) is called and
/// every tensor is complete; dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct GgufWriter {
    file: AtomicFile,
    path: PathBuf,
    alignment: u64,
    /// Names and bytes of the tensors, in file order.
    tensors: Vec<(String, u64)>,
    /// The place in `tensors` of the one being written.
    current: usize,
    /// Bytes of it that are written.
    filled: u64,
    /// Bytes of the file that are written.
    written: u64,
}

impl GgufWriter {
    /// Writes `header` to a temporary file beside `path`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `path` exists and `overwrite` is false; [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, header: &GgufHeader, overwrite: bool) -> Result<Self> {
        let path = path.as_ref();
        let mut writer = Self {
            file: AtomicFile::create(path, overwrite)?,
            path: path.to_path_buf(),
            alignment: header.alignment(),
            tensors: header
                .tensors()
                .iter()
                .map(|tensor| (tensor.name.clone(), tensor.bytes))
                .collect(),
            current: 0,
            filled: 0,
            written: 0,
        };
        writer.append(&header.encode())?;
        Ok(writer)
    }

    /// Appends data to the tensor whose turn it is; a tensor may come in pieces, a piece belongs to
    /// one tensor. Padding is written when a tensor is complete.
    ///
    /// # Errors
    /// [`Error::Argument`] if the piece is larger than what its tensor lacks, or every tensor is
    /// complete; [`Error::Io`].
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let Some((name, bytes)) = self.tensors.get(self.current) else {
            return Err(Error::Argument(format!(
                "{}: every tensor is complete, {} more bytes were given",
                self.path.display(),
                data.len()
            )));
        };
        let (bytes, lacking) = (*bytes, *bytes - self.filled);
        if data.len() as u64 > lacking {
            return Err(Error::Argument(format!(
                "tensor {}: {} bytes were given, it has {bytes} and lacks {lacking}",
                quoted(name),
                data.len()
            )));
        }
        self.append(data)?;
        self.filled += data.len() as u64;
        if self.filled == bytes {
            let padding = bytes.next_multiple_of(self.alignment) - bytes;
            self.append(PADDING.get(..padding as usize).unwrap_or_default())?;
            self.current += 1;
            self.filled = 0;
        }
        Ok(())
    }

    /// Where the file is until [`finish`](Self::finish), with everything written so far in it, so
    /// that it can be checked before it takes its place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn partial(&mut self) -> Result<&Path> {
        self.file.partial()
    }

    /// Puts the file in its place and returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] if a tensor is not complete, or `path` appeared meanwhile and was not to
    /// be overwritten; [`Error::Io`].
    pub fn finish(self) -> Result<u64> {
        if let Some((name, bytes)) = self.tensors.get(self.current) {
            return Err(Error::Argument(format!(
                "tensor {}: {} of its {bytes} bytes were given",
                quoted(name),
                self.filled
            )));
        }
        self.file.finish()?;
        Ok(self.written)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io(&self.path, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gguf::{Gguf, TensorType, ValueType};

    fn header() -> GgufHeader {
        let mut header = GgufHeader::new();
        header.set("general.architecture", "gpt2").unwrap();
        header.set("gpt2.block_count", 6u32).unwrap();
        header.set("a.list", vec![1.5f32, -2.0]).unwrap();
        header
            .set("some.words", ["a", "", "Ġthe"].as_slice())
            .unwrap();
        header.tensor("first", &[5, 2], TensorType::F32).unwrap();
        header.tensor("second", &[32], TensorType::Q8_0).unwrap();
        header
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let header = header();
        let mut writer = GgufWriter::create(&path, &header, false).unwrap();
        writer.write(&[1; 16]).unwrap();
        writer.write(&[2; 24]).unwrap();
        writer.write(&[3; 34]).unwrap();
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap(), header.total_bytes());

        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, header.total_bytes());
        let file = Gguf::parse(Arc::new(bytes)).unwrap();
        assert_eq!((file.version(), file.alignment()), (3, 32));
        let metadata = file.metadata();
        assert_eq!(
            metadata.required_str("general.architecture").unwrap(),
            "gpt2"
        );
        assert_eq!(metadata.required_u32("gpt2.block_count").unwrap(), 6);
        assert_eq!(metadata.required_f32s("a.list").unwrap(), [1.5, -2.0]);
        let words = metadata.required_strings("some.words").unwrap();
        assert_eq!(words.len(), 3);
        let words: Vec<&str> = words.collect::<Result<_>>().unwrap();
        assert_eq!(words, ["a", "", "Ġthe"]);
        assert_eq!(
            metadata.get("some.words").unwrap().value_type(),
            ValueType::Array
        );
        for (key, value) in header.pairs() {
            assert_eq!(metadata.to_value(key).unwrap(), *value);
        }
        let first = file.tensor("first").unwrap();
        assert_eq!((first.columns(), first.rows(), first.bytes), (5, 2, 40));
        assert_eq!(file.tensor_data(first), [&[1; 16][..], &[2; 24]].concat());
        let second = file.tensor("second").unwrap();
        assert_eq!(second.offset, first.offset + 64);
        assert_eq!(file.tensor_data(second), [3; 34]);
    }

    #[test]
    fn sizes_are_checked_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::create(&path, &header(), false).unwrap();
        let message = writer.write(&[0; 41]).unwrap_err().to_string();
        assert!(
            message.contains("\"first\": 41 bytes were given, it has 40 and lacks 40"),
            "{message}"
        );
        writer.write(&[0; 40]).unwrap();
        let message = writer.finish().unwrap_err().to_string();
        assert!(
            message.contains("\"second\": 0 of its 34 bytes were given"),
            "{message}"
        );

        let mut writer = GgufWriter::create(&path, &header(), false).unwrap();
        writer.write(&[0; 40]).unwrap();
        writer.write(&[0; 34]).unwrap();
        assert!(writer.write(&[]).is_ok());
        assert!(writer.write(&[0]).is_err());
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
