//! Every method of decoding, on the demo model: against transformers' continuations, and against
//! one another.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{austen, austen_f32, cores, ids, reference};
use gpt2::generate::{
    Continuation, DolaLayers, EarlyStopping, FinishReason, Generate, GenerationOptions, generate,
    generate_assisted,
};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use serde_json::Value;

/// A session with what the options need.
fn session(model: &Arc<Model>, options: &GenerationOptions) -> Session {
    let options = SessionOptions {
        sequences: options.sequences(),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn options(
    max_new_tokens: usize,
    change: impl FnOnce(&mut GenerationOptions),
) -> GenerationOptions {
    let mut options = GenerationOptions {
        max_new_tokens,
        ..GenerationOptions::default()
    };
    change(&mut options);
    options
}

fn written(model: &Arc<Model>, prompt: &[u32], options: &GenerationOptions) -> Vec<Continuation> {
    let mut session = session(model, options);
    let generation = generate(&mut session, prompt, options).and_then(Generate::finish);
    generation.unwrap().sequences
}

fn prompts() -> Vec<Value> {
    reference()["prompts"].as_array().unwrap().clone()
}

/// Continues every prompt of the reference and compares with its `entry`.
fn compare(entry: &str, options: &GenerationOptions) {
    let _cores = cores();
    let model = austen_f32();
    for prompt in prompts() {
        let found = written(&model, &ids(&prompt["ids"]), options);
        assert_eq!(
            found[0].ids,
            ids(&prompt[entry]["ids"]),
            "{}",
            prompt["prompt"]
        );
    }
}

#[test]
fn greedy_is_transformers() {
    compare("greedy", &options(64, |_| ()));
}

#[test]
fn beam_search_is_transformers() {
    compare("beam4", &options(32, |o| o.num_beams = 4));
}

#[test]
fn contrastive_search_is_transformers() {
    compare(
        "contrastive",
        &options(32, |o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 4)),
    );
}

#[test]
fn penalties_are_transformers() {
    compare(
        "greedy_repetition_penalty",
        &options(32, |o| o.sampling.repetition_penalty = 1.3),
    );
    compare(
        "greedy_no_repeat_ngram",
        &options(64, |o| o.sampling.no_repeat_ngram_size = 3),
    );
}

/// Σ log p of a continuation, from one pass over all of it.
fn log_probability(model: &Arc<Model>, prompt: &[u32], continuation: &[u32]) -> f64 {
    let vocabulary = model.hyperparameters().vocab_size;
    let text = [prompt, continuation].concat();
    let mut session = session(model, &GenerationOptions::default());
    let logits = session.forward(&text).unwrap();
    let mut sum = 0.0;
    for (index, &id) in continuation.iter().enumerate() {
        let row = &logits[(prompt.len() - 1 + index) * vocabulary..][..vocabulary];
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        sum += f64::from(row[id as usize]) - total.ln();
    }
    sum
}

#[test]
fn scores_of_a_search_are_what_they_say() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    for (length_penalty, early_stopping) in [
        (1.0, EarlyStopping::WhenUnlikely),
        (0.0, EarlyStopping::WhenFull),
        (2.0, EarlyStopping::WhenImpossible),
        (-1.0, EarlyStopping::WhenUnlikely),
    ] {
        let options = options(12, |o| {
            (o.num_beams, o.num_return_sequences) = (5, 5);
            (o.length_penalty, o.early_stopping) = (length_penalty, early_stopping);
            // An end that comes up often, so that texts end at different lengths.
            o.eos = Some(vec![11, 13]);
        });
        let found = written(&model, &prompt, &options);
        assert!(!found.is_empty());
        let mut last = f64::INFINITY;
        for text in &found {
            let score = text.score.unwrap();
            // The sum is compared: a penalty below 0 multiplies its rounding errors as well.
            let sum = score * (text.ids.len() as f64).powf(length_penalty);
            let expected = log_probability(&model, &prompt, &text.ids);
            assert!((sum - expected).abs() < 1e-4, "{sum} is not {expected}");
            assert!(score <= last);
            last = score;
            let ended = [11, 13].contains(text.ids.last().unwrap());
            assert_eq!(text.finish_reason == FinishReason::Eos, ended);
        }
        let mut texts: Vec<&[u32]> = found.iter().map(|text| &text.ids[..]).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), found.len(), "the texts differ");
    }
}

#[test]
fn more_beams_find_nothing_worse_than_greedy() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[1]["ids"]);
    let greedy = &written(&model, &prompt, &options(2, |_| ()))[0];
    // Two tokens, 64 beams: the best pair whose first token is among the 64 best.
    let best = &written(&model, &prompt, &options(2, |o| o.num_beams = 64))[0];
    let of = |ids: &[u32]| log_probability(&model, &prompt, ids);
    assert!(of(&best.ids) >= of(&greedy.ids) - 1e-5);
    let mut session = session(&model, &GenerationOptions::default());
    let logits = session.prefill(&prompt).unwrap().to_vec();
    let mut first: Vec<u32> = (0..logits.len() as u32).collect();
    first.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    let mut most = f64::NEG_INFINITY;
    for &token in &first[..64] {
        session.truncate(0, prompt.len()).unwrap();
        let next = session.decode(token).unwrap();
        let best =
            (0..next.len() as u32).max_by(|a, b| next[*a as usize].total_cmp(&next[*b as usize]));
        most = most.max(of(&[token, best.unwrap()]));
    }
    assert!((of(&best.ids) - most).abs() < 1e-4);
}

#[test]
fn groups_avoid_each_other() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let diverse = options(10, |o| {
        (o.num_beams, o.num_beam_groups, o.num_return_sequences) = (4, 4, 4);
        o.sampling.diversity_penalty = 100.0;
    });
    let found = written(&model, &prompt, &diverse);
    assert_eq!(found.len(), 4);
    // A group of one beam is greedy; no other may take the same token at the same time.
    let greedy = &written(&model, &prompt, &options(10, |_| ()))[0].ids;
    assert!(found.iter().any(|text| text.ids == *greedy));
    for step in 0..10 {
        let mut tokens: Vec<u32> = found
            .iter()
            .filter_map(|text| text.ids.get(step).copied())
            .collect();
        let count = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), count, "step {step}");
    }
}

#[test]
fn sampled_beams_repeat_with_their_seed() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let sampled = |seed| {
        let options = options(12, |o| {
            (o.num_beams, o.num_return_sequences, o.seed) = (3, 2, seed);
            o.sampling.do_sample = true;
        });
        let found = written(&model, &prompt, &options);
        found.into_iter().map(|text| text.ids).collect::<Vec<_>>()
    };
    assert_eq!(sampled(1), sampled(1));
    assert_ne!(sampled(1), sampled(2));
}

#[test]
fn proposals_do_not_change_the_text() {
    let _cores = cores();
    let model = austen_f32();
    let draft = Model::open(austen("q4_0"), &ModelOptions::default()).unwrap();
    for prompt in prompts() {
        let prompt = ids(&prompt["ids"]);
        let plain = options(40, |o| o.sampling.no_repeat_ngram_size = 4);
        let expected = &written(&model, &prompt, &plain)[0];
        let lookup = GenerationOptions {
            prompt_lookup_num_tokens: Some(5),
            ..plain.clone()
        };
        let found = &written(&model, &prompt, &lookup)[0];
        assert_eq!(found, expected);
        let mut session_of_model = session(&model, &plain);
        let mut assistant = session(&draft, &plain);
        let found = generate_assisted(&mut session_of_model, &mut assistant, &prompt, &plain);
        let found = found.and_then(Generate::finish).unwrap();
        assert_eq!(&found.sequences[0], expected);
        // The cache holds the text without its last token, as after any generation.
        assert_eq!(
            session_of_model.length(0),
            prompt.len() + expected.ids.len() - 1
        );
    }
}

#[test]
fn sampling_with_proposals_repeats_and_stops() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let sampled = options(30, |o| {
        o.sampling.do_sample = true;
        o.prompt_lookup_num_tokens = Some(3);
        o.stop = vec!["e".to_owned()];
    });
    let found = written(&model, &prompt, &sampled);
    assert_eq!(found, written(&model, &prompt, &sampled));
    assert!(!found[0].text.contains('e'));
}

#[test]
fn dola_contrasts_what_the_layers_say() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let of = |layers| {
        let options = options(8, |o| o.dola_layers = Some(layers));
        written(&model, &prompt, &options)[0].ids.clone()
    };
    let greedy = written(&model, &prompt, &options(8, |_| ()))[0].ids.clone();
    let (low, high) = (of(DolaLayers::Low), of(DolaLayers::High));
    assert_ne!(low, high);
    assert!(low != greedy || high != greedy);
    assert_eq!(
        of(DolaLayers::These(vec![2])),
        low,
        "the only low layer of six"
    );
}

#[test]
fn the_head_alone_gives_the_logits() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let mut session = session(&model, &GenerationOptions::default());
    let states = session.text_states(&prompt).unwrap().to_vec();
    let projected = session.project(&states).unwrap();
    session.clear();
    let logits = session.forward(&prompt).unwrap();
    let differences = projected.iter().zip(logits).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    println!("largest difference: {largest:.1e}");
    assert!(
        projected.len() == logits.len() && largest < 1e-4,
        "{largest:e}"
    );
}

#[test]
fn guidance_follows_its_formula() {
    let _cores = cores();
    let model = austen_f32();
    let (prompt, negative) = (ids(&prompts()[0]["ids"]), ids(&prompts()[1]["ids"]));
    let guided = options(3, |o| {
        o.sampling.guidance_scale = 1.5;
        o.negative_prompt = Some(negative.clone());
        (o.output_scores, o.output_logits) = (true, true);
    });
    let found = &written(&model, &prompt, &guided)[0];
    assert_eq!((found.scores.len(), found.logits.len()), (3, 3));
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        logits.iter().map(|&x| f64::from(x) - total.ln()).collect()
    };
    let mut other = session(&model, &GenerationOptions::default());
    for step in 0..3 {
        let text = [&negative[..], &found.ids[..step]].concat();
        other.clear();
        let unconditional = log_softmax(other.prefill(&text).unwrap());
        let conditional = log_softmax(&found.logits[step]);
        let scores = found.scores[step].iter();
        for (score, (c, u)) in scores.zip(conditional.iter().zip(&unconditional)) {
            assert!((f64::from(*score) - (u + 1.5 * (c - u))).abs() < 1e-3);
        }
    }
}

#[test]
fn a_full_context_goes_on_with_its_newest_half() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let small = SessionOptions {
        context: Some(24),
        ..SessionOptions::default()
    };
    let run = |options: &GenerationOptions| {
        let mut session = Session::new(Arc::clone(&model), small).unwrap();
        let generation = generate(&mut session, &prompt, options).and_then(Generate::finish);
        generation.unwrap().sequences.remove(0)
    };
    let ended = run(&options(60, |_| ()));
    assert_eq!(ended.finish_reason, FinishReason::ContextFull);
    let endless = run(&options(60, |o| o.on_overflow = Some(4)));
    assert_eq!(
        (endless.ids.len(), endless.finish_reason),
        (60, FinishReason::Length)
    );
    assert_eq!(endless.ids[..ended.ids.len()], ended.ids);
    // The first token after the overflow follows the first 4 tokens and the newest 12.
    let all = [&prompt[..], &ended.ids].concat();
    let window = [&all[..4], &all[all.len() - 12..]].concat();
    let next = written(&model, &window, &options(1, |_| ()))[0].ids[0];
    assert_eq!(endless.ids[ended.ids.len()], next);
    // A prompt that does not fit is treated in the same way.
    let long = prompt.repeat(4);
    let mut session = Session::new(Arc::clone(&model), small).unwrap();
    let keep = options(5, |o| o.on_overflow = Some(2));
    let generation = generate(&mut session, &long, &keep).and_then(Generate::finish);
    assert_eq!(generation.unwrap().sequences[0].ids.len(), 5);
    let mut session = Session::new(Arc::clone(&model), small).unwrap();
    let refused = generate(&mut session, &long, &options(5, |_| ())).and_then(Generate::finish);
    assert!(refused.is_err());
}

#[test]
fn time_ends_every_method() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let ways: [fn(&mut GenerationOptions); 4] = [
        |_| (),
        |o| o.num_beams = 3,
        |o| o.penalty_alpha = 0.6,
        |o| o.prompt_lookup_num_tokens = Some(2),
    ];
    for way in ways {
        let options = options(400, |o| {
            o.max_time = Some(Duration::ZERO);
            o.sampling.top_k = 4;
            way(o);
        });
        let found = &written(&model, &prompt, &options)[0];
        assert_eq!(found.finish_reason, FinishReason::Time);
        assert!(found.ids.len() < 20);
    }
}

#[test]
fn a_search_that_is_stopped_has_a_result() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = ids(&prompts()[0]["ids"]);
    let small = SessionOptions {
        context: Some(40),
        sequences: 4,
        ..SessionOptions::default()
    };
    let mut session = Session::new(Arc::clone(&model), small).unwrap();
    let beams = options(60, |o| (o.num_beams, o.num_return_sequences) = (4, 2));
    let found = generate(&mut session, &prompt, &beams).and_then(Generate::finish);
    let found = found.unwrap().sequences;
    assert_eq!(found.len(), 2);
    for text in &found {
        assert_eq!(text.finish_reason, FinishReason::ContextFull);
        assert!(!text.ids.is_empty() && !text.text.is_empty());
    }
    let few = options(4, |o| o.num_beams = 5);
    let refused = generate(&mut session, &prompt, &few).and_then(Generate::finish);
    assert!(refused.unwrap_err().to_string().contains("sequence"));
}
