//! A model file, opened: its description, its weights, its tokenizer.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::memory::limits::Limits;
use super::memory::plan;
use super::memory::unmapped;
use super::options::ModelOptions;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::ggml::map::{MappedFile, open_model_file};
use crate::gguf::{Bytes, Gguf, TensorType, refuse_part};
use crate::grammar::TokenTrie;
use crate::model::device_map::DeviceMap;
use crate::model::task_head::TaskHead;
use crate::model::weights::{LoadOptions, Weights};
use crate::spec::tensor_table::TensorId;
use crate::spec::{Hyperparameters, ModelTensors};
use crate::tokenizer::Tokenizer;

/// A GPT-2 ready to work. Sessions on any number of threads share one.
pub struct Model {
    gguf: Gguf,
    /// Where the file is mapped, if it is.
    map: Option<Arc<MappedFile>>,
    hyperparameters: Hyperparameters,
    devices: DeviceMap,
    weights: Weights,
    task_head: Option<TaskHead>,
    /// Where the position embeddings are in the file.
    position_embeddings: Range<usize>,
    row_kernels: bool,
    /// A model and its tokenizer come in one file and are used together: it is kept here, made when
    /// it is first asked for, so that every user of the model shares one. Nothing else of this room
    /// looks at it.
    tokenizer: OnceLock<Arc<Tokenizer>>,
    /// The same tokens as grammars need them; likewise.
    token_trie: OnceLock<TokenTrie>,
    limits: Limits,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = formatter.debug_struct("Model");
        parts
            .field("hyperparameters", &self.hyperparameters)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens a GGUF file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is broken or lacks
    /// something, [`Error::Unsupported`] when it is not a GPT-2 this library runs,
    /// [`Error::Memory`] when it does not fit, [`Error::Argument`] when there is no device of a
    /// name that was given. Places in the messages begin with the file's name.
    pub fn open(path: impl AsRef<Path>, options: &ModelOptions) -> Result<Arc<Self>> {
        let path = path.as_ref();
        let map = open_model_file(path).map_err(|error| match &error {
            Error::Io { source, .. } if source.kind() == ErrorKind::OutOfMemory => {
                unmapped::refuse(path, options, &error)
            }
            _ => error,
        })?;
        let map = Arc::new(map);
        Self::load(Arc::<MappedFile>::clone(&map), Some((map, path)), options)
            .map_err(|error| error.within(path.display().to_string()))
    }

    /// Opens a GGUF file that is in memory already, such as one embedded in a program. Weights are
    /// used in place when the bytes begin at a multiple of 32, and copied otherwise.
    ///
    /// # Errors
    /// As [`Model::open`], without a file's name.
    pub fn from_bytes(bytes: Bytes, options: &ModelOptions) -> Result<Arc<Self>> {
        Self::load(bytes, None, options)
    }

    fn load(
        bytes: Bytes,
        file: Option<(Arc<MappedFile>, &Path)>,
        options: &ModelOptions,
    ) -> Result<Arc<Self>> {
        let gguf = Gguf::parse(bytes)?;
        refuse_part(&gguf, file.as_ref().map(|(_, path)| *path))?;
        let map = file.map(|(map, _)| map);
        let hyperparameters = Hyperparameters::from_gguf(&gguf)?;
        let devices = DeviceMap::choose(
            &options.devices,
            options.gpu_layers,
            hyperparameters.n_layer,
        )?;
        let tensors = ModelTensors::find(&gguf, &hyperparameters)?;
        let mapped = map.as_ref().map_or(0, |map| (**map).as_ref().len());
        let limits = Limits::now(options.memory, mapped);
        // What other devices hold is not planned.
        let repack = if devices.gpus().is_empty() {
            plan::admit(&gguf, &tensors, &hyperparameters, options, &limits)?
        } else {
            options.repack
        };
        if let Some(map) = &map {
            map.prefetch();
        }
        let release = |range| {
            if let Some(map) = &map {
                map.release(range);
            }
        };
        let aligned = (**gguf.file_bytes())
            .as_ref()
            .as_ptr()
            .addr()
            .is_multiple_of(64);
        let load = LoadOptions {
            in_place: options.map && aligned,
            repack,
            pack: options.own_kernels && repack,
        };
        let task_head = TaskHead::load(&gguf, &tensors, &hyperparameters)?;
        let weights = Weights::load(&gguf, &tensors, &hyperparameters, &devices, load, &release)?;
        let positions = tensors.get(TensorId::POSITION_EMBEDDING);
        let position_embeddings = positions.map_or(0..0, |tensor| {
            let start = tensor.info.offset as usize;
            start..start.saturating_add(tensor.info.bytes as usize)
        });
        tracing::debug!(
            "weights: {} bytes used in place, {} copied or packed for {} kernels",
            weights.mapped_bytes,
            weights.own_bytes,
            if weights.all_packed { "our" } else { "ggml's" }
        );
        if options.lock {
            weights.lock()?;
            map.iter().try_for_each(|map| map.lock())?;
        }
        Ok(Arc::new(Self {
            gguf,
            map,
            hyperparameters,
            devices,
            weights,
            task_head,
            position_embeddings,
            row_kernels: options.own_kernels,
            tokenizer: OnceLock::new(),
            token_trie: OnceLock::new(),
            limits,
        }))
    }

    /// The file's description: metadata and tensors.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Sizes and switches of the model.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// The tokenizer, made when it is first asked for.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Unsupported`] when the file carries none that can be used.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        Ok(self.shared_tokenizer()?)
    }

    /// [`Model::tokenizer`], for who keeps it.
    ///
    /// # Errors
    /// As [`Model::tokenizer`].
    pub fn shared_tokenizer(&self) -> Result<&Arc<Tokenizer>> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Arc::new(Tokenizer::from_metadata(self.gguf.metadata())?);
        // It has its own form of the vocabulary, which is nearly all there is before the tensors.
        if let Some(map) = &self.map {
            let tensors = self.gguf.tensors().iter();
            map.release(0..tensors.map(|info| info.offset as usize).min().unwrap_or(0));
        }
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// The tokens as a [`Grammar`](crate::grammar::Grammar) needs them, made when they are first
    /// asked for: a few tenths of a second for 50,000 tokens.
    ///
    /// # Errors
    /// As [`Model::tokenizer`] and [`TokenTrie::new`].
    pub fn token_trie(&self) -> Result<&TokenTrie> {
        if let Some(trie) = self.token_trie.get() {
            return Ok(trie);
        }
        let trie = TokenTrie::new(self.shared_tokenizer()?)?;
        Ok(self.token_trie.get_or_init(|| trie))
    }

    /// Whether the file carries a tokenizer; without one a model works on ids alone.
    pub fn has_tokenizer(&self) -> bool {
        self.gguf.metadata().contains("tokenizer.ggml.model")
    }

    /// Bytes of the weights in this machine's memory: used in place in the file, and in memory of
    /// their own. What other devices hold is in
    /// [`Session::device_memory`](super::Session::device_memory).
    pub fn weight_bytes(&self) -> (usize, usize) {
        (self.weights.mapped_bytes, self.weights.own_bytes)
    }

    /// A number that tells this file's model from others: a checksum over the file's header and the
    /// first bytes of every tensor. Where the file lies does not matter.
    pub fn fingerprint(&self) -> u64 {
        const SAMPLE: usize = 4096;
        let file = (**self.gguf.file_bytes()).as_ref();
        let data = |info| self.gguf.tensor_data(info);
        let first = self.gguf.tensors().iter().map(|info| info.offset as usize);
        let header = first.min().unwrap_or(file.len()).min(file.len());
        let mut checksum = Checksum::default();
        checksum.update(&file[..header]);
        for bytes in self.gguf.tensors().iter().map(data) {
            checksum.update(&bytes[..bytes.len().min(SAMPLE)]);
        }
        checksum.finish()
    }

    /// Gives back the mapped pages of the position embeddings. A token reads one row, which no
    /// other token of its sequence reads again; until then they would be memory in use.
    pub(super) fn release_positions(&self) {
        if let Some(map) = &self.map {
            map.release(self.position_embeddings.clone());
        }
    }

    /// Whether a pass over `rows` tokens takes hardly longer when each gets the bits that it has
    /// alone ([`Batch::batch_invariant`](super::Batch)). `docs/performance.md` has what it takes
    /// for which type.
    pub fn is_cheaply_batch_invariant(&self, rows: usize) -> bool {
        self.weights.are_cheaply_batch_invariant(rows)
    }

    /// The type that most of the model's work is done in: that of its first layer's projection.
    pub(crate) fn matrix_type(&self) -> Result<TensorType> {
        let layer = self.weights.layers.first();
        layer.map_or(Ok(TensorType::F32), |layer| {
            layer.attn_qkv.weight.tensor_type()
        })
    }

    /// Whether this library's kernels compute the steps between products.
    pub(super) fn uses_row_kernels(&self) -> bool {
        self.row_kernels
    }

    /// What bounded the process's memory when the model was opened.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn devices(&self) -> &DeviceMap {
        &self.devices
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(crate) fn task_head(&self) -> Option<&TaskHead> {
        self.task_head.as_ref()
    }

    /// Refuses ids that are not of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first such id and where it stands.
    pub fn check_tokens(&self, tokens: &[crate::TokenId]) -> Result<()> {
        let vocabulary = self.hyperparameters.vocab_size;
        match tokens
            .iter()
            .position(|&token| token as usize >= vocabulary)
        {
            None => Ok(()),
            Some(index) => Err(Error::Argument(format!(
                "token id {} at index {index}: expected ids below the vocabulary's {vocabulary}",
                tokens[index]
            ))),
        }
    }
}
