//! From a prompt to texts, in one call.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::ptr;

use super::buffers::{Buffer, list, place_of, texts};
use super::handles::{find, free, handle, open};
use super::score::{gpt2_token_score, likely_token, token_score};
use super::session::{gpt2_session, with_session};
use super::status::{Failure, Outcome, gpt2_status, guard};
use super::structs::{read, structure, write};
use gpt2::TokenId;
use gpt2::generate::{
    Continuation, FinishReason, Generation, GenerationOptions, Step, generate_with,
};
use gpt2::sampling::TokenScore;
use gpt2::session::Model;

/// The model ended the text.
pub const GPT2_FINISH_EOS: i32 = 0;
/// `max_new_tokens` were generated.
pub const GPT2_FINISH_LENGTH: i32 = 1;
/// A stop string appeared.
pub const GPT2_FINISH_STOP: i32 = 2;
/// The context has no room for another token.
pub const GPT2_FINISH_CONTEXT_FULL: i32 = 3;
/// The time was over.
pub const GPT2_FINISH_TIME: i32 = 4;
/// Stopped by the caller.
pub const GPT2_FINISH_STOPPED: i32 = 5;

structure! {
    /// What to generate; a negative number leaves the default.
    gpt2_generate_options, init gpt2_generate_options_init {
        /// Most tokens of a continuation.
        max_new_tokens: i64 = -1,
        /// Starts the draws.
        seed: u64 = 0,
        /// Draw, or take the best.
        do_sample: i32 = -1,
        /// Never end the text.
        ignore_eos: i32 = -1,
        /// What scores are divided by.
        temperature: f64 = -1.0,
        /// Draw from the k most likely.
        top_k: i64 = -1,
        /// Draw from this probability mass.
        top_p: f64 = -1.0,
        /// Above 1 makes what was seen less likely.
        repetition_penalty: f64 = -1.0,
        /// Further parameters, each `name=value`.
        parameters: *const *const c_char = ptr::null(),
        /// How many.
        n_parameters: usize = 0,
    }
}

structure! {
    /// A token of a continuation, or its end.
    gpt2_step {
        /// Which of the continuations.
        sequence: usize = 0,
        /// Text that became certain, ending in NUL.
        text: *const c_char = ptr::null(),
        /// Its bytes, without the NUL.
        text_bytes: usize = 0,
        /// The token; 0 at the end.
        token: u32 = 0,
        /// Whether this is the end of the continuation, with the rest of its text.
        finished: i32 = 0,
        /// At the end, one of `GPT2_FINISH_*`.
        finish_reason: i32 = 0,
        /// Zero.
        reserved: i32 = 0,
    }
}

structure! {
    /// A continuation; the prompt is not part of it.
    gpt2_continuation {
        /// Its tokens.
        tokens: *const u32 = ptr::null(),
        /// How many.
        n_tokens: usize = 0,
        /// Its text, ending in NUL.
        text: *const c_char = ptr::null(),
        /// Its bytes, without the NUL.
        text_bytes: usize = 0,
        /// The score that a search ranks by; NaN without a search.
        score: f64 = f64::NAN,
        /// One of `GPT2_FINISH_*`.
        finish_reason: i32 = 0,
        /// Zero.
        reserved: i32 = 0,
    }
}

structure! {
    /// How long the model worked.
    gpt2_timings {
        /// Tokens of the prompt that were computed.
        prefill_tokens: usize = 0,
        /// Tokens computed after it.
        decode_tokens: usize = 0,
        /// Time for the prompt.
        prefill_seconds: f64 = 0.0,
        /// Time from the first choice to the last.
        decode_seconds: f64 = 0.0,
    }
}

/// Is handed every token; another result than 0 ends the generation.
pub type gpt2_token_callback =
    Option<unsafe extern "C" fn(step: *const gpt2_step, user_data: *mut c_void) -> i32>;

/// A negative number leaves the default, here and below.
fn integer(name: &str, number: i64, place: &mut usize) -> Outcome {
    if number >= 0 {
        *place = usize::try_from(number).map_err(|_| {
            Failure::argument(format!("{name}: {number} is more than this machine counts"))
        })?;
    }
    Ok(())
}

/// NaN is no default, and goes on to be refused.
fn real(number: f64, place: &mut f64) {
    if number.is_nan() || number >= 0.0 {
        *place = number;
    }
}

fn switch(number: i32, place: &mut bool) {
    if number >= 0 {
        *place = number > 0;
    }
}

/// The options for Rust: what `options` says, over what the model's file asks for; as with the
/// command, nothing is drawn unless the caller asks for it.
///
/// # Safety
/// `options` is null or as the header asks.
pub(super) unsafe fn resolve(
    options: *const gpt2_generate_options,
    model: &Model,
) -> Outcome<GenerationOptions> {
    // SAFETY: the caller's promise.
    let (given, further) = unsafe {
        let given = read(options)?;
        (
            given,
            texts("parameters", given.parameters, given.n_parameters)?,
        )
    };
    let mut resolved = GenerationOptions::from_model(model)?;
    resolved.seed = given.seed;
    let sampling = &mut resolved.sampling;
    sampling.do_sample = given.do_sample > 0;
    integer("top_k", given.top_k, &mut sampling.top_k)?;
    real(given.temperature, &mut sampling.temperature);
    real(given.top_p, &mut sampling.top_p);
    real(given.repetition_penalty, &mut sampling.repetition_penalty);
    if given.max_new_tokens >= 0 {
        resolved.set("max_new_tokens", &given.max_new_tokens.to_string())?;
    }
    switch(given.ignore_eos, &mut resolved.ignore_eos);
    for parameter in further {
        apply(&mut resolved, parameter)?;
    }
    Ok(resolved)
}

/// Sets one parameter, written `name=value`; `stop` adds a text to those that are there.
fn apply(options: &mut GenerationOptions, written: &str) -> Outcome {
    match written.split_once('=') {
        Some(("stop", text)) => options.stop.push(text.to_owned()),
        Some((name, value)) => options.set(name, value)?,
        None => {
            return Err(Failure::argument(format!(
                "parameters: expected name=value, found {written:?}"
            )));
        }
    }
    Ok(())
}

fn reason(reason: FinishReason) -> i32 {
    match reason {
        FinishReason::Eos => GPT2_FINISH_EOS,
        FinishReason::Length => GPT2_FINISH_LENGTH,
        FinishReason::Stop => GPT2_FINISH_STOP,
        FinishReason::ContextFull => GPT2_FINISH_CONTEXT_FULL,
        FinishReason::Time => GPT2_FINISH_TIME,
        FinishReason::Stopped => GPT2_FINISH_STOPPED,
    }
}

/// A text with a NUL at its end; there may be others in it.
pub(super) fn ended(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Hands steps to the caller's function.
struct Reporter {
    callback: gpt2_token_callback,
    user_data: *mut c_void,
    /// Bytes of each continuation's text that the callback has had.
    sent: Vec<usize>,
}

impl Reporter {
    fn call(&mut self, text: &str, step: gpt2_step) -> ControlFlow<()> {
        let Some(callback) = self.callback else {
            return ControlFlow::Continue(());
        };
        if self.sent.len() <= step.sequence {
            self.sent.resize(step.sequence + 1, 0);
        }
        self.sent[step.sequence] += text.len();
        let text = ended(text);
        let step = gpt2_step {
            text: text.as_ptr().cast(),
            text_bytes: text.len() - 1,
            ..step
        };
        // SAFETY: the header asks for a function that may be called so; step and text live for the
        // call.
        match unsafe { callback(&raw const step, self.user_data) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    /// Hands on the rest of every text.
    fn finish(&mut self, generation: &Generation) {
        for (sequence, continuation) in generation.sequences.iter().enumerate() {
            let sent = self.sent.get(sequence).copied().unwrap_or(0);
            let rest = continuation.text.get(sent..).unwrap_or_default();
            let end = gpt2_step {
                sequence,
                finished: 1,
                finish_reason: reason(continuation.finish_reason),
                ..gpt2_step::default()
            };
            // There is nothing left to end.
            let _ = self.call(rest, end);
        }
    }
}

/// What came of a generation, with its texts as C wants them.
pub(super) struct GenerationHandle {
    generation: Generation,
    texts: Vec<Vec<u8>>,
}

handle!(
    /// What came of a generation.
    gpt2_generation = GenerationHandle
);

/// Continues a prompt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generate(
    session: *mut gpt2_session,
    prompt: *const u32,
    n_prompt: usize,
    options: *const gpt2_generate_options,
    callback: gpt2_token_callback,
    user_data: *mut c_void,
    generation: *mut *mut gpt2_generation,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let prompt: &[TokenId] = unsafe {
            if !generation.is_null() {
                place_of("generation", generation)?;
            }
            list("prompt", prompt, n_prompt)?
        };
        let mut reporter = Reporter {
            callback,
            user_data,
            sent: Vec::new(),
        };
        let found = with_session(session, |session| {
            // SAFETY: as above.
            let options = unsafe { resolve(options, session.model())? };
            let mut on_token = |step: &Step| {
                let token = gpt2_step {
                    sequence: step.sequence,
                    token: step.id,
                    ..gpt2_step::default()
                };
                reporter.call(&step.text, token)
            };
            let found = generate_with(session, prompt, &options, &mut on_token)?;
            reporter.finish(&found);
            Ok(found)
        })?;
        if generation.is_null() {
            return Ok(());
        }
        let texts = found.sequences.iter().map(|one| ended(&one.text)).collect();
        let handle = open(GenerationHandle {
            generation: found,
            texts,
        });
        // SAFETY: as above.
        unsafe { generation.write(handle) };
        Ok(())
    })
}

/// How many continuations there are; 0 for a handle that is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_generation_count(generation: *const gpt2_generation) -> usize {
    let mut count = 0;
    guard(|| {
        count = find::<GenerationHandle>(generation)?.texts.len();
        Ok(())
    });
    count
}

/// The continuation of a number.
fn numbered(
    handle: &GenerationHandle,
    index: usize,
) -> Outcome<(&gpt2::generate::Continuation, &[u8])> {
    let sequences = &handle.generation.sequences;
    sequences
        .get(index)
        .zip(handle.texts.get(index))
        .map(|(sequence, text)| (sequence, text.as_slice()))
        .ok_or_else(|| {
            Failure::argument(format!(
                "index: expected a number below {}, found {index}",
                sequences.len()
            ))
        })
}

/// A continuation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generation_get(
    generation: *const gpt2_generation,
    index: usize,
    continuation: *mut gpt2_continuation,
) -> gpt2_status {
    guard(|| {
        let handle = find::<GenerationHandle>(generation)?;
        let (found, text) = numbered(&handle, index)?;
        let found = gpt2_continuation {
            tokens: found.ids.as_ptr(),
            n_tokens: found.ids.len(),
            text: text.as_ptr().cast(),
            text_bytes: text.len() - 1,
            score: found.score.unwrap_or(f64::NAN),
            finish_reason: reason(found.finish_reason),
            ..gpt2_continuation::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(continuation, found) }
    })
}

/// The scores (`output_scores`) or logits (`output_logits`) that a token was chosen by.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generation_scores(
    generation: *const gpt2_generation,
    index: usize,
    token: usize,
    logits: i32,
    values: *mut f32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("values", values, capacity, length)? };
        let handle = find::<GenerationHandle>(generation)?;
        let (found, _) = numbered(&handle, index)?;
        let (rows, name) = if logits == 0 {
            (&found.scores, "output_scores=true")
        } else {
            (&found.logits, "output_logits=true")
        };
        let row = rows.get(token).ok_or_else(|| {
            Failure::argument(format!(
                "token: expected a number below {}, found {token} (as many are kept as {name} asks \
                 for)",
                rows.len()
            ))
        })?;
        buffer.fill(row)
    })
}

/// How likely the model held a token that was chosen (`logprobs`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generation_logprob(
    generation: *const gpt2_generation,
    index: usize,
    token: usize,
    score: *mut gpt2_token_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<GenerationHandle>(generation)?;
        let (found, _) = numbered(&handle, index)?;
        let (id, kept) = logprob(found, token)?;
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, token_score(id, Some(kept))) }
    })
}

/// A token that was likely in the place of one that was chosen (`logprobs`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generation_top(
    generation: *const gpt2_generation,
    index: usize,
    token: usize,
    place: usize,
    score: *mut gpt2_token_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<GenerationHandle>(generation)?;
        let (found, _) = numbered(&handle, index)?;
        let (_, kept) = logprob(found, token)?;
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, likely_token(&kept.top, place)?) }
    })
}

/// A token of a continuation, and what was kept of it.
fn logprob(found: &Continuation, token: usize) -> Outcome<(u32, &TokenScore)> {
    let kept = found.ids.iter().copied().zip(&found.logprobs).nth(token);
    kept.ok_or_else(|| {
        Failure::argument(format!(
            "token: expected a number below {}, found {token} (as many are kept as logprobs=N asks \
             for)",
            found.logprobs.len()
        ))
    })
}

/// How long it took.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_generation_get_timings(
    generation: *const gpt2_generation,
    timings: *mut gpt2_timings,
) -> gpt2_status {
    guard(|| {
        let handle = find::<GenerationHandle>(generation)?;
        let found = handle.generation.timings;
        let found = gpt2_timings {
            prefill_tokens: found.prefill_tokens,
            decode_tokens: found.decode_tokens,
            prefill_seconds: found.prefill.as_secs_f64(),
            decode_seconds: found.decode.as_secs_f64(),
            ..gpt2_timings::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(timings, found) }
    })
}

/// Frees what came of a generation.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_generation_free(generation: *mut gpt2_generation) -> gpt2_status {
    guard(|| free::<GenerationHandle>(generation))
}
