//! A sequence's cache in a file: written once, read by any later session of the same model.
//!
//! The file is safetensors (<https://huggingface.co/docs/safetensors>), so that other programs can
//! look into it: `tokens` and `positions` (`[n]`, u32), `keys.N` and `values.N` of each layer (`[n,
//! bytes of a row]`, in the cache's type), `checksum` (`[1]`, u64, over all data before it), and in
//! the metadata the format, the type of the cache and a fingerprint of the model.

use std::io::Write;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::run::Session;
use crate::TokenId;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::model::kv_cache::{SequenceId, SequenceSet};
use crate::output::AtomicFile;

/// The value of `format` in the metadata.
const FORMAT: &str = "gpt2-edge cache 1";
const CHECKSUM: &str = "checksum";

/// Name, type and shape of a tensor in the file.
type Described = (String, Dtype, Vec<usize>);

impl Session {
    /// Writes what the cache holds of `sequence` to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Argument`] when the session has no such sequence, or the file exists and
    /// `overwrite` is false; [`Error::Io`].
    pub fn save(&self, sequence: SequenceId, path: &Path, overwrite: bool) -> Result<()> {
        self.check_sequence(sequence)?;
        self.backends.check_process()?;
        let cells = self.cells.of(sequence);
        let described = self.described(cells.len());
        let mut writer = Writer::begin(path, overwrite, &described, &self.identity())?;
        let tokens = self.cells.tokens(sequence);
        writer.put(&little_endian(tokens.into_iter()))?;
        let positions = cells
            .iter()
            .map(|&cell| self.cells.position(cell as usize) as u32);
        writer.put(&little_endian(positions))?;
        for table in self.cache.tables() {
            let row_bytes = table.strides()[1];
            let mut row = vec![0; row_bytes];
            for &cell in cells {
                table.read_bytes(cell as usize * row_bytes, &mut row)?;
                writer.put(&row)?;
            }
        }
        writer.finish()
    }

    /// Puts what [`Session::save`] wrote in place of what `sequence` holds, and gives the number of
    /// its tokens. Continuations are bit-identical to those of the session that was saved.
    ///
    /// # Errors
    /// [`Error::Argument`] when the file is of another model or another type of cache, or the
    /// session has no such sequence; [`Error::ContextFull`] when it does not fit; [`Error::Format`]
    /// when it is broken. In all of them the session is as it was.
    pub fn restore(&mut self, sequence: SequenceId, path: &Path) -> Result<usize> {
        self.check_sequence(sequence)?;
        self.backends.check_process()?;
        let map = MappedFile::open(path)?;
        let place = path.display().to_string();
        self.restore_bytes(sequence, map.as_ref())
            .map_err(|error| match error {
                Error::Argument(message) => Error::Argument(format!("{place}: {message}")),
                error => error.within(place),
            })
    }

    fn restore_bytes(&mut self, sequence: SequenceId, bytes: &[u8]) -> Result<usize> {
        let not_safetensors = |error| broken(format!("not a safetensors file: {error}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        for (key, expected) in self.identity() {
            let found = metadata.get(key).map_or("nothing", String::as_str);
            if found != expected {
                return Err(Error::Argument(format!(
                    "the saved cache is not of this model and session: its {key} is {found}, \
                     expected {expected}"
                )));
            }
        }
        let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let length = file
            .tensor("tokens")
            .ok()
            .and_then(|view| view.shape().first().copied())
            .ok_or_else(|| broken("expected a list of tokens".to_owned()))?;
        let data = checked_data(&file, &self.described(length))?;
        let [tokens, positions, rows @ ..] = &data[..] else {
            return Err(broken("expected tokens and positions".to_owned()));
        };
        let tokens: Vec<TokenId> = numbers(tokens).collect();
        let positions: Vec<usize> = numbers(positions)
            .map(|position| position as usize)
            .collect();
        self.model().check_tokens(&tokens)?;
        let limit = self.model().hyperparameters().n_positions;
        if !positions.is_sorted_by(|a, b| a < b) || positions.last().is_some_and(|&p| p >= limit) {
            return Err(broken(format!(
                "expected ascending positions below {limit}"
            )));
        }
        // Taken in a copy first, so that a file that does not fit changes nothing.
        let mut cells = self.cells.clone();
        cells.truncate(sequence, 0);
        let set = SequenceSet::of(sequence)?;
        let mut taken = Vec::with_capacity(length);
        for (&token, &position) in tokens.iter().zip(&positions) {
            let cell = cells.take(token, position, set);
            taken.push(cell.ok_or(Error::ContextFull {
                needed: length,
                available: self.context_size(),
                model_limit: limit,
            })?);
        }
        for (table, rows) in self.cache.tables().zip(rows) {
            let row_bytes = table.strides()[1];
            for (cell, row) in taken.iter().zip(rows.chunks_exact(row_bytes)) {
                table.write_bytes(cell * row_bytes, row)?;
            }
        }
        self.cells = cells;
        Ok(length)
    }

    /// What a file must say of itself to fit this session.
    fn identity(&self) -> [(&'static str, String); 3] {
        [
            ("format", FORMAT.to_owned()),
            ("model", format!("{:016x}", self.model().fingerprint())),
            ("cache type", self.cache_type().name().to_owned()),
        ]
    }

    /// The tensors of a file with `length` tokens, in order, without the checksum.
    fn described(&self, length: usize) -> Vec<Described> {
        let numbers =
            ["tokens", "positions"].map(|name| (name.to_owned(), Dtype::U32, vec![length]));
        let tables = self.cache.tables().enumerate().map(|(index, table)| {
            let kind = ["keys", "values"][index % 2];
            let shape = vec![length, table.strides()[1]];
            (format!("{kind}.{}", index / 2), Dtype::U8, shape)
        });
        numbers.into_iter().chain(tables).collect()
    }
}

/// The bytes of every tensor that is expected, once the checksum has been found right.
fn checked_data<'a>(file: &SafeTensors<'a>, described: &[Described]) -> Result<Vec<&'a [u8]>> {
    let find = |(name, dtype, shape): &Described| {
        let found = file.tensor(name).ok();
        let fits = found.filter(|view| view.dtype() == *dtype && view.shape() == shape);
        let data = fits.map(|view| view.data());
        data.ok_or_else(|| broken(format!("expected {name} as {dtype:?} {shape:?}")))
    };
    let data: Vec<&[u8]> = described.iter().map(find).collect::<Result<_>>()?;
    let mut checksum = Checksum::default();
    for part in &data {
        checksum.update(part);
    }
    if find(&(CHECKSUM.to_owned(), Dtype::U64, vec![1]))? != checksum.finish().to_le_bytes() {
        return Err(broken("its checksum is another; it is damaged".to_owned()));
    }
    Ok(data)
}

fn broken(message: String) -> Error {
    Error::format("saved cache", message)
}

/// Little-endian u32 numbers.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| u32::from_le_bytes(*word))
}

fn little_endian(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// A file under construction.
struct Writer<'a> {
    file: AtomicFile,
    path: &'a Path,
    checksum: Checksum,
}

impl<'a> Writer<'a> {
    fn begin(
        path: &'a Path,
        overwrite: bool,
        described: &[Described],
        identity: &[(&'static str, String)],
    ) -> Result<Self> {
        let mut header = Map::new();
        let metadata: Map<String, Value> = identity
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        header.insert("__metadata__".to_owned(), metadata.into());
        let mut offset = 0;
        let checksum = (CHECKSUM.to_owned(), Dtype::U64, vec![1]);
        for (name, dtype, shape) in described.iter().chain([&checksum]) {
            let end = offset + shape.iter().product::<usize>() * dtype.bitsize() / 8;
            header.insert(
                name.clone(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }),
            );
            offset = end;
        }
        let mut header = Value::from(header).to_string();
        // The data begins at a multiple of 8, as readers that map the file want it.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut writer = Self {
            file: AtomicFile::create(path, overwrite)?,
            path,
            checksum: Checksum::default(),
        };
        writer.write(&(header.len() as u64).to_le_bytes())?;
        writer.write(header.as_bytes())?;
        Ok(writer)
    }

    /// Writes data.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io(self.path, error))
    }

    fn finish(mut self) -> Result<()> {
        let checksum = self.checksum.clone().finish();
        self.write(&checksum.to_le_bytes())?;
        self.file.finish()?;
        Ok(())
    }
}
