//! Every option of a generation, by the library's own table of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use gpt2::generate::{
    Decoder, GenerationOptions, Parameter, ParameterKind, Slot, generate_assisted_with,
    generate_batch, generate_with, parameters,
};
use serde_json::{Value, json};

use crate::random::{Random, changes};
use crate::{COUNTS, NUMBERS, check, model, session};

/// Requests in the exhaustive form.
const REQUESTS: usize = 15_000;
/// Tokens after which a text that may go on for ever is stopped.
const STEPS: usize = 40;

fn count(random: &mut Random) -> Value {
    json!(random.of(COUNTS))
}

fn number(random: &mut Random) -> Value {
    // JSON has neither infinities nor NaN.
    let finite: Vec<f64> = NUMBERS.iter().copied().filter(|x| x.is_finite()).collect();
    json!(random.of(&finite))
}

fn token(random: &mut Random) -> Value {
    json!(random.of(&[0, 1, 65, 259, 260, u32::MAX]))
}

fn tokens(random: &mut Random) -> Value {
    (0..random.below(4)).map(|_| token(random)).collect()
}

/// A value of the parameter's type at some edge.
fn value(random: &mut Random, parameter: Parameter) -> Value {
    match parameter.kind() {
        ParameterKind::Switch => json!(random.below(2) == 0),
        ParameterKind::Count => count(random),
        ParameterKind::Number => number(random),
        ParameterKind::Seconds => random.of(&[json!(0), json!(1e-9), json!(1e19)]).clone(),
        ParameterKind::Token => token(random),
        ParameterKind::Tokens => tokens(random),
        ParameterKind::Sequences => (0..random.below(3)).map(|_| tokens(random)).collect(),
        ParameterKind::Biases => {
            let rule = |random: &mut Random| json!([tokens(random), number(random)]);
            (0..random.below(3)).map(|_| rule(random)).collect()
        }
        ParameterKind::Decay => json!([count(random), number(random)]),
        ParameterKind::Texts => random.of(&[json!([]), json!(["a"]), json!([""])]).clone(),
        ParameterKind::EarlyStopping => random.of(&[json!(true), json!("never")]).clone(),
        ParameterKind::Layers => {
            let layers = [json!("low"), json!("high"), json!([]), json!([0, 1, 2, 99])];
            random.of(&layers).clone()
        }
        other => panic!("{other:?}: which values has it at its edges?"),
    }
}

#[test]
fn options_at_their_edges_give_a_text_or_an_error() {
    let model = model(|_| ());
    let mut session = session(&model, 4);
    let mut assistant = crate::session(&model, 1);
    let all: Vec<Parameter> = parameters().collect();
    let mut random = Random(19);
    let mut written = 0;
    for request in 0..changes(REQUESTS) {
        let mut options = GenerationOptions {
            max_new_tokens: 3,
            ..GenerationOptions::default()
        };
        let mut given = Vec::new();
        // Each parameter alone first, then a few together.
        let count = if request < 10 * all.len() {
            1
        } else {
            1 + random.below(4)
        };
        for index in 0..count {
            let parameter = if count == 1 {
                all[request % all.len()]
            } else {
                *random.of(&all)
            };
            if index == 0 && random.below(2) == 0 {
                options.sampling.do_sample = true;
            }
            let value = value(&mut random, parameter).to_string();
            // What is out of the type's range is refused here.
            let _ = options.set(parameter.name(), &value);
            given.push(format!("{}={value}", parameter.name()));
        }
        let sampled = options.sampling.do_sample;
        let what = format!("request {request}, sampled {sampled}: {}", given.join(" "));
        let prompts = [vec![65, 66, 67], vec![259], vec![1; 16], vec![2; 17]];
        let prompt = random.of(&prompts).clone();
        let mut steps = 0;
        let mut on_token = |_: &_| {
            steps += 1;
            if steps < STEPS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        session.clear();
        let done = match request % 7 {
            0 => check(&what, || {
                let prompts = [prompt.clone(), vec![3]];
                generate_batch(&mut session, &prompts, &options, &mut on_token).map(drop)
            }),
            1 => check(&what, || {
                let (own, other) = (&mut session, &mut assistant);
                generate_assisted_with(own, other, &prompt, &options, &mut on_token).map(drop)
            }),
            _ => check(&what, || {
                generate_with(&mut session, &prompt, &options, &mut on_token).map(drop)
            }),
        };
        written += usize::from(done.is_some());
        // What a session needs is told for anything that may be asked.
        check(&what, || {
            for &length in COUNTS {
                let (sequences, context) = options.needs(&[length, 3], *random.of(COUNTS));
                assert!(sequences > 0 && context > 0, "{what}");
            }
            Ok(())
        });
    }
    assert!(written > changes(REQUESTS) / 5, "only {written} gave texts");
}

#[test]
fn slots_at_their_edges_are_refused_or_used() {
    let model = model(|_| ());
    let mut session = session(&model, 4);
    for beams in [1, 2, 4] {
        for &first in COUNTS {
            for capacity in COUNTS.iter().map(|&count| Some(count)).chain([None]) {
                for on_overflow in [None, Some(0), Some(usize::MAX)] {
                    let what = format!("{beams} {first} {capacity:?} {on_overflow:?}");
                    let options = GenerationOptions {
                        num_beams: beams,
                        on_overflow,
                        max_new_tokens: 2,
                        ..GenerationOptions::default()
                    };
                    check(&what, || {
                        let slot = Slot { first, capacity };
                        let mut decoder = Decoder::new(&mut session, slot, &[1, 2], &options)?;
                        while !decoder.is_done() {
                            decoder.advance(&mut session)?;
                            while decoder.next_event()?.is_some() {}
                        }
                        Ok(())
                    });
                }
            }
        }
    }
}

#[test]
fn on_overflow_that_cannot_hold_is_refused_before_the_first_token() {
    let model = model(|_| ());
    let mut session = session(&model, 1);
    for (keep, holds) in [
        (0, true),
        (14, true),
        (15, false),
        (16, false),
        (usize::MAX, false),
    ] {
        let options = GenerationOptions {
            on_overflow: Some(keep),
            max_new_tokens: 30,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let mut steps = 0;
        let mut on_token = |_: &_| {
            steps += 1;
            ControlFlow::Continue(())
        };
        let result = generate_with(&mut session, &[1, 2], &options, &mut on_token);
        assert_eq!(
            (result.is_ok(), steps),
            (holds, if holds { 30 } else { 0 }),
            "{keep}"
        );
    }
}

/// The limit of a temperature towards 0 is the most likely token, every time.
#[test]
fn a_tiny_temperature_writes_the_greedy_text() {
    let model = model(|_| ());
    let mut session = session(&model, 1);
    let mut options = GenerationOptions {
        max_new_tokens: 8,
        ..GenerationOptions::default()
    };
    let mut ids = |options: &GenerationOptions| -> gpt2::Result<Vec<u32>> {
        let generation = gpt2::generate(&mut session, &[1, 2], options)?.finish()?;
        Ok(generation.sequences[0].ids.clone())
    };
    let greedy = ids(&options).unwrap();
    options.sampling.do_sample = true;
    for temperature in [1e-20, 1e-38, 1e-40, 1e-46, f64::MIN_POSITIVE, 5e-324] {
        options.sampling.temperature = temperature;
        let options = Arc::new(options.clone());
        assert_eq!(ids(&options).unwrap(), greedy, "{temperature}");
    }
}
