//! Models: a file in memory, shared by sessions.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::buffers::{Buffer, list, path, place_of, texts};
use super::handles::{find, free, handle, open};
use super::status::{Failure, Outcome, c_string, gpt2_status, guard};
use super::structs::{read, structure, write};
use gpt2::session::{Model, ModelOptions};

/// A model, and what C asks of it that Rust keeps in another form.
pub(super) struct ModelHandle {
    pub(super) model: Arc<Model>,
    class: CString,
}

handle!(
    /// A model.
    gpt2_model = ModelHandle
);

structure! {
    /// How a model is brought into memory.
    gpt2_model_options, init gpt2_model_options_init {
        /// Use the file where it is mapped.
        map: i32 = 1,
        /// Keep it from being swapped out.
        lock: i32 = 0,
        /// Move matrices into a layout that is multiplied faster.
        repack: i32 = 1,
        /// Zero.
        reserved: i32 = 0,
        /// Devices to compute on, beside the CPU.
        devices: *const *const c_char = ptr::null(),
        /// How many.
        n_devices: usize = 0,
        /// Layers on the GPUs, counted from the last, the head as one; negative for all.
        gpu_layers: i64 = -1,
        /// Most bytes of memory that the process is to use; 0 for what is free.
        memory: u64 = 0,
    }
}

structure! {
    /// What a model is.
    gpt2_model_info {
        /// Transformers' name of the class.
        model_class: *const c_char = ptr::null(),
        /// Ids.
        vocabulary: usize = 0,
        /// Positions.
        positions: usize = 0,
        /// Hidden size.
        width: usize = 0,
        /// Layers.
        layers: usize = 0,
        /// Attention heads of a layer.
        heads: usize = 0,
        /// Outputs of the task's head.
        labels: usize = 0,
        /// Bytes of weights used where the file lies.
        mapped_bytes: usize = 0,
        /// Bytes of weights in memory of their own.
        own_bytes: usize = 0,
        /// The token that begins a text, or −1.
        bos: i64 = -1,
        /// The first token that ends a text, or −1.
        eos: i64 = -1,
        /// The padding token, or −1.
        pad: i64 = -1,
        /// Whether the file has a tokenizer.
        has_tokenizer: i32 = 0,
        /// Whether the model predicts tokens.
        predicts_tokens: i32 = 0,
    }
}

/// Is told that memory is not used any more.
pub type gpt2_release_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// The options for Rust.
///
/// # Safety
/// `options` is null or as the header asks.
unsafe fn resolve(options: *const gpt2_model_options) -> Outcome<ModelOptions> {
    // SAFETY: the caller's promise.
    let (given, devices) = unsafe {
        let given = read(options)?;
        let devices = texts("devices", given.devices, given.n_devices)?;
        (given, devices)
    };
    Ok(ModelOptions {
        map: given.map != 0,
        lock: given.lock != 0,
        repack: given.repack != 0,
        devices: devices.into_iter().map(str::to_owned).collect(),
        // A number beyond this machine's is more than any model has: all of them.
        gpu_layers: usize::try_from(given.gpu_layers).ok(),
        memory: Some(given.memory).filter(|&bytes| bytes > 0),
        ..ModelOptions::default()
    })
}

/// A handle for `model`.
fn wrap(model: Arc<Model>) -> *mut gpt2_model {
    let class = c_string(model.hyperparameters().class.name());
    open(ModelHandle { model, class })
}

/// Opens a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_model_load(
    file: *const c_char,
    options: *const gpt2_model_options,
    model: *mut *mut gpt2_model,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("model", model)? };
        // SAFETY: the caller's pointers are as the header asks.
        let (file, options) = unsafe { (path("file", file)?, resolve(options)?) };
        let opened = wrap(Model::open(file, &options)?);
        // SAFETY: as above.
        unsafe { target.write(opened) };
        Ok(())
    })
}

/// Memory of the caller's that a model lies in.
struct Borrowed {
    bytes: &'static [u8],
    release: unsafe extern "C" fn(*mut c_void),
    user_data: *mut c_void,
    /// Only a model that was made gives its memory back.
    used: AtomicBool,
}

// SAFETY: the header asks for memory that does not change and for a function that any thread may
// call.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.used.load(Ordering::Relaxed) {
            // SAFETY: called once, with what came with it.
            unsafe { (self.release)(self.user_data) };
        }
    }
}

/// Opens a file that is in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_model_load_memory(
    data: *const u8,
    bytes: usize,
    options: *const gpt2_model_options,
    release: gpt2_release_callback,
    user_data: *mut c_void,
    model: *mut *mut gpt2_model,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("model", model)? };
        // SAFETY: the caller's pointers are as the header asks: with `release`, `data` stays until
        // it is called.
        let (content, options) = unsafe { (list::<u8>("data", data, bytes)?, resolve(options)?) };
        let loaded = match release {
            None => Model::from_bytes(Arc::new(content.to_vec()), &options)?,
            Some(release) => {
                let borrowed = Arc::new(Borrowed {
                    bytes: content,
                    release,
                    user_data,
                    used: AtomicBool::new(false),
                });
                let loaded = Model::from_bytes(Arc::<Borrowed>::clone(&borrowed), &options)?;
                borrowed.used.store(true, Ordering::Relaxed);
                loaded
            }
        };
        // SAFETY: as above.
        unsafe { target.write(wrap(loaded)) };
        Ok(())
    })
}

/// Lets a model go; its sessions keep what they need.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_model_free(model: *mut gpt2_model) -> gpt2_status {
    guard(|| free::<ModelHandle>(model))
}

/// Says what a model is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_model_get_info(
    model: *const gpt2_model,
    info: *mut gpt2_model_info,
) -> gpt2_status {
    guard(|| {
        let handle = find::<ModelHandle>(model)?;
        let hyperparameters = handle.model.hyperparameters();
        let (mapped_bytes, own_bytes) = handle.model.weight_bytes();
        let id = |id: Option<u32>| id.map_or(-1, i64::from);
        let found = gpt2_model_info {
            model_class: handle.class.as_ptr(),
            vocabulary: hyperparameters.vocab_size,
            positions: hyperparameters.n_positions,
            width: hyperparameters.n_embd,
            layers: hyperparameters.n_layer,
            heads: hyperparameters.n_head,
            labels: hyperparameters.head.outputs,
            mapped_bytes,
            own_bytes,
            bos: id(hyperparameters.bos),
            eos: id(hyperparameters.eos.first().copied()),
            pad: id(hyperparameters.pad),
            has_tokenizer: handle.model.has_tokenizer().into(),
            predicts_tokens: hyperparameters.predicts_tokens().into(),
            ..gpt2_model_info::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(info, found) }
    })
}

/// The name of a label.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_model_label(
    model: *const gpt2_model,
    label: usize,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("text", text, capacity, length)? };
        let handle = find::<ModelHandle>(model)?;
        let head = &handle.model.hyperparameters().head;
        if label >= head.outputs {
            return Err(Failure::argument(format!(
                "label: expected a number below the model's {} labels, found {label}",
                head.outputs
            )));
        }
        buffer.fill_text(head.label(label).as_bytes())
    })
}

/// The model of a handle.
pub(super) fn model_of(model: *const gpt2_model) -> Outcome<Arc<Model>> {
    find::<ModelHandle>(model).map(|handle| Arc::clone(&handle.model))
}
