//! `gpt2 info`: what is in a GGUF file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use gpt2::gguf::{Gguf, TensorInfo, ValueRef};
use gpt2::session::{CacheType, kv_bytes};
use gpt2::spec::{Hyperparameters, ModelClass};
use serde_json::{Map, Value, json};

use crate::arguments::{self, ModelFile};
use crate::failure::Failure;
use crate::report;

/// Arrays up to this length are shown whole.
const SHOWN_ELEMENTS: usize = 16;

/// Show what is in a GGUF file and the memory it will need.
///
/// Any GGUF file will do, of any kind of model; the memory of the cache is known for GPT-2's only.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 info model-q4_0.gguf")]
pub(super) struct Arguments {
    /// The file
    file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFile,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let gguf = match &arguments.file {
        Some(path) => arguments::open_gguf(path)?,
        None => arguments.model.open()?,
    };
    let hyperparameters = Hyperparameters::from_gguf(&gguf).ok();
    let totals = Totals::of(&gguf);
    if arguments.json {
        return report::print_json(&document(&gguf, &totals, hyperparameters.as_ref()));
    }
    report::print(&description(&gguf, &totals, hyperparameters.as_ref()))
}

/// Sums over the tensors.
struct Totals {
    parameters: u64,
    bytes: u64,
    file_bytes: u64,
    /// Tensors and their bytes by type.
    types: BTreeMap<&'static str, (u64, u64)>,
}

impl Totals {
    fn of(gguf: &Gguf) -> Self {
        let mut types = BTreeMap::new();
        for tensor in gguf.tensors() {
            let (count, bytes) = types.entry(tensor.tensor_type.name()).or_insert((0, 0));
            *count += 1;
            *bytes += tensor.bytes;
        }
        Self {
            parameters: gguf.tensors().iter().map(TensorInfo::elements).sum(),
            bytes: gguf.tensors().iter().map(|tensor| tensor.bytes).sum(),
            file_bytes: (**gguf.file_bytes()).as_ref().len() as u64,
            types,
        }
    }

    fn bits_per_weight(&self) -> Option<f64> {
        (self.parameters > 0).then(|| self.bytes as f64 * 8.0 / self.parameters as f64)
    }
}

fn document(gguf: &Gguf, totals: &Totals, hyperparameters: Option<&Hyperparameters>) -> Value {
    let metadata: Map<String, Value> = gguf
        .metadata()
        .iter()
        .map(|(key, value)| (key.to_owned(), json_value(value)))
        .collect();
    let tensors: Vec<Value> = gguf
        .tensors()
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "shape": tensor.shape,
                "type": tensor.tensor_type.name(),
                "offset": tensor.offset,
                "bytes": tensor.bytes,
            })
        })
        .collect();
    let types: Map<String, Value> = totals
        .types
        .iter()
        .map(|(name, (count, bytes))| {
            (
                (*name).to_owned(),
                json!({ "tensors": count, "bytes": bytes }),
            )
        })
        .collect();
    json!({
        "version": gguf.version(),
        "metadata": metadata,
        "tensors": tensors,
        "totals": {
            "tensors": tensors.len(),
            "parameters": totals.parameters,
            "bytes": totals.bytes,
            "file_bytes": totals.file_bytes,
            "bits_per_weight": totals.bits_per_weight(),
            "types": types,
        },
        "class": hyperparameters.map(|known| known.class.name()),
        "labels": hyperparameters.map(labels),
        "memory": {
            "weights": totals.bytes,
            "context": hyperparameters.map(|known| known.n_positions),
            "kv": hyperparameters.map(|known| {
                let bytes = |cache: CacheType| {
                    let name = cache.name().to_owned();
                    (name, Value::from(kv_bytes(known, known.n_positions, cache)))
                };
                CacheType::all().map(bytes).collect::<Map<_, _>>()
            }),
        },
    })
}

/// What a classifier calls its outputs.
fn labels(known: &Hyperparameters) -> Vec<String> {
    match known.class {
        ModelClass::SequenceClassification | ModelClass::TokenClassification => {
            (0..known.head.outputs)
                .map(|id| known.head.label(id))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A value as JSON; of a long array its type and length alone.
fn json_value(value: ValueRef) -> Value {
    match value {
        ValueRef::Bool(value) => value.into(),
        ValueRef::F32(value) => value.into(),
        ValueRef::F64(value) => value.into(),
        ValueRef::I8(value) => value.into(),
        ValueRef::I16(value) => value.into(),
        ValueRef::I32(value) => value.into(),
        ValueRef::I64(value) => value.into(),
        ValueRef::U8(value) => value.into(),
        ValueRef::U16(value) => value.into(),
        ValueRef::U32(value) => value.into(),
        ValueRef::U64(value) => value.into(),
        ValueRef::String(bytes) => String::from_utf8_lossy(bytes).into(),
        ValueRef::Array(array) if array.len() <= SHOWN_ELEMENTS => {
            array.iter().map(json_value).collect()
        }
        ValueRef::Array(array) => {
            json!({ "array": array.element_type().name(), "length": array.len() })
        }
    }
}

fn description(gguf: &Gguf, totals: &Totals, hyperparameters: Option<&Hyperparameters>) -> String {
    let mut text = format!(
        "GGUF version {}, {}\n\nMetadata\n",
        gguf.version(),
        report::bytes(totals.file_bytes)
    );
    for (key, value) in gguf.metadata().iter() {
        let _ = writeln!(text, "  {} = {value}", key.escape_debug());
    }
    if let Some(known) = hyperparameters {
        let _ = writeln!(text, "\nClass\n  {}", known.class.name());
        let labels = labels(known);
        if !labels.is_empty() {
            let _ = writeln!(text, "  labels: {}", labels.join(", ").escape_debug());
        }
    }
    text.push_str("\nTensors\n");
    for tensor in gguf.tensors() {
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "  {:<32} {:>16}  {:<7} {}",
            tensor.name.escape_debug().to_string(),
            shape.join(" x "),
            tensor.tensor_type.name(),
            report::bytes(tensor.bytes)
        );
    }
    let _ = writeln!(
        text,
        "\nTotals\n  {} tensors, {} parameters, {}, {:.2} bits per weight",
        gguf.tensors().len(),
        totals.parameters,
        report::bytes(totals.bytes),
        totals.bits_per_weight().unwrap_or_default()
    );
    for (name, (count, bytes)) in &totals.types {
        let _ = writeln!(text, "  {name}: {count} tensors, {}", report::bytes(*bytes));
    }
    let _ = writeln!(text, "\nMemory\n  weights: {}", report::bytes(totals.bytes));
    if let Some(known) = hyperparameters {
        for cache in CacheType::all() {
            if let Some(bytes) = kv_bytes(known, known.n_positions, cache) {
                let _ = writeln!(
                    text,
                    "  cache of {} positions as {}: {}",
                    known.n_positions,
                    cache.name(),
                    report::bytes(bytes)
                );
            }
        }
    }
    text
}
