//! The chain of processors as a whole, against one computed here step by step in double precision.
//!
//! The steps are written from their formulas. Two neighbours are then exchanged: where the formulas
//! do not commute, the result must change, or the test would not notice a wrong order.

mod documents;
mod scenario;
mod steps;

use std::collections::BTreeMap;

use crate::scenario::Scenario;
use crate::steps::Step;

fn run(steps: &[(&'static str, Step)], logits: &[f32]) -> Vec<f64> {
    let start = logits.iter().map(|logit| f64::from(*logit)).collect();
    steps.iter().fold(start, |scores, (_, step)| step(scores))
}

/// The largest difference, relative where the numbers are large; infinite where one rules a token
/// out and the other does not.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            if a == b {
                0.0
            } else {
                (a - b).abs() / a.abs().max(1.0)
            }
        })
        .fold(0.0, f64::max)
}

fn scenarios() -> [Scenario; 6] {
    let mut beams = Scenario::middle();
    beams.beams = 4;
    beams.options.top_k = 1;
    [
        Scenario::middle(),
        Scenario::wide(),
        Scenario::beginning(),
        Scenario::one_id(30),
        Scenario::one_id(2),
        beams,
    ]
}

#[test]
fn the_chain_has_every_parameter_in_order() {
    let scenario = Scenario::middle();
    let chain = scenario.chain();
    let names: Vec<&str> = chain.names().collect();
    assert_eq!(
        names,
        [
            "guidance_scale",
            "sequence_bias",
            "diversity_penalty",
            "encoder_repetition_penalty",
            "repetition_penalty",
            "frequency_penalty",
            "presence_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "min_length",
            "min_new_tokens",
            "prefix_allowed_tokens_fn",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "remove_invalid_values",
            "exponential_decay_length_penalty",
            "suppress_tokens",
            "begin_suppress_tokens",
            "custom",
            "temperature",
            "top_h",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "renormalize_logits",
        ]
    );
    let steps: Vec<&str> = scenario.steps().iter().map(|(name, _)| *name).collect();
    assert_eq!(steps, names);
}

#[test]
fn all_together_give_what_each_gives_in_turn() {
    let mut largest = 0.0_f64;
    for (index, scenario) in scenarios().iter().enumerate() {
        let expected = run(&scenario.steps(), &scenario.logits);
        let found = scenario.processed();
        let worst = difference(&expected, &found);
        assert!(
            worst < 1e-5,
            "scenario {index}: {worst:e}\n{expected:?}\n{found:?}"
        );
        largest = largest.max(worst);
    }
    println!("largest difference: {largest:e}");
}

#[test]
fn neighbours_cannot_be_exchanged() {
    // The largest change that exchanging each pair makes in any of the scenarios.
    let mut changes: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for scenario in scenarios() {
        let mut steps = scenario.steps();
        let expected = run(&steps, &scenario.logits);
        for place in 1..steps.len() {
            let pair = (steps[place - 1].0, steps[place].0);
            steps.swap(place - 1, place);
            let change = difference(&expected, &run(&steps, &scenario.logits));
            steps.swap(place - 1, place);
            let largest = changes.entry(pair).or_default();
            *largest = largest.max(change);
        }
    }
    let everything = Scenario::middle();
    let steps = everything.steps();
    let pairs = steps.windows(2).map(|pair| (pair[0].0, pair[1].0));
    let indifferent: Vec<(&str, &str)> = pairs.filter(|pair| changes[pair] < 1e-3).collect();
    assert_eq!(
        indifferent,
        [
            // Sums.
            ("sequence_bias", "diversity_penalty"),
            // Products, none of which changes a sign.
            ("encoder_repetition_penalty", "repetition_penalty"),
            // Sums.
            ("frequency_penalty", "presence_penalty"),
            // −∞, whatever is subtracted from it and however often it is given.
            ("presence_penalty", "no_repeat_ngram_size"),
            ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
            ("encoder_no_repeat_ngram_size", "bad_words_ids"),
            ("bad_words_ids", "min_length"),
            ("min_length", "min_new_tokens"),
            ("min_new_tokens", "prefix_allowed_tokens_fn"),
            ("exponential_decay_length_penalty", "suppress_tokens"),
            ("suppress_tokens", "begin_suppress_tokens"),
        ]
    );
}
