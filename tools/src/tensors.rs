//! A safetensors file of f32 tensors, written in order as the values come: a length (u64,
//! little-endian), a JSON header of that length, the data
//! (<https://huggingface.co/docs/safetensors>).

use std::io::Write;
use std::path::{Path, PathBuf};

use gpt2::AtomicFile;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// A tensor's name and shape, slowest dimension first.
pub(crate) type Described = (String, Vec<usize>);

/// The file under construction; it appears when it is finished.
///
/// A write that fails is told at the end: other results of the same work shall not be lost with it.
pub(crate) struct TensorFile {
    file: AtomicFile,
    path: PathBuf,
    /// The first write that failed.
    error: Option<gpt2::Error>,
}

impl TensorFile {
    /// Begins a file of `tensors`; their values follow in the same order.
    pub(crate) fn create(path: &Path, force: bool, tensors: &[Described]) -> Result<Self, Failure> {
        let mut offset = 0;
        let mut header = Map::new();
        for (name, shape) in tensors {
            let end = offset + shape.iter().product::<usize>() * size_of::<f32>();
            let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] });
            header.insert(name.clone(), tensor);
            offset = end;
        }
        let mut header = Value::from(header).to_string();
        // The data begins at a multiple of 8, as readers that map the file want it.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut writer = Self {
            file: AtomicFile::create(path, force)?,
            path: path.to_path_buf(),
            error: None,
        };
        writer.put(&(header.len() as u64).to_le_bytes());
        writer.put(header.as_bytes());
        Ok(writer)
    }

    /// Writes the next values.
    pub(crate) fn write(&mut self, values: &[f32]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.put(&bytes);
    }

    /// Brings the file to its place.
    ///
    /// # Errors
    /// What went wrong since the file was begun; there is no file then.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.error {
            Some(error) => Err(error.into()),
            None => Ok(self.file.finish()?),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.error.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.error = Some(gpt2::Error::io(&self.path, error));
        }
    }
}
