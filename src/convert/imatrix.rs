//! Importance matrices in llama.cpp's GGUF form: for each matrix and input column, the sum of the
//! squared activations it met (`NAME.in_sum2`) and how many were counted (`NAME.counts`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::gguf::{Gguf, TensorInfo, TensorType};

/// `general.type` of such a file.
const FILE_KIND: &str = "imatrix";

/// One weight for each column of each matrix.
#[derive(Debug, Default)]
pub(super) struct ImportanceMatrix {
    columns: HashMap<String, Vec<f32>>,
}

impl ImportanceMatrix {
    /// Reads a file written by llama.cpp's `llama-imatrix`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] for a file that is no importance matrix, or has a value
    /// that is negative or not finite.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let map = Arc::new(MappedFile::open(path)?);
        Gguf::parse(map)
            .and_then(|gguf| Self::from_gguf(&gguf))
            .map_err(|error| error.within(place))
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let kind = gguf.metadata().str("general.type")?;
        if kind != Some(FILE_KIND) {
            return Err(Error::format(
                "key general.type",
                format!("expected '{FILE_KIND}', found {kind:?}; make one with `llama-imatrix`"),
            ));
        }
        let mut columns = HashMap::new();
        for sums in gguf.tensors() {
            let Some(name) = sums.name.strip_suffix(".in_sum2") else {
                continue;
            };
            let counts_name = format!("{name}.counts");
            let counts = gguf
                .tensor(&counts_name)
                .ok_or_else(|| Error::format(format!("tensor '{counts_name}'"), "missing"))?;
            let count = match values(gguf, counts)?[..] {
                [count] => count,
                ref other => {
                    return Err(Error::format(
                        format!("tensor '{counts_name}'"),
                        format!("expected one count, found {}", other.len()),
                    ));
                }
            };
            // A matrix nothing passed through has no preference.
            let weights = values(gguf, sums)?
                .into_iter()
                .map(|sum| if count > 0.0 { sum / count } else { 1.0 })
                .collect();
            columns.insert(name.to_owned(), weights);
        }
        Ok(Self { columns })
    }

    /// The weights of a matrix's columns; `None` when the file does not know the matrix.
    ///
    /// # Errors
    /// [`Error::Format`] when it has another number of columns.
    pub(super) fn for_tensor(&self, name: &str, columns: u64) -> Result<Option<&[f32]>> {
        match self.columns.get(name) {
            Some(weights) if weights.len() as u64 == columns => Ok(Some(weights)),
            Some(weights) => Err(Error::format(
                format!("importance of '{name}'"),
                format!(
                    "expected {columns} columns, found {}; it was made for another model",
                    weights.len()
                ),
            )),
            None => Ok(None),
        }
    }
}

/// The elements of an f32 tensor, all finite and not negative.
fn values(gguf: &Gguf, info: &TensorInfo) -> Result<Vec<f32>> {
    let place = || format!("tensor '{}'", info.name);
    if info.tensor_type != TensorType::F32 {
        return Err(Error::format(
            place(),
            format!("expected f32, found {}", info.tensor_type.name()),
        ));
    }
    gguf.tensor_data(info)
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| {
            let value = f32::from_le_bytes(*bytes);
            if value.is_finite() && value >= 0.0 {
                Ok(value)
            } else {
                Err(Error::format(
                    place(),
                    format!("expected values from 0 up, found {value}"),
                ))
            }
        })
        .collect()
}
