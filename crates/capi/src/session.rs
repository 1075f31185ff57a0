//! Sessions: a cache and threads for one user of a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::buffers::place_of;
use super::exclusive::Exclusive;
use super::handles::{close, find, handle, open};
use super::model::{gpt2_model, model_of};
use super::status::{Failure, Outcome, gpt2_status, guard};
use super::structs::{read, structure, write};
use gpt2::session::{CacheType, FlashAttention, Session, SessionOptions, fit};

/// A session, and the flag that ends its work from another thread.
pub(super) struct SessionHandle {
    session: Exclusive<Session>,
    stop: Arc<AtomicBool>,
}

handle!(
    /// A session.
    gpt2_session = SessionHandle
);

/// The cache's type follows the model's.
pub const GPT2_CACHE_DEFAULT: i32 = 0;
/// 32-bit floats.
pub const GPT2_CACHE_F32: i32 = 1;
/// 16-bit floats.
pub const GPT2_CACHE_F16: i32 = 2;
/// 8.5 bits.
pub const GPT2_CACHE_Q8_0: i32 = 3;
/// 4.5 bits.
pub const GPT2_CACHE_Q4_0: i32 = 4;

/// Flash attention as measured to be faster.
pub const GPT2_FLASH_ATTENTION_AUTO: i32 = 0;
/// Always.
pub const GPT2_FLASH_ATTENTION_ON: i32 = 1;
/// Never.
pub const GPT2_FLASH_ATTENTION_OFF: i32 = 2;

structure! {
    /// How a session works.
    gpt2_session_options, init gpt2_session_options_init {
        /// Positions of the cache; 0: as many as the model has for each sequence.
        context: usize = 0,
        /// Most tokens computed together; 0: 256.
        batch_size: usize = 0,
        /// Sequences that the cache tells apart.
        sequences: usize = 1,
        /// Threads; 0: one a physical core.
        threads: usize = 0,
        /// Most bytes of memory; 0: no limit.
        memory_limit: u64 = 0,
        /// One of `GPT2_CACHE_*`.
        cache_type: i32 = GPT2_CACHE_DEFAULT,
        /// One of `GPT2_FLASH_ATTENTION_*`.
        flash_attention: i32 = GPT2_FLASH_ATTENTION_AUTO,
    }
}

structure! {
    /// Memory of a session, in bytes.
    gpt2_memory {
        /// Weights of the model.
        weights: usize = 0,
        /// The cache at its full size.
        cache: usize = 0,
        /// Intermediate results.
        compute: usize = 0,
    }
}

/// What a number means, or a refusal that says which there are.
pub(super) fn choice<T: Copy>(name: &str, known: &[(i32, T)], found: i32) -> Outcome<T> {
    let row = known.iter().find(|(number, _)| *number == found);
    row.map(|(_, meaning)| *meaning).ok_or_else(|| {
        Failure::argument(format!(
            "{name}: expected 0 to {}, found {found}",
            known.len() - 1
        ))
    })
}

/// 0 means the default.
fn given(number: usize) -> Option<usize> {
    (number > 0).then_some(number)
}

impl gpt2_session_options {
    /// The options for Rust.
    fn resolve(self) -> Outcome<SessionOptions> {
        let default = SessionOptions::default();
        let cache_types = [
            (GPT2_CACHE_DEFAULT, None),
            (GPT2_CACHE_F32, Some(CacheType::F32)),
            (GPT2_CACHE_F16, Some(CacheType::F16)),
            (GPT2_CACHE_Q8_0, Some(CacheType::Q8_0)),
            (GPT2_CACHE_Q4_0, Some(CacheType::Q4_0)),
        ];
        let flash_attention = [
            (GPT2_FLASH_ATTENTION_AUTO, FlashAttention::Auto),
            (GPT2_FLASH_ATTENTION_ON, FlashAttention::On),
            (GPT2_FLASH_ATTENTION_OFF, FlashAttention::Off),
        ];
        Ok(SessionOptions {
            context: given(self.context),
            cache_type: choice("cache_type", &cache_types, self.cache_type)?,
            flash_attention: choice("flash_attention", &flash_attention, self.flash_attention)?,
            threads: given(self.threads),
            batch_size: given(self.batch_size).unwrap_or(default.batch_size),
            sequences: self.sequences,
        })
    }
}

/// Looks a session up and works with it.
pub(super) fn with_session<T>(
    session: *const gpt2_session,
    work: impl FnOnce(&mut Session) -> Outcome<T>,
) -> Outcome<T> {
    let handle = find::<SessionHandle>(session)?;
    handle.session.with::<SessionHandle, T>(work)
}

/// Starts a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_session_new(
    model: *const gpt2_model,
    options: *const gpt2_session_options,
    session: *mut *mut gpt2_session,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("session", session)? };
        // SAFETY: the caller's pointers are as the header asks.
        let given = unsafe { read(options)? };
        let model = model_of(model)?;
        let mut options = given.resolve()?;
        if given.memory_limit > 0 {
            options = fit(&model, &options, given.memory_limit)?;
        }
        let started = Session::new(model, options)?;
        let handle = open(SessionHandle {
            stop: started.stop_flag(),
            session: Exclusive::new(started),
        });
        // SAFETY: as above.
        unsafe { target.write(handle) };
        Ok(())
    })
}

/// Ends a session.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_session_free(session: *mut gpt2_session) -> gpt2_status {
    guard(|| {
        if let Some(handle) = close::<SessionHandle>(session)? {
            handle.stop.store(true, Ordering::Relaxed);
            handle.session.free();
        }
        Ok(())
    })
}

/// Ends the work of a session from another thread, until told otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_session_stop(session: *mut gpt2_session, stop: i32) -> gpt2_status {
    guard(|| {
        let handle = find::<SessionHandle>(session)?;
        handle.stop.store(stop != 0, Ordering::Relaxed);
        Ok(())
    })
}

/// Says what a session occupies.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_session_get_memory(
    session: *const gpt2_session,
    memory: *mut gpt2_memory,
) -> gpt2_status {
    guard(|| {
        let found = with_session(session, |session| Ok(session.memory()))?;
        let found = gpt2_memory {
            weights: found.weights,
            cache: found.kv,
            compute: found.compute,
            ..gpt2_memory::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(memory, found) }
    })
}
