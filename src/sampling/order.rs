//! The order of the processors, which is transformers': any other gives other results.

use super::Processor;
use super::bias::{BadWords, SequenceBias};
use super::cutoff::{EpsilonCutoff, EtaCutoff, MinP};
use super::forced::{ForcedBos, ForcedEos, PrefixAllowedTokens};
use super::guidance::ClassifierFreeGuidance;
use super::information::{TopH, TypicalP};
use super::length::{ExponentialDecayLengthPenalty, MinimumLength, MinimumNewTokens};
use super::link::{ChainContext, Link, NamedLink};
use super::ngrams::{EncoderNoRepeatNgram, NoRepeatNgram};
use super::options::SamplingOptions;
use super::penalties::{
    DiversityPenalty, EncoderRepetitionPenalty, FrequencyPenalty, PresencePenalty,
    RepetitionPenalty,
};
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
            "frequency_penalty",
            when(o.frequency_penalty != 0.0, || {
                FrequencyPenalty::new(o.frequency_penalty, prompt.len())
            }),
        ),
        (
            "presence_penalty",
            when(o.presence_penalty != 0.0, || {
                PresencePenalty::new(o.presence_penalty, prompt.len())
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

#[cfg(test)]
mod tests {
    use super::super::Chain;
    use super::super::testing::{OUT, log};
    use super::*;
    use crate::TokenId;

    const CONTEXT: ChainContext = ChainContext {
        prompt: &[5],
        eos: &[3, 2],
        beams: 1,
        max_length: Some(3),
    };

    fn chain(context: &ChainContext, change: impl FnOnce(&mut SamplingOptions)) -> Chain {
        let mut options = SamplingOptions {
            top_k: 0,
            ..SamplingOptions::default()
        };
        change(&mut options);
        Chain::new(&options, context).unwrap()
    }

    fn names(change: impl FnOnce(&mut SamplingOptions)) -> Vec<&'static str> {
        chain(&CONTEXT, change).names().collect()
    }

    #[test]
    fn only_what_is_asked_for_becomes_a_link() {
        assert!(names(|_| ()).is_empty());
        assert!(names(|o| o.temperature = 2.0).is_empty());
        assert_eq!(
            names(|o| (o.do_sample, o.temperature, o.top_k) = (true, 2.0, 50)),
            ["temperature", "top_k"]
        );
        // Log-probabilities are wanted of greedy decoding too.
        assert_eq!(
            names(|o| (o.renormalize_logits, o.top_p) = (true, 0.5)),
            ["renormalize_logits"]
        );
        // The prompt is as long already.
        assert!(names(|o| o.min_length = 1).is_empty());
    }

    #[test]
    fn an_end_is_forced_where_there_is_one() {
        let logits = [1.0; 4];
        let forced = |context: &ChainContext, ids: &[TokenId]| {
            let mut chain = chain(context, |o| o.forced_eos_token_id = vec![2]);
            chain.process(&logits, ids).to_vec()
        };
        assert_eq!(forced(&CONTEXT, &[5, 0]), [OUT, OUT, 0.0, OUT]);
        assert_eq!(forced(&CONTEXT, &[5]), logits);
        let endless = ChainContext {
            max_length: None,
            ..CONTEXT
        };
        assert_eq!(forced(&endless, &[5, 0]), logits);
    }

    #[test]
    fn a_forced_first_token_puts_the_beginning_off() {
        let suppressed = |forced, ids: &[TokenId]| {
            let mut chain = chain(&CONTEXT, |o| {
                o.begin_suppress_tokens = vec![0];
                o.forced_bos_token_id = forced;
            });
            chain.process(&[1.0; 2], ids)[0] == OUT
        };
        assert!(suppressed(None, &[5]) && !suppressed(None, &[5, 1]));
        // After the forced token 0 itself, which is not suppressed.
        assert!(!suppressed(Some(0), &[5]) && suppressed(Some(0), &[5, 0]));
        // A longer prompt has no forced token.
        let longer = ChainContext {
            prompt: &[5, 5],
            ..CONTEXT
        };
        let mut chain = chain(&longer, |o| {
            o.begin_suppress_tokens = vec![0];
            o.forced_bos_token_id = Some(1);
        });
        assert_eq!(chain.process(&[1.0; 2], &[5, 5]), [OUT, 1.0]);
    }

    #[test]
    fn beams_keep_a_token_beside_the_ends() {
        let logits = log(&[0.4, 0.3, 0.2, 0.1]);
        let kept = |beams, eos, change: fn(&mut SamplingOptions)| {
            let context = ChainContext {
                eos,
                beams,
                ..CONTEXT
            };
            let mut chain = chain(&context, |o| {
                o.do_sample = true;
                change(o);
            });
            let scores = chain.process(&logits, &[5]);
            scores.iter().filter(|score| **score > OUT).count()
        };
        let changes: [fn(&mut SamplingOptions); 6] = [
            |o| o.top_k = 1,
            |o| o.top_p = 0.1,
            |o| o.min_p = 1.0,
            // H = 1.2799 and −ln p − H: −.3636, −.0759, .3296, 1.0227; the second is nearest.
            |o| o.typical_p = 0.1,
            |o| o.epsilon_cutoff = 0.9,
            |o| o.eta_cutoff = 0.99999,
        ];
        // √.99999 · e^−1.2799 = .2781: eta leaves .4 and .3 by itself.
        for (index, change) in changes.into_iter().enumerate() {
            let alone = if index == 5 { 2 } else { 1 };
            assert_eq!(kept(1, &[3, 2], change), alone, "filter {index}");
            assert_eq!(kept(0, &[3, 2], change), alone, "filter {index}");
            assert_eq!(kept(2, &[3, 2], change), 3, "filter {index}");
            assert_eq!(kept(2, &[3], change), 2, "filter {index}");
            assert_eq!(kept(2, &[], change), 2, "filter {index}");
        }
    }
}
