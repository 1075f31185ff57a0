//! The order of the processors, which is transformers': any other gives other results.

use super::Processor;
use super::bias::{BadWords, SequenceBias};
use super::chain::{ChainContext, Link, NamedLink};
use super::cutoff::{EpsilonCutoff, EtaCutoff, MinP};
use super::forced::{ForcedBos, ForcedEos, PrefixAllowedTokens};
use super::guidance::ClassifierFreeGuidance;
use super::information::{TopH, TypicalP};
use super::length::{ExponentialDecayLengthPenalty, MinimumLength, MinimumNewTokens};
use super::ngrams::{EncoderNoRepeatNgram, NoRepeatNgram};
use super::options::SamplingOptions;
use super::penalties::{DiversityPenalty, EncoderRepetitionPenalty, RepetitionPenalty};
use super::suppress::{SuppressTokens, SuppressTokensAtBegin};
use super::top::{TopK, TopP};
use super::values::{RemoveInvalidValues, RenormalizeLogits, Temperature};

/// The links of every way of decoding, up to where a caller's own processors come; only what
/// changes a score becomes one.
pub(super) fn processors(o: &SamplingOptions, context: &ChainContext) -> Vec<NamedLink> {
    let mut links = biases_and_bans(o, context);
    links.extend(ends_and_forced_tokens(o, context));
    links
}

fn biases_and_bans(o: &SamplingOptions, context: &ChainContext) -> Vec<NamedLink> {
    let ChainContext { prompt, eos, .. } = *context;
    wanted([
        (
            "guidance_scale",
            (o.guidance_scale != 1.0)
                .then(|| Link::Guidance(ClassifierFreeGuidance::new(o.guidance_scale))),
        ),
        (
            "sequence_bias",
            when(!o.sequence_bias.is_empty(), || {
                SequenceBias::new(&o.sequence_bias)
            }),
        ),
        (
            "diversity_penalty",
            (o.diversity_penalty > 0.0)
                .then(|| Link::Diversity(DiversityPenalty::new(o.diversity_penalty))),
        ),
        (
            "encoder_repetition_penalty",
            when(o.encoder_repetition_penalty != 1.0, || {
                EncoderRepetitionPenalty::new(o.encoder_repetition_penalty, prompt)
            }),
        ),
        (
            "repetition_penalty",
            when(o.repetition_penalty != 1.0, || {
                RepetitionPenalty::new(o.repetition_penalty)
            }),
        ),
        (
            "no_repeat_ngram_size",
            when(o.no_repeat_ngram_size > 0, || {
                NoRepeatNgram::new(o.no_repeat_ngram_size)
            }),
        ),
        (
            "encoder_no_repeat_ngram_size",
            when(o.encoder_no_repeat_ngram_size > 0, || {
                EncoderNoRepeatNgram::new(o.encoder_no_repeat_ngram_size, prompt)
            }),
        ),
        (
            "bad_words_ids",
            when(!o.bad_words_ids.is_empty(), || {
                BadWords::new(&o.bad_words_ids, eos)
            }),
        ),
    ])
}

fn ends_and_forced_tokens(o: &SamplingOptions, context: &ChainContext) -> Vec<NamedLink> {
    let ChainContext { prompt, eos, .. } = *context;
    wanted([
        (
            "min_length",
            when(o.min_length > prompt.len(), || {
                MinimumLength::new(o.min_length, eos)
            }),
        ),
        (
            "min_new_tokens",
            when(o.min_new_tokens > 0, || {
                MinimumNewTokens::new(prompt.len(), o.min_new_tokens, eos)
            }),
        ),
        (
            "prefix_allowed_tokens_fn",
            o.prefix_allowed_tokens_fn
                .as_ref()
                .map(|function| link(PrefixAllowedTokens::new(function.clone()))),
        ),
        (
            "forced_bos_token_id",
            o.forced_bos_token_id
                .map(|token| link(ForcedBos::new(token))),
        ),
        (
            "forced_eos_token_id",
            context
                .max_length
                .filter(|_| !o.forced_eos_token_id.is_empty())
                .map(|length| link(ForcedEos::new(length, &o.forced_eos_token_id))),
        ),
        (
            "remove_invalid_values",
            when(o.remove_invalid_values, || RemoveInvalidValues),
        ),
        (
            "exponential_decay_length_penalty",
            o.exponential_decay_length_penalty.map(|(start, factor)| {
                let start = prompt.len().saturating_add(start);
                link(ExponentialDecayLengthPenalty::new(start, factor, eos))
            }),
        ),
        (
            "suppress_tokens",
            when(!o.suppress_tokens.is_empty(), || {
                SuppressTokens::new(&o.suppress_tokens)
            }),
        ),
        (
            "begin_suppress_tokens",
            when(!o.begin_suppress_tokens.is_empty(), || {
                // A forced token is no choice: the one after it is the first then.
                let forced = o.forced_bos_token_id.is_some() && prompt.len() <= 1;
                let begin = prompt.len() + usize::from(forced);
                SuppressTokensAtBegin::new(&o.begin_suppress_tokens, begin)
            }),
        ),
    ])
}

/// The links after a caller's own processors: the warpers, which act on sampling alone, and what
/// makes the result log-probabilities again.
pub(super) fn warpers(o: &SamplingOptions, context: &ChainContext) -> Vec<NamedLink> {
    // A search must be able to go on beside every end of text.
    let keep = match context.beams {
        0 | 1 => 1,
        _ => context.eos.len().max(1) + 1,
    };
    let sampled = [
        (
            "temperature",
            when(o.temperature != 1.0, || Temperature::new(o.temperature)),
        ),
        ("top_h", when(o.top_h < 1.0, || TopH::new(o.top_h))),
        (
            "top_k",
            when(o.top_k > 0, || TopK::new(o.top_k).min_tokens_to_keep(keep)),
        ),
        (
            "top_p",
            when(o.top_p < 1.0, || {
                TopP::new(o.top_p).min_tokens_to_keep(keep)
            }),
        ),
        (
            "min_p",
            when(o.min_p > 0.0, || {
                MinP::new(o.min_p).min_tokens_to_keep(keep)
            }),
        ),
        (
            "typical_p",
            when(o.typical_p < 1.0, || {
                TypicalP::new(o.typical_p).min_tokens_to_keep(keep)
            }),
        ),
        (
            "epsilon_cutoff",
            when(o.epsilon_cutoff > 0.0, || {
                EpsilonCutoff::new(o.epsilon_cutoff).min_tokens_to_keep(keep)
            }),
        ),
        (
            "eta_cutoff",
            when(o.eta_cutoff > 0.0, || {
                EtaCutoff::new(o.eta_cutoff).min_tokens_to_keep(keep)
            }),
        ),
    ];
    let always = [(
        "renormalize_logits",
        when(o.renormalize_logits, || RenormalizeLogits),
    )];
    let mut links = if o.do_sample {
        wanted(sampled)
    } else {
        Vec::new()
    };
    links.extend(wanted(always));
    links
}

fn link(processor: impl Processor) -> Link {
    Link::Processor(Box::new(processor))
}

fn when<P: Processor>(wanted: bool, make: impl FnOnce() -> P) -> Option<Link> {
    wanted.then(|| link(make()))
}

/// The rows that have a link.
fn wanted<const ROWS: usize>(table: [(&'static str, Option<Link>); ROWS]) -> Vec<NamedLink> {
    let rows = table.into_iter();
    rows.filter_map(|(name, link)| Some((name, link?)))
        .collect()
}
