//! Adapters of PEFT (`LoRA`, with and without magnitudes) merged into the weights of their base.
//!
//! An adapter has a pair of thin matrices for some modules, whose product is added to the module's
//! weight, and may have whole tensors in place of the base's. The whole ones are put over the base
//! ([`overlay`]); products are added to each row as it is read ([`product`]), in f32, before it is
//! quantized. So one pass over the source is enough, and one tensor of an adapter in memory. Every
//! tensor of an adapter is used, or the conversion is refused.

mod adapter;
mod config;
mod names;
mod overlay;
pub(super) mod product;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::checkpoint_reader::CheckpointReader;
use super::find_tensors::Found;
use super::options::LoraAdapter;
use crate::error::{Error, Result};
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{Module, Part, TensorSpec, checkpoint_paths_of};
use adapter::Adapter;
use names::AdapterPart;
use overlay::Overlay;
use product::Product;

/// The adapters of a conversion.
#[derive(Default)]
pub(super) struct Adapters {
    opened: Vec<Arc<Adapter>>,
    /// Paths of the tensors that are an adapter's, and their indices in the source.
    whole: Vec<(String, usize)>,
    /// What is added to each of the model's tensors, by its number in the file.
    planned: BTreeMap<usize, Vec<PlannedProduct>>,
}

/// A product, before it is read.
struct PlannedProduct {
    adapter: Arc<Adapter>,
    scale: f32,
    rank: usize,
    kind: Kind,
    magnitudes: Option<usize>,
}

/// The tensors of a product, by their numbers in the adapter.
enum Kind {
    /// Of a linear layer.
    Linear { a: usize, b: usize },
    /// Of an embedding, whose factors are stored the other way round.
    Embedding { a: usize, b: usize },
    /// A vector.
    Bias(usize),
}

impl Adapters {
    /// Opens adapters.
    ///
    /// # Errors
    /// Those of their files; [`Error::Argument`] for a scale that is not finite.
    pub(super) fn open(given: &[LoraAdapter]) -> Result<Self> {
        if let Some(wrong) = given.iter().find(|one| !one.scale.is_finite()) {
            return Err(Error::Argument(format!(
                "adapter {}: expected a finite scale, found {}",
                wrong.path.display(),
                wrong.scale
            )));
        }
        let adapters = given.iter().map(|one| Adapter::open(one).map(Arc::new));
        Ok(Self {
            opened: adapters.collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// The base with the adapters' whole tensors in it.
    ///
    /// # Errors
    /// Those of [`Overlay::new`].
    pub(super) fn over(
        &mut self,
        base: Box<dyn CheckpointReader>,
        model: &Hyperparameters,
    ) -> Result<Box<dyn CheckpointReader>> {
        if self.opened.iter().all(|one| one.whole.is_empty()) {
            return Ok(base);
        }
        let (overlay, whole) = Overlay::new(base, &self.opened, model)?;
        self.whole = whole;
        Ok(Box::new(overlay))
    }

    /// Whether the head and the token embedding become different matrices: an adapter has a product
    /// for one of them.
    pub(super) fn separate_head(&self) -> bool {
        let both = [Module::TokenEmbedding, Module::Output];
        let paths = both.into_iter().flat_map(checkpoint_paths_of);
        let mut modules = paths.filter_map(|path| path.strip_suffix(".weight"));
        modules.any(|module| {
            let mut adapters = self.opened.iter();
            adapters.any(|one| one.modules.contains_key(module))
        })
    }

    /// Finds the tensor of the model that each product is for. Returns what was merged, a line for
    /// each adapter, and what the user should know.
    ///
    /// # Errors
    /// [`Error::Format`] for tensors of other shapes, or without their counterpart;
    /// [`Error::Unsupported`] for tensors that fit nothing in the model, and for a base whose
    /// weights are quantized.
    pub(super) fn assign(
        &mut self,
        found: &[Found],
        reader: &dyn CheckpointReader,
    ) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for adapter in &self.opened {
            let mut used = HashSet::new();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (number, one) in found.iter().enumerate() {
                let Some((module, product)) = planned(adapter, &one.spec, &mut used)
                    .map_err(|error| error.within(adapter.place.clone()))?
                else {
                    continue;
                };
                refuse_quantized(one, reader)?;
                self.planned.entry(number).or_default().push(product);
                if one.spec.id.part == Part::Weight {
                    *counts.entry(without_layer(module)).or_default() += 1;
                }
            }
            let all = adapter.modules.values().flat_map(BTreeMap::values);
            let unused = all.copied().filter(|index| !used.contains(index)).min();
            if let Some(index) = unused {
                return Err(nothing_for(adapter, index));
            }
            self.refuse_unused_whole(adapter, found)?;
            lines.extend(adapter.config.warnings.iter().cloned());
            lines.push(summary(adapter, &counts));
        }
        Ok(lines)
    }

    /// Refuses a whole tensor that is not in the model, unless it is a head that equals the
    /// embedding.
    fn refuse_unused_whole(&self, adapter: &Arc<Adapter>, found: &[Found]) -> Result<()> {
        let used: HashSet<usize> = found.iter().filter_map(|one| one.index).collect();
        let has_output = found.iter().any(|one| one.spec.id.module == Module::Output);
        for (path, index) in &self.whole {
            let is_tied =
                checkpoint_paths_of(Module::Output).contains(&path.as_str()) && !has_output;
            if let (false, false, Some(own)) =
                (used.contains(index), is_tied, adapter.whole.get(path))
            {
                return Err(nothing_for(adapter, *own));
            }
        }
        Ok(())
    }

    /// Reads what is added to the model's tensor `number`.
    ///
    /// # Errors
    /// Those of reading the adapters.
    pub(super) fn products(&self, number: usize, spec: &TensorSpec) -> Result<Vec<Product>> {
        let columns = spec.columns() as usize;
        let rows = (spec.elements() / spec.columns().max(1)) as usize;
        let planned = self.planned.get(&number).into_iter().flatten();
        planned.map(|one| one.read(rows, columns)).collect()
    }
}

impl PlannedProduct {
    fn read(&self, rows: usize, columns: usize) -> Result<Product> {
        let read = |index, shape, transposed| {
            let matrix = self.adapter.matrix(index, shape, transposed);
            matrix.map_err(|error| error.within(self.adapter.place.clone()))
        };
        let (left, right) = match self.kind {
            Kind::Linear { a, b } => (
                read(b, (rows, self.rank), false)?,
                read(a, (self.rank, columns), false)?,
            ),
            Kind::Embedding { a, b } => (
                read(a, (rows, self.rank), true)?,
                read(b, (self.rank, columns), true)?,
            ),
            Kind::Bias(bias) => (vec![1.0; rows], read(bias, (rows, columns), false)?),
        };
        let magnitudes = self.magnitudes.map(|index| read(index, (1, rows), false));
        Ok(Product {
            left,
            right,
            scale: self.scale,
            magnitudes: magnitudes.transpose()?,
        })
    }
}

/// The product that an adapter has for a tensor of the model, and the module's path. The adapter's
/// tensors that it uses are added to `used`.
fn planned<'a>(
    adapter: &'a Arc<Adapter>,
    spec: &TensorSpec,
    used: &mut HashSet<usize>,
) -> Result<Option<(&'a str, PlannedProduct)>> {
    let mut modules = spec.checkpoint_paths().filter_map(|path| {
        let module = path.rsplit_once('.').map(|(module, _)| module.to_owned())?;
        adapter.modules.get_key_value(&module)
    });
    let Some((module, parts)) = modules.next() else {
        return Ok(None);
    };
    let get = |part| parts.get(&part).copied();
    let columns = spec.columns();
    let rows = spec.elements() / columns.max(1);
    let pair = |a: Option<usize>, b: Option<usize>| match (a, b) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        _ => Err(Error::format(
            format!("adapter of '{module}'"),
            "expected two factors, A and B, found one",
        )),
    };
    let linear = pair(get(AdapterPart::A), get(AdapterPart::B))?;
    let embedding = pair(get(AdapterPart::EmbeddingA), get(AdapterPart::EmbeddingB))?;
    let is_lookup = matches!(
        spec.id.module,
        Module::TokenEmbedding | Module::PositionEmbedding
    );
    let magnitudes = get(AdapterPart::Magnitude);
    let (first, kind) = match (spec.id.part, linear, embedding) {
        (Part::Weight, Some((a, b)), None) if !is_lookup && !spec.is_vector() => {
            (a, Kind::Linear { a, b })
        }
        (Part::Weight, None, Some((a, b))) if is_lookup && magnitudes.is_none() => {
            (a, Kind::Embedding { a, b })
        }
        // Without factors for the weight the rank is not known.
        (Part::Bias, Some((a, _)), None) => match get(AdapterPart::BiasOfB) {
            Some(bias) => (a, Kind::Bias(bias)),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let rank = adapter.tensor(first)?.shape.first().copied().unwrap_or(0);
    let scale = adapter.config.scale(module, rank)?;
    let (tensors, magnitudes) = match kind {
        Kind::Linear { a, b } => (vec![(a, [rank, columns]), (b, [rows, rank])], magnitudes),
        Kind::Embedding { a, b } => (vec![(a, [rank, rows]), (b, [columns, rank])], None),
        Kind::Bias(bias) => (vec![(bias, [1, columns])], None),
    };
    let magnitude = magnitudes.map(|index| (index, [1, rows]));
    for (index, expected) in tensors.into_iter().chain(magnitude) {
        check_shape(adapter, index, expected)?;
        used.insert(index);
    }
    let product = PlannedProduct {
        adapter: Arc::clone(adapter),
        scale: (scale * f64::from(adapter.factor)) as f32,
        rank: if matches!(kind, Kind::Bias(_)) {
            1
        } else {
            rank as usize
        },
        kind,
        magnitudes,
    };
    Ok(Some((module, product)))
}

/// Checks the shape of an adapter's tensor; a vector may be without its axis of size 1.
fn check_shape(adapter: &Adapter, index: usize, expected: [u64; 2]) -> Result<()> {
    let tensor = adapter.tensor(index)?;
    let fits = match (&tensor.shape[..], expected) {
        ([only], [1, columns]) => *only == columns,
        ([rows, 1], [1, columns]) if *rows == columns => true,
        (shape, expected) => shape == expected,
    };
    if fits {
        return Ok(());
    }
    Err(Error::format(
        format!("tensor '{}'", tensor.name),
        format!(
            "expected shape {expected:?}, found {:?}; is the adapter for another model?",
            tensor.shape
        ),
    ))
}

/// A product is added to weights as they were trained.
fn refuse_quantized(found: &Found, reader: &dyn CheckpointReader) -> Result<()> {
    let tensor = found.index.and_then(|index| reader.tensors().get(index));
    let is_quantized = |kind: crate::gguf::TensorType| kind.is_quantized();
    match tensor {
        Some(tensor) if tensor.tensor_type.is_some_and(is_quantized) => {
            Err(Error::Unsupported(format!(
                "tensor '{}': an adapter is merged into f32, f16 or bf16, and the source has {}; \
                 convert from the checkpoint that it was made from",
                tensor.name, tensor.dtype
            )))
        }
        _ => Ok(()),
    }
}

fn nothing_for(adapter: &Adapter, index: usize) -> Error {
    let name = adapter.tensor(index).map_or("", |tensor| &tensor.name);
    Error::Unsupported(format!(
        "{}: tensor '{name}': the model has nothing that it could be merged into; is the adapter \
         for another model?",
        adapter.place
    ))
}

/// A module's path without the layer: `attn.c_attn` for `h.3.attn.c_attn`.
fn without_layer(module: &str) -> &str {
    let rest = module.strip_prefix("h.");
    rest.and_then(|rest| rest.split_once('.'))
        .map_or(module, |(_, path)| path)
}

fn summary(adapter: &Adapter, counts: &BTreeMap<&str, usize>) -> String {
    let mut parts: Vec<String> = counts
        .iter()
        .map(|(module, count)| format!("{module} ({count})"))
        .collect();
    parts.extend(adapter.whole.keys().map(|path| format!("{path} as it is")));
    let factor = match adapter.factor {
        1.0 => String::new(),
        factor => format!(", scaled by {factor}"),
    };
    format!("{}: merged {}{factor}", adapter.place, parts.join(", "))
}
