//! Checkpoints become GGUF files, and GGUF files smaller ones.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::buffers::{optional_text, path, texts};
use super::status::{Failure, Outcome, gpt2_status, guard};
use super::structs::{read, structure};
use gpt2::convert::{
    ConvertOptions, FileType, Plan, Progress, TypeOptions, TypeOverride, convert,
    tensor_type_from_name,
};

structure! {
    /// How to convert.
    gpt2_convert_options, init gpt2_convert_options_init {
        /// The type of file.
        file_type: *const c_char = ptr::null(),
        /// Types for tensors whose name a pattern is found in, each `PATTERN=TYPE`.
        tensor_types: *const *const c_char = ptr::null(),
        /// How many.
        n_tensor_types: usize = 0,
        /// The type of the head.
        output_type: *const c_char = ptr::null(),
        /// The type of the token embedding.
        embedding_type: *const c_char = ptr::null(),
        /// A file with an importance matrix.
        importance_matrix: *const c_char = ptr::null(),
        /// Threads; 0: all processors.
        threads: usize = 0,
        /// Replace an existing output.
        overwrite: i32 = 0,
        /// Zero.
        reserved: i32 = 0,
    }
}

/// Is told how many bytes of how many are written; another result than 0 ends the conversion.
pub type gpt2_progress_callback =
    Option<unsafe extern "C" fn(written: u64, total: u64, user_data: *mut c_void) -> i32>;

/// Tells the caller's function.
struct Reporter {
    callback: gpt2_progress_callback,
    user_data: *mut c_void,
    total: AtomicU64,
    written: Mutex<u64>,
    stopped: AtomicBool,
}

// SAFETY: the header says that the function is called from threads of the library, one at a time,
// which the lock sees to.
unsafe impl Send for Reporter {}
// SAFETY: as above.
unsafe impl Sync for Reporter {}

impl Progress for Reporter {
    fn begin(&self, plan: &Plan) {
        self.total.store(plan.bytes, Ordering::Relaxed);
    }

    fn written(&self, bytes: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written += bytes;
        let Some(callback) = self.callback else {
            return;
        };
        let total = self.total.load(Ordering::Relaxed).max(*written);
        // SAFETY: as the header asks of the function.
        if unsafe { callback(*written, total, self.user_data) } != 0 {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn proceed(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }
}

/// The options for Rust.
///
/// # Safety
/// `options` is null or as the header asks.
unsafe fn resolve(options: *const gpt2_convert_options) -> Outcome<ConvertOptions> {
    // SAFETY: the caller's promise.
    let given = unsafe { read(options)? };
    let named = |name, text| -> Outcome<_> {
        // SAFETY: the caller's promise.
        let text = unsafe { optional_text(name, text)? };
        Ok(text.map(tensor_type_from_name).transpose()?)
    };
    // SAFETY: the caller's promise.
    let (file_type, overrides, importance) = unsafe {
        let importance = given.importance_matrix;
        (
            optional_text("file_type", given.file_type)?,
            texts("tensor_types", given.tensor_types, given.n_tensor_types)?,
            (!importance.is_null())
                .then(|| path("importance_matrix", importance))
                .transpose()?,
        )
    };
    let file_type = file_type.ok_or_else(|| {
        Failure::argument("file_type: expected the name of a type such as q4_k, found NULL")
    })?;
    let overrides = overrides.into_iter().map(TypeOverride::parse);
    Ok(ConvertOptions {
        types: TypeOptions {
            overrides: overrides.collect::<gpt2::Result<_>>()?,
            output_type: named("output_type", given.output_type)?,
            embedding_type: named("embedding_type", given.embedding_type)?,
            ..TypeOptions::new(FileType::from_name(file_type)?)
        },
        tokenizer: None,
        adapters: Vec::new(),
        importance: importance.map(Path::to_path_buf),
        threads: (given.threads > 0).then_some(given.threads),
        overwrite: given.overwrite != 0,
    })
}

/// Converts a checkpoint, or a GGUF file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_convert(
    source: *const c_char,
    output: *const c_char,
    options: *const gpt2_convert_options,
    callback: gpt2_progress_callback,
    user_data: *mut c_void,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let (source, output, options) = unsafe {
            (
                path("source", source)?,
                path("output", output)?,
                resolve(options)?,
            )
        };
        let reporter = Reporter {
            callback,
            user_data,
            total: AtomicU64::new(0),
            written: Mutex::new(0),
            stopped: AtomicBool::new(false),
        };
        convert(source, output, &options, &reporter)?;
        Ok(())
    })
}
