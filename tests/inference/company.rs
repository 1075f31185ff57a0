//! A text has the result in company that it has alone: whoever joins, leaves or forks meanwhile,
//! wherever its cells lie, and however long the others are.

use std::ops::Range;
use std::sync::Arc;

use crate::common::{austen, cores, project};
use gpt2::session::{Batch, Model, ModelOptions, SequenceSet, Session, SessionOptions, estimate};

/// A text of the company; its number is its sequence.
struct Text {
    prompt: Range<usize>,
    /// The pass with which it joins.
    joins: usize,
    /// The text that it forks from, as soon as that has the tokens that they share, and how many
    /// these are.
    parent: Option<(usize, usize)>,
    /// How many tokens are generated.
    new: usize,
}

const fn text(prompt: Range<usize>, joins: usize, new: usize) -> Text {
    Text {
        prompt,
        joins,
        parent: None,
        new,
    }
}

/// Prompts of 1 to 500 tokens. Those that join late get the cells of those that have left, between
/// the others'.
const TEXTS: [Text; 10] = [
    text(0..40, 0, 30),
    text(100..101, 0, 40),
    text(200..337, 1, 12),
    text(700..1200, 2, 8),
    text(1300..1303, 4, 24),
    Text {
        parent: Some((0, 40)),
        ..text(0..43, 25, 20)
    },
    text(1400..1870, 30, 20),
    text(1900..1965, 50, 10),
    text(2000..2031, 60, 14),
    Text {
        parent: Some((6, 300)),
        ..text(1400..1702, 31, 12)
    },
];

/// How a prompt is read.
#[derive(Clone, Copy)]
struct Reading {
    /// Tokens of a prompt in a pass.
    chunk: usize,
    /// Whether they are in the pass of the tokens that follow other texts.
    mixed: bool,
}

/// What came of a text: the token chosen after each pass, and the logits of that pass.
#[derive(Default, PartialEq)]
struct Found {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

impl Found {
    /// Takes the likeliest token.
    fn choose(&mut self, logits: &[f32]) {
        let pairs = logits.iter().enumerate();
        let best = pairs.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0;
        self.ids.push(best as u32);
        self.logits.push(logits.to_vec());
    }
}

fn model(file_type: &str) -> Arc<Model> {
    Model::open(austen(file_type), &ModelOptions::default()).unwrap()
}

fn session(model: &Arc<Model>, sequences: usize) -> Session {
    let options = SessionOptions {
        sequences,
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

/// The tokens that prompts are cut from.
fn tokens(model: &Model) -> Vec<u32> {
    let text = std::fs::read_to_string(project("tests/data/austen/heldout.txt")).unwrap();
    let tokens = model.tokenizer().unwrap().encode(&text[..12_000]).unwrap();
    assert!(tokens.len() >= 2031, "{}", tokens.len());
    tokens
}

/// A text by itself, its prompt in the same chunks.
fn alone(model: &Arc<Model>, text: &Text, tokens: &[u32], reading: Reading) -> Found {
    let mut session = session(model, 1);
    let mut found = Found::default();
    let prompt = &tokens[text.prompt.clone()];
    let mut own = prompt;
    if let Some((parent, shared)) = text.parent {
        // What it shares was read as the other's prompt.
        for part in tokens[TEXTS[parent].prompt.clone()].chunks(reading.chunk) {
            session.prefill(part).unwrap();
        }
        session.truncate(0, shared).unwrap();
        own = &prompt[shared..];
    }
    let parts: Vec<&[u32]> = own.chunks(reading.chunk).collect();
    for (number, part) in parts.iter().enumerate() {
        let logits = session.prefill(part).unwrap();
        if number + 1 == parts.len() {
            found.choose(logits);
        }
    }
    while found.ids.len() < text.new {
        let last = found.ids[found.ids.len() - 1];
        found.choose(session.decode(last).unwrap());
    }
    found
}

/// The next tokens of `text` as a part of a batch, and whether its logits come out.
fn part(
    session: &Session,
    (sequence, text): (usize, &Text),
    found: &Found,
    tokens: &[u32],
    chunk: usize,
) -> (Batch, bool) {
    let prompt = &tokens[text.prompt.clone()];
    let position = session.length(sequence);
    let set = SequenceSet::of(sequence).unwrap();
    if position < prompt.len() {
        let end = prompt.len().min(position + chunk);
        let ends = end == prompt.len();
        let last = end - position - 1;
        let output = |index| ends && index == last;
        return (
            Batch::of_text(&prompt[position..end], position, set, output),
            ends,
        );
    }
    let last = found.ids[found.ids.len() - 1];
    (Batch::of_text(&[last], position, set, |_| true), true)
}

/// All texts in one session. `check` sees every batch.
fn together(
    model: &Arc<Model>,
    tokens: &[u32],
    reading: Reading,
    check: impl Fn(&Batch),
) -> Vec<Found> {
    let mut session = session(model, TEXTS.len());
    let mut found: Vec<Found> = TEXTS.iter().map(|_| Found::default()).collect();
    let mut joined = [false; TEXTS.len()];
    let done = |found: &[Found], number: usize| found[number].ids.len() == TEXTS[number].new;
    let mut pass = 0;
    while !(0..TEXTS.len()).all(|number| done(&found, number)) {
        for (sequence, text) in TEXTS.iter().enumerate() {
            let (parent, shared) = text.parent.unwrap_or_default();
            if joined[sequence] || text.joins > pass || session.length(parent) < shared {
                continue;
            }
            joined[sequence] = true;
            if shared > 0 {
                session.fork(parent, sequence).unwrap();
                session.truncate(sequence, shared).unwrap();
            }
        }
        pass += 1;
        let here = |&sequence: &usize| joined[sequence] && !done(&found, sequence);
        let here: Vec<usize> = (0..TEXTS.len()).filter(here).collect();
        let mut runs = vec![(Batch::default(), Vec::new()); 2];
        for sequence in here {
            let text = &TEXTS[sequence];
            let of = (sequence, text);
            let (batch, comes_out) = part(&session, of, &found[sequence], tokens, reading.chunk);
            let apart = !reading.mixed && found[sequence].ids.is_empty();
            let (run, outputs) = &mut runs[usize::from(apart)];
            run.tokens.extend(batch.tokens);
            outputs.extend(comes_out.then_some(sequence));
        }
        for (batch, outputs) in runs {
            check(&batch);
            let output = session.run(&batch).unwrap();
            assert_eq!(output.rows(), outputs.len());
            for (row, sequence) in outputs.into_iter().enumerate() {
                found[sequence].choose(output.row(row));
            }
        }
        // Those that are done leave.
        for sequence in (0..TEXTS.len()).filter(|&sequence| done(&found, sequence)) {
            session.truncate(sequence, 0).unwrap();
        }
    }
    found
}

/// Every pass has at most as many rows as the products take one by one (31), and at most 7 of
/// them go through the head, which `q4_0` files have in `q6_k`.
#[test]
fn logits_have_the_bits_that_they_have_alone() {
    let _cores = cores();
    let reading = Reading {
        chunk: 5,
        mixed: true,
    };
    for file_type in ["q4_0", "q8_0"] {
        let model = model(file_type);
        let tokens = tokens(&model);
        let company = together(&model, &tokens, reading, |batch| {
            let outputs = batch.tokens.iter().filter(|token| token.output).count();
            let rows = batch.tokens.len();
            assert!(rows <= 31 && outputs <= 7, "{rows} rows, {outputs} outputs");
        });
        for (number, (text, found)) in TEXTS.iter().zip(company).enumerate() {
            let alone = alone(&model, text, &tokens, reading);
            assert_eq!(found.ids, alone.ids, "{file_type}: text {number}");
            let pairs = found.logits.iter().zip(&alone.logits);
            for (step, (found, alone)) in pairs.enumerate() {
                let same = found
                    .iter()
                    .zip(alone)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{file_type}: text {number}, step {step}");
            }
        }
    }
}

/// Prompts in tiles, several of them in a pass.
#[test]
fn greedy_texts_are_those_that_each_has_alone() {
    let _cores = cores();
    for (file_type, chunk) in [
        ("q4_0", 64),
        ("q8_0", 256),
        ("q4_k", 100),
        ("f16", 64),
        ("f32", 256),
    ] {
        let model = model(file_type);
        let tokens = tokens(&model);
        let reading = Reading {
            chunk,
            mixed: false,
        };
        let company = together(&model, &tokens, reading, |_| ());
        for (number, (text, found)) in TEXTS.iter().zip(company).enumerate() {
            let alone = alone(&model, text, &tokens, reading);
            assert_eq!(found.ids, alone.ids, "{file_type}: text {number}");
        }
    }
}

/// Attention reads the cells of a text, and how many others there are does not matter to it: 64
/// texts are computed as 63 are.
#[test]
fn the_sixty_fourth_text_changes_nothing() {
    let _cores = cores();
    let model = model("f32");
    let tokens = tokens(&model);
    let mut session = session(&model, 64);
    let mut logits = Vec::new();
    for texts in [63, 64] {
        session.clear();
        for sequence in 0..texts {
            let prompt = &tokens[sequence..sequence + 1 + sequence % 9];
            let set = SequenceSet::of(sequence).unwrap();
            session
                .run(&Batch::of_text(prompt, 0, set, |_| false))
                .unwrap();
        }
        let mut batch = Batch {
            batch_invariant: true,
            ..Batch::default()
        };
        for sequence in 0..texts {
            let position = session.length(sequence);
            let set = SequenceSet::of(sequence).unwrap();
            let next = Batch::of_text(&[7], position, set, |_| true);
            batch.tokens.extend(next.tokens);
        }
        logits.push(session.run(&batch).unwrap().logits.clone());
    }
    assert!(logits[1].starts_with(&logits[0]));
}

/// With `batch_invariant` that holds for a prompt of any length, too, however it is cut.
#[test]
fn batch_invariant_prompts_have_the_bits_of_single_tokens() {
    let _cores = cores();
    let model = model("q8_0");
    let tokens = &tokens(&model)[..150];
    let mut one_by_one = session(&model, 1);
    let mut expected = Vec::new();
    for &token in tokens {
        expected.extend_from_slice(one_by_one.decode(token).unwrap());
    }
    for chunk in [7, 64, 150] {
        let mut session = session(&model, 1);
        let mut found = Vec::new();
        for part in tokens.chunks(chunk) {
            let set = SequenceSet::of(0).unwrap();
            let mut batch = Batch::of_text(part, session.length(0), set, |_| true);
            batch.batch_invariant = true;
            found.extend_from_slice(&session.run(&batch).unwrap().logits);
        }
        assert!(found == expected, "chunks of {chunk}");
    }
}

/// Graphs are kept for several numbers of texts, within the memory that was planned for them.
#[test]
fn graphs_of_many_shapes_stay_within_what_was_planned() {
    let _cores = cores();
    let model = model("q8_0");
    let tokens = tokens(&model);
    let options = SessionOptions {
        sequences: 12,
        context: Some(2048),
        ..SessionOptions::default()
    };
    let planned = estimate(&model, &options).unwrap();
    let mut session = Session::new(Arc::clone(&model), options).unwrap();
    for sequence in 0..12 {
        let set = SequenceSet::of(sequence).unwrap();
        let prompt = &tokens[..40 + 13 * sequence];
        session
            .run(&Batch::of_text(prompt, 0, set, |_| false))
            .unwrap();
    }
    for texts in (1..=12).chain((1..=12).rev()) {
        let mut batch = Batch::default();
        for sequence in 0..texts {
            let set = SequenceSet::of(sequence).unwrap();
            let next = Batch::of_text(&[7], session.length(sequence), set, |_| true);
            batch.tokens.extend(next.tokens);
        }
        session.run(&batch).unwrap();
        let found = session.memory();
        assert!(
            found.compute <= planned.compute,
            "{found:?}, planned {planned:?}"
        );
    }
}
