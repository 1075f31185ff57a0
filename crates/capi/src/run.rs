//! Tokens go through the model: one sequence's next ones, or a batch of many.

use std::collections::BTreeMap;
use std::ptr;

use super::buffers::{Buffer, list, place_of, put};
use super::handles::{find, free, handle, open};
use super::session::{gpt2_session, with_session};
use super::status::{Failure, Outcome, gpt2_status, guard};
use super::structs::{read, structure};
use gpt2::TokenId;
use gpt2::session::{Batch, BatchToken, Output, SequenceSet, Session};

/// Logits come out of a batch.
pub const GPT2_LOGITS: u32 = 1;
/// The hidden state after the final layer norm comes out.
pub const GPT2_LAST_HIDDEN_STATE: u32 = 2;
/// The hidden states before and after every layer come out.
pub const GPT2_HIDDEN_STATES: u32 = 4;
/// The probabilities of attention come out.
pub const GPT2_ATTENTIONS: u32 = 8;

structure! {
    /// Tokens to compute together.
    gpt2_batch, init gpt2_batch_init {
        /// The tokens.
        tokens: *const u32 = ptr::null(),
        /// How many.
        n_tokens: usize = 0,
        /// The sequence of each; null: 0.
        sequences: *const u32 = ptr::null(),
        /// The place of each in its sequence; null: after what is there.
        positions: *const u32 = ptr::null(),
        /// The row of the position embedding of each; null: its place.
        position_ids: *const u32 = ptr::null(),
        /// The token whose embedding is added to each; null: none.
        token_types: *const u32 = ptr::null(),
        /// Of each, whether no other sees it; null: all are seen.
        masked: *const u8 = ptr::null(),
        /// Of each, whether something comes out of it; null: of all.
        wanted: *const u8 = ptr::null(),
        /// What comes out: `GPT2_LOGITS` and others, added.
        outputs: u32 = GPT2_LOGITS,
        /// Zero.
        reserved: u32 = 0,
        /// Whether each token has the bits that it has when it is computed alone.
        batch_invariant: i32 = 0,
        /// Zero.
        reserved_2: i32 = 0,
    }
}

/// What came out of a batch, with the number of attention heads.
pub(super) struct OutputHandle {
    output: Output,
    heads: usize,
}

handle!(
    /// What came out of a batch.
    gpt2_output = OutputHandle
);

/// Appends tokens to a sequence and gives the last one's logits.
fn append(
    session: *const gpt2_session,
    sequence: u32,
    tokens: &[TokenId],
    logits: &Buffer<f32>,
) -> Outcome {
    with_session(session, |session| {
        session.check_sequence(sequence as usize)?;
        let Some(last) = tokens.len().checked_sub(1) else {
            return Err(Failure::argument(
                "tokens: expected at least one, found none",
            ));
        };
        logits.expect(session.model().hyperparameters().vocab_size)?;
        let first = session.length(sequence as usize);
        let set = SequenceSet::of(sequence as usize)?;
        let batch = Batch::of_text(tokens, first, set, |index| index == last);
        logits.fill(session.run(&batch)?.row(0))
    })
}

/// Appends tokens to a sequence; gives the logits of the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_prefill(
    session: *mut gpt2_session,
    sequence: u32,
    tokens: *const u32,
    n_tokens: usize,
    logits: *mut f32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let (tokens, buffer) = unsafe {
            (
                list("tokens", tokens, n_tokens)?,
                Buffer::new("logits", logits, capacity, length)?,
            )
        };
        append(session, sequence, tokens, &buffer)
    })
}

/// Appends one token to a sequence; gives its logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_decode(
    session: *mut gpt2_session,
    sequence: u32,
    token: u32,
    logits: *mut f32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("logits", logits, capacity, length)? };
        append(session, sequence, &[token], &buffer)
    })
}

/// The lists of a batch; those that were not given are empty.
struct Lists<'a> {
    tokens: &'a [u32],
    sequences: &'a [u32],
    positions: &'a [u32],
    position_ids: &'a [u32],
    token_types: &'a [u32],
    masked: &'a [u8],
    wanted: &'a [u8],
}

impl Lists<'_> {
    /// # Safety
    /// The pointers of `batch` are null or readable for `n_tokens` elements.
    unsafe fn new(batch: &gpt2_batch) -> Outcome<Self> {
        fn optional<T>(start: *const T, count: usize) -> usize {
            if start.is_null() { 0 } else { count }
        }
        let count = batch.n_tokens;
        let numbers = |name, start: *const u32| {
            // SAFETY: the caller's promise.
            unsafe { list(name, start, optional(start, count)) }
        };
        let marks = |name, start: *const u8| {
            // SAFETY: the caller's promise.
            unsafe { list(name, start, optional(start, count)) }
        };
        Ok(Self {
            // SAFETY: the caller's promise.
            tokens: unsafe { list("tokens", batch.tokens, count)? },
            sequences: numbers("sequences", batch.sequences)?,
            positions: numbers("positions", batch.positions)?,
            position_ids: numbers("position_ids", batch.position_ids)?,
            token_types: numbers("token_types", batch.token_types)?,
            masked: marks("masked", batch.masked)?,
            wanted: marks("wanted", batch.wanted)?,
        })
    }

    /// The batch for `session`.
    fn batch(&self, session: &Session, given: &gpt2_batch) -> Outcome<Batch> {
        let outputs = given.outputs;
        let known = GPT2_LOGITS | GPT2_LAST_HIDDEN_STATE | GPT2_HIDDEN_STATES | GPT2_ATTENTIONS;
        if outputs & !known != 0 {
            return Err(Failure::argument(format!(
                "outputs: expected of {known:#x} only, found {:#x} as well",
                outputs & !known
            )));
        }
        // Where each sequence goes on.
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        let mut tokens = Vec::with_capacity(self.tokens.len());
        for (index, &token) in self.tokens.iter().enumerate() {
            let sequence = self
                .sequences
                .get(index)
                .map_or(0, |&number| number as usize);
            session.check_sequence(sequence)?;
            let end = ends
                .entry(sequence)
                .or_insert_with(|| session.length(sequence));
            let position = self
                .positions
                .get(index)
                .map_or(*end, |&place| place as usize);
            *end = position + 1;
            tokens.push(BatchToken {
                token,
                position,
                position_id: self.position_ids.get(index).map(|&id| id as usize),
                token_type: self.token_types.get(index).copied(),
                masked: self.masked.get(index).is_some_and(|&mark| mark != 0),
                sequences: SequenceSet::of(sequence)?,
                output: self.wanted.get(index).is_none_or(|&mark| mark != 0),
            });
        }
        Ok(Batch {
            tokens,
            logits: outputs & GPT2_LOGITS != 0,
            last_hidden_state: outputs & GPT2_LAST_HIDDEN_STATE != 0,
            hidden_states: outputs & GPT2_HIDDEN_STATES != 0,
            attentions: outputs & GPT2_ATTENTIONS != 0,
            batch_invariant: given.batch_invariant != 0,
        })
    }
}

/// Computes a batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_run(
    session: *mut gpt2_session,
    batch: *const gpt2_batch,
    output: *mut *mut gpt2_output,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("output", output)? };
        if batch.is_null() {
            return Err(Failure::argument("batch: expected one, found NULL"));
        }
        // SAFETY: the caller's pointers are as the header asks.
        let (batch, lists) = unsafe {
            let batch = read(batch)?;
            (batch, Lists::new(&batch)?)
        };
        let found = with_session(session, |session| {
            let batch = lists.batch(session, &batch)?;
            let heads = session.model().hyperparameters().n_head;
            let output = session.run(&batch)?.clone();
            Ok(OutputHandle { output, heads })
        })?;
        // SAFETY: as above.
        unsafe { target.write(open(found)) };
        Ok(())
    })
}

impl OutputHandle {
    /// The matrix of `what`, and its shape.
    fn matrix(&self, what: u32, layer: usize) -> Outcome<(&[f32], Vec<usize>)> {
        let Output {
            logits,
            last_hidden_state,
            hidden_states,
            attentions,
            ..
        } = &self.output;
        let matrix: Option<&[f32]> = match what {
            GPT2_LOGITS if layer == 0 => Some(logits),
            GPT2_LAST_HIDDEN_STATE if layer == 0 => Some(last_hidden_state),
            GPT2_HIDDEN_STATES => hidden_states.get(layer).map(Vec::as_slice),
            GPT2_ATTENTIONS => attentions.get(layer).map(Vec::as_slice),
            _ => None,
        };
        let rows = self.output.rows();
        let matrix = matrix.filter(|matrix| rows == 0 || !matrix.is_empty());
        let matrix = matrix.ok_or_else(|| {
            Failure::argument(format!(
                "what, layer: the batch does not ask for {what} of layer {layer}, or there is none"
            ))
        })?;
        let columns = matrix.len() / rows.max(1);
        let shape = match what {
            GPT2_ATTENTIONS => vec![rows, self.heads, columns / self.heads.max(1)],
            _ => vec![rows, columns],
        };
        Ok((matrix, shape))
    }
}

/// The shape of something that came out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_output_shape(
    output: *const gpt2_output,
    what: u32,
    shape: *mut usize,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("shape", shape, capacity, length)? };
        let handle = find::<OutputHandle>(output)?;
        buffer.fill(&handle.matrix(what, 0)?.1)
    })
}

/// Copies something that came out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_output_read(
    output: *const gpt2_output,
    what: u32,
    layer: usize,
    values: *mut f32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's buffer is as the header asks.
        let buffer = unsafe { Buffer::new("values", values, capacity, length)? };
        let handle = find::<OutputHandle>(output)?;
        buffer.fill(handle.matrix(what, layer)?.0)
    })
}

/// How many rows came out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_output_rows(
    output: *const gpt2_output,
    rows: *mut usize,
) -> gpt2_status {
    guard(|| {
        let handle = find::<OutputHandle>(output)?;
        // SAFETY: the caller's pointer is as the header asks.
        unsafe { put("rows", rows, handle.output.rows()) }
    })
}

/// Frees what came out.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_output_free(output: *mut gpt2_output) -> gpt2_status {
    guard(|| free::<OutputHandle>(output))
}
