//! Text to tokens and back.

use std::ffi::c_char;

use super::buffers::{Buffer, GPT2_NUL_TERMINATED, list, put, text as text_of};
use super::model::{gpt2_model, model_of};
use super::status::{Failure, gpt2_status, guard};
use gpt2::TokenId;
use gpt2::tokenizer::{DecodeOptions, EncodeOptions};

/// Special tokens written out in a text are text, and none are put around it: for text that is not
/// trusted.
pub const GPT2_TOKENIZE_ORDINARY: u32 = 1;
/// Leave out tokens that are markers, not text.
pub const GPT2_DETOKENIZE_SKIP_SPECIAL: u32 = 1;

fn check_flags(flags: u32, known: u32) -> Result<(), Failure> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Failure::argument(format!(
            "flags: expected of {known:#x} only, found {unknown:#x} as well"
        ))),
    }
}

/// The tokens of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_tokenize(
    model: *const gpt2_model,
    text: *const c_char,
    text_bytes: usize,
    flags: u32,
    tokens: *mut u32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let (text, buffer) = unsafe {
            (
                text_of("text", text, text_bytes)?,
                Buffer::new("tokens", tokens, capacity, length)?,
            )
        };
        check_flags(flags, GPT2_TOKENIZE_ORDINARY)?;
        let trusted = flags & GPT2_TOKENIZE_ORDINARY == 0;
        let options = EncodeOptions {
            match_special_tokens: trusted,
            add_special_tokens: trusted,
        };
        let ids = model_of(model)?.tokenizer()?.encode_with(text, options)?;
        buffer.fill(&ids)
    })
}

/// The text of tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_detokenize(
    model: *const gpt2_model,
    tokens: *const u32,
    n_tokens: usize,
    flags: u32,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let (tokens, buffer): (&[TokenId], _) = unsafe {
            (
                list("tokens", tokens, n_tokens)?,
                Buffer::new("text", text, capacity, length)?,
            )
        };
        check_flags(flags, GPT2_DETOKENIZE_SKIP_SPECIAL)?;
        let options = DecodeOptions {
            skip_special_tokens: flags & GPT2_DETOKENIZE_SKIP_SPECIAL != 0,
            ..DecodeOptions::default()
        };
        let model = model_of(model)?;
        model.check_tokens(tokens)?;
        let text = model.tokenizer()?.decode_with(tokens, options);
        buffer.fill_text(text.as_bytes())
    })
}

/// The bytes that a token adds to a text, which need not be whole characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_token_bytes(
    model: *const gpt2_model,
    token: u32,
    bytes: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("bytes", bytes, capacity, length)? };
        let model = model_of(model)?;
        model.check_tokens(&[token])?;
        buffer.fill(model.tokenizer()?.token_bytes(token, false))
    })
}

/// Whether a token ends a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_token_is_end(
    model: *const gpt2_model,
    token: u32,
    is_end: *mut i32,
) -> gpt2_status {
    guard(|| {
        let model = model_of(model)?;
        model.check_tokens(&[token])?;
        let ends = model.hyperparameters().eos.contains(&token);
        // SAFETY: the caller's pointer is as the header asks.
        unsafe { put("is_end", is_end, ends.into()) }
    })
}

/// The token that vocabulary files write as a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_find_token(
    model: *const gpt2_model,
    text: *const c_char,
    token: *mut u32,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let text = unsafe { text_of("text", text, GPT2_NUL_TERMINATED)? };
        let found = model_of(model)?.tokenizer()?.token_id(text);
        let found = found.ok_or_else(|| {
            Failure::argument(format!("text: the vocabulary has no token {text:?}"))
        })?;
        // SAFETY: as above.
        unsafe { put("token", token, found) }
    })
}
