//! Decoders that share a session: every method, step by step between the others, gives what it
//! gives alone; and ends when it is told to, with what there is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::{austen, austen_f32, cores, ids, reference};
use gpt2::Error;
use gpt2::generate::{
    Compute, Continuation, Decoder, DolaLayers, Event, FinishReason, Generate, GenerationOptions,
    Slot, generate, generate_assisted,
};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};

/// A request: a prompt of the reference, and how it is continued.
struct Request {
    prompt: Vec<u32>,
    options: GenerationOptions,
    assisted: bool,
}

fn request(prompt: usize, change: impl FnOnce(&mut GenerationOptions)) -> Request {
    let mut options = GenerationOptions {
        max_new_tokens: 16,
        output_scores: true,
        output_logits: true,
        ..GenerationOptions::default()
    };
    change(&mut options);
    Request {
        prompt: ids(&reference()["prompts"][prompt]["ids"]),
        options,
        assisted: false,
    }
}

/// Every method.
fn requests() -> Vec<Request> {
    let sampled = |o: &mut GenerationOptions| {
        (o.sampling.do_sample, o.sampling.temperature, o.seed) = (true, 0.9, 7);
    };
    let plain = |o: &mut GenerationOptions| o.sampling.no_repeat_ngram_size = 4;
    vec![
        request(0, |o| (o.num_beams, o.num_return_sequences) = (4, 2)),
        request(1, |o| {
            sampled(o);
            o.num_return_sequences = 2;
        }),
        Request {
            assisted: true,
            ..request(2, plain)
        },
        request(1, |o| o.dola_layers = Some(DolaLayers::Low)),
        request(0, |o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 3)),
        request(2, |o| {
            plain(o);
            o.prompt_lookup_num_tokens = Some(5);
        }),
        request(0, |o| o.sampling.guidance_scale = 1.5),
        request(1, |o| {
            sampled(o);
            (o.num_beams, o.max_new_tokens) = (2, 6);
        }),
        Request {
            assisted: true,
            ..request(0, sampled)
        },
        request(2, |o| {
            (o.num_beams, o.num_beam_groups, o.max_new_tokens) = (2, 2, 6);
            o.sampling.diversity_penalty = 1.0;
        }),
    ]
}

fn session(model: &Arc<Model>, sequences: usize) -> Session {
    let options = SessionOptions {
        sequences,
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

/// A model that drafts: the demo model, more coarsely.
fn draft_model() -> Arc<Model> {
    Model::open(austen("q4_0"), &ModelOptions::default()).unwrap()
}

/// What a request gives in a session of its own.
fn alone(model: &Arc<Model>, draft: &Arc<Model>, request: &Request) -> Vec<Continuation> {
    let Request {
        prompt, options, ..
    } = request;
    let mut session = session(model, options.sequences());
    let mut assistant = self::session(draft, 1);
    let tokens = if request.assisted {
        generate_assisted(&mut session, &mut assistant, prompt, options)
    } else {
        generate(&mut session, prompt, options)
    };
    tokens.unwrap().finish().unwrap().sequences
}

/// A decoder for each request, in sequences of its own.
fn decoders<'a>(
    session: &mut Session,
    draft: &Arc<Model>,
    requests: &[Request],
) -> Vec<Decoder<'a>> {
    let mut first = 0;
    let mut decoders = Vec::new();
    for request in requests {
        let slot = Slot {
            first,
            capacity: None,
        };
        first += request.options.sequences();
        let decoder = if request.assisted {
            let assistant = self::session(draft, 1);
            Decoder::assisted(session, slot, assistant, &request.prompt, &request.options)
        } else {
            Decoder::new(session, slot, &request.prompt, &request.options)
        };
        decoders.push(decoder.unwrap());
    }
    decoders
}

/// Takes the events of a decoder.
fn drain(decoder: &mut Decoder<'_>, finished: &mut Vec<Continuation>) {
    while let Some(event) = decoder.next_event().unwrap() {
        if let Event::Finished {
            sequence,
            continuation,
        } = event
        {
            assert_eq!(sequence, finished.len());
            finished.push(continuation);
        }
    }
}

/// Compares what came of a request in company with what comes of it alone. Tokens, texts and
/// reasons are the same. Values may differ in their last digits: attention adds in the order of
/// cells, and texts that share a cache have other cells.
#[track_caller]
fn assert_same(found: &Continuation, expected: &Continuation) {
    assert_eq!(found.ids, expected.ids);
    assert_eq!(found.text, expected.text);
    assert_eq!(found.finish_reason, expected.finish_reason);
    let close = |a: f64, b: f64| a == b || (a - b).abs() < 1e-4;
    match (found.score, expected.score) {
        (Some(a), Some(b)) => assert!(close(a, b), "score {a}, alone {b}"),
        (a, b) => assert_eq!(a, b),
    }
    for (found, expected) in [
        (&found.scores, &expected.scores),
        (&found.logits, &expected.logits),
    ] {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.len(), expected.len());
            let mut pairs = found.iter().zip(expected);
            assert!(pairs.all(|(a, b)| close(f64::from(*a), f64::from(*b))));
        }
    }
}

#[test]
fn methods_that_take_turns_in_one_session_give_what_they_give_alone() {
    let _cores = cores();
    let (model, draft) = (austen_f32(), draft_model());
    let requests = requests();
    let sequences = requests.iter().map(|r| r.options.sequences()).sum();
    let mut session = session(&model, sequences);
    let mut decoders = decoders(&mut session, &draft, &requests);
    let mut finished = vec![Vec::new(); requests.len()];
    let mut turns = 0;
    while decoders.iter().any(|decoder| !decoder.is_done()) {
        // The order changes from turn to turn.
        for place in 0..decoders.len() {
            let index = (place * 7 + turns) % decoders.len();
            decoders[index].advance(&mut session).unwrap();
            drain(&mut decoders[index], &mut finished[index]);
        }
        turns += 1;
    }
    println!("{turns} turns");
    for (index, (request, found)) in requests.iter().zip(&finished).enumerate() {
        let expected = alone(&model, &draft, request);
        assert_eq!(found.len(), request.options.num_return_sequences);
        for (found, expected) in found.iter().zip(&expected) {
            println!("request {index}: {:?}", found.text);
            assert!(!found.ids.is_empty());
            assert_eq!(found.scores.len(), found.ids.len());
            assert_same(found, expected);
        }
    }
}

#[test]
fn one_that_is_cancelled_ends_and_the_others_go_on() {
    let _cores = cores();
    let (model, draft) = (austen_f32(), draft_model());
    let requests = [
        request(0, |o| (o.num_beams, o.num_return_sequences) = (3, 3)),
        request(1, |o| o.sampling.do_sample = true),
        request(2, |o| {
            (o.prompt_lookup_num_tokens, o.max_new_tokens) = (Some(5), 40);
        }),
        request(0, |o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 3)),
        request(1, |_| ()),
    ];
    let sequences = requests.iter().map(|r| r.options.sequences()).sum();
    let mut session = session(&model, sequences);
    let mut decoders = decoders(&mut session, &draft, &requests);
    let mut finished = vec![Vec::new(); requests.len()];
    let last = decoders.len() - 1;
    for turn in 0.. {
        if turn == 4 {
            for decoder in &decoders[..last] {
                decoder.cancel_flag().cancel();
            }
        }
        for (decoder, finished) in decoders.iter_mut().zip(&mut finished) {
            decoder.advance(&mut session).unwrap();
            drain(decoder, finished);
        }
        if decoders.iter().all(Decoder::is_done) {
            break;
        }
    }
    for (index, (request, found)) in requests.iter().zip(&finished).enumerate() {
        let expected = alone(&model, &draft, request);
        if index == last {
            assert_same(&found[0], &expected[0]);
            continue;
        }
        assert_eq!(found.len(), request.options.num_return_sequences);
        for found in found {
            assert_eq!(
                found.finish_reason,
                FinishReason::Stopped,
                "request {index}"
            );
            assert!(!found.ids.is_empty() && found.ids.len() < request.options.max_new_tokens);
            assert_eq!(found.scores.len(), found.ids.len());
        }
        if index > 0 {
            assert!(expected[0].ids.starts_with(&found[0].ids));
            assert!(expected[0].text.starts_with(&found[0].text));
        }
    }
}

#[test]
fn one_that_is_cancelled_within_its_prompt_has_no_token() {
    let _cores = cores();
    let model = austen_f32();
    let Request {
        prompt, options, ..
    } = request(0, |_| ());
    let mut session = session(&model, 1);
    let mut decoder = Decoder::new(&mut session, Slot::default(), &prompt, &options).unwrap();
    decoder.cancel_flag().cancel();
    let mut finished = Vec::new();
    while !decoder.is_done() {
        decoder.advance(&mut session).unwrap();
        drain(&mut decoder, &mut finished);
    }
    assert!(!decoder.is_prompt_computed());
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].finish_reason, FinishReason::Stopped);
    assert_eq!((finished[0].ids.len(), session.length(0)), (0, 0));
}

#[test]
fn a_decoder_works_in_its_own_sequences() {
    let _cores = cores();
    let model = austen_f32();
    let mut session = session(&model, 8);
    session.prefill(&[5, 6, 7]).unwrap();
    for (first, change) in [
        (
            5,
            &(|o: &mut GenerationOptions| o.num_beams = 3) as &dyn Fn(&mut GenerationOptions),
        ),
        (4, &|o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 3)),
        (6, &|o| o.sampling.guidance_scale = 2.0),
        (3, &|o| o.prompt_lookup_num_tokens = Some(4)),
    ] {
        let Request {
            prompt, options, ..
        } = request(0, change);
        let slot = Slot {
            first,
            capacity: None,
        };
        let mut decoder = Decoder::new(&mut session, slot, &prompt, &options).unwrap();
        let own = first..first + options.sequences();
        while !decoder.is_done() {
            if let Some(work) = decoder.work().unwrap() {
                work.edit(&mut session).unwrap();
                if let Some(Compute::Run(batch)) = &work.compute {
                    for token in &batch.tokens {
                        assert!(token.sequences.iter().all(|s| own.contains(&s)));
                    }
                    let output = session.run(batch).unwrap();
                    decoder.accept(Ok(output.all_rows())).unwrap();
                }
            }
            drain(&mut decoder, &mut Vec::new());
        }
        for sequence in 0..session.sequences() {
            let expected: &[u32] = if sequence == 0 { &[5, 6, 7] } else { &[] };
            if !own.contains(&sequence) {
                assert_eq!(session.tokens(sequence), expected);
            }
        }
        for sequence in own {
            session.truncate(sequence, 0).unwrap();
        }
    }
    let Request {
        prompt, options, ..
    } = request(0, |o| o.num_beams = 3);
    let slot = Slot {
        first: 6,
        capacity: None,
    };
    let refused = Decoder::new(&mut session, slot, &prompt, &options).unwrap_err();
    assert!(refused.to_string().contains("sequence"), "{refused}");
}

#[test]
fn a_slot_bounds_its_text() {
    let _cores = cores();
    let model = austen_f32();
    let Request {
        prompt, options, ..
    } = request(0, |_| ());
    let mut session = session(&model, 2);
    let capacity = prompt.len() + 5;
    let slot = Slot {
        first: 1,
        capacity: Some(capacity),
    };
    for lookup in [None, Some(4)] {
        let options = GenerationOptions {
            prompt_lookup_num_tokens: lookup,
            ..options.clone()
        };
        let mut decoder = Decoder::new(&mut session, slot, &prompt, &options).unwrap();
        let mut finished = Vec::new();
        while !decoder.is_done() {
            decoder.advance(&mut session).unwrap();
            drain(&mut decoder, &mut finished);
        }
        assert_eq!(finished[0].finish_reason, FinishReason::ContextFull);
        // The last token is chosen and has no place.
        assert_eq!(finished[0].ids.len(), 6);
        assert_eq!(session.length(1), capacity);
    }
    let small = Slot {
        capacity: Some(prompt.len() - 1),
        ..slot
    };
    let refused = Decoder::new(&mut session, small, &prompt, &options).unwrap_err();
    assert!(matches!(refused, Error::ContextFull { .. }), "{refused}");
}

#[test]
fn a_stopped_session_ends_what_computes_in_it() {
    let _cores = cores();
    let model = austen_f32();
    let Request {
        prompt, options, ..
    } = request(0, |_| ());
    let whole = alone(&model, &model, &request(0, |_| ()));
    let mut session = session(&model, 1);
    let stop = session.stop_flag();
    let mut tokens = generate(&mut session, &prompt, &options).unwrap();
    for _ in 0..4 {
        tokens.next().unwrap().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let generation = tokens.finish().unwrap();
    assert_eq!(generation.sequences[0].finish_reason, FinishReason::Stopped);
    assert_eq!(generation.sequences[0].ids, whole[0].ids[..4]);
}

#[test]
fn what_is_stopped_before_its_first_token_is_a_text_without_tokens() {
    let _cores = cores();
    let mut session = session(&austen_f32(), 4);
    session.stop_flag().store(true, Ordering::Relaxed);
    let changes: [fn(&mut GenerationOptions); 5] = [
        |_| (),
        |o| (o.num_return_sequences, o.sampling.do_sample) = (3, true),
        |o| o.num_beams = 3,
        |o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 4),
        |o| o.sampling.guidance_scale = 1.5,
    ];
    for change in changes {
        let Request {
            prompt, options, ..
        } = request(0, change);
        let tokens = generate(&mut session, &prompt, &options).unwrap();
        let texts = tokens.finish().unwrap().sequences;
        // A search has one that it has not found.
        assert_eq!(texts.len(), options.num_return_sequences);
        for text in texts {
            assert_eq!((text.ids.len(), &*text.text), (0, ""));
            assert_eq!(text.finish_reason, FinishReason::Stopped);
        }
    }
}

#[test]
fn an_iterator_gives_the_steps_and_then_the_whole() {
    let _cores = cores();
    let model = austen_f32();
    let Request {
        prompt, options, ..
    } = request(0, |o| o.num_beams = 2);
    let mut session = session(&model, 2);
    let mut steps = Vec::new();
    for step in generate(&mut session, &prompt, &options).unwrap() {
        steps.push(step.unwrap());
    }
    let whole = alone(&model, &model, &request(0, |o| o.num_beams = 2));
    let ids: Vec<u32> = steps.iter().map(|step| step.id).collect();
    let text: String = steps.iter().map(|step| &*step.text).collect();
    assert_eq!(ids, whole[0].ids);
    assert!(whole[0].text.starts_with(&text));

    let Request {
        prompt, options, ..
    } = request(0, |_| ());
    let mut tokens = generate(&mut session, &prompt, &options).unwrap();
    let first: Vec<_> = tokens.by_ref().take(3).map(Result::unwrap).collect();
    tokens.cancel_flag().cancel();
    let generation = tokens.finish().unwrap();
    assert_eq!(generation.sequences[0].ids.len(), first.len());
    assert_eq!(generation.sequences[0].finish_reason, FinishReason::Stopped);
    // A refusal comes before the first step.
    let refused = generate(&mut session, &[], &options).and_then(Generate::finish);
    assert!(matches!(refused, Err(Error::Argument(_))));
}

#[test]
fn sequences_beyond_the_sessions_are_refused() {
    let _cores = cores();
    let mut session = session(&austen_f32(), 2);
    let beams = |o: &mut GenerationOptions| o.num_beams = 2;
    for (first, request) in [
        (1, request(0, beams)),
        (2, request(0, |_| {})),
        (usize::MAX, request(0, beams)),
    ] {
        let slot = Slot {
            first,
            capacity: None,
        };
        let refused = Decoder::new(&mut session, slot, &request.prompt, &request.options);
        let refused = refused.map(|_| ()).unwrap_err();
        assert!(
            matches!(refused, Error::TooFewSequences { available: 2, .. }),
            "{first}"
        );
        let refused = session.reorder_from(first, &[0, 1]).unwrap_err();
        assert!(
            matches!(refused, Error::NoSuchSequence { available: 2, .. }),
            "{first}"
        );
    }
    session.reorder_from(0, &[1, 0]).unwrap();
    session.reorder_from(usize::MAX, &[]).unwrap();
}
