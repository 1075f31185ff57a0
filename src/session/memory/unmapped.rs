//! A file that cannot be mapped: its header is still read, to say what would fit.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::limits::Limits;
use super::plan::{ModelFootprint, refusal};
use crate::gguf::Gguf;
use crate::session::options::ModelOptions;
use crate::spec::{Hyperparameters, ModelTensors};
use crate::{Error, Result};

/// The error for a file at `path` that the address space has no room for: what would fit, or, when
/// not even its header can be read, that there is no room.
pub(in crate::session) fn refuse(path: &Path, options: &ModelOptions, error: &Error) -> Error {
    let limits = Limits::now(options.memory, 0);
    let explain = || -> Result<Error> {
        let (gguf, length) = read_header(path)?;
        let hyperparameters = Hyperparameters::from_gguf(&gguf)?;
        let tensors = ModelTensors::find(&gguf, &hyperparameters)?;
        let map = options.map;
        let footprint =
            ModelFootprint::of_file(&gguf, &tensors, &hyperparameters, length, map, false);
        refusal(&footprint, &options.session, &limits)
    };
    explain().unwrap_or_else(|_| Error::Memory(format!("mapping the file: {error}")))
}

/// The header of a file and the file's length. At most twice the header is read: there is little
/// memory.
fn read_header(path: &Path) -> Result<(Gguf, usize)> {
    const FIRST: u64 = 1 << 20;
    /// Headers are about as large as their vocabulary: a few megabytes.
    const ENOUGH: u64 = 16 << 20;
    let fail = |source| Error::io(path, source);
    let length = path.metadata().map_err(fail)?.len();
    let mut wanted = FIRST;
    loop {
        let count = wanted.min(length);
        let mut beginning = Vec::new();
        beginning
            .try_reserve_exact(count as usize)
            .map_err(|error| Error::Memory(format!("{count} bytes: {error}")))?;
        let file = File::open(path).map_err(fail)?;
        file.take(count).read_to_end(&mut beginning).map_err(fail)?;
        match Gguf::parse_beginning(Arc::new(beginning), length) {
            Ok(gguf) => return Ok((gguf, length as usize)),
            Err(error) if wanted >= length.min(ENOUGH) => return Err(error),
            Err(_) => wanted *= 2,
        }
    }
}
