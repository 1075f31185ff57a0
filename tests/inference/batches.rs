//! What a batch may ask for beside logits, and what its tokens may say of themselves: masks,
//! positions, token types.

use std::sync::Arc;

use crate::common::{austen_f32, cores, ids, reference};
use gpt2::session::{
    Batch, BatchToken, FlashAttention, Model, SequenceSet, Session, SessionOptions,
};

const PADDING: usize = 5;

fn session(model: &Arc<Model>, flash_attention: FlashAttention) -> Session {
    let options = SessionOptions {
        flash_attention,
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn prompt() -> Vec<u32> {
    ids(&reference()["prompts"][0]["ids"])
}

fn row(tokens: &[u32], output: impl Fn(usize) -> bool) -> Batch {
    Batch::of_text(tokens, 0, SequenceSet::of(0).unwrap(), output)
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    let worst = largest_difference(found, expected);
    println!("largest difference: {worst:.2e}");
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn padding_on_either_side_changes_nothing() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = prompt();
    for flash in [FlashAttention::On, FlashAttention::Off] {
        let alone = session(&model, flash).forward(&prompt).unwrap().to_vec();
        let pads = vec![prompt[0]; PADDING];
        // Left: positions count what is not masked.
        let text = [pads.clone(), prompt.clone()].concat();
        let mut left = row(&text, |index| index >= PADDING);
        for (index, token) in left.tokens.iter_mut().enumerate() {
            token.masked = index < PADDING;
            token.position_id = Some(index.saturating_sub(PADDING));
        }
        assert_close(&session(&model, flash).run(&left).unwrap().logits, &alone);
        // Without position ids it is another text.
        for token in &mut left.tokens {
            token.position_id = None;
        }
        let mut session_of_left = session(&model, flash);
        let shifted = &session_of_left.run(&left).unwrap().logits;
        assert!(largest_difference(shifted, &alone) > 1e-2);
        let text = [prompt.clone(), pads].concat();
        let mut right = row(&text, |index| index < prompt.len());
        for token in &mut right.tokens[prompt.len()..] {
            token.masked = true;
        }
        assert_close(&session(&model, flash).run(&right).unwrap().logits, &alone);
    }
}

#[test]
fn rows_that_see_nothing_are_numbers() {
    let _cores = cores();
    let model = austen_f32();
    for flash in [FlashAttention::On, FlashAttention::Off] {
        let mut batch = row(&[1, 2, 3], |_| true);
        for token in &mut batch.tokens {
            token.masked = true;
        }
        let mut session = session(&model, flash);
        let output = session.run(&batch).unwrap();
        assert!(output.logits.iter().all(|logit| logit.is_finite()));
    }
}

#[test]
fn attentions_are_distributions_over_what_is_seen() {
    let _cores = cores();
    let model = austen_f32();
    let prompt = prompt();
    let heads = model.hyperparameters().n_head;
    let masked = 1;
    let mut batch = row(&prompt, |index| index != 2);
    batch.tokens[masked].masked = true;
    batch.attentions = true;
    batch.logits = false;
    let mut session = session(&model, FlashAttention::Auto);
    let output = session.run(&batch).unwrap().clone();
    assert_eq!((output.rows(), output.logits.len()), (prompt.len() - 1, 0));
    assert_eq!(output.positions, prompt.len());
    assert_eq!(output.attentions.len(), model.hyperparameters().n_layer);
    let positions: Vec<usize> = (0..prompt.len()).filter(|index| *index != 2).collect();
    for layer in &output.attentions {
        assert_eq!(layer.len(), positions.len() * heads * prompt.len());
        for (row, position) in layer.chunks(heads * prompt.len()).zip(&positions) {
            for head in row.chunks(prompt.len()) {
                let sum: f32 = head.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{sum}");
                assert_eq!(head[masked], 0.0);
                assert!(head[position + 1..].iter().all(|&weight| weight == 0.0));
            }
        }
    }
    // In pieces, some of which ask for nothing.
    batch
        .tokens
        .iter_mut()
        .for_each(|token| token.output = false);
    batch.tokens[0].output = true;
    batch.tokens[1].output = true;
    let options = SessionOptions {
        batch_size: 2,
        ..SessionOptions::default()
    };
    let mut session = Session::new(Arc::clone(&model), options).unwrap();
    let pieces = session.run(&batch).unwrap();
    for (piece, whole) in pieces.attentions.iter().zip(&output.attentions) {
        assert_close(piece, &whole[..piece.len()]);
        assert_eq!(piece.len(), 2 * heads * prompt.len());
    }
    assert_eq!(pieces.attentions.len(), output.attentions.len());
    // Asking for them takes the plain path and changes nothing else.
    let mut plain = row(&prompt, |_| true);
    plain.attentions = true;
    let with = session_logits(&model, &plain);
    plain.attentions = false;
    assert_close(&with, &session_logits(&model, &plain));
}

fn session_logits(model: &Arc<Model>, batch: &Batch) -> Vec<f32> {
    let mut session = session(model, FlashAttention::On);
    session.run(batch).unwrap().logits.clone()
}

#[test]
fn the_last_hidden_state_is_the_last_of_the_hidden_states() {
    let _cores = cores();
    let model = austen_f32();
    let mut batch = row(&prompt(), |index| index % 2 == 0);
    (batch.last_hidden_state, batch.hidden_states) = (true, true);
    let mut session = session(&model, FlashAttention::Auto);
    let output = session.run(&batch).unwrap();
    assert!(output.rows() > 1);
    assert_eq!(
        output.hidden_states.len(),
        model.hyperparameters().n_layer + 1
    );
    assert!(output.hidden_states.last() == Some(&output.last_hidden_state));
}

#[test]
fn hidden_states_do_not_depend_on_what_was_computed_before() {
    let _cores = cores();
    let model = austen_f32();
    let mut batch = row(&prompt(), |_| true);
    batch.hidden_states = true;
    let expected = session(&model, FlashAttention::Auto)
        .run(&batch)
        .unwrap()
        .clone();
    // A graph of as many steps, larger, of which only logits come out.
    let mut session = session(&model, FlashAttention::Auto);
    session.forward(&[5; 100]).unwrap();
    session.clear();
    let found = session.run(&batch).unwrap();
    for (found, expected) in found.hidden_states.iter().zip(&expected.hidden_states) {
        assert_close(found, expected);
    }
    assert_eq!(found.hidden_states.len(), expected.hidden_states.len());
}

/// hidden(token, type) − hidden(token) is the embedding of the type, whatever the token.
#[test]
fn token_types_add_their_embedding() {
    let _cores = cores();
    let model = austen_f32();
    let (token, other) = (7, 40);
    let embedded = |token, token_type| {
        let mut batch = Batch {
            tokens: vec![BatchToken {
                token,
                token_type,
                sequences: SequenceSet::of(0).unwrap(),
                output: true,
                ..BatchToken::default()
            }],
            ..Batch::default()
        };
        batch.hidden_states = true;
        let mut session = session(&model, FlashAttention::Auto);
        session.run(&batch).unwrap().hidden_states[0].clone()
    };
    let minus =
        |a: Vec<f32>, b: &[f32]| -> Vec<f32> { a.into_iter().zip(b).map(|(a, b)| a - b).collect() };
    let added = minus(embedded(token, Some(other)), &embedded(token, Some(token)));
    let expected = minus(embedded(other, None), &embedded(token, None));
    assert_close(&added, &expected);
    assert!(added.iter().any(|&value| value.abs() > 1e-3));
}

#[test]
fn token_types_are_for_all_tokens_or_for_none() {
    let _cores = cores();
    let model = austen_f32();
    let mut batch = row(&[1, 2], |_| true);
    batch.tokens[0].token_type = Some(1);
    let mut session = session(&model, FlashAttention::Auto);
    let message = session.run(&batch).unwrap_err().to_string();
    assert!(message.contains("token types"), "{message}");
    batch.tokens[1].token_type = Some(1 << 30);
    let message = session.run(&batch).unwrap_err().to_string();
    assert!(message.contains("vocabulary"), "{message}");
    batch.tokens[0].token_type = None;
    batch.tokens[1].token_type = None;
    batch.tokens[1].position_id = Some(model.hyperparameters().n_positions);
    assert!(session.run(&batch).is_err());
}
