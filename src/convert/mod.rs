//! A checkpoint becomes a GGUF file.
//!
//! [`plan`] says what will be written; [`convert`] writes it in one pass over the source, a bounded
//! part of one tensor at a time, and then reads its own file back. This room knows checkpoint
//! formats and which types tensors get. It knows nothing of graphs, sessions and running a model.

mod checkpoint_reader;
mod class;
mod config;
mod config_fields;
mod element_type;
mod encode_tensor;
mod file_types;
mod find_tensors;
mod foreign;
mod form;
mod formats;
mod framework_names;
mod gguf_source;
#[cfg(feature = "hdf5")]
mod hdf5;
mod header;
mod imatrix;
mod json;
mod llm_c;
mod lora;
mod mapped_checkpoint;
mod missing;
#[cfg(feature = "msgpack")]
mod msgpack;
mod names;
mod options;
#[cfg(feature = "pickle")]
mod pickle;
mod plan;
mod read_back;
mod safetensors;
mod source;
mod source_rows;
mod stored_tensor;
mod tensorflow;

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

pub use file_types::{FILE_TYPES, FileType, tensor_type_from_name};
pub use options::{ConvertOptions, LoraAdapter, TypeOptions, TypeOverride};
pub use plan::{Plan, PlannedTensor};

use crate::error::{Error, Result};
use crate::gguf::{GgufWriter, TensorType};
use crate::machine::parallel::Threads;
use crate::output::AtomicFile;
use crate::quant::measure::error_bound;
use encode_tensor::{EncodeJob, Measured};
use plan::Prepared;
use source_rows::SourceTensor;

/// Receives the progress of a conversion. Every method has a default.
pub trait Progress: Sync {
    /// The plan is made and work begins.
    fn begin(&self, _plan: &Plan) {}
    /// A tensor is about to be converted.
    fn tensor(&self, _name: &str) {}
    /// `bytes` more of the output are written.
    fn written(&self, _bytes: u64) {}
    /// Whether to go on; `false` ends the conversion with [`Error::Stopped`] and leaves no file.
    fn proceed(&self) -> bool {
        true
    }
}

/// Ignores the progress.
impl Progress for () {}

/// What a conversion did.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was planned, and is now in the file.
    pub plan: Plan,
    /// For each tensor of the plan the root mean square of the differences to the source, relative
    /// to that of the source.
    pub relative_errors: Vec<f64>,
    /// Time it took, reading back included.
    pub seconds: f64,
}

/// Determines which type each tensor gets and how large the file will be. Reads names and shapes,
/// and no weights but those of a head that may equal the embedding.
///
/// # Errors
/// Whatever is wrong with source or options that can be known without reading the weights.
pub fn plan(source: &Path, options: &ConvertOptions) -> Result<Plan> {
    Prepared::new(source, options).map(|prepared| prepared.plan)
}

/// Threads that one may ask for: beyond any machine's cores.
const MAX_THREADS: usize = 1024;
/// Stack of a thread that quantizes, in bytes.
const STACK: usize = 2 << 20;

/// Converts `source` (a Hugging Face folder, a weights file in one, or a GGUF file) into the file
/// `output`, reads that back and checks it. Anonymous memory stays below about 100 MB whatever the
/// model's size.
///
/// # Errors
/// [`Error::Argument`] for options that cannot be used; [`Error::Format`] and
/// [`Error::Unsupported`] for sources that are broken or not converted, values that are not finite
/// among them; [`Error::Stopped`] when `progress` says so; [`Error::Io`]. In all of them there is
/// no output.
pub fn convert(
    source: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let start = Instant::now();
    refuse_same_file(source, output)?;
    if options.threads.is_some_and(|threads| threads > MAX_THREADS) {
        let expected = format!("at most {MAX_THREADS}");
        return Err(Error::out_of_range(
            "threads",
            expected,
            &options.threads.unwrap_or(0),
        ));
    }
    // Before the work: a place that cannot be written to.
    drop(AtomicFile::create(output, options.overwrite)?);
    let prepared = Prepared::new(source, options)?;
    let threads = Threads::start(options.threads.unwrap_or(0), STACK)
        .map_err(|error| Error::Memory(format!("starting the threads failed: {error}")))?;
    progress.begin(&prepared.plan);
    let mut writer = GgufWriter::create(output, &prepared.header, options.overwrite)?;
    let mut measured = Vec::with_capacity(prepared.found.len());
    for index in 0..prepared.found.len() {
        measured.push(
            threads
                .install(|| convert_tensor(&prepared, index, &mut writer, progress))
                .map_err(|error| error.within(source.display().to_string()))?,
        );
    }
    // Read back before it takes its place, so that a bad file never replaces a good one.
    read_back::read_back(writer.partial()?, &prepared, &measured)
        .map_err(|error| error.within(output.display().to_string()))?;
    writer.finish()?;
    Ok(Report {
        relative_errors: measured.iter().map(|one| one.relative_error).collect(),
        plan: prepared.plan,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Converts one tensor and writes it.
fn convert_tensor(
    prepared: &Prepared,
    index: usize,
    writer: &mut GgufWriter,
    progress: &dyn Progress,
) -> Result<Measured> {
    let lost = || Error::Internal(format!("the plan has no tensor {index}"));
    let found = prepared.found.get(index).ok_or_else(lost)?;
    let planned = prepared.plan.tensors.get(index).ok_or_else(lost)?;
    let reader = prepared.source.reader.as_ref();
    let columns = found.spec.columns();
    progress.tensor(&planned.name);
    let (name, source_type, data) = if let Some(index) = found.index {
        let described = reader.tensors().get(index).ok_or_else(lost)?;
        let source_type = described.tensor_type.unwrap_or(TensorType::F32);
        (&described.name, source_type, reader.data(index)?)
    } else {
        let bytes = TensorType::F32.tensor_bytes(&found.spec.shape)?;
        let zeros = vec![0; bytes as usize];
        (&planned.name, TensorType::F32, Cow::Owned(zeros))
    };
    let mut source = SourceTensor::new(
        name,
        &data,
        source_type,
        (
            (found.spec.elements() / columns.max(1)) as usize,
            columns as usize,
        ),
        found.transposed,
    )?;
    let products = prepared.adapters.products(index, &found.spec)?;
    source.products = &products;
    let job = EncodeJob {
        name,
        source,
        target_type: planned.tensor_type,
        importance: prepared.importance.for_tensor(&planned.name, columns)?,
    };
    let measured = job.run(|bytes| {
        if !progress.proceed() {
            return Err(Error::Stopped);
        }
        writer.write(bytes)?;
        progress.written(bytes.len() as u64);
        Ok(())
    })?;
    drop(data);
    if let Some(index) = found.index {
        reader.release(index);
    }
    let bound = error_bound(planned.tensor_type);
    // Written so that NaN fails too.
    if measured.relative_error <= bound {
        return Ok(measured);
    }
    Err(Error::format(
        format!("tensor '{name}'"),
        format!(
            "as {} its relative error is {:.3}, expected at most {bound}; choose a larger type \
             for it",
            planned.tensor_type.name(),
            measured.relative_error
        ),
    ))
}

/// The input is never modified, not even with `overwrite`.
fn refuse_same_file(source: &Path, output: &Path) -> Result<()> {
    match (source.canonicalize(), output.canonicalize()) {
        (Ok(source), Ok(target)) if source == target => Err(Error::Argument(format!(
            "{}: is source and output at once; choose another output",
            output.display()
        ))),
        _ => Ok(()),
    }
}
