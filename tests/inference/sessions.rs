//! Sequences, limits and threads of sessions, on the demo model.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::{austen_f32, cores, ids, reference};
use gpt2::Error;
use gpt2::generate::{GenerationOptions, generate};
use gpt2::session::{Batch, FlashAttention, Model, SequenceSet, Session, SessionOptions, estimate};

const SEQUENCES: usize = 3;

fn session(model: &Arc<Model>) -> Session {
    let options = SessionOptions {
        sequences: SEQUENCES,
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn prompts() -> Vec<Vec<u32>> {
    let reference = reference();
    reference["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prompt| ids(&prompt["ids"]))
        .collect()
}

/// The logits of `tokens` alone in a session of their own.
fn alone(model: &Arc<Model>, tokens: &[u32]) -> Vec<f32> {
    session(model).prefill(tokens).unwrap().to_vec()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0f32, f32::max);
    println!("largest difference: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn sequences_computed_together_do_not_see_each_other() {
    let _cores = cores();
    let model = austen_f32();
    let prompts = prompts();
    for flash_attention in [FlashAttention::On, FlashAttention::Off] {
        let options = SessionOptions {
            sequences: SEQUENCES,
            flash_attention,
            ..SessionOptions::default()
        };
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        let mut batch = Batch::default();
        for (sequence, prompt) in prompts.iter().enumerate() {
            let set = SequenceSet::of(sequence).unwrap();
            let last = prompt.len() - 1;
            batch
                .tokens
                .extend(Batch::of_text(prompt, 0, set, |index| index == last).tokens);
        }
        let output = session.run(&batch).unwrap().clone();
        assert_eq!(output.rows(), SEQUENCES);
        for (sequence, prompt) in prompts.iter().enumerate() {
            assert_close(output.row(sequence), &alone(&model, prompt));
            assert_eq!(session.length(sequence), prompt.len());
        }
    }
}

#[test]
fn a_fork_shares_the_prefix_and_goes_on_apart() {
    let _cores = cores();
    let model = austen_f32();
    let [prompt, first, second] = prompts().try_into().unwrap();
    let mut session = session(&model);
    session.prefill(&prompt).unwrap();
    session.fork(0, 2).unwrap();
    assert_eq!(session.length(2), prompt.len());
    for (sequence, continuation) in [(0, &first), (2, &second)] {
        let set = SequenceSet::of(sequence).unwrap();
        let last = continuation.len() - 1;
        let batch = Batch::of_text(continuation, prompt.len(), set, |index| index == last);
        let found = session.run(&batch).unwrap().row(0).to_vec();
        assert_close(
            &found,
            &alone(&model, &[&prompt[..], continuation].concat()),
        );
    }
    // The fork outlives what it came from.
    session.truncate(0, 0).unwrap();
    let set = SequenceSet::of(2).unwrap();
    let position = session.length(2);
    let found = session
        .run(&Batch::of_text(&[5], position, set, |_| true))
        .unwrap()
        .row(0)
        .to_vec();
    assert_close(
        &found,
        &alone(&model, &[&prompt[..], &second, &[5]].concat()),
    );
}

#[test]
fn a_truncated_session_is_as_if_the_rest_had_never_been() {
    let _cores = cores();
    let model = austen_f32();
    let [prompt, other, _] = prompts().try_into().unwrap();
    let mut session = session(&model);
    session.prefill(&prompt).unwrap();
    session.truncate(0, 3).unwrap();
    let found = session.prefill(&other).unwrap().to_vec();
    assert_close(&found, &alone(&model, &[&prompt[..3], &other].concat()));
    session.clear();
    assert_eq!(session.length(0), 0);
    assert_close(session.prefill(&other).unwrap(), &alone(&model, &other));
}

#[test]
fn every_token_can_have_its_logits() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = &prompts()[0];
    let all = session(&model).forward(prompt).unwrap().to_vec();
    let vocabulary = model.hyperparameters().vocab_size;
    assert_eq!(all.len(), prompt.len() * vocabulary);
    for (index, row) in all.chunks(vocabulary).enumerate() {
        assert_close(row, &alone(&model, &prompt[..=index]));
    }
}

#[test]
fn small_batches_give_the_same() {
    let _cores = cores();
    let model = austen_f32();
    let prompt: Vec<u32> = prompts().concat();
    for batch_size in [1, 3, 16] {
        let options = SessionOptions {
            batch_size,
            ..SessionOptions::default()
        };
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        assert_close(session.prefill(&prompt).unwrap(), &alone(&model, &prompt));
    }
}

#[test]
fn many_sessions_share_a_model_from_many_threads() {
    let _cores = cores();
    let model = austen_f32();
    let prompts = prompts();
    let expected: Vec<_> = prompts.iter().map(|prompt| alone(&model, prompt)).collect();
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (model, prompts, expected) = (&model, &prompts, &expected);
            scope.spawn(move || {
                let index = worker % prompts.len();
                for _ in 0..3 {
                    assert_close(&alone(model, &prompts[index]), &expected[index]);
                }
            });
        }
    });
}

/// A position of a sequence holds one token: of two, attention would see both, and a saved cache
/// could not be restored.
#[test]
fn a_position_that_is_taken_is_refused() {
    let _cores = cores();
    let model = austen_f32();
    let mut session = session(&model);
    session.prefill(&[1, 2, 3]).unwrap();
    session.fork(0, 1).unwrap();
    let sequences = |numbers: &[usize]| {
        let add = |set: SequenceSet, &number: &usize| set.with(number).unwrap();
        numbers.iter().fold(SequenceSet::default(), add)
    };
    let refused = |session: &mut Session, places: &[(usize, &[usize])]| {
        let mut batch = Batch::default();
        for &(position, of) in places {
            let one = Batch::of_text(&[7], position, sequences(of), |_| true);
            batch.tokens.extend(one.tokens);
        }
        let error = session.run(&batch).unwrap_err();
        assert!(matches!(error, Error::Argument(_)), "{error}");
        error.to_string()
    };
    for (places, words) in [
        (
            &[(3, &[0][..]), (4, &[0]), (3, &[0])][..],
            "position 3 of sequence 0",
        ),
        (&[(3, &[0, 1]), (3, &[1, 2])], "position 3 of sequence 1"),
        (&[(2, &[0])], "position 2 of sequence 0 in the cache"),
        (
            &[(3, &[0]), (0, &[2, 1])],
            "position 0 of sequence 1 in the cache",
        ),
    ] {
        let message = refused(&mut session, places);
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(
        [0, 1, 2].map(|sequence| session.length(sequence)),
        [3, 3, 0]
    );
    // One position of several sequences, and a gap, are no collision.
    let mut batch = Batch::of_text(&[7], 3, sequences(&[0]), |_| true);
    for (position, of) in [(3, [1]), (5, [2]), (5, [0])] {
        let one = Batch::of_text(&[7], position, sequences(&of), |_| true);
        batch.tokens.extend(one.tokens);
    }
    session.run(&batch).unwrap();
    session.truncate(0, 3).unwrap();
    session.prefill(&[7]).unwrap();
}

/// Numbers at the end of their range are refused, not counted on.
#[test]
fn positions_beyond_what_can_be_counted_are_refused() {
    let _cores = cores();
    let mut session = session(&austen_f32());
    let mut batch = Batch::of_text(&[1], 0, SequenceSet::of(0).unwrap(), |_| true);
    batch.tokens[0].position = usize::MAX;
    assert!(matches!(
        session.run(&batch),
        Err(Error::ContextFull { .. })
    ));
    (batch.tokens[0].position, batch.tokens[0].position_id) = (0, Some(usize::MAX));
    assert!(matches!(
        session.run(&batch),
        Err(Error::ContextFull { .. })
    ));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let _cores = cores();
    let model = austen_f32();
    let options = SessionOptions {
        context: Some(8),
        ..SessionOptions::default()
    };
    let mut session = Session::new(Arc::clone(&model), options).unwrap();
    session.prefill(&[1, 2, 3]).unwrap();
    let full = session.prefill(&[4; 6]).unwrap_err();
    assert!(
        matches!(
            full,
            Error::ContextFull {
                needed: 9,
                available: 8,
                model_limit: 512
            }
        ),
        "{full}"
    );
    let outside = session.prefill(&[1, 4096]).unwrap_err().to_string();
    assert!(
        outside.contains("4096") && outside.contains("vocabulary"),
        "{outside}"
    );
    assert!(matches!(session.prefill(&[]), Err(Error::Argument(_))));
    assert!(matches!(
        session.fork(0, 1),
        Err(Error::NoSuchSequence {
            found: 1,
            available: 1
        })
    ));
    assert_eq!(session.length(0), 3);
    assert_close(session.decode(4).unwrap(), &alone(&model, &[1, 2, 3, 4]));

    let mut session = self::session(&model);
    let past = Batch::of_text(&[1], 512, SequenceSet::of(1).unwrap(), |_| true);
    assert!(matches!(
        session.run(&past),
        Err(Error::ContextFull { needed: 513, .. })
    ));
    let nobody = Batch::of_text(&[1], 0, SequenceSet::default(), |_| true);
    assert!(matches!(session.run(&nobody), Err(Error::Argument(_))));
    assert!(
        Session::new(
            model,
            SessionOptions {
                context: Some(513),
                ..SessionOptions::default()
            }
        )
        .is_err()
    );
}

#[test]
fn memory_is_known_before_it_is_used() {
    let _cores = cores();
    let model = austen_f32();
    for flash_attention in [FlashAttention::On, FlashAttention::Off] {
        let options = SessionOptions {
            flash_attention,
            ..SessionOptions::default()
        };
        let planned = estimate(&model, &options).unwrap();
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        session.prefill(&[7; 512]).unwrap();
        let memory = session.memory();
        println!("planned {planned:?}, found {memory:?}");
        assert_eq!(planned.weights, memory.weights);
        // 2 × 6 layers × 512 positions × 256 × 4 bytes.
        assert_eq!((planned.kv, memory.kv), (12 * 512 * 256 * 4, planned.kv));
        assert!((memory.compute..3 * memory.compute).contains(&planned.compute));
    }
}

#[test]
fn a_stopped_session_goes_on_where_it_was() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = &prompts()[0];
    let mut session = session(&model);
    session.prefill(&prompt[..4]).unwrap();
    let stop = session.stop_flag();
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(session.prefill(&prompt[4..]), Err(Error::Stopped)));
    assert_eq!(session.length(0), 4);
    stop.store(false, Ordering::Relaxed);
    let found = session.prefill(&prompt[4..]).unwrap().to_vec();
    assert_close(&found, &alone(&model, prompt));
}

#[test]
fn a_common_prefix_is_retained_and_the_rest_cut() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = &prompts()[0];
    let mut session = session(&model);
    session.prefill(prompt).unwrap();
    session.fork(0, 2).unwrap();
    let other = [&prompt[..3], &[1, 2]].concat();
    assert_eq!(session.retain_prefix(0, &other).unwrap(), 3);
    assert_eq!(session.tokens(0), prompt[..3]);
    assert_eq!(
        session.tokens(2),
        *prompt,
        "another sequence keeps what it shares"
    );
    assert_eq!(session.retain_prefix(2, &prompt[..2]).unwrap(), 2);
    assert_eq!(session.length(2), 2);
    assert_eq!(session.retain_prefix(1, prompt).unwrap(), 0);
    assert_eq!(session.retain_prefix(0, &[]).unwrap(), 0);
    assert_eq!(session.length(0), 0);
    let refused = session.retain_prefix(SEQUENCES, prompt).unwrap_err();
    assert!(refused.to_string().contains("sequence"), "{refused}");
    let found = session.prefill(prompt).unwrap().to_vec();
    assert_close(&found, &alone(&model, prompt));
}

#[test]
fn a_run_that_is_stopped_midway_leaves_nothing_behind() {
    let _cores = cores();
    let model = austen_f32();
    let options = SessionOptions {
        sequences: SEQUENCES,
        // One sequence can fill it.
        context: Some(512),
        batch_size: 1,
        ..SessionOptions::default()
    };
    let mut session = Session::new(Arc::clone(&model), options).unwrap();
    let prompt = &prompts()[0];
    session.prefill(prompt).unwrap();
    session.fork(0, 1).unwrap();
    session.truncate(0, 4).unwrap();
    let stop = session.stop_flag();
    // Each token is a computation of its own: some of them are done before the flag is seen.
    let long = vec![7; 400];
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            stop.store(true, Ordering::Relaxed);
        });
        session.prefill(&long).map(<[f32]>::to_vec)
    });
    assert!(matches!(result, Err(Error::Stopped)));
    stop.store(false, Ordering::Relaxed);
    assert_eq!(
        (session.tokens(0), session.tokens(1)),
        (prompt[..4].to_vec(), prompt.clone())
    );
    // All the other cells are free again.
    let room = session.context_size() - prompt.len();
    let text = vec![7; room];
    let batch = Batch::of_text(&text, 0, SequenceSet::of(2).unwrap(), |_| false);
    session.run(&batch).unwrap();
    let one_more = Batch::of_text(&[7], room, SequenceSet::of(2).unwrap(), |_| false);
    assert!(matches!(
        session.run(&one_more),
        Err(Error::ContextFull { .. })
    ));
}

#[test]
fn generation_keeps_what_the_session_holds_of_the_prompt() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = &prompts()[0];
    let options = GenerationOptions {
        max_new_tokens: 4,
        ..GenerationOptions::default()
    };
    let run = |session: &mut Session, prompt: &[u32]| {
        let tokens = generate(session, prompt, &options).unwrap();
        tokens.finish().unwrap()
    };
    let mut session = session(&model);
    let first = run(&mut session, prompt);
    assert_eq!(first.timings.prefill_tokens, prompt.len());
    // The same again: only the last token, whose logits are wanted.
    let again = run(&mut session, prompt);
    assert_eq!(again.timings.prefill_tokens, 1);
    assert_eq!(again.sequences, first.sequences);
    // A conversation: what was said, the reply, and something new. The reply's last token was
    // chosen and never computed.
    let mut longer = prompt.clone();
    longer.extend(&first.sequences[0].ids);
    longer.extend([11, 12, 13]);
    let reply = run(&mut session, &longer);
    assert_eq!(reply.timings.prefill_tokens, 4);
    let mut fresh = self::session(&model);
    assert_eq!(run(&mut fresh, &longer).sequences, reply.sequences);
}
