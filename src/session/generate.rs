//! The loop from a prompt to a text: choose, append, stop in time.

use std::ops::ControlFlow;
use std::time::Instant;

use super::Session;
use super::generation::{
    Continuation, FinishReason, Generation, GenerationOptions, GenerationTimings, Step,
};
use super::stop::StopStrings;
use crate::sampling::{Chain, ChainContext, Generator};
use crate::tokenizer::{DecodeOptions, StreamDecoder, Tokenizer};
use crate::{Error, Result, TokenId};

/// Continues `prompt` in sequence 0 of `session`, and hands every token to `on_token` as it comes; a
/// break ends the generation with what there is, and so does the session's stop flag.
///
/// What the sequence holds already is kept as far as it begins the prompt: only the rest is
/// computed, and timed.
///
/// A model without a tokenizer works on ids: texts are then empty, and stop strings refused.
///
/// Text that only the end makes certain (held back as the beginning of a stop string, or half a
/// character) is in the result and not in any step: print [`Continuation::text`] from where the
/// steps' texts end.
///
/// # Errors
/// As [`GenerationOptions::validate`]; [`Error::Argument`] for an empty prompt or an id outside the
/// vocabulary; [`Error::ContextFull`] when the prompt does not fit; [`Error::Format`] when the
/// model's logits are not numbers, or stop strings need a tokenizer that the model does not have.
pub fn generate(
    session: &mut Session,
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Generation> {
    let model = std::sync::Arc::clone(session.model());
    model.check_tokens(prompt)?;
    let tokenizer = match model.tokenizer() {
        Ok(tokenizer) => Some(tokenizer),
        Err(error) if !options.stop.is_empty() || model.has_tokenizer() => return Err(error),
        Err(_) => None,
    };
    let eos = options
        .eos
        .as_deref()
        .unwrap_or(&model.hyperparameters().eos);
    run(session, tokenizer, eos, prompt, options, on_token)
}

/// What the loop needs of a session; a test stands in for a model with it.
trait Predictor {
    /// The tokens that are there already.
    fn held(&self) -> Vec<TokenId>;
    /// Appends tokens; gives the logits after the last, `[vocabulary]`.
    fn append(&mut self, tokens: &[TokenId]) -> Result<&[f32]>;
    /// Goes back to the first `length` tokens.
    fn go_back(&mut self, length: usize) -> Result<()>;
    /// Most tokens that fit.
    fn capacity(&self) -> usize;
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
            .min(self.model().hyperparameters().positions)
    }
}

fn run(
    predictor: &mut dyn Predictor,
    tokenizer: Option<&Tokenizer>,
    eos: &[TokenId],
    prompt: &[TokenId],
    options: &GenerationOptions,
    on_token: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Generation> {
    options.validate()?;
    let mut generation = Generation {
        sequences: Vec::new(),
        timings: GenerationTimings::default(),
    };
    let start = Instant::now();
    // The last token is computed in any case: its logits are not in the cache.
    let common = predictor
        .held()
        .iter()
        .zip(prompt)
        .take_while(|(held, wanted)| held == wanted)
        .count()
        .min(prompt.len().saturating_sub(1));
    predictor.go_back(common)?;
    let first_logits = match predictor.append(&prompt[common..]) {
        Ok(logits) => logits.to_vec(),
        Err(Error::Stopped) => return Ok(generation),
        Err(error) => return Err(error),
    };
    generation.timings.prefill_tokens = prompt.len() - common;
    generation.timings.prefill = start.elapsed();
    let start = Instant::now();
    for sequence in 0..options.num_return_sequences {
        if sequence > 0 {
            predictor.go_back(prompt.len())?;
        }
        let mut writer = Writer::new(tokenizer, eos, prompt, options, sequence)?;
        let finish_reason = writer.write(predictor, &first_logits, on_token)?;
        generation.timings.decode_tokens += writer.computed;
        generation.sequences.push(writer.finish(finish_reason));
        if finish_reason == FinishReason::Stopped {
            break;
        }
    }
    generation.timings.decode = start.elapsed();
    Ok(generation)
}

/// One continuation as it is written.
struct Writer<'a> {
    options: &'a GenerationOptions,
    eos: &'a [TokenId],
    sequence: usize,
    /// Prompt and continuation.
    ids: Vec<TokenId>,
    prompt_length: usize,
    chain: Chain,
    generator: Generator,
    decoder: Option<StreamDecoder<'a>>,
    stops: StopStrings<'a>,
    text: String,
    /// Tokens of the continuation whose logits were computed.
    computed: usize,
}

impl<'a> Writer<'a> {
    fn new(
        tokenizer: Option<&'a Tokenizer>,
        eos: &'a [TokenId],
        prompt: &[TokenId],
        options: &'a GenerationOptions,
        sequence: usize,
    ) -> Result<Self> {
        let mut sampling = options.sampling.clone();
        if options.ignore_eos {
            sampling.min_new_tokens = usize::MAX;
        }
        let decode = DecodeOptions {
            skip_special_tokens: true,
            ..DecodeOptions::default()
        };
        let context = ChainContext {
            prompt,
            eos,
            beams: 1,
            max_length: Some(prompt.len().saturating_add(options.max_new_tokens)),
        };
        Ok(Self {
            options,
            eos,
            sequence,
            ids: prompt.to_vec(),
            prompt_length: prompt.len(),
            chain: Chain::new(&sampling, &context)?,
            generator: Generator::new(options.seed.wrapping_add(sequence as u64)),
            decoder: tokenizer.map(|tokenizer| StreamDecoder::new(tokenizer, decode)),
            stops: StopStrings::new(&options.stop)?,
            text: String::new(),
            computed: 0,
        })
    }

    fn write(
        &mut self,
        predictor: &mut dyn Predictor,
        first_logits: &[f32],
        on_token: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<FinishReason> {
        let mut logits = first_logits;
        for index in 0..self.options.max_new_tokens {
            if index > 0 {
                if self.ids.len() > predictor.capacity() {
                    return Ok(FinishReason::ContextFull);
                }
                logits = match predictor.append(&self.ids[self.ids.len() - 1..]) {
                    Ok(logits) => logits,
                    Err(Error::Stopped) => return Ok(FinishReason::Stopped),
                    Err(error) => return Err(error),
                };
                self.computed += 1;
            }
            let id = self.chain.choose(logits, &self.ids, &mut self.generator)?;
            self.ids.push(id);
            if let Some(reason) = self.take(id, on_token) {
                return Ok(reason);
            }
        }
        Ok(FinishReason::Length)
    }

    /// Turns the token into text; gives the reason when the text ends with it.
    fn take(
        &mut self,
        id: TokenId,
        on_token: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Option<FinishReason> {
        let is_eos = self.eos.contains(&id);
        let piece = match &mut self.decoder {
            Some(decoder) if !is_eos => decoder.push(id),
            _ => String::new(),
        };
        let released = self.stops.push(&piece);
        self.text.push_str(&released.text);
        let step = Step {
            sequence: self.sequence,
            id,
            text: &released.text,
        };
        let flow = on_token(&step);
        if released.stopped {
            Some(FinishReason::Stop)
        } else if is_eos {
            Some(FinishReason::Eos)
        } else {
            flow.is_break().then_some(FinishReason::Stopped)
        }
    }

    fn finish(mut self, finish_reason: FinishReason) -> Continuation {
        if finish_reason != FinishReason::Stop {
            let rest = self.decoder.as_mut().map(StreamDecoder::finish);
            let released = self.stops.push(&rest.unwrap_or_default());
            self.text.push_str(&released.text);
            self.text.push_str(&self.stops.finish());
        }
        Continuation {
            ids: self.ids.split_off(self.prompt_length),
            text: self.text,
            finish_reason,
            score: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Gguf, GgufHeader};

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
