//! One token after the other: the best, or drawn; with guidance, and from contrasted layers.

use std::ops::Range;

use super::decoding::{Decoding, Outcome, Room};
use super::dola::Dola;
use super::overflow;
use super::request::Request;
use super::work::{Compute, Edit, Work, last_of_text};
use super::writer::Chosen;
use crate::sampling::{Chain, Generator, StepInputs};
use crate::session::OutputRows;
use crate::{Result, TokenId};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The prompt.
    Prompt,
    /// The logits of an earlier layer, after the prompt or the newest token.
    EarlyLayer,
    /// The beginning of what guidance steers away from.
    Negative,
    /// Nothing: the newest token comes next.
    Ready,
    /// The newest token, in what guidance steers away from.
    Unconditional,
    /// The newest token.
    Newest,
    /// The prompt, whose place another text has taken.
    PromptAgain,
}

/// Chooses tokens one by one.
pub(super) struct TokenByToken {
    room: Room,
    stage: Stage,
    /// The prompt, or the window of it that fits.
    prompt: Vec<TokenId>,
    /// Tokens of the text in the cache.
    cached: usize,
    /// Tokens in the cache of what guidance steers away from.
    unconditional_cached: usize,
    /// Whether the cache must be cut back to the prompt.
    cut: bool,
    /// Whether the cache holds a window of the text, and no longer the prompt.
    moved: bool,
    /// Whether the prompt must be computed again, since another text's window has taken its place.
    lost: bool,
    /// Whether a token was chosen after the prompt.
    begun: bool,
    /// Whether the prompt's logits are used more than once.
    several: bool,
    chain: Chain,
    generator: Generator,
    dola: Option<Dola>,
    /// The logits after the prompt, where they are needed later.
    first_logits: Vec<f32>,
    /// The same as the model gave them, where [`Dola`] made others of them.
    first_raw: Vec<f32>,
    /// What guidance steers away from.
    unconditional: Vec<f32>,
}

impl TokenByToken {
    /// For the continuations `numbers` of a request; guidance takes the next sequence too.
    pub(super) fn new(
        room: Room,
        numbers: Range<usize>,
        dola: Option<Dola>,
        request: &Request,
    ) -> Result<Self> {
        if let Some(keep) = request.options.on_overflow {
            overflow::check(keep, room.capacity)?;
        }
        let prompt = match request.options.on_overflow {
            Some(keep) if request.prompt.len() >= room.capacity => {
                overflow::window(&request.prompt, keep, room.capacity)?
            }
            _ => request.prompt.clone(),
        };
        if prompt.len() > room.capacity {
            return Err(room.full(prompt.len()));
        }
        Ok(Self {
            room,
            stage: Stage::Prompt,
            prompt,
            cached: 0,
            unconditional_cached: 0,
            cut: false,
            moved: false,
            lost: false,
            begun: false,
            several: numbers.len() > 1,
            chain: request.chain(1)?,
            generator: generator(request, numbers.start),
            dola,
            first_logits: Vec::new(),
            first_raw: Vec::new(),
            unconditional: Vec::new(),
        })
    }

    /// The prompt, or the window of it that fits.
    pub(super) fn prompt(&self) -> &[TokenId] {
        &self.prompt
    }

    /// With the first `cached` tokens of the prompt in the cache.
    pub(super) fn with_cached(mut self, cached: usize) -> Self {
        self.cached = cached;
        self
    }

    /// A run of the text's tokens from `position` on.
    fn run(&self, edits: Vec<Edit>, tokens: &[TokenId], position: usize) -> Result<Work> {
        let mut batch = last_of_text(tokens, position, self.room.first)?;
        batch.hidden_states = self.dola.is_some();
        Ok(Work::run(edits, batch))
    }

    /// The newest token, or what is kept of a text that has outgrown the context.
    fn newest(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        self.stage = Stage::Newest;
        let mut edits = Vec::new();
        if std::mem::take(&mut self.cut) {
            edits.push(Edit::Truncate {
                sequence: self.room.first,
                length: self.cached,
            });
        }
        if self.cached < self.room.capacity {
            return self.run(edits, newest(ids), self.cached);
        }
        let keep = self.keep(request)?;
        let window = overflow::window(ids, keep, self.room.capacity)?;
        (self.cached, self.moved) = (window.len() - 1, true);
        edits.push(Edit::Truncate {
            sequence: self.room.first,
            length: 0,
        });
        self.run(edits, &window, 0)
    }

    /// How much of the beginning stays when the context is full.
    fn keep(&self, request: &Request) -> Result<usize> {
        let keep = request.options.on_overflow;
        keep.ok_or_else(|| self.room.full(self.cached + 1))
    }

    /// Takes the logits after the prompt.
    fn after_prompt(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
    ) -> Result<Outcome> {
        let guided = self.chain.needs_unconditional();
        if guided || self.several {
            logits.clone_into(&mut self.first_logits);
            if let Some(dola) = &self.dola {
                dola.raw().clone_into(&mut self.first_raw);
            }
        }
        if guided && request.max_new_tokens > 0 {
            self.stage = Stage::Negative;
            return Ok(Outcome::More);
        }
        self.begun = true;
        if request.max_new_tokens == 0 {
            return Ok(Outcome::Tokens(Vec::new()));
        }
        self.choose(request, ids, logits)
    }

    /// The first token of a text after the prompt was computed for another, or before guidance was.
    fn first_again(&mut self, request: &Request, ids: &[TokenId]) -> Result<Outcome> {
        self.begun = true;
        let logits = std::mem::take(&mut self.first_logits);
        let raw = std::mem::take(&mut self.first_raw);
        let model_gave = if raw.is_empty() { &logits } else { &raw };
        let outcome = self.choose_by(request, ids, &logits, model_gave);
        (self.first_logits, self.first_raw) = (logits, raw);
        outcome
    }

    /// Chooses the next token by logits that were just computed.
    fn choose(&mut self, request: &Request, ids: &[TokenId], logits: &[f32]) -> Result<Outcome> {
        let Some(dola) = self.dola.take() else {
            return self.choose_by(request, ids, logits, logits);
        };
        let outcome = self.choose_by(request, ids, logits, dola.raw());
        self.dola = Some(dola);
        outcome
    }

    /// Chooses the next token by its logits; `raw` are the model's own.
    fn choose_by(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
        raw: &[f32],
    ) -> Result<Outcome> {
        self.stage = Stage::Ready;
        let options = &request.options;
        let guided = self.chain.needs_unconditional();
        let inputs = StepInputs {
            ids,
            unconditional: guided.then_some(&self.unconditional[..]),
            ..StepInputs::default()
        };
        let scores = self.chain.process_step(logits, &inputs)?;
        let id = self.generator.choose(scores, options.sampling.do_sample)?;
        let chosen = Chosen::new(options, id, scores, raw)?;
        Ok(Outcome::Tokens(vec![chosen]))
    }

    /// Takes the logits of the text.
    fn take_logits(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
    ) -> Result<Outcome> {
        if self.begun {
            self.choose(request, ids, logits)
        } else {
            self.after_prompt(request, ids, logits)
        }
    }
}

impl Decoding for TokenByToken {
    fn work(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        match self.stage {
            Stage::Prompt => self.run(Vec::new(), &self.prompt[self.cached..], self.cached),
            Stage::EarlyLayer => {
                let state = self.dola.as_mut().map(Dola::next_state);
                Ok(Work {
                    edits: Vec::new(),
                    compute: Some(Compute::Project(state.unwrap_or_default())),
                })
            }
            Stage::Negative => {
                let negative = request.options.negative_prompt.as_deref();
                let tokens = negative.unwrap_or_else(|| newest(&request.prompt));
                let edits = vec![Edit::Truncate {
                    sequence: self.room.first + 1,
                    length: 0,
                }];
                self.unconditional_cached = tokens.len();
                Ok(Work::run(
                    edits,
                    last_of_text(tokens, 0, self.room.first + 1)?,
                ))
            }
            Stage::Ready if self.lost => {
                (self.lost, self.cut) = (false, false);
                self.stage = Stage::PromptAgain;
                let edits = vec![Edit::Truncate {
                    sequence: self.room.first,
                    length: 0,
                }];
                Ok(Work::run(
                    edits,
                    last_of_text(&self.prompt, 0, self.room.first)?,
                ))
            }
            Stage::Ready if self.chain.needs_unconditional() => {
                if self.cached >= self.room.capacity {
                    self.keep(request)?;
                }
                self.stage = Stage::Unconditional;
                let batch =
                    last_of_text(newest(ids), self.unconditional_cached, self.room.first + 1)?;
                Ok(Work::run(Vec::new(), batch))
            }
            Stage::Ready | Stage::Unconditional | Stage::Newest | Stage::PromptAgain => {
                self.newest(request, ids)
            }
        }
    }

    fn accept(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome> {
        let logits = rows.logits(0);
        match self.stage {
            Stage::Prompt | Stage::Newest => {
                self.cached = match self.stage {
                    Stage::Prompt => self.prompt.len(),
                    _ => self.cached + 1,
                };
                match &mut self.dola {
                    None => self.take_logits(request, ids, logits),
                    Some(dola) => {
                        dola.begin(rows);
                        self.stage = Stage::EarlyLayer;
                        Ok(Outcome::More)
                    }
                }
            }
            Stage::EarlyLayer => match self.dola.as_mut().and_then(|dola| dola.compare(logits)) {
                Some(contrasted) => self.take_logits(request, ids, &contrasted),
                None => Ok(Outcome::More),
            },
            Stage::Negative => {
                logits.clone_into(&mut self.unconditional);
                self.first_again(request, ids)
            }
            Stage::Unconditional => {
                self.unconditional_cached += 1;
                logits.clone_into(&mut self.unconditional);
                Ok(Outcome::More)
            }
            Stage::PromptAgain => {
                self.stage = Stage::Ready;
                Ok(Outcome::More)
            }
            Stage::Ready => Ok(Outcome::More),
        }
    }

    fn is_in_prompt(&self) -> bool {
        !self.begun
    }

    fn begin_again(&mut self, request: &Request, number: usize) -> Result<Outcome> {
        self.chain = request.chain(1)?;
        self.generator = generator(request, number);
        self.cached = self.prompt.len();
        self.cut = true;
        self.lost = std::mem::take(&mut self.moved);
        if self.chain.needs_unconditional() {
            self.stage = Stage::Negative;
            return Ok(Outcome::More);
        }
        self.first_again(request, &request.prompt)
    }
}

/// The newest of the ids, in a list.
fn newest(ids: &[TokenId]) -> &[TokenId] {
    &ids[ids.len().saturating_sub(1)..]
}

/// The draws of continuation `number`.
fn generator(request: &Request, number: usize) -> Generator {
    Generator::new(request.options.seed.wrapping_add(number as u64))
}

#[cfg(test)]
mod tests {
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
}
