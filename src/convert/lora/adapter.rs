//! One adapter's files: its configuration, and its tensors by the module they are for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::AdapterConfig;
use super::names::{AdapterPart, parse};
use crate::convert::checkpoint_reader::{CheckpointReader, CheckpointTensor};
use crate::convert::mapped_checkpoint::MappedCheckpoint;
use crate::convert::options::LoraAdapter;
use crate::convert::source_rows::SourceTensor;
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// The files that PEFT saves, the usual one first.
const WEIGHTS: &[&str] = &["adapter_model.safetensors", "adapter_model.bin"];
const CONFIG: &str = "adapter_config.json";

/// An adapter of PEFT.
pub(super) struct Adapter {
    /// Its folder, for messages.
    pub place: String,
    /// Its settings.
    pub config: AdapterConfig,
    /// The user's factor for its products.
    pub factor: f32,
    reader: MappedCheckpoint,
    /// For each adapted module its tensors.
    pub modules: BTreeMap<String, BTreeMap<AdapterPart, usize>>,
    /// Tensors in place of the base's, by path.
    pub whole: BTreeMap<String, usize>,
}

impl Adapter {
    /// Opens an adapter's folder, or a file in it.
    ///
    /// # Errors
    /// Those of its files; [`Error::Format`] for tensors that appear twice or are none.
    pub(super) fn open(given: &LoraAdapter) -> Result<Self> {
        let folder = folder(&given.path)?;
        let config = AdapterConfig::read(&folder.join(CONFIG))?;
        let place = folder.display().to_string();
        let mut files = WEIGHTS.iter().map(|name| folder.join(name));
        let file = files.find(|file| file.is_file()).ok_or_else(|| {
            Error::format(
                &place,
                format!(
                    "no weights of an adapter: expected {}",
                    WEIGHTS.join(" or ")
                ),
            )
        })?;
        let mut adapter = Self {
            reader: MappedCheckpoint::open(&file)?,
            place,
            config,
            factor: given.scale,
            modules: BTreeMap::new(),
            whole: BTreeMap::new(),
        };
        adapter
            .sort()
            .map_err(|error| error.within(file.display().to_string()))?;
        Ok(adapter)
    }

    /// Sorts the tensors by module.
    fn sort(&mut self) -> Result<()> {
        for (index, tensor) in self.reader.tensors().iter().enumerate() {
            if !matches!(
                tensor.tensor_type,
                Some(TensorType::F64 | TensorType::F32 | TensorType::F16 | TensorType::BF16)
            ) {
                return Err(Error::Unsupported(format!(
                    "tensor '{}': elements of type {}; expected F32, F16, BF16 or F64",
                    tensor.name, tensor.dtype
                )));
            }
            let (path, part) = parse(&tensor.name);
            let before = match part {
                AdapterPart::Original => None,
                AdapterPart::Whole => self.whole.insert(path, index),
                _ => self.modules.entry(path).or_default().insert(part, index),
            };
            // A bias that is trained by itself, and with a module that is saved whole.
            let is_other = |before: usize| -> Result<bool> {
                let same = self.reader.tensors().get(before).is_some_and(|before| {
                    (before.tensor_type, &before.shape) == (tensor.tensor_type, &tensor.shape)
                });
                Ok(!same || self.reader.data(before)? != self.reader.data(index)?)
            };
            if before.map(is_other).transpose()? == Some(true) {
                return Err(Error::format(
                    format!("tensor '{}'", tensor.name),
                    "appears twice, under names that mean the same",
                ));
            }
        }
        if self.modules.is_empty() && self.whole.is_empty() {
            return Err(Error::format("the adapter", "it has no tensors"));
        }
        Ok(())
    }

    /// A tensor's description.
    ///
    /// # Errors
    /// [`Error::Internal`] for an index that is none of this adapter's.
    pub(super) fn tensor(&self, index: usize) -> Result<&CheckpointTensor> {
        let lost = || Error::Internal(format!("the adapter has no tensor {index}"));
        self.reader.tensors().get(index).ok_or_else(lost)
    }

    /// The elements of a matrix with this number of rows and columns, row by row; of one stored
    /// the other way round when `transposed`.
    ///
    /// # Errors
    /// Those of reading it; [`Error::Memory`].
    pub(super) fn matrix(
        &self,
        index: usize,
        (rows, columns): (usize, usize),
        transposed: bool,
    ) -> Result<Vec<f32>> {
        let tensor = self.tensor(index)?;
        let data = self.reader.data(index)?;
        let tensor_type = tensor.tensor_type.unwrap_or(TensorType::F32);
        let shape = (rows, columns);
        let source = SourceTensor::new(&tensor.name, &data, tensor_type, shape, transposed)?;
        let mut elements = Vec::new();
        elements
            .try_reserve_exact(rows * columns)
            .map_err(|error| Error::Memory(format!("for '{}': {error}", tensor.name)))?;
        elements.resize(rows * columns, 0.0);
        if !elements.is_empty() {
            source.read_rows(0, &mut elements, &mut Vec::new())?;
        }
        Ok(elements)
    }

    /// The bytes of a tensor, as the file has them.
    ///
    /// # Errors
    /// Those of reading them.
    pub(super) fn data(&self, index: usize) -> Result<std::borrow::Cow<'_, [u8]>> {
        self.reader.data(index)
    }
}

/// The folder of an adapter that is named by itself or by a file in it.
fn folder(path: &Path) -> Result<PathBuf> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    let folder = match path.parent() {
        _ if metadata.is_dir() => path,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if !folder.join(CONFIG).exists() {
        return Err(Error::format(
            folder.display().to_string(),
            format!("expected an adapter of PEFT, with a file {CONFIG}, found none"),
        ));
    }
    Ok(folder.to_path_buf())
}
