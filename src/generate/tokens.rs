//! One token after the other: the best, or drawn.

use std::time::Instant;

use super::options::{Continuation, FinishReason, Generation, GenerationTimings};
use super::writer::Writer;
use super::{OnToken, Request, overflow};
use crate::model::kv_cache::SequenceSet;
use crate::sampling::{Chain, Generator, StepInputs};
use crate::session::Batch;
use crate::session::Session;
use crate::{Error, Result, TokenId};

/// What the loop needs of a session; a test stands in for a model with it.
pub(super) trait Predictor {
    /// The tokens that are there already.
    fn held(&self) -> Vec<TokenId>;
    /// Appends tokens; gives the logits after the last, `[vocabulary]`.
    fn append(&mut self, tokens: &[TokenId]) -> Result<&[f32]>;
    /// Goes back to the first `length` tokens.
    fn go_back(&mut self, length: usize) -> Result<()>;
    /// Most tokens that fit.
    fn capacity(&self) -> usize;
    /// Appends tokens to a text of its own, empty at first; gives the logits after the last.
    fn append_apart(&mut self, tokens: &[TokenId], anew: bool) -> Result<&[f32]>;
    /// What the model itself gave last, where [`Predictor::append`] gives something made of it.
    fn raw_logits(&self) -> Option<&[f32]> {
        None
    }
}

impl Predictor for Session {
    fn held(&self) -> Vec<TokenId> {
        self.tokens(0)
    }

    fn append(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
        self.prefill(tokens)
    }

    fn go_back(&mut self, length: usize) -> Result<()> {
        self.truncate(0, length)
    }

    fn capacity(&self) -> usize {
        self.context_size()
            .min(self.model().hyperparameters().n_positions)
    }

    fn append_apart(&mut self, tokens: &[TokenId], anew: bool) -> Result<&[f32]> {
        /// Sequence 0 is the text's.
        const APART: usize = 1;
        if anew {
            self.truncate(APART, 0)?;
        }
        let last = tokens.len().saturating_sub(1);
        let start = self.length(APART);
        let sequences = SequenceSet::of(APART)?;
        let batch = Batch::of_text(tokens, start, sequences, |index| index == last);
        Ok(self.run(&batch)?.row(0))
    }
}

/// Writes as many continuations as the request wants.
pub(super) fn write(
    predictor: &mut dyn Predictor,
    request: &Request<'_>,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    let start = Instant::now();
    let mut generation = Generation {
        sequences: Vec::new(),
        timings: GenerationTimings::default(),
    };
    let (prompt, first_logits) = match prefill(predictor, request, &mut generation.timings) {
        Ok(ready) => ready,
        Err(Error::Stopped) => return Ok(generation),
        Err(error) => return Err(error),
    };
    generation.timings.prefill = start.elapsed();
    let start = Instant::now();
    for sequence in 0..request.options.num_return_sequences {
        // A text that went on from a window is computed anew for the next one.
        if sequence > 0 {
            predictor.go_back(0)?;
            predictor.append(&prompt)?;
        }
        let mut text = Text::new(request, sequence, &prompt)?;
        let finish_reason = text.write(predictor, &first_logits, on_token)?;
        generation.timings.decode_tokens += text.computed;
        generation.sequences.push(text.finish(finish_reason));
        if finish_reason == FinishReason::Stopped {
            break;
        }
    }
    generation.timings.decode = start.elapsed();
    Ok(generation)
}

/// Computes the prompt, or the window of it that fits; gives that and the logits after it.
fn prefill(
    predictor: &mut dyn Predictor,
    request: &Request<'_>,
    timings: &mut GenerationTimings,
) -> Result<(Vec<TokenId>, Vec<f32>)> {
    let prompt = match request.options.on_overflow {
        Some(keep) if request.prompt.len() >= predictor.capacity() => {
            overflow::window(request.prompt, keep, predictor.capacity())?
        }
        _ => request.prompt.to_vec(),
    };
    // The last token is computed in any case: its logits are not in the cache.
    let common = predictor
        .held()
        .iter()
        .zip(&prompt)
        .take_while(|(held, wanted)| held == wanted)
        .count()
        .min(prompt.len().saturating_sub(1));
    predictor.go_back(common)?;
    let logits = predictor.append(&prompt[common..])?.to_vec();
    timings.prefill_tokens = prompt.len() - common;
    Ok((prompt, logits))
}

/// What comes next.
enum Next {
    Token(TokenId),
    /// The context is full.
    NoRoom,
}

/// One continuation as it is made.
pub(super) struct Text<'a, 'r> {
    request: &'r Request<'a>,
    /// Prompt and continuation.
    pub(super) ids: Vec<TokenId>,
    /// Tokens the predictor holds.
    held: usize,
    chain: Chain,
    generator: Generator,
    writer: Writer<'a>,
    /// Tokens of the continuation whose logits were computed.
    computed: usize,
    scores: Vec<Vec<f32>>,
    logits: Vec<Vec<f32>>,
}

impl<'a, 'r> Text<'a, 'r> {
    /// A continuation of the request, number `sequence` of several; the predictor holds `prompt` for it.
    pub(super) fn new(
        request: &'r Request<'a>,
        sequence: usize,
        prompt: &[TokenId],
    ) -> Result<Self> {
        Ok(Self {
            request,
            ids: request.prompt.to_vec(),
            held: prompt.len(),
            chain: request.chain(1)?,
            generator: Generator::new(request.options.seed.wrapping_add(sequence as u64)),
            writer: Writer::new(request, sequence)?,
            computed: 0,
            scores: Vec::new(),
            logits: Vec::new(),
        })
    }

    fn write(
        &mut self,
        predictor: &mut dyn Predictor,
        first_logits: &[f32],
        on_token: &mut OnToken<'_>,
    ) -> Result<FinishReason> {
        if self.request.max_new_tokens == 0 {
            return Ok(FinishReason::Length);
        }
        let mut chosen = self.first(predictor, first_logits);
        loop {
            match chosen {
                Ok(Next::Token(id)) => {
                    if let Some(reason) = self.take(id, on_token) {
                        return Ok(reason);
                    }
                }
                Ok(Next::NoRoom) => return Ok(FinishReason::ContextFull),
                // The text that guidance steers away from may fill the context too.
                Err(Error::ContextFull { .. }) if self.ids.len() > self.request.prompt.len() => {
                    return Ok(FinishReason::ContextFull);
                }
                Err(Error::Stopped) => return Ok(FinishReason::Stopped),
                Err(error) => return Err(error),
            }
            chosen = self.next(predictor);
        }
    }

    /// Appends a token; gives the reason when the text ends with it.
    pub(super) fn take(&mut self, id: TokenId, on_token: &mut OnToken<'_>) -> Option<FinishReason> {
        self.ids.push(id);
        if let Some(reason) = self.writer.push(id, on_token) {
            return Some(reason);
        }
        if self.request.is_over_time() {
            return Some(FinishReason::Time);
        }
        let new = self.ids.len() - self.request.prompt.len();
        (new >= self.request.max_new_tokens).then_some(FinishReason::Length)
    }

    /// The token after the prompt.
    fn first(&mut self, predictor: &mut dyn Predictor, logits: &[f32]) -> Result<Next> {
        let unconditional = if self.chain.needs_unconditional() {
            let last = self.ids.len().saturating_sub(1);
            let negative = self.request.options.negative_prompt.as_deref();
            let from = negative.unwrap_or(&self.ids[last..]);
            Some(predictor.append_apart(from, true)?.to_vec())
        } else {
            None
        };
        let id = self.choose(logits, unconditional.as_deref())?;
        self.keep_raw_logits(predictor);
        Ok(Next::Token(id))
    }

    /// Computes the newest token and chooses the one after it.
    fn next(&mut self, predictor: &mut dyn Predictor) -> Result<Next> {
        let newest = [self.ids[self.ids.len() - 1]];
        let capacity = predictor.capacity();
        let unconditional = if self.chain.needs_unconditional() {
            Some(predictor.append_apart(&newest, false)?.to_vec())
        } else {
            None
        };
        let logits = if self.held < capacity {
            self.held += 1;
            predictor.append(&newest)?
        } else {
            let Some(keep) = self.request.options.on_overflow else {
                return Ok(Next::NoRoom);
            };
            let window = overflow::window(&self.ids, keep, capacity)?;
            self.held = window.len();
            predictor.go_back(0)?;
            predictor.append(&window)?
        };
        self.computed += 1;
        let id = self.choose(logits, unconditional.as_deref())?;
        self.keep_raw_logits(predictor);
        Ok(Next::Token(id))
    }

    /// Puts the model's own logits in place of what was made of them.
    fn keep_raw_logits(&mut self, predictor: &dyn Predictor) {
        if let (Some(kept), Some(raw)) = (self.logits.last_mut(), predictor.raw_logits()) {
            raw.clone_into(kept);
        }
    }

    /// Chooses the next token by its logits.
    pub(super) fn choose(
        &mut self,
        logits: &[f32],
        unconditional: Option<&[f32]>,
    ) -> Result<TokenId> {
        let options = self.request.options;
        if options.output_logits {
            self.logits.push(logits.to_vec());
        }
        let inputs = StepInputs {
            ids: &self.ids,
            unconditional,
            ..StepInputs::default()
        };
        let scores = self.chain.process_step(logits, &inputs)?;
        if options.output_scores {
            self.scores.push(scores.to_vec());
        }
        self.generator.choose(scores, options.sampling.do_sample)
    }

    /// The continuation, ended for this reason.
    pub(super) fn finish(self, finish_reason: FinishReason) -> Continuation {
        Continuation {
            scores: self.scores,
            logits: self.logits,
            ..self.writer.finish(finish_reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::generate::GenerationOptions;
    use crate::gguf::{Gguf, GgufHeader};
    use crate::tokenizer::Tokenizer;

    /// Predicts, after each token, the next of a fixed text.
    struct Script {
        next: Vec<TokenId>,
        prompt_length: usize,
        length: usize,
        capacity: usize,
        logits: Vec<f32>,
        /// Appends that are still allowed before the stop flag counts as set.
        allowed: usize,
    }

    impl Predictor for Script {
        fn held(&self) -> Vec<TokenId> {
            Vec::new()
        }

        fn append(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
            if self.allowed == 0 {
                return Err(Error::Stopped);
            }
            self.allowed -= 1;
            self.length += tokens.len();
            assert!(
                self.length <= self.capacity,
                "the loop overfilled the context"
            );
            let next = self.next[(self.length - self.prompt_length) % self.next.len()];
            self.logits.fill(0.0);
            self.logits[EOS as usize] = 0.5;
            self.logits[next as usize] = 1.0;
            Ok(&self.logits)
        }

        fn go_back(&mut self, length: usize) -> Result<()> {
            self.length = length;
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.capacity
        }

        /// Wants the end of the text above all.
        fn append_apart(&mut self, _tokens: &[TokenId], _anew: bool) -> Result<&[f32]> {
            self.logits.fill(0.0);
            self.logits[EOS as usize] = 9.0;
            Ok(&self.logits)
        }
    }

    fn run(
        predictor: &mut dyn Predictor,
        tokenizer: Option<&Tokenizer>,
        eos: &[TokenId],
        prompt: &[TokenId],
        options: &GenerationOptions,
        on_token: &mut OnToken<'_>,
    ) -> Result<Generation> {
        let request = Request {
            tokenizer,
            eos,
            row: 0,
            prompt,
            options,
            max_new_tokens: options.max_new_tokens,
            start: Instant::now(),
        };
        write(predictor, &request, on_token)
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
        let gguf = Gguf::parse(std::sync::Arc::new(header.encode())).unwrap();
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
        let mut predictor = Script {
            next,
            prompt_length: prompt.len(),
            length: 0,
            capacity: 1000,
            logits: vec![0.0; 257],
            allowed: usize::MAX,
        };
        let mut options = GenerationOptions::default();
        change(&mut options, &mut predictor);
        let mut streamed = String::new();
        let mut generation = run(
            &mut predictor,
            Some(&tokenizer),
            &[EOS],
            &prompt,
            &options,
            &mut |step| {
                streamed.push_str(step.text);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        let continuation = generation.sequences.remove(0);
        assert!(continuation.text.starts_with(&streamed));
        Written {
            continuation,
            streamed,
            timings: generation.timings,
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
    fn a_break_ends_after_the_token() {
        let tokenizer = tokenizer();
        let mut predictor = Script {
            next: vec![65],
            prompt_length: 1,
            length: 0,
            capacity: 100,
            logits: vec![0.0; 257],
            allowed: usize::MAX,
        };
        let options = GenerationOptions::default();
        let generation = run(
            &mut predictor,
            Some(&tokenizer),
            &[],
            &[0],
            &options,
            &mut |_| ControlFlow::Break(()),
        );
        let sequences = generation.unwrap().sequences;
        assert_eq!(sequences[0].ids, [65]);
        assert_eq!(sequences[0].finish_reason, FinishReason::Stopped);
    }

    #[test]
    fn several_sequences_start_from_the_prompt() {
        let tokenizer = tokenizer();
        let mut predictor = Script {
            next: vec![65, 66, 67],
            prompt_length: 2,
            length: 0,
            capacity: 5,
            logits: vec![0.0; 257],
            allowed: usize::MAX,
        };
        let mut options = GenerationOptions {
            num_return_sequences: 3,
            ..Default::default()
        };
        options.max_new_tokens = 3;
        assert!(
            options.validate().is_err(),
            "greedy decoding has one result"
        );
        options.sampling.do_sample = true;
        options.sampling.top_k = 1;
        let mut seen = Vec::new();
        let generation = run(
            &mut predictor,
            Some(&tokenizer),
            &[EOS],
            &[1, 2],
            &options,
            &mut |step| {
                seen.push(step.sequence);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert!(
            generation
                .sequences
                .iter()
                .all(|sequence| sequence.ids == [65, 66, 67])
        );
    }
}
