//! Logits → token: processors, warpers and the draw, after transformers' `generate()`.
//!
//! Everything works on a slice of logits (one value per vocabulary entry, −∞ for a token that is
//! ruled out) and on the ids so far. One small type per processor; [`Chain`] puts them in the
//! order that transformers uses, because the order changes the result. Knows nothing of models,
//! files or text, and is the same on every machine: exponentials come from `libm`, draws from a
//! seeded generator.
//!
//! ```
//! use gpt2::sampling::{Chain, ChainContext, Generator, Processor, SamplingOptions, TopK};
//!
//! let mut logits = [0.5, 2.0, 1.0, -1.0];
//! TopK::new(2).apply(&mut logits, &[]);
//! assert_eq!(logits, [f32::NEG_INFINITY, 2.0, 1.0, f32::NEG_INFINITY]);
//!
//! let options = SamplingOptions {
//!     suppress_tokens: vec![1],
//!     ..SamplingOptions::default()
//! };
//! let context = ChainContext {
//!     prompt: &[3],
//!     eos: &[0],
//!     beams: 1,
//!     max_length: None,
//! };
//! let mut chain = Chain::new(&options, &context)?;
//! let next = chain.choose(&logits, &[3], &mut Generator::new(42))?;
//! assert_eq!(next, 2);
//! # Ok::<(), gpt2::Error>(())
//! ```

mod bias;
mod chain;
mod cutoff;
mod distribution;
mod draw;
mod forced;
mod guidance;
mod information;
mod length;
mod link;
mod ngrams;
mod options;
mod order;
pub(crate) mod parameter;
pub(crate) mod parameters;
mod penalties;
mod suppress;
#[cfg(test)]
mod testing;
mod token_score;
mod token_set;
mod top;
mod values;

pub use bias::{BadWords, SequenceBias};
pub use chain::{Chain, StepInputs};
pub use cutoff::{EpsilonCutoff, EtaCutoff, MinP};
pub(crate) use distribution::LogSum;
pub use distribution::{log_softmax, softmax};
pub use draw::{Generator, greedy};
pub use forced::{ForcedBos, ForcedEos, PrefixAllowedTokens};
pub use guidance::ClassifierFreeGuidance;
pub use information::{TopH, TypicalP};
pub use length::{ExponentialDecayLengthPenalty, MinimumLength, MinimumNewTokens};
pub use link::ChainContext;
pub use ngrams::{EncoderNoRepeatNgram, NoRepeatNgram};
pub use options::{PrefixAllowedTokensFn, SamplingOptions};
pub use penalties::{
    DiversityPenalty, EncoderRepetitionPenalty, FrequencyPenalty, PresencePenalty,
    RepetitionPenalty,
};
pub use suppress::{SuppressTokens, SuppressTokensAtBegin};
pub use token_score::{Alternative, ScoreDetails, TokenScore, score_token};
pub use top::{TopK, TopP};
pub use values::{RemoveInvalidValues, RenormalizeLogits, Temperature};

use crate::TokenId;

/// One step of the chain: changes scores in the light of the ids so far.
///
/// `logits` is `[vocabulary]`; `ids` is the prompt and everything generated after it. A processor
/// never fails: ids outside the vocabulary are passed over, and NaN is found by the final choice.
pub trait Processor: std::any::Any + Send {
    /// Changes `logits` in place; −∞ rules a token out.
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]);
}
