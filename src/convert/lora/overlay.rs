//! A checkpoint in which some tensors are an adapter's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::adapter::Adapter;
use crate::convert::checkpoint_reader::{CheckpointReader, CheckpointTensor};
use crate::convert::names::Paths;
use crate::convert::stored_tensor::FileConfig;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{
    Module, Orientation, TensorId, TensorSpec, checkpoint_paths_of, tensors,
};

/// The base with tensors in place of its own, and besides.
pub(super) struct Overlay {
    base: Box<dyn CheckpointReader>,
    tensors: Vec<CheckpointTensor>,
    origins: Vec<Origin>,
}

/// Where a tensor comes from: its file, and its number there.
enum Origin {
    Base(usize),
    Adapter(Arc<Adapter>, usize),
}

impl Overlay {
    /// Puts the whole tensors of `adapters` over `base`. Also returns the path and the index of
    /// each.
    ///
    /// # Errors
    /// [`Error::Format`] when two adapters have the same tensor, or one has a shape that a GGUF
    /// file as the base cannot take; [`Error::Unsupported`] for a matrix that would have to be
    /// turned.
    pub(super) fn new(
        base: Box<dyn CheckpointReader>,
        adapters: &[Arc<Adapter>],
        model: &Hyperparameters,
    ) -> Result<(Self, Vec<(String, usize)>)> {
        let is_gguf = base.gguf().is_some();
        let mut tensors = base.tensors().to_vec();
        let by_path = by_path(base.as_ref(), model)?;
        let head = checkpoint_paths_of(Module::Output).first().copied();
        let embedding = checkpoint_paths_of(Module::TokenEmbedding).first().copied();
        let is_new = |path: Option<&str>| {
            path.is_some_and(|path| adapters.iter().any(|one| one.whole.contains_key(path)))
        };
        // A head that is the base's embedding stays what it was.
        let keeps_head = is_new(embedding)
            && !is_new(head)
            && model.tied_head
            && model.class.has_language_head()
            && !head.is_some_and(|head| by_path.contains_key(head));
        let mut origins: Vec<Origin> = (0..tensors.len()).map(Origin::Base).collect();
        let mut places = Vec::new();
        let mut replaced: HashMap<&str, &str> = HashMap::new();
        for adapter in adapters {
            for (path, &index) in &adapter.whole {
                let own = adapter.tensor(index)?;
                let place = format!("{}: tensor '{}'", adapter.place, own.name);
                if let Some(other) = replaced.insert(path, &adapter.place) {
                    return Err(Error::format(
                        place,
                        format!("the adapter {other} has it, too, and one would replace the other"),
                    ));
                }
                let mut tensor = own.clone();
                if is_gguf {
                    tensor.name =
                        gguf_name(path, model).map_err(|error| error.within(place.clone()))?;
                }
                let origin = Origin::Adapter(Arc::clone(adapter), index);
                let number = by_path.get(path).copied().unwrap_or(tensors.len());
                if let (Some(old), Some(place_of)) =
                    (tensors.get_mut(number), origins.get_mut(number))
                {
                    if is_gguf && old.shape != tensor.shape {
                        return Err(Error::format(
                            place,
                            format!(
                                "expected shape {:?}, as the GGUF file has it, found {:?}; merge \
                                 into the checkpoint that it was made from",
                                old.shape, tensor.shape
                            ),
                        ));
                    }
                    tensor.name.clone_from(&old.name);
                    let mut old = std::mem::replace(old, tensor);
                    let old_origin = std::mem::replace(place_of, origin);
                    if Some(path.as_str()) == embedding && keeps_head {
                        old.name = name_of_head(is_gguf);
                        tensors.push(old);
                        origins.push(old_origin);
                    }
                } else {
                    if !is_gguf {
                        tensor.name.clone_from(path);
                    }
                    tensors.push(tensor);
                    origins.push(origin);
                }
                places.push((path.clone(), number));
            }
        }
        let overlay = Self {
            base,
            tensors,
            origins,
        };
        Ok((overlay, places))
    }
}

/// What the head is called in a source.
fn name_of_head(is_gguf: bool) -> String {
    if is_gguf {
        return TensorId::OUTPUT.gguf_name();
    }
    let paths = checkpoint_paths_of(Module::Output);
    paths.first().copied().unwrap_or_default().to_owned()
}

/// The base's tensors by their paths in a checkpoint.
fn by_path(base: &dyn CheckpointReader, model: &Hyperparameters) -> Result<HashMap<String, usize>> {
    let names = || base.tensors().iter().map(|tensor| tensor.name.as_str());
    if base.gguf().is_none() {
        let paths = Paths::of(names())?.paths;
        return Ok(paths.into_iter().zip(0..).collect());
    }
    let indices: HashMap<&str, usize> = names().zip(0..).collect();
    let paths = tensors(model).filter_map(|spec| {
        let index = *indices.get(spec.name.as_str())?;
        Some((spec.checkpoint_paths().next()?, index))
    });
    Ok(paths.collect())
}

/// The name in a GGUF file of the tensor at `path`.
fn gguf_name(path: &str, model: &Hyperparameters) -> Result<String> {
    let is_it = |spec: &TensorSpec| spec.checkpoint_paths().any(|known| known == path);
    match tensors(model).find(is_it) {
        Some(spec) if spec.entry.orientation == Orientation::Transposed => Err(Error::Unsupported(
            "a matrix that is saved whole; merge it into the checkpoint that the GGUF file was \
                 made from"
                .to_owned(),
        )),
        Some(spec) => Ok(spec.name),
        None if checkpoint_paths_of(Module::Output).contains(&path) => {
            Ok(TensorId::OUTPUT.gguf_name())
        }
        None => Err(Error::Unsupported(format!(
            "the model in the GGUF file has no '{path}'"
        ))),
    }
}

impl CheckpointReader for Overlay {
    fn tensors(&self) -> &[CheckpointTensor] {
        &self.tensors
    }

    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match self.origins.get(index) {
            Some(Origin::Adapter(adapter, number)) => adapter.data(*number),
            Some(Origin::Base(number)) => self.base.data(*number),
            None => Err(Error::Internal(format!("the source has no tensor {index}"))),
        }
    }

    fn release(&self, index: usize) {
        if let Some(Origin::Base(number)) = self.origins.get(index) {
            self.base.release(*number);
        }
    }

    fn config(&self) -> Option<&FileConfig> {
        self.base.config()
    }

    fn notes(&self) -> &[String] {
        self.base.notes()
    }

    fn gguf(&self) -> Option<&Gguf> {
        self.base.gguf()
    }
}
