//! Reads the finished file back and compares it with the plan.

use std::path::Path;
use std::sync::Arc;

use super::encode_tensor::Measured;
use super::plan::Prepared;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::gguf::Gguf;
use crate::spec::{Hyperparameters, ModelTensors};

/// Opens the file as a reader would and compares it with the plan: size, keys, names, shapes, types
/// and every tensor's bytes (through their checksum).
///
/// # Errors
/// [`Error::Format`] saying what differs.
pub(super) fn read_back(path: &Path, prepared: &Prepared, measured: &[Measured]) -> Result<()> {
    let map = Arc::new(MappedFile::open(path)?);
    compare(&map, prepared, measured).map_err(|error| error.within("read back after writing"))
}

fn compare(map: &Arc<MappedFile>, prepared: &Prepared, measured: &[Measured]) -> Result<()> {
    let found_bytes = AsRef::<[u8]>::as_ref(map.as_ref()).len() as u64;
    if found_bytes != prepared.plan.bytes {
        return Err(differs("size", prepared.plan.bytes, found_bytes));
    }
    let gguf = Gguf::parse(map.clone())?;
    let keys = prepared.header.pairs().len();
    if gguf.metadata().len() != keys {
        return Err(differs("number of keys", keys, gguf.metadata().len()));
    }
    for (key, value) in prepared.header.pairs() {
        if gguf.metadata().to_value(key)? != *value {
            return Err(Error::format(
                format!("key {key}"),
                "differs from what was written",
            ));
        }
    }
    let hyperparameters = Hyperparameters::from_gguf(&gguf)?;
    let tensors = ModelTensors::find(&gguf, &hyperparameters)?;
    let expected = prepared.plan.tensors.len();
    if tensors.all().len() != expected || gguf.tensors().len() != expected {
        return Err(differs("number of tensors", expected, gguf.tensors().len()));
    }
    for ((planned, measured), info) in prepared
        .plan
        .tensors
        .iter()
        .zip(measured)
        .zip(gguf.tensors())
    {
        if info.name != planned.name
            || info.shape != planned.shape
            || info.tensor_type != planned.tensor_type
        {
            return Err(differs(
                &format!("tensor '{}'", planned.name),
                format!(
                    "{} {:?} {}",
                    planned.name,
                    planned.shape,
                    planned.tensor_type.name()
                ),
                format!("{} {:?} {}", info.name, info.shape, info.tensor_type.name()),
            ));
        }
        let mut checksum = Checksum::default();
        checksum.update(gguf.tensor_data(info));
        let start = info.offset as usize;
        map.release(start..start.saturating_add(info.bytes as usize));
        if checksum.finish() != measured.checksum {
            return Err(Error::format(
                format!("tensor '{}'", info.name),
                "its bytes differ from what was written; is the disk damaged?",
            ));
        }
    }
    Ok(())
}

fn differs(what: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Error {
    Error::format(what, format!("expected {expected}, found {found}"))
}
