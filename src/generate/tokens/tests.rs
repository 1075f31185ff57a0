//! Greedy and sampled texts over logits that a test chooses.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::Error;
use crate::generate::decoder::{Decoder, Event};
use crate::generate::output::{Continuation, FinishReason, GenerationTimings};
use crate::generate::{Cancel, GenerationOptions};
use crate::gguf::{Gguf, GgufHeader};
use crate::session::Output;
use crate::tokenizer::Tokenizer;

/// In the place of a session: predicts, after each token, the next of a fixed text.
struct Script {
    next: Vec<TokenId>,
    prompt_length: usize,
    /// Tokens in the first sequence.
    length: usize,
    capacity: usize,
    /// Computations that are still allowed before the stop flag counts as set.
    allowed: usize,
    /// Computations that are still allowed before the decoder is cancelled.
    cancelled_after: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            next: vec![65],
            prompt_length: 1,
            length: 0,
            capacity: 1000,
            allowed: usize::MAX,
            cancelled_after: usize::MAX,
        }
    }
}

impl Script {
    fn run(&mut self, work: &Work) -> Result<Output> {
        for edit in &work.edits {
            match edit {
                Edit::Truncate {
                    sequence: 0,
                    length,
                } => self.length = self.length.min(*length),
                Edit::Truncate { .. } => {}
                Edit::Reorder { .. } => panic!("a single text has no beams"),
            }
        }
        let Some(Compute::Run(batch)) = &work.compute else {
            panic!("expected a run");
        };
        if self.allowed == 0 {
            return Err(Error::Stopped);
        }
        self.allowed -= 1;
        let mut logits = vec![0.0; 257];
        if batch.tokens[0].sequences.contains(1) {
            // What guidance steers away from is the end of the text, above all.
            logits[EOS as usize] = 9.0;
        } else {
            assert_eq!(batch.tokens[0].position, self.length);
            self.length += batch.tokens.len();
            assert!(self.length <= self.capacity, "the context is overfilled");
            let next = self.next[(self.length - self.prompt_length) % self.next.len()];
            logits[EOS as usize] = 0.5;
            logits[next as usize] = 1.0;
        }
        Ok(Output::of_logits(logits, 257))
    }

    fn write(
        &mut self,
        tokenizer: Option<Arc<Tokenizer>>,
        eos: &[TokenId],
        prompt: &[TokenId],
        options: &GenerationOptions,
    ) -> (
        Vec<Continuation>,
        Vec<crate::generate::Step>,
        GenerationTimings,
    ) {
        let request = Request {
            tokenizer,
            eos: eos.to_vec(),
            number: 0,
            prompt: prompt.to_vec(),
            options: Arc::new(options.clone()),
            max_new_tokens: options.max_new_tokens,
            start: Instant::now(),
        };
        let room = Room {
            first: 0,
            capacity: self.capacity,
            model_limit: self.capacity,
        };
        let numbers = 0..options.num_return_sequences;
        let method = TokenByToken::new(room, numbers.clone(), None, &request).unwrap();
        let mut decoder =
            Decoder::with(Arc::new(request), Box::new(method), numbers, prompt.len()).unwrap();
        let cancel: Cancel = decoder.cancel_flag();
        let (mut finished, mut steps) = (Vec::new(), Vec::new());
        while !decoder.is_done() {
            if let Some(work) = decoder.work().unwrap() {
                let output = self.run(&work);
                let rows = output.as_ref().map(Output::all_rows);
                decoder.accept(rows.map_err(|_| Error::Stopped)).unwrap();
                if self.cancelled_after == 0 {
                    cancel.cancel();
                }
                self.cancelled_after = self.cancelled_after.saturating_sub(1);
            }
            while let Some(event) = decoder.next_event().unwrap() {
                match event {
                    Event::Token(step) => steps.push(step),
                    Event::Finished { continuation, .. } => finished.push(continuation),
                }
            }
        }
        (finished, steps, decoder.timings())
    }
}

const EOS: TokenId = 256;

/// A vocabulary of single bytes in the order of GPT-2's byte alphabet, then `<|endoftext|>`.
fn tokenizer() -> Tokenizer {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut tokens: Vec<String> = (0..=255)
        .filter(printable)
        .map(|b| char::from(b).to_string())
        .collect();
    tokens.extend((256..324).filter_map(char::from_u32).map(String::from));
    tokens.push("<|endoftext|>".to_owned());
    let mut types = vec![1_i32; 256];
    types.push(3);
    let mut header = GgufHeader::new();
    header.set("general.architecture", "gpt2").unwrap();
    header.set("tokenizer.ggml.model", "gpt2").unwrap();
    header.set("tokenizer.ggml.pre", "gpt-2").unwrap();
    header.set("tokenizer.ggml.tokens", tokens).unwrap();
    header.set("tokenizer.ggml.token_type", types).unwrap();
    header
        .set("tokenizer.ggml.merges", Vec::<String>::new())
        .unwrap();
    header.set("tokenizer.ggml.eos_token_id", EOS).unwrap();
    let gguf = Gguf::parse(Arc::new(header.encode())).unwrap();
    Tokenizer::from_metadata(gguf.metadata()).unwrap()
}

struct Written {
    continuation: Continuation,
    streamed: String,
    timings: GenerationTimings,
}

/// Generates from a model that wants to write `text` and then end it.
fn written(text: &str, change: impl FnOnce(&mut GenerationOptions, &mut Script)) -> Written {
    let tokenizer = tokenizer();
    let mut next = tokenizer.encode(text).unwrap();
    next.push(EOS);
    let prompt = tokenizer.encode("Once").unwrap();
    let mut script = Script {
        next,
        prompt_length: prompt.len(),
        ..Script::default()
    };
    let mut options = GenerationOptions::default();
    change(&mut options, &mut script);
    let (mut finished, steps, timings) =
        script.write(Some(Arc::new(tokenizer)), &[EOS], &prompt, &options);
    let streamed: String = steps.into_iter().map(|step| step.text).collect();
    let continuation = finished.remove(0);
    assert!(continuation.text.starts_with(&streamed));
    Written {
        continuation,
        streamed,
        timings,
    }
}

#[test]
fn the_end_of_the_text_is_an_id_and_no_text() {
    let Written {
        continuation,
        streamed,
        timings,
    } = written(" upon a time", |_, _| ());
    assert_eq!(continuation.text, " upon a time");
    assert_eq!(streamed, continuation.text);
    assert_eq!(continuation.finish_reason, FinishReason::Eos);
    assert_eq!((continuation.ids.len(), continuation.ids[12]), (13, EOS));
    assert_eq!((timings.prefill_tokens, timings.decode_tokens), (4, 12));
    assert_eq!(continuation.score, None);
}

#[test]
fn length_limits_the_new_tokens() {
    let result = written(" upon a time", |options, _| options.max_new_tokens = 5);
    assert_eq!(result.continuation.text, " upon");
    assert_eq!(result.continuation.finish_reason, FinishReason::Length);
    assert_eq!(
        result.timings.decode_tokens, 4,
        "the last token needs no computation"
    );
    let none = written(" upon a time", |options, _| options.max_new_tokens = 0);
    assert_eq!(
        (none.continuation.ids.len(), none.continuation.text.len()),
        (0, 0)
    );
}

#[test]
fn ignoring_the_end_never_chooses_it() {
    let result = written("ab", |options, _| {
        options.ignore_eos = true;
        options.max_new_tokens = 10;
    });
    assert_eq!(result.continuation.ids.len(), 10);
    assert!(!result.continuation.ids.contains(&EOS));
    assert_eq!(result.continuation.finish_reason, FinishReason::Length);
}

#[test]
fn a_stop_string_is_no_text() {
    let result = written(" upon a time", |options, _| {
        options.stop = vec!["n a".to_owned()];
    });
    assert_eq!(
        (&*result.continuation.text, &*result.streamed),
        (" upo", " upo")
    );
    assert_eq!(result.continuation.finish_reason, FinishReason::Stop);
    // A beginning that comes to nothing is text after all.
    let result = written(" upon", |options, _| options.stop = vec!["on!".to_owned()]);
    assert_eq!(
        (&*result.continuation.text, &*result.streamed),
        (" upon", " up")
    );
}

#[test]
fn half_a_character_at_the_limit_is_replaced_at_the_end() {
    let result = written("aé", |options, _| options.max_new_tokens = 2);
    assert_eq!(result.continuation.text, "a\u{FFFD}");
    assert_eq!(result.streamed, "a");
    assert_eq!(written("aé", |_, _| ()).streamed, "aé");
}

#[test]
fn a_full_context_ends_the_text() {
    let result = written(" upon a time", |_, script| script.capacity = 7);
    // The prompt's four, three more computed, and the one those predict.
    assert_eq!(result.continuation.text, " upo");
    assert_eq!(result.continuation.finish_reason, FinishReason::ContextFull);
}

#[test]
fn a_stop_flag_keeps_what_there_is() {
    let result = written(" upon a time", |_, script| script.allowed = 3);
    assert_eq!(result.continuation.text, " up");
    assert_eq!(result.continuation.finish_reason, FinishReason::Stopped);
}

#[test]
fn a_cancelled_text_keeps_what_there_is() {
    let result = written(" upon a time", |_, script| script.cancelled_after = 3);
    assert_eq!(result.continuation.text, " up");
    assert_eq!(result.continuation.finish_reason, FinishReason::Stopped);
    let within_the_prompt = written(" upon", |_, script| script.cancelled_after = 0);
    assert!(within_the_prompt.continuation.ids.is_empty());
}

#[test]
fn guidance_steers_away_from_the_end() {
    // The model wants the end after two tokens; the other sequence wants it more.
    let result = written("ab", |options, _| {
        options.sampling.guidance_scale = 3.0;
        options.max_new_tokens = 4;
    });
    assert_eq!(result.continuation.ids.len(), 4);
    assert!(!result.continuation.ids.contains(&EOS));
}

#[test]
fn several_sequences_start_from_the_prompt() {
    for (on_overflow, capacity) in [(None, 5), (Some(1), 3)] {
        let mut script = Script {
            next: vec![65, 66, 67],
            prompt_length: 2,
            capacity,
            ..Script::default()
        };
        let mut options = GenerationOptions {
            num_return_sequences: 3,
            on_overflow,
            max_new_tokens: 3,
            ..Default::default()
        };
        assert!(
            options.validate().is_err(),
            "greedy decoding has one result"
        );
        options.sampling.do_sample = true;
        options.sampling.top_k = 1;
        let (finished, steps, _) =
            script.write(Some(Arc::new(tokenizer())), &[EOS], &[1, 2], &options);
        let seen: Vec<usize> = steps.iter().map(|step| step.sequence).collect();
        assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        let first = &finished[0].ids;
        assert_eq!(first[..2], [65, 66]);
        assert!(finished.iter().all(|sequence| sequence.ids == *first));
    }
}
