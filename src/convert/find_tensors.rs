//! Finding a model's tensors in a checkpoint, whatever it calls them.

use std::collections::HashMap;

use super::checkpoint_reader::{CheckpointReader, CheckpointTensor};
use super::class::Claim;
use super::foreign::{check_leftovers, refuse_other_forms};
use super::form::Form;
use super::names::Paths;
use super::source_rows::SourceTensor;
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use crate::quant::can_dequantize;
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{
    Module, Orientation, Presence, TensorId, TensorSpec, checkpoint_paths_of, is_buffer, tensors,
};

/// Where a tensor of the model comes from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The tensor of the model.
    pub spec: TensorSpec,
    /// Its index in the checkpoint; `None` for a bias of a model without biases, which is zero.
    pub index: Option<usize>,
    /// Whether the checkpoint's matrix must be transposed.
    pub transposed: bool,
}

/// Elements compared at a time.
const ELEMENTS_COMPARED: usize = 1 << 16;

/// Finds every tensor of the model.
///
/// With `separate_head` a head that is the token embedding becomes a matrix of its own.
///
/// Sets `vocab_size` to the rows of the token embedding, and the class and `tied_head` from `claim`
/// (`None` for a GGUF file, which has them) and the weights. Returns warnings for tensors that are
/// left out.
///
/// # Errors
/// [`Error::Format`] for a tensor that is missing, appears twice, or has another shape;
/// [`Error::Unsupported`] for parts that are not converted.
pub(super) fn find_tensors(
    reader: &dyn CheckpointReader,
    hyperparameters: &mut Hyperparameters,
    claim: Option<&Claim>,
    separate_head: bool,
) -> Result<(Vec<Found>, Vec<String>)> {
    let gguf_names = reader.gguf().is_some();
    let mut warnings = Vec::new();
    let mut names = Names::new(reader.tensors(), gguf_names, &mut warnings)?;
    if !gguf_names {
        refuse_other_forms(&names.paths())?;
    }
    hyperparameters.vocab_size = names.vocabulary(hyperparameters)?;
    if let Some(claim) = claim {
        names.resolve_class(claim, hyperparameters, &mut warnings)?;
        if !separate_head {
            resolve_head(reader, &mut names, hyperparameters, &mut warnings)?;
        }
    }
    if separate_head {
        names.separate_head(hyperparameters);
    }
    let form = Form::of(hyperparameters, gguf_names, |spec| names.find(spec));
    warnings.extend(form.notes());
    let mut all = Vec::new();
    for spec in tensors(hyperparameters) {
        if form.is_zero(&spec) {
            all.push(Found {
                spec,
                index: None,
                transposed: false,
            });
            continue;
        }
        let index = names.take(&spec, hyperparameters)?;
        let tensor = tensor_at(reader, index)?;
        let is_conv1d = spec.entry.orientation == Orientation::Transposed;
        // What is stored the other way round twice is as the table has it.
        let swapped = tensor.swapped != (form.linear && is_conv1d);
        check(&spec, tensor, gguf_names, swapped)?;
        all.push(Found {
            transposed: !gguf_names && is_conv1d != swapped,
            spec,
            index: Some(index),
        });
    }
    warnings.extend(names.leftovers()?);
    Ok((all, warnings))
}

/// A checkpoint's tensors by name, without the prefix.
struct Names<'a> {
    tensors: &'a [CheckpointTensor],
    by_path: HashMap<String, usize>,
    /// Whether the source calls them as a GGUF file does.
    from_gguf: bool,
}

impl<'a> Names<'a> {
    fn new(
        tensors: &'a [CheckpointTensor],
        gguf_names: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        let paths = if gguf_names {
            names.map(str::to_owned).collect()
        } else {
            let paths = Paths::of(names)?;
            warnings.extend(paths.note);
            paths.paths
        };
        let mut by_path = HashMap::with_capacity(tensors.len());
        for (index, path) in paths.into_iter().enumerate() {
            if let Some(first) = by_path.insert(path, index) {
                let name = |index: usize| tensors.get(index).map_or("", |tensor| &tensor.name);
                return Err(Error::format(
                    format!("tensor '{}'", name(index)),
                    format!(
                        "appears with and without the prefix: it is '{}', too",
                        name(first)
                    ),
                ));
            }
        }
        Ok(Self {
            tensors,
            by_path,
            from_gguf: gguf_names,
        })
    }

    /// The tensor of the checkpoint, when it is there.
    fn find(&self, spec: &TensorSpec) -> Option<&'a CheckpointTensor> {
        let mut candidates = self.candidates(spec).into_iter();
        let index = candidates.find_map(|path| self.by_path.get(path.as_str()))?;
        self.tensors.get(*index)
    }

    /// The names a tensor may have in this checkpoint.
    fn candidates(&self, spec: &TensorSpec) -> Vec<String> {
        if self.from_gguf {
            vec![spec.name.clone()]
        } else {
            spec.checkpoint_paths().collect()
        }
    }

    /// Removes the tensor from the names and returns its index.
    fn take(&mut self, spec: &TensorSpec, hyperparameters: &Hyperparameters) -> Result<usize> {
        let candidates = self.candidates(spec);
        let mut found = candidates
            .iter()
            .filter_map(|path| self.by_path.remove(path.as_str()));
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => Err(Error::format(
                format!("tensor '{}'", candidates.join("' or '")),
                "appears under both names",
            )),
            (None, _) => {
                let class = match spec.entry.presence {
                    Presence::Always => String::new(),
                    Presence::UntiedHead | Presence::HeadOf(_) => {
                        format!("; a {} needs it", hyperparameters.class.name())
                    }
                };
                Err(Error::format(
                    format!("tensor '{}'", candidates.join("' or '")),
                    format!("missing from the checkpoint{class}"),
                ))
            }
        }
    }

    /// Determines the class from the claim and the tensors.
    fn resolve_class(
        &self,
        claim: &Claim,
        hyperparameters: &mut Hyperparameters,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let paths = self.paths();
        let shape_of = |path: &str| {
            let tensor = self.tensors.get(*self.by_path.get(path)?)?;
            Some(tensor.torch_shape())
        };
        claim.resolve(&paths, &shape_of, hyperparameters, warnings)
    }

    /// Makes the head a matrix of its own; without one it is what the embedding is now.
    fn separate_head(&mut self, hyperparameters: &mut Hyperparameters) {
        if !hyperparameters.class.has_language_head() {
            return;
        }
        let names_of = |id: TensorId| -> Vec<String> {
            let paths = checkpoint_paths_of(id.module).iter();
            if self.from_gguf {
                vec![id.gguf_name()]
            } else {
                paths.map(|path| (*path).to_owned()).collect()
            }
        };
        let find = |id| {
            let mut names = names_of(id).into_iter();
            names.find_map(|name| self.by_path.get(&name).copied())
        };
        let (head, embedding) = (find(TensorId::OUTPUT), find(TensorId::TOKEN_EMBEDDING));
        if let (None, Some(index), true) = (head, embedding, hyperparameters.tied_head) {
            let name = names_of(TensorId::OUTPUT).into_iter().next();
            self.by_path.extend(name.map(|name| (name, index)));
        }
        hyperparameters.tied_head = false;
    }

    /// The rows of the token embedding, or of the head when that is all there is.
    fn vocabulary(&self, hyperparameters: &Hyperparameters) -> Result<usize> {
        let candidates: Vec<String> = tensors(hyperparameters)
            .filter(|spec| spec.id == TensorId::TOKEN_EMBEDDING)
            .flat_map(|spec| self.candidates(&spec))
            .chain(
                checkpoint_paths_of(Module::Output)
                    .first()
                    .map(ToString::to_string),
            )
            .collect();
        let tensor = candidates
            .iter()
            .find_map(|path| self.tensors.get(*self.by_path.get(path.as_str())?))
            .ok_or_else(|| {
                Error::format(
                    format!("tensor '{}'", candidates.join("' or '")),
                    "missing; is this a GPT-2 checkpoint?",
                )
            })?;
        match tensor.torch_shape()[..] {
            [rows, _] if rows > 0 => Ok(usize::try_from(rows).unwrap_or(usize::MAX)),
            _ => Err(Error::format(
                format!("tensor '{}'", tensor.name),
                format!("expected two axes, found shape {:?}", tensor.shape),
            )),
        }
    }

    /// The paths that are left, in order.
    fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self.by_path.keys().map(String::as_str).collect();
        paths.sort_unstable();
        paths
    }

    /// Checks the tensors that are left, but for buffers; returns what the user should know.
    fn leftovers(&self) -> Result<Vec<String>> {
        let is_left = |path: &&str| self.from_gguf || !is_buffer(path);
        let left: Vec<&str> = self.paths().into_iter().filter(is_left).collect();
        check_leftovers(&left)
    }
}

/// Determines from the configuration and the weights whether the head is the token embedding.
fn resolve_head(
    reader: &dyn CheckpointReader,
    names: &mut Names,
    hyperparameters: &mut Hyperparameters,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if !hyperparameters.class.has_language_head() {
        return Ok(());
    }
    let find = |names: &Names, module| {
        let paths = checkpoint_paths_of(module).iter();
        paths
            .copied()
            .find_map(|path| names.by_path.get(path).map(|index| (path, *index)))
    };
    let head = find(names, Module::Output);
    let embedding = find(names, Module::TokenEmbedding).map(|(_, index)| index);
    match (head, embedding) {
        (Some((path, index)), None) if hyperparameters.tied_head => {
            names.by_path.remove(path);
            let paths = checkpoint_paths_of(Module::TokenEmbedding).first();
            names
                .by_path
                .extend(paths.map(|path| ((*path).to_owned(), index)));
        }
        (Some((path, head)), Some(embedding)) => {
            if same_elements(reader, head, embedding)? {
                names.by_path.remove(path);
                hyperparameters.tied_head = true;
            } else {
                if hyperparameters.tied_head {
                    warnings.push(format!(
                        "'{path}' differs from the token embedding although the configuration ties \
                         them; both were kept"
                    ));
                }
                hyperparameters.tied_head = false;
            }
        }
        // Missing tensors are reported when they are looked for.
        _ => {}
    }
    Ok(())
}

/// Whether two matrices have equal elements.
fn same_elements(reader: &dyn CheckpointReader, first: usize, second: usize) -> Result<bool> {
    let (a, b) = (tensor_at(reader, first)?, tensor_at(reader, second)?);
    if a.torch_shape() != b.torch_shape() {
        return Ok(false);
    }
    let (a_data, b_data) = (reader.data(first)?, reader.data(second)?);
    if a.dtype == b.dtype && a.swapped == b.swapped {
        return Ok(a_data == b_data);
    }
    let (Some(a), Some(b)) = (matrix(a, &a_data)?, matrix(b, &b_data)?) else {
        return Ok(false);
    };
    let at_once = (ELEMENTS_COMPARED / a.columns.max(1)).clamp(1, a.rows.max(1));
    let mut values = (
        vec![0.0; at_once * a.columns],
        vec![0.0; at_once * a.columns],
    );
    let mut strip = Vec::new();
    for row in (0..a.rows).step_by(at_once) {
        let count = at_once.min(a.rows - row) * a.columns;
        let (left, right) = (&mut values.0, &mut values.1);
        left.truncate(count);
        right.truncate(count);
        a.read_rows(row, left, &mut strip)?;
        b.read_rows(row, right, &mut strip)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A checkpoint's matrix of floats, to be read row by row.
fn matrix<'a>(tensor: &CheckpointTensor, data: &'a [u8]) -> Result<Option<SourceTensor<'a>>> {
    let Some(tensor_type) = tensor.tensor_type else {
        return Ok(None);
    };
    let [rows, columns] = tensor.torch_shape()[..] else {
        return Ok(None);
    };
    let shape = (rows as usize, columns as usize);
    SourceTensor::new(&tensor.name, data, tensor_type, shape, tensor.swapped).map(Some)
}

fn tensor_at(reader: &dyn CheckpointReader, index: usize) -> Result<&CheckpointTensor> {
    reader
        .tensors()
        .get(index)
        .ok_or_else(|| Error::Internal(format!("the checkpoint has no tensor {index}")))
}

/// Checks a tensor's shape and type against the table.
fn check(
    spec: &TensorSpec,
    tensor: &CheckpointTensor,
    gguf_names: bool,
    swapped: bool,
) -> Result<()> {
    let place = || format!("tensor '{}'", tensor.name);
    let mut expected = if gguf_names {
        spec.shape.iter().rev().copied().collect()
    } else {
        spec.checkpoint_shape()
    };
    if swapped {
        expected.reverse();
    }
    let trimmed = |shape: &[u64]| -> Vec<u64> {
        let leading_ones = shape.iter().take_while(|axis| **axis == 1).count();
        shape.get(leading_ones..).unwrap_or_default().to_vec()
    };
    if trimmed(&tensor.shape) != trimmed(&expected) {
        let reversed: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        let hint = if reversed == expected && spec.entry.orientation == Orientation::Transposed {
            "; it is stored the other way round than the first layer's c_attn (Conv1D has [in, \
             out], a linear layer [out, in])"
        } else {
            "; does config.json belong to these weights?"
        };
        return Err(Error::format(
            place(),
            format!(
                "expected shape {expected:?}, found {:?}{hint}",
                tensor.shape
            ),
        ));
    }
    let readable = tensor.tensor_type.is_some_and(|tensor_type| {
        (gguf_names && can_dequantize(tensor_type))
            || matches!(
                tensor_type,
                TensorType::F64 | TensorType::F32 | TensorType::F16 | TensorType::BF16
            )
    });
    if !readable {
        return Err(Error::Unsupported(format!(
            "{}: elements of type {}; expected F32, F16, BF16 or F64",
            place(),
            tensor.dtype
        )));
    }
    Ok(())
}
