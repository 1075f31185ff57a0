//! What a session's cache holds of each sequence.

use std::ffi::c_char;

use super::buffers::{Buffer, list, path, put};
use super::session::{gpt2_session, with_session};
use super::status::{gpt2_status, guard};

/// How many tokens the cache holds of a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_cache_length(
    session: *const gpt2_session,
    sequence: u32,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        let found = with_session(session, |session| {
            session.check_sequence(sequence as usize)?;
            Ok(session.length(sequence as usize))
        })?;
        // SAFETY: the caller's pointer is as the header asks.
        unsafe { put("length", length, found) }
    })
}

/// The tokens that the cache holds of a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_cache_tokens(
    session: *const gpt2_session,
    sequence: u32,
    tokens: *mut u32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("tokens", tokens, capacity, length)? };
        with_session(session, |session| {
            session.check_sequence(sequence as usize)?;
            buffer.fill(&session.tokens(sequence as usize))
        })
    })
}

/// Cuts a sequence back to its first tokens.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_cache_truncate(
    session: *mut gpt2_session,
    sequence: u32,
    length: usize,
) -> gpt2_status {
    guard(|| {
        with_session(session, |session| {
            Ok(session.truncate(sequence as usize, length)?)
        })
    })
}

/// Cuts a sequence back to what it has in common with the beginning of a list of tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_cache_keep(
    session: *mut gpt2_session,
    sequence: u32,
    tokens: *const u32,
    n_tokens: usize,
    kept: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's list is as the header asks.
        let tokens = unsafe { list("tokens", tokens, n_tokens)? };
        let common = with_session(session, |session| {
            Ok(session.retain_prefix(sequence as usize, tokens)?)
        })?;
        if kept.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { put("kept", kept, common) }
    })
}

/// Makes a sequence a second continuation of what another holds.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_cache_fork(session: *mut gpt2_session, from: u32, to: u32) -> gpt2_status {
    guard(|| {
        with_session(session, |session| {
            Ok(session.fork(from as usize, to as usize)?)
        })
    })
}

/// Empties the cache.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_cache_clear(session: *mut gpt2_session) -> gpt2_status {
    guard(|| {
        with_session(session, |session| {
            session.clear();
            Ok(())
        })
    })
}

/// Writes what the cache holds of a sequence to a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_cache_save(
    session: *const gpt2_session,
    sequence: u32,
    file: *const c_char,
    overwrite: i32,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's path is as the header asks.
        let file = unsafe { path("file", file)? };
        with_session(session, |session| {
            Ok(session.save(sequence as usize, file, overwrite != 0)?)
        })
    })
}

/// Puts what a file holds in place of a sequence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_cache_restore(
    session: *mut gpt2_session,
    sequence: u32,
    file: *const c_char,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's path is as the header asks.
        let file = unsafe { path("file", file)? };
        let restored = with_session(session, |session| {
            Ok(session.restore(sequence as usize, file)?)
        })?;
        if length.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { put("length", length, restored) }
    })
}
