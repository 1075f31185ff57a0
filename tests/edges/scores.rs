//! Whatever a parameter of sampling is, scores that were numbers stay numbers.

use gpt2::sampling::{
    Chain, ChainContext, Generator, SamplingOptions, StepInputs, greedy, log_softmax,
};
use proptest::prelude::*;

use crate::{COUNTS, NUMBERS};

const VOCABULARY: usize = 9;

/// A logit that a model may give, or a caller that has ruled a token out.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -30.0f32..30.0,
        1 => prop::sample::select(vec![0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-45]),
        1 => Just(f32::NEG_INFINITY),
    ]
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(logit(), VOCABULARY)
}

/// A number that was left alone, or one at an edge.
fn number(usual: f64) -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(usual), 1 => prop::sample::select(NUMBERS)]
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => prop::sample::select(COUNTS)]
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCABULARY as u32 + 2, 0..4)
}

fn options() -> impl Strategy<Value = SamplingOptions> {
    let choice = (
        number(1.0),
        count(),
        number(1.0),
        number(0.0),
        number(1.0),
        number(0.0),
        number(0.0),
        number(1.0),
    );
    let changes = (
        number(1.0),
        number(0.0),
        number(0.0),
        number(1.0),
        number(1.0),
        number(0.0),
        prop::collection::vec((tokens(), number(0.0)), 0..3),
        prop::option::of((count(), number(1.0))),
    );
    let rest = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        count(),
        count(),
        count(),
    );
    (choice, changes, rest).prop_map(|(choice, changes, rest)| SamplingOptions {
        temperature: choice.0,
        top_k: choice.1,
        top_p: choice.2,
        min_p: choice.3,
        typical_p: choice.4,
        epsilon_cutoff: choice.5,
        eta_cutoff: choice.6,
        top_h: choice.7,
        repetition_penalty: changes.0,
        frequency_penalty: changes.1,
        presence_penalty: changes.2,
        encoder_repetition_penalty: changes.3,
        guidance_scale: changes.4,
        diversity_penalty: changes.5,
        sequence_bias: changes.6,
        exponential_decay_length_penalty: changes.7,
        do_sample: rest.0,
        remove_invalid_values: rest.1,
        renormalize_logits: rest.2,
        no_repeat_ngram_size: rest.3,
        encoder_no_repeat_ngram_size: rest.4,
        min_new_tokens: rest.5,
        ..SamplingOptions::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 4000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn numbers_stay_numbers(
        options in options(),
        logits in logits(),
        unconditional in logits(),
        ids in tokens(),
        chosen in tokens(),
        beams in 1usize..4,
    ) {
        let context = ChainContext {
            prompt: &ids[..ids.len() / 2],
            eos: &[3],
            beams,
            max_length: Some(5),
        };
        // Only what is out of its range is refused.
        let Ok(mut chain) = Chain::new(&options, &context) else {
            prop_assert!(options.validate().is_err());
            return Ok(());
        };
        let inputs = StepInputs {
            ids: &ids,
            unconditional: Some(&unconditional),
            chosen: &chosen,
            allowed: None,
        };
        let scores = chain.process_step(&logits, &inputs).unwrap();
        for (logit, score) in logits.iter().zip(scores) {
            prop_assert!(*score < f32::INFINITY, "{logit} became {score}");
        }
        let mut generator = Generator::new(1);
        match generator.choose(scores, options.do_sample) {
            Ok(token) => prop_assert!((token as usize) < VOCABULARY),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("ruled out"), "{}", text);
            }
        }
    }

    /// Parameters alone rule nothing out: some token is left of those that were in play.
    #[test]
    fn something_is_left(options in options(), logits in logits(), unconditional in logits()) {
        let options = SamplingOptions {
            sequence_bias: Vec::new(),
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            min_new_tokens: 0,
            ..options
        };
        let context = ChainContext { prompt: &[1, 2], eos: &[3], beams: 1, max_length: None };
        let Ok(mut chain) = Chain::new(&options, &context) else {
            return Ok(());
        };
        let inputs = StepInputs {
            ids: &[1, 2, 4, 4],
            unconditional: Some(&unconditional),
            chosen: &[5, 5],
            allowed: None,
        };
        let scores = chain.process_step(&logits, &inputs).unwrap();
        prop_assert_eq!(greedy(scores).is_ok(), greedy(&logits).is_ok());
    }

    #[test]
    fn log_probabilities_of_numbers_are_none_above_0(logits in logits()) {
        let mut scores = Vec::new();
        log_softmax(&logits, &mut scores);
        for score in scores {
            prop_assert!(score <= 0.0, "{}", score);
        }
    }
}

/// A NaN in the logits is the model's fault, and is said whatever the parameters are.
#[test]
fn broken_logits_are_still_found() {
    for change in [
        |o: &mut SamplingOptions| o.temperature = 1e-40,
        |o: &mut SamplingOptions| o.repetition_penalty = 1e300,
        |o: &mut SamplingOptions| o.presence_penalty = f64::MIN,
        |_: &mut SamplingOptions| (),
    ] {
        let mut options = SamplingOptions {
            do_sample: true,
            ..SamplingOptions::default()
        };
        change(&mut options);
        let context = ChainContext {
            prompt: &[0],
            eos: &[],
            beams: 1,
            max_length: None,
        };
        for broken in [f32::NAN, f32::INFINITY] {
            let mut chain = Chain::new(&options, &context).unwrap();
            let mut generator = Generator::new(0);
            let error = chain
                .choose(&[broken, 1.0], &[0, 0], &mut generator)
                .unwrap_err();
            assert!(error.to_string().contains("weights are broken"), "{error}");
        }
    }
}
