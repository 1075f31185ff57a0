//! The plan: which type each tensor gets and how large the file will be, before any work.

use std::collections::BTreeMap;
use std::path::Path;

use super::file_types::fit_to_columns;
use super::find_tensors::{Found, find_tensors};
use super::header::Description;
use super::imatrix::ImportanceMatrix;
use super::lora::Adapters;
use super::options::{ConvertOptions, TypeOptions};
use super::source::Source;
use crate::error::Result;
use crate::gguf::{GgufHeader, TensorType};
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{Module, TensorSpec};

/// The type chosen for a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// The type it gets.
    pub tensor_type: TensorType,
    /// The type it would have had if its columns were a multiple of the block size.
    pub fallback_from: Option<TensorType>,
}

/// The type of one tensor.
pub(super) fn choose_type(
    spec: &TensorSpec,
    hyperparameters: &Hyperparameters,
    options: &TypeOptions,
    importance: bool,
) -> Choice {
    let exactly = |tensor_type| Choice {
        tensor_type,
        fallback_from: None,
    };
    let module = spec.id.module;
    // Vectors, positions and the small heads are computed with in f32.
    if spec.is_vector() || matches!(module, Module::PositionEmbedding | Module::TaskHead) {
        return exactly(TensorType::F32);
    }
    let embedding_is_head = hyperparameters.predicts_tokens() && hyperparameters.tied_head;
    let is_head =
        module == Module::Output || (module == Module::TokenEmbedding && embedding_is_head);
    // llama.cpp's order: the option made for this tensor, then patterns, then the head's option for
    // an embedding that is the head.
    let own_option = match module {
        Module::TokenEmbedding => options.embedding_type,
        Module::Output => options.output_type,
        _ => None,
    };
    let asked = own_option
        .or_else(|| {
            options
                .overrides
                .iter()
                .find_map(|known| known.type_for(&spec.name))
        })
        .or(options.output_type.filter(|_| is_head));
    let base = options.file_type.base;
    let wanted = asked.unwrap_or_else(|| match (is_head, spec.id.layer) {
        (true, _) => head_type(base),
        (false, Some(layer)) => {
            options
                .file_type
                .type_in_layer(module, layer, hyperparameters.n_layer, importance)
        }
        (false, None) => base,
    });
    let columns = spec.columns();
    let mut fitting = fit_to_columns(wanted, columns);
    // llama.cpp goes to q8_0 for the head when the file's own blocks do not fit the columns.
    if asked.is_none()
        && is_head
        && base.is_quantized()
        && !columns.is_multiple_of(base.block_size() as u64)
    {
        fitting = fit_to_columns(TensorType::Q8_0, columns);
    }
    Choice {
        tensor_type: fitting,
        fallback_from: (fitting != wanted).then_some(wanted),
    }
}

/// The head decides over the output's probabilities alone, so it gets more bits than the rest.
fn head_type(base: TensorType) -> TensorType {
    if !base.is_quantized() || base == TensorType::Q8_0 {
        base
    } else {
        TensorType::Q6_K
    }
}

/// What will be written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tensors in file order.
    pub tensors: Vec<PlannedTensor>,
    /// The exact size of the file.
    pub bytes: u64,
    /// Bits of tensor data per weight, all tensors counted.
    pub bits_per_weight: f64,
    /// What the user should know: fallbacks, ignored fields, left-out tensors.
    pub warnings: Vec<String>,
}

/// A tensor of the file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its GGUF name.
    pub name: String,
    /// Its shape, columns first.
    pub shape: Vec<u64>,
    /// Its type in the source, as the source names it; `zeros` for a bias the source is without.
    pub source_dtype: String,
    /// The type it gets.
    pub tensor_type: TensorType,
    /// The type it would have got if its columns were a multiple of the block size.
    pub fallback_from: Option<TensorType>,
    /// Bytes of its data.
    pub bytes: u64,
}

/// Everything that is known before the first weight is read.
pub(super) struct Prepared {
    /// The checkpoint.
    pub source: Source,
    /// The model's tensors in file order and where they are in the checkpoint.
    pub found: Vec<Found>,
    /// What is added to the tensors.
    pub adapters: Adapters,
    /// Weights of columns; empty when none were given.
    pub importance: ImportanceMatrix,
    /// The header of the output.
    pub header: GgufHeader,
    /// The plan shown to the user; its tensors are in the order of `found`.
    pub plan: Plan,
}

impl Prepared {
    /// Opens the source and decides everything.
    pub(super) fn new(path: &Path, options: &ConvertOptions) -> Result<Self> {
        let mut source = Source::open(path)?;
        let place = path.display().to_string();
        let mut description = Description::of(&source)?;
        let mut adapters = Adapters::open(&options.adapters)?;
        source.reader = adapters.over(source.reader, &description.hyperparameters)?;
        let (found, mut warnings) = find_tensors(
            source.reader.as_ref(),
            &mut description.hyperparameters,
            description.claim.as_ref(),
            adapters.separate_head(),
        )
        .map_err(|error| error.within(&place))?;
        warnings.extend(adapters.assign(&found, source.reader.as_ref())?);
        description.hyperparameters.validate(&place)?;
        let importance = match &options.importance {
            Some(path) => ImportanceMatrix::open(path)?,
            None => ImportanceMatrix::default(),
        };
        let (mut header, notes) = description.header(&source, options)?;
        warnings.extend(source.reader.notes().iter().cloned());
        warnings.extend(notes);
        let mut tensors = Vec::with_capacity(found.len());
        for one in &found {
            let choice = choose_type(
                &one.spec,
                &description.hyperparameters,
                &options.types,
                options.importance.is_some(),
            );
            let weights = importance.for_tensor(&one.spec.name, one.spec.columns())?;
            if options.importance.is_some()
                && weights.is_none()
                && choice.tensor_type.is_quantized()
            {
                warnings.push(format!(
                    "tensor '{}': the importance matrix has nothing for it",
                    one.spec.name
                ));
            }
            header.tensor(&one.spec.name, &one.spec.shape, choice.tensor_type)?;
            tensors.push(planned(one, choice, &source)?);
        }
        warnings.extend(fallback_warnings(&tensors));
        warnings.extend(requantized_warning(&source, &tensors));
        let weights: u64 = found.iter().map(|one| one.spec.elements()).sum();
        let data: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(Self {
            plan: Plan {
                bytes: header.total_bytes(),
                bits_per_weight: data as f64 * 8.0 / weights as f64,
                tensors,
                warnings,
            },
            source,
            found,
            adapters,
            importance,
            header,
        })
    }
}

fn planned(found: &Found, choice: Choice, source: &Source) -> Result<PlannedTensor> {
    let described = found
        .index
        .and_then(|index| source.reader.tensors().get(index));
    Ok(PlannedTensor {
        name: found.spec.name.clone(),
        shape: found.spec.shape.clone(),
        source_dtype: described.map_or_else(|| "zeros".to_owned(), |tensor| tensor.dtype.clone()),
        tensor_type: choice.tensor_type,
        fallback_from: choice.fallback_from,
        bytes: choice.tensor_type.tensor_bytes(&found.spec.shape)?,
    })
}

/// One line for each pair of types, not for each tensor.
fn fallback_warnings(tensors: &[PlannedTensor]) -> Vec<String> {
    let mut counts: BTreeMap<(TensorType, TensorType, u64), usize> = BTreeMap::new();
    for tensor in tensors {
        if let (Some(wanted), Some(columns)) = (tensor.fallback_from, tensor.shape.first()) {
            *counts
                .entry((wanted, tensor.tensor_type, *columns))
                .or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|((wanted, instead, columns), count)| {
            format!(
                "{count} tensor(s) become {} instead of {}: {columns} columns are not a multiple \
                 of \
                 its block size {}",
                instead.name(),
                wanted.name(),
                wanted.block_size()
            )
        })
        .collect()
}

/// Quantizing what was quantized already adds both errors.
fn requantized_warning(source: &Source, tensors: &[PlannedTensor]) -> Option<String> {
    source.reader.gguf()?;
    let count = tensors
        .iter()
        .filter(|tensor| {
            TensorType::from_name(&tensor.source_dtype)
                .is_some_and(|from| from.is_quantized() && from != tensor.tensor_type)
        })
        .count();
    (count > 0).then(|| {
        format!(
            "{count} tensor(s) of the source are quantized already; quantizing from f32 or f16 \
             loses \
             less"
        )
    })
}
