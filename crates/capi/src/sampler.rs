//! The chain of processors as a handle, for programs that decode by themselves.

use std::ffi::c_void;

use super::buffers::{list, place_of, put, target_of};
use super::exclusive::Exclusive;
use super::generate::{gpt2_generate_options, resolve};
use super::handles::{close, find, handle, open};
use super::model::{gpt2_model, model_of};
use super::status::{Failure, Outcome, gpt2_status, guard};
use gpt2::TokenId;
use gpt2::sampling::{Chain, ChainContext, Generator, Processor};

/// A chain at work on one text.
pub(super) struct Sampler {
    chain: Chain,
    generator: Generator,
    /// The prompt and what followed.
    tokens: Vec<TokenId>,
    vocabulary: usize,
}

/// A sampler, used by one call at a time.
pub(super) struct SamplerHandle(Exclusive<Sampler>);

handle!(
    /// A sampler.
    gpt2_sampler = SamplerHandle
);

/// Changes scores in the light of the tokens so far.
pub type gpt2_processor_callback = Option<
    unsafe extern "C" fn(
        scores: *mut f32,
        n_scores: usize,
        tokens: *const u32,
        n_tokens: usize,
        user_data: *mut c_void,
    ),
>;

/// A processor of the program's own.
struct Custom {
    callback: unsafe extern "C" fn(*mut f32, usize, *const u32, usize, *mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the header says that the function is called from whichever thread uses the sampler.
unsafe impl Send for Custom {}

impl Processor for Custom {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        // SAFETY: as the header asks of the function; both lists live for the call and do not
        // overlap.
        unsafe {
            (self.callback)(
                logits.as_mut_ptr(),
                logits.len(),
                ids.as_ptr(),
                ids.len(),
                self.user_data,
            );
        }
    }
}

/// Looks a sampler up and works with it.
fn with_sampler<T>(
    sampler: *const gpt2_sampler,
    work: impl FnOnce(&mut Sampler) -> Outcome<T>,
) -> Outcome<T> {
    let handle = find::<SamplerHandle>(sampler)?;
    handle.0.with::<SamplerHandle, T>(work)
}

impl Sampler {
    fn check_scores(&self, found: usize) -> Outcome {
        if found == self.vocabulary {
            return Ok(());
        }
        Err(Failure::argument(format!(
            "logits: expected {}, one a token of the vocabulary, found {found}",
            self.vocabulary
        )))
    }
}

/// Makes a sampler for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_sampler_new(
    model: *const gpt2_model,
    options: *const gpt2_generate_options,
    prompt: *const u32,
    n_prompt: usize,
    sampler: *mut *mut gpt2_sampler,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("sampler", sampler)? };
        // SAFETY: the caller's pointers are as the header asks.
        let prompt: &[TokenId] = unsafe { list("prompt", prompt, n_prompt)? };
        let model = model_of(model)?;
        // SAFETY: as above.
        let mut options = unsafe { resolve(options, &model)? };
        model.check_tokens(prompt)?;
        let hyperparameters = model.hyperparameters();
        options.validate()?;
        options.sampling.check_ids(hyperparameters.vocab_size)?;
        if options.ignore_eos {
            options.sampling.min_new_tokens = usize::MAX;
        }
        let context = ChainContext {
            prompt,
            eos: options.eos.as_deref().unwrap_or(&hyperparameters.eos),
            beams: 1,
            max_length: Some(prompt.len().saturating_add(options.max_new_tokens)),
        };
        let made = Sampler {
            chain: Chain::new(&options.sampling, &context)?,
            generator: Generator::new(options.seed),
            tokens: prompt.to_vec(),
            vocabulary: hyperparameters.vocab_size,
        };
        // SAFETY: as above.
        unsafe { target.write(open(SamplerHandle(Exclusive::new(made)))) };
        Ok(())
    })
}

/// Adds a processor of the program's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_sampler_add(
    sampler: *mut gpt2_sampler,
    callback: gpt2_processor_callback,
    user_data: *mut c_void,
) -> gpt2_status {
    guard(|| {
        let callback = callback
            .ok_or_else(|| Failure::argument("callback: expected a function, found NULL"))?;
        with_sampler(sampler, |sampler| {
            let custom = Custom {
                callback,
                user_data,
            };
            sampler.chain.push(Box::new(custom));
            Ok(())
        })
    })
}

/// Chooses the next token and counts it among those so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_sampler_choose(
    sampler: *mut gpt2_sampler,
    logits: *const f32,
    n_logits: usize,
    token: *mut u32,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's list is as the header asks.
        let logits = unsafe { list("logits", logits, n_logits)? };
        target_of("token", token)?;
        let chosen = with_sampler(sampler, |sampler| {
            sampler.check_scores(logits.len())?;
            let Sampler {
                chain,
                generator,
                tokens,
                ..
            } = sampler;
            let chosen = chain.choose(logits, tokens, generator)?;
            tokens.push(chosen);
            Ok(chosen)
        })?;
        // SAFETY: as above.
        unsafe { put("token", token, chosen) }
    })
}

/// Turns logits into the scores after every processor, in place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_sampler_process(
    sampler: *mut gpt2_sampler,
    logits: *mut f32,
    n_logits: usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's list is as the header asks.
        let given = unsafe { list::<f32>("logits", logits, n_logits)? }.to_vec();
        with_sampler(sampler, |sampler| {
            sampler.check_scores(given.len())?;
            let Sampler { chain, tokens, .. } = sampler;
            let inputs = gpt2::sampling::StepInputs {
                ids: tokens,
                ..Default::default()
            };
            let scores = chain.process_step(&given, &inputs)?;
            // SAFETY: the caller's list is writable and as long as the scores, as was checked.
            unsafe { logits.copy_from_nonoverlapping(scores.as_ptr(), scores.len()) };
            Ok(())
        })
    })
}

/// Counts a token that was chosen otherwise among those so far.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_sampler_accept(sampler: *mut gpt2_sampler, token: u32) -> gpt2_status {
    guard(|| {
        with_sampler(sampler, |sampler| {
            if token as usize >= sampler.vocabulary {
                return Err(Failure::argument(format!(
                    "token: expected an id below {}, found {token}",
                    sampler.vocabulary
                )));
            }
            sampler.tokens.push(token);
            Ok(())
        })
    })
}

/// Frees a sampler.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_sampler_free(sampler: *mut gpt2_sampler) -> gpt2_status {
    guard(|| {
        if let Some(handle) = close::<SamplerHandle>(sampler)? {
            handle.0.free();
        }
        Ok(())
    })
}
