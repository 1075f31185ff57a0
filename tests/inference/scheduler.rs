//! Requests that share a session through a scheduler: each gives what it gives alone, whoever comes
//! and goes, and nothing is left of one that was cancelled.

use std::collections::HashMap;
use std::sync::Arc;

use crate::common::{austen, cores, ids, reference};
use gpt2::Error;
use gpt2::generate::{
    Continuation, DolaLayers, FinishReason, GenerationOptions, RequestId, ScheduledRequest,
    Scheduler, SchedulerEvent, SchedulerOptions, Usage, generate, generate_batch,
};
use gpt2::sampling::{ScoreDetails, TokenScore, score_token};
use gpt2::session::{Batch, Model, ModelOptions, SequenceSet, Session, SessionOptions};

/// Numbers that look drawn, the same every time (`SplitMix64`).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

fn exhaustive() -> bool {
    std::env::var_os("GPT2_EXHAUSTIVE").is_some()
}

fn model(file_type: &str) -> Arc<Model> {
    Model::open(austen(file_type), &ModelOptions::default()).unwrap()
}

fn session(model: &Arc<Model>, sequences: usize, context: usize) -> Session {
    let options = SessionOptions {
        sequences,
        context: Some(context),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

/// `length` tokens of the reference's texts, from somewhere on.
fn prompt(draws: &mut Draws, length: usize) -> Vec<u32> {
    let reference = reference();
    let all: Vec<u32> = reference["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|prompt| ids(&prompt["ids"]))
        .collect();
    let start = draws.below(all.len());
    let mut tokens: Vec<u32> = all
        .iter()
        .cycle()
        .skip(start)
        .take(length)
        .copied()
        .collect();
    // No two alike, or a text would tell nothing of another's.
    for _ in 0..=length / 4 {
        let place = draws.below(length);
        tokens[place] = draws.below(all.len().max(500)) as u32;
    }
    tokens
}

fn request(prompt: Vec<u32>, change: impl FnOnce(&mut GenerationOptions)) -> ScheduledRequest {
    let mut options = GenerationOptions {
        max_new_tokens: 12,
        ignore_eos: true,
        output_logits: true,
        ..GenerationOptions::default()
    };
    change(&mut options);
    ScheduledRequest {
        prompt,
        options,
        prompt_scores: None,
    }
}

/// What a request gives in a session of its own.
fn alone(model: &Arc<Model>, request: &ScheduledRequest) -> Vec<Continuation> {
    let limit = model.hyperparameters().n_positions;
    let mut session = session(model, request.options.sequences(), limit);
    let generation = generate(&mut session, &request.prompt, &request.options);
    generation.unwrap().finish().unwrap().sequences
}

/// What came of the requests of a scheduler.
#[derive(Default)]
struct Found {
    tokens: HashMap<(RequestId, usize), Vec<u32>>,
    finished: HashMap<RequestId, Vec<Option<Continuation>>>,
    scores: HashMap<RequestId, Vec<Option<TokenScore>>>,
    done: HashMap<RequestId, Usage>,
    failed: HashMap<RequestId, Error>,
}

impl Found {
    /// Takes events; says which requests had one.
    fn take(&mut self, events: Vec<SchedulerEvent>) -> Vec<RequestId> {
        let mut seen = Vec::new();
        for event in events {
            let request = event.request();
            assert!(!self.done.contains_key(&request), "an event after the last");
            seen.push(request);
            match event {
                SchedulerEvent::PromptScores { first, scores, .. } => {
                    let all = self.scores.entry(request).or_default();
                    assert_eq!(all.len(), first);
                    all.extend(scores);
                }
                SchedulerEvent::Token { step, .. } => {
                    let tokens = self.tokens.entry((request, step.sequence)).or_default();
                    tokens.push(step.id);
                }
                SchedulerEvent::Finished {
                    sequence,
                    continuation,
                    ..
                } => {
                    let tokens = self.tokens.get(&(request, sequence));
                    let tokens = tokens.map(Vec::as_slice).unwrap_or_default();
                    assert_eq!(tokens, continuation.ids);
                    let all = self.finished.entry(request).or_default();
                    all.resize(all.len().max(sequence + 1), None);
                    assert!(all[sequence].is_none());
                    all[sequence] = Some(continuation);
                }
                SchedulerEvent::Done { usage, .. } => {
                    self.done.insert(request, usage);
                }
                SchedulerEvent::Failed { error, .. } => {
                    self.failed.insert(request, error);
                }
            }
        }
        seen
    }

    fn of(&self, request: RequestId) -> Vec<Continuation> {
        let finished = self.finished.get(&request);
        let finished = finished.map(Vec::as_slice).unwrap_or_default();
        finished.iter().map(|one| one.clone().unwrap()).collect()
    }
}

/// Runs a scheduler to its end.
fn run(scheduler: &mut Scheduler, session: &mut Session, found: &mut Found) {
    while !scheduler.is_idle() {
        found.take(scheduler.step(session).unwrap());
    }
}

/// Asserts that a scheduler at rest has reserved nothing, and that what the session still holds are
/// prompts that are kept for later ones.
#[track_caller]
fn assert_nothing_taken(scheduler: &Scheduler, session: &Session) {
    let load = scheduler.load(session);
    assert_eq!(
        (load.waiting, load.running, load.reserved_positions),
        (0, 0, 0)
    );
    let taken = session.context_size() - session.free_positions();
    assert_eq!(taken, load.cached_positions);
}

const BITS: bool = true;

#[track_caller]
fn assert_same(found: &[Continuation], expected: &[Continuation], bits: bool) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.ids, expected.ids);
        assert_eq!(found.text, expected.text);
        assert_eq!(found.finish_reason, expected.finish_reason);
        assert_eq!(found.logits.len(), expected.logits.len());
        if bits && BITS {
            for (step, (a, b)) in found.logits.iter().zip(&expected.logits).enumerate() {
                let differ = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(differ.count(), 0, "logits of step {step}");
            }
        }
    }
}

/// Requests that come and go at random: every answer is the one that the request has alone.
fn company(file_type: &str, seed: u64, texts: usize, count: usize, longest: usize, chunk: usize) {
    let model = model(file_type);
    let limit = model.hyperparameters().n_positions;
    let mut draws = Draws(seed);
    let longest = longest.min(limit - 16);
    let context = (longest + 40) * texts.min(8) + 40 * texts;
    let mut session = session(&model, texts, context);
    let options = SchedulerOptions {
        texts,
        chunk,
        idle_chunk: chunk.max(256),
        batch_invariant: false,
    };
    let mut scheduler = Scheduler::new(&session, options).unwrap();
    let requests: Vec<ScheduledRequest> = (0..count)
        .map(|number| {
            let length = 1 + draws.below(longest);
            let mut tokens = prompt(&mut draws, length);
            if number % 5 == 4 && length > 70 {
                // The same beginning as others.
                let shared = prompt(&mut Draws(7), 70);
                tokens[..70].copy_from_slice(&shared);
            }
            let forks = if number % 4 == 3 { 3 } else { 1 };
            request(tokens, |o| {
                o.max_new_tokens = 1 + draws.below(12);
                if forks > 1 {
                    o.sampling.do_sample = true;
                    (o.num_return_sequences, o.seed) = (forks, number as u64);
                }
            })
        })
        .collect();
    let mut waiting = requests.iter();
    let mut added: Vec<RequestId> = Vec::new();
    let mut cancelled = Vec::new();
    let mut found = Found::default();
    // As many as there can be at a time come at once, the others one by one.
    let mut at_once = texts;
    while waiting.len() > 0 || !scheduler.is_idle() {
        while at_once > 0 || draws.below(3) == 0 {
            at_once = at_once.saturating_sub(1);
            let Some(next) = waiting.next() else { break };
            added.push(scheduler.add(&session, next.clone()).unwrap());
        }
        if draws.below(12) == 0 && !added.is_empty() {
            let victim = added[draws.below(added.len())];
            if !found.done.contains_key(&victim) {
                scheduler.cancel(victim);
                cancelled.push(victim);
            }
        }
        found.take(scheduler.step(&mut session).unwrap());
        let load = scheduler.load(&session);
        assert!(load.reserved_positions <= load.context);
    }
    assert_nothing_taken(&scheduler, &session);
    assert!(found.failed.is_empty());
    let bits = chunk.is_multiple_of(64) && matches!(file_type, "q4_0" | "q8_0");
    for (id, request) in added.iter().zip(&requests) {
        let expected = alone(&model, request);
        if cancelled.contains(id) {
            // What there was until then.
            let finished = found.finished.get(id).cloned().unwrap_or_default();
            for (found, expected) in finished.iter().zip(&expected) {
                let found = found
                    .iter()
                    .all(|found| expected.ids.starts_with(&found.ids));
                assert!(found);
            }
            continue;
        }
        if !chunk.is_multiple_of(64) {
            // Draws part where a last digit decides.
            if request.options.sampling.do_sample {
                continue;
            }
        }
        assert_same(&found.of(*id), &expected, bits);
        let usage = found.done[id];
        assert_eq!(usage.prompt_tokens, request.prompt.len());
        let completion: usize = expected.iter().map(|one| one.ids.len()).sum();
        assert_eq!(usage.completion_tokens, completion);
    }
    let cached: usize = found.done.values().map(|usage| usage.cached_tokens).sum();
    println!(
        "{file_type}, {texts} texts, chunks of {chunk}: {count} requests, {} cancelled, {cached} \
         tokens taken over",
        cancelled.len()
    );
}

#[test]
fn requests_that_come_and_go_give_what_they_give_alone() {
    let _cores = cores();
    // Type, texts at a time, requests, longest prompt, tokens of a prompt in a step.
    let mut cases = vec![
        ("q8_0", 8, 14, 300, 64),
        ("q4_0", 8, 12, 200, 256),
        ("q8_0", 2, 5, 90, 7),
        ("q4_k", 3, 6, 120, 64),
        ("f32", 3, 6, 120, 64),
        ("f16", 3, 6, 120, 64),
        ("q4_0", 64, 66, 24, 64),
    ];
    if exhaustive() {
        for file_type in ["q4_0", "q8_0", "q4_k", "f16", "f32"] {
            for texts in [1, 2, 8, 40, 63, 64] {
                for chunk in [1, 7, 64, 256] {
                    cases.push((file_type, texts, texts + 16, 500, chunk));
                }
            }
        }
    }
    for (seed, (file_type, texts, count, longest, chunk)) in cases.into_iter().enumerate() {
        company(file_type, seed as u64, texts, count, longest, chunk);
    }
}

#[test]
fn every_method_in_one_queue_gives_what_it_gives_alone() {
    let _cores = cores();
    let model = model("q8_0");
    let mut draws = Draws(3);
    let mut requests = Vec::new();
    let mut add = |length: usize, change: &dyn Fn(&mut GenerationOptions)| {
        requests.push(request(prompt(&mut draws, length), change));
    };
    add(30, &|o| (o.num_beams, o.num_return_sequences) = (4, 2));
    add(90, &|o| {
        (o.sampling.do_sample, o.num_return_sequences) = (true, 5);
    });
    add(20, &|o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 3));
    add(40, &|o| o.prompt_lookup_num_tokens = Some(5));
    add(70, &|o| o.dola_layers = Some(DolaLayers::Low));
    add(25, &|o| o.sampling.guidance_scale = 1.5);
    add(66, &|_| ());
    add(30, &|o| {
        (o.num_beams, o.num_beam_groups) = (4, 2);
        o.sampling.diversity_penalty = 1.0;
    });
    add(100, &|o| o.sampling.do_sample = true);
    add(1, &|_| ());
    add(10, &|o| o.max_new_tokens = 0);
    for texts in [4, 12] {
        let mut session = session(&model, texts, 1200);
        let options = SchedulerOptions {
            texts,
            ..SchedulerOptions::default()
        };
        let mut scheduler = Scheduler::new(&session, options).unwrap();
        let mut found = Found::default();
        let add = |request: &ScheduledRequest| scheduler.add(&session, request.clone()).unwrap();
        let added: Vec<RequestId> = requests.iter().map(add).collect();
        run(&mut scheduler, &mut session, &mut found);
        assert_nothing_taken(&scheduler, &session);
        assert!(found.failed.is_empty(), "{:?}", found.failed);
        for (number, (id, request)) in added.iter().zip(&requests).enumerate() {
            println!("request {number}");
            assert_same(&found.of(*id), &alone(&model, request), true);
        }
    }
}

#[test]
fn continuations_of_a_prompt_share_its_cells_and_keep_their_order() {
    let _cores = cores();
    let model = model("q8_0");
    let tokens = prompt(&mut Draws(11), 200);
    let drawn = request(tokens.clone(), |o| {
        o.sampling.do_sample = true;
        (o.num_return_sequences, o.seed, o.max_new_tokens) = (4, 9, 10);
    });
    let each: Vec<Continuation> = (0..4)
        .map(|number| {
            let one = request(tokens.clone(), |o| {
                o.sampling.do_sample = true;
                (o.seed, o.max_new_tokens) = (9 + number, 10);
            });
            alone(&model, &one).remove(0)
        })
        .collect();
    // Room for all, for two at a time, for one.
    for (sequences, context) in [(4, 240), (4, 225), (2, 240), (1, 210)] {
        let mut session = session(&model, sequences, context);
        let generation = generate(&mut session, &drawn.prompt, &drawn.options).unwrap();
        let generation = generation.finish().unwrap();
        assert_same(&generation.sequences, &each, true);
        assert_eq!(generation.timings.prefill_tokens, 200);
        assert_eq!(session.tokens(0), tokens, "the prompt stays");
        assert_eq!(session.free_positions(), context - 200);
        // The next time only its last tokens are computed.
        let again = generate(&mut session, &drawn.prompt, &drawn.options).unwrap();
        let again = again.finish().unwrap();
        assert_same(&again.sequences, &each, true);
        assert_eq!(again.timings.prefill_tokens, 200 - 192);
    }
}

#[test]
fn a_prompt_takes_over_what_others_hold_of_it() {
    let _cores = cores();
    let model = model("q8_0");
    let mut draws = Draws(5);
    let shared = prompt(&mut draws, 300);
    let with = |length: usize, end: &[u32]| {
        let tokens = [&shared[..length], end].concat();
        request(tokens, |_| ())
    };
    let mut session = session(&model, 3, 600);
    let options = SchedulerOptions {
        texts: 2,
        ..SchedulerOptions::default()
    };
    let mut scheduler = Scheduler::new(&session, options).unwrap();
    let mut found = Found::default();
    let cases = [
        (with(300, &[]), 0),
        // Of what has ended; of what is running; the last token is computed in any case.
        (with(250, &[1, 2, 3]), 192),
        (with(300, &[5]), 256),
        (with(256, &[]), 192),
        (with(60, &[7, 8]), 0),
    ];
    for (request, cached) in &cases {
        let id = scheduler.add(&session, request.clone()).unwrap();
        run(&mut scheduler, &mut session, &mut found);
        assert_same(&found.of(id), &alone(&model, request), true);
        assert_eq!(found.done[&id].cached_tokens, *cached);
    }
    // One takes over what the other has just computed.
    let other = prompt(&mut draws, 200);
    let pair: Vec<RequestId> = [1, 2]
        .iter()
        .map(|&end| {
            let tokens = [&other[..], &[end]].concat();
            scheduler.add(&session, request(tokens, |_| ())).unwrap()
        })
        .collect();
    run(&mut scheduler, &mut session, &mut found);
    let cached = pair.iter().map(|id| found.done[id].cached_tokens);
    assert_eq!(cached.sum::<usize>(), 192);
    assert_nothing_taken(&scheduler, &session);
    // What is kept gives way when positions are needed.
    let large = request(prompt(&mut draws, 495), |_| ());
    let id = scheduler.add(&session, large.clone()).unwrap();
    run(&mut scheduler, &mut session, &mut found);
    assert_same(&found.of(id), &alone(&model, &large), true);
    assert_nothing_taken(&scheduler, &session);
}

#[test]
fn what_is_cancelled_leaves_no_cell_taken() {
    let _cores = cores();
    let model = model("q4_0");
    let mut session = session(&model, 6, 1000);
    let options = SchedulerOptions {
        texts: 6,
        ..SchedulerOptions::default()
    };
    for steps in 0..12 {
        let mut draws = Draws(steps);
        let mut scheduler = Scheduler::new(&session, options).unwrap();
        let mut found = Found::default();
        let requests = [
            request(prompt(&mut draws, 200), |o| o.max_new_tokens = 50),
            request(prompt(&mut draws, 30), |o| {
                (o.num_beams, o.num_return_sequences) = (3, 2);
            }),
            request(prompt(&mut draws, 10), |o| {
                (o.sampling.do_sample, o.num_return_sequences) = (true, 9);
            }),
            request(prompt(&mut draws, 150), |_| ()),
        ];
        let ids = requests.map(|request| scheduler.add(&session, request).unwrap());
        for _ in 0..steps {
            found.take(scheduler.step(&mut session).unwrap());
        }
        for id in ids {
            scheduler.cancel(id);
        }
        found.take(scheduler.step(&mut session).unwrap());
        assert!(scheduler.is_idle());
        assert_nothing_taken(&scheduler, &session);
        assert!(ids.iter().all(|id| found.done.contains_key(id)));
        let held = session.positions_only_of(all_sequences(6));
        assert_eq!(held, scheduler.load(&session).cached_positions);
        let stopped = found.finished.values().flatten().flatten();
        for continuation in stopped {
            assert!(continuation.ids.len() <= 12 + 38);
        }
    }
}

fn all_sequences(count: usize) -> SequenceSet {
    (0..count).fold(SequenceSet::default(), |set, sequence| {
        set.with(sequence).unwrap()
    })
}

#[test]
fn a_long_prompt_delays_texts_and_short_prompts_by_chunks() {
    let _cores = cores();
    let model = model("q4_0");
    let mut draws = Draws(2);
    let mut session = session(&model, 6, 1000);
    let options = SchedulerOptions {
        texts: 6,
        ..SchedulerOptions::default()
    };
    let mut scheduler = Scheduler::new(&session, options).unwrap();
    let mut found = Found::default();
    let streams: Vec<RequestId> = (0..4)
        .map(|_| {
            let request = request(prompt(&mut draws, 20), |o| o.max_new_tokens = 60);
            scheduler.add(&session, request).unwrap()
        })
        .collect();
    for _ in 0..8 {
        found.take(scheduler.step(&mut session).unwrap());
    }
    let long = request(prompt(&mut draws, 450), |_| ());
    let long = scheduler.add(&session, long).unwrap();
    let short = request(prompt(&mut draws, 40), |_| ());
    let short = scheduler.add(&session, short).unwrap();
    let mut steps = 0;
    while !found.tokens.contains_key(&(long, 0)) {
        let computed = scheduler.timings().prefill_tokens;
        let seen = found.take(scheduler.step(&mut session).unwrap());
        steps += 1;
        assert!(streams.iter().all(|id| seen.contains(id)), "a stream waits");
        assert!(scheduler.timings().prefill_tokens - computed <= 64);
        if steps == 2 {
            assert!(
                found.tokens.contains_key(&(short, 0)),
                "the short one waits"
            );
        }
    }
    // Seven pieces and a rest, and one for the short prompt.
    assert_eq!(steps, 9);
    run(&mut scheduler, &mut session, &mut found);
}

#[test]
fn scores_of_a_prompt_come_in_pieces() {
    let _cores = cores();
    let model = model("f32");
    let tokens = prompt(&mut Draws(8), 150);
    let details = ScoreDetails {
        rank: true,
        top: 2,
        ..ScoreDetails::default()
    };
    let mut whole = session(&model, 1, 200);
    let sequence = SequenceSet::of(0).unwrap();
    let batch = Batch::of_text(&tokens, 0, sequence, |_| true);
    let output = whole.run(&batch).unwrap();
    let expected = (1..tokens.len())
        .map(|place| score_token(output.row(place - 1), tokens[place], details).unwrap());
    let expected: Vec<TokenScore> = expected.collect();
    for (chunk, new) in [(64, 0), (7, 0), (64, 4)] {
        let mut session = session(&model, 2, 400);
        let options = SchedulerOptions {
            texts: 2,
            chunk,
            ..SchedulerOptions::default()
        };
        let mut scheduler = Scheduler::new(&session, options).unwrap();
        let mut found = Found::default();
        // Something to take over, which must not be.
        scheduler
            .add(&session, request(tokens.clone(), |_| ()))
            .unwrap();
        run(&mut scheduler, &mut session, &mut found);
        let scored = ScheduledRequest {
            prompt_scores: Some(details),
            ..request(tokens.clone(), |o| {
                (o.max_new_tokens, o.logprobs) = (new, Some(1));
            })
        };
        let id = scheduler.add(&session, scored.clone()).unwrap();
        run(&mut scheduler, &mut session, &mut found);
        let scores = &found.scores[&id];
        assert_eq!(scores.len(), tokens.len());
        assert!(scores[0].is_none());
        for (found, expected) in scores[1..].iter().flatten().zip(&expected) {
            assert!((found.log_probability - expected.log_probability).abs() < 1e-4);
            assert_eq!((found.rank, found.top.len()), (expected.rank, 2));
        }
        let written = &found.of(id)[0];
        assert_eq!(written.finish_reason, FinishReason::Length);
        assert_eq!(written.ids, alone(&model, &scored)[0].ids);
        assert_eq!(written.logprobs.len(), new);
        assert_eq!(found.done[&id].cached_tokens, 0);
    }
}

#[test]
fn what_can_never_fit_is_refused_and_the_rest_waits() {
    let _cores = cores();
    let model = model("q4_0");
    let mut draws = Draws(4);
    let mut session = session(&model, 3, 120);
    let options = SchedulerOptions {
        texts: 3,
        ..SchedulerOptions::default()
    };
    let mut scheduler = Scheduler::new(&session, options).unwrap();
    let mut refused = |request: ScheduledRequest| scheduler.add(&session, request).unwrap_err();
    let error = refused(request(prompt(&mut draws, 121), |_| ()));
    assert!(
        matches!(
            error,
            Error::ContextFull {
                needed: 121,
                available: 120,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(request(prompt(&mut draws, 10), |o| o.num_beams = 4));
    assert!(
        matches!(
            error,
            Error::TooFewSequences {
                needed: 4,
                available: 3,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(request(Vec::new(), |_| ()));
    assert!(matches!(error, Error::Argument(_)), "{error}");
    let error = refused(request(prompt(&mut draws, 10), |o| {
        o.num_return_sequences = 2;
    }));
    assert!(error.to_string().contains("greedy"), "{error}");
    // Texts that need all positions come one after the other, and end where the context does.
    let large = |draws: &mut Draws| request(prompt(draws, 100), |o| o.max_new_tokens = 500);
    let mut found = Found::default();
    let added: Vec<(RequestId, ScheduledRequest)> = (0..3)
        .map(|_| {
            let request = large(&mut draws);
            (scheduler.add(&session, request.clone()).unwrap(), request)
        })
        .collect();
    found.take(scheduler.step(&mut session).unwrap());
    let load = scheduler.load(&session);
    assert_eq!(
        (load.running, load.waiting, load.reserved_positions),
        (1, 2, 120)
    );
    run(&mut scheduler, &mut session, &mut found);
    for (id, _) in &added {
        let text = &found.of(*id)[0];
        assert_eq!(text.finish_reason, FinishReason::ContextFull);
        assert_eq!(text.ids.len(), 21);
    }
    for (name, bad) in [
        (
            "texts",
            SchedulerOptions {
                texts: 4,
                ..options
            },
        ),
        (
            "texts",
            SchedulerOptions {
                texts: 0,
                ..options
            },
        ),
        (
            "chunk",
            SchedulerOptions {
                chunk: 0,
                ..options
            },
        ),
    ] {
        let error = Scheduler::new(&session, bad).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn a_stopped_session_ends_all_texts_with_what_there_is() {
    let _cores = cores();
    let model = model("q4_0");
    let mut draws = Draws(6);
    let mut session = session(&model, 4, 600);
    let mut prompts: Vec<Vec<u32>> = (0..6).map(|_| prompt(&mut draws, 20)).collect();
    prompts.push(prompt(&mut draws, 100));
    let options = request(Vec::new(), |_| ()).options;
    let flag = session.stop_flag();
    let mut seen = 0;
    let mut on_token = |_: &gpt2::generate::Step| {
        seen += 1;
        flag.store(seen >= 10, std::sync::atomic::Ordering::Relaxed);
        std::ops::ControlFlow::Continue(())
    };
    let generation = generate_batch(&mut session, &prompts, &options, &mut on_token).unwrap();
    assert_eq!(generation.requests.len(), 7);
    for texts in &generation.requests {
        assert_eq!(texts.len(), 1);
        assert_eq!(texts[0].finish_reason, FinishReason::Stopped);
        assert!(texts[0].ids.len() < 12);
    }
    assert!(generation.requests[6][0].ids.is_empty());
}
