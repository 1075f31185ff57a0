//! The heads: labels for texts and words, answers, choices, vectors.

use std::ffi::c_char;

use super::buffers::{Buffer, optional_text, place_of, text as text_of, texts};
use super::results::{Row, gpt2_results, open_rows};
use super::session::{choice, gpt2_session, with_session};
use super::status::{Failure, GPT2_ERROR_UNSUPPORTED, Outcome, gpt2_status, guard};
use gpt2::sampling::softmax;
use gpt2::session::Session;
use gpt2::spec::ModelClass;
use gpt2::tasks::{
    Aggregation, AnswerOptions, Pooling, ScoreFunction, answer, choice_likelihoods, entities,
    label_scores, tag, words,
};

/// Scores as the model's problem asks.
pub const GPT2_SCORES_DEFAULT: i32 = 0;
/// Probabilities that sum to 1.
pub const GPT2_SCORES_SOFTMAX: i32 = 1;
/// A probability for each label by itself.
pub const GPT2_SCORES_SIGMOID: i32 = 2;
/// The logits as they are.
pub const GPT2_SCORES_NONE: i32 = 3;

/// A row for each token.
pub const GPT2_TAG_TOKENS: i32 = 0;
/// A row for each word, labelled as its first token.
pub const GPT2_TAG_WORDS_FIRST: i32 = 1;
/// A row for each word, with the label of the largest mean probability.
pub const GPT2_TAG_WORDS_AVERAGE: i32 = 2;
/// A row for each word, labelled as its surest token.
pub const GPT2_TAG_WORDS_MAX: i32 = 3;
/// A row for each name that words make up, these labelled as their first tokens.
pub const GPT2_TAG_ENTITIES: i32 = 4;

/// The last token's state.
pub const GPT2_POOLING_LAST: i32 = 0;
/// The mean over all tokens.
pub const GPT2_POOLING_MEAN: i32 = 1;

/// Runs a task and puts its rows where the caller wants them.
fn report(
    session: *const gpt2_session,
    target: *mut *mut gpt2_results,
    task: impl FnOnce(&mut Session) -> Outcome<Vec<Row>>,
) -> Outcome {
    let rows = with_session(session, task)?;
    // SAFETY: a place that `place_of` has written to.
    unsafe { target.write(open_rows(rows)) };
    Ok(())
}

/// Labels for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_classify(
    session: *mut gpt2_session,
    text: *const c_char,
    text_bytes: usize,
    scores: i32,
    results: *mut *mut gpt2_results,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("results", results)? };
        // SAFETY: the caller's text is as the header asks.
        let text = unsafe { text_of("text", text, text_bytes)? };
        let functions = [
            (GPT2_SCORES_DEFAULT, None),
            (GPT2_SCORES_SOFTMAX, Some(ScoreFunction::Softmax)),
            (GPT2_SCORES_SIGMOID, Some(ScoreFunction::Sigmoid)),
            (GPT2_SCORES_NONE, Some(ScoreFunction::None)),
        ];
        let function = choice("scores", &functions, scores)?;
        report(session, target, |session| {
            let model = session.model().clone();
            model.expect_class(ModelClass::SequenceClassification)?;
            let ids = model.tokenizer()?.encode(text)?;
            let logits = session.classify(&ids)?;
            let head = &model.hyperparameters().head;
            let function = function.unwrap_or_else(|| ScoreFunction::of(head));
            let row = |label: gpt2::tasks::LabelScore| Row {
                id: label.id as u64,
                logit: logits.get(label.id).copied().unwrap_or(f32::NAN),
                label: label.label,
                score: label.score,
                ..Row::default()
            };
            let scores = label_scores(head, &logits, function);
            Ok(scores.into_iter().map(row).collect())
        })
    })
}

/// Labels for the tokens, words or names of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_tag(
    session: *mut gpt2_session,
    text: *const c_char,
    text_bytes: usize,
    rows: i32,
    results: *mut *mut gpt2_results,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("results", results)? };
        // SAFETY: the caller's text is as the header asks.
        let text = unsafe { text_of("text", text, text_bytes)? };
        let kinds = [
            (GPT2_TAG_TOKENS, None),
            (GPT2_TAG_WORDS_FIRST, Some(Aggregation::First)),
            (GPT2_TAG_WORDS_AVERAGE, Some(Aggregation::Average)),
            (GPT2_TAG_WORDS_MAX, Some(Aggregation::Max)),
            (GPT2_TAG_ENTITIES, Some(Aggregation::First)),
        ];
        let aggregation = choice("rows", &kinds, rows)?;
        report(session, target, |session| {
            let model = session.model().clone();
            model.expect_class(ModelClass::TokenClassification)?;
            let head = &model.hyperparameters().head;
            let tags = tag(session, text)?;
            let Some(aggregation) = aggregation else {
                let tokenizer = model.tokenizer()?;
                let row = |tag: gpt2::tasks::TokenTag| Row {
                    text: tokenizer.token_text(tag.id).unwrap_or_default(),
                    id: u64::from(tag.id),
                    label: tag.label,
                    characters: tag.characters,
                    score: tag.score,
                    ..Row::default()
                };
                return Ok(tags.into_iter().map(row).collect());
            };
            let words = words(head, text, &tags, aggregation);
            if rows == GPT2_TAG_ENTITIES {
                let row = |entity: gpt2::tasks::Entity| Row {
                    label: entity.entity,
                    text: entity.text,
                    characters: entity.characters,
                    score: entity.score,
                    ..Row::default()
                };
                return Ok(entities(text, &words).into_iter().map(row).collect());
            }
            let row = |word: gpt2::tasks::WordTag| Row {
                label: word.label,
                text: word.word,
                characters: word.characters,
                score: word.score,
                ..Row::default()
            };
            Ok(words.into_iter().map(row).collect())
        })
    })
}

/// Answers to a question, from a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_answer(
    session: *mut gpt2_session,
    question: *const c_char,
    question_bytes: usize,
    context: *const c_char,
    context_bytes: usize,
    max_answers: usize,
    max_tokens: usize,
    results: *mut *mut gpt2_results,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("results", results)? };
        // SAFETY: the caller's texts are as the header asks.
        let (question, context) = unsafe {
            (
                text_of("question", question, question_bytes)?,
                text_of("context", context, context_bytes)?,
            )
        };
        let default = AnswerOptions::default();
        let or_default = |given: usize, default| if given == 0 { default } else { given };
        let options = AnswerOptions {
            max_length: or_default(max_tokens, default.max_length),
            count: or_default(max_answers, default.count),
            ..default
        };
        report(session, target, |session| {
            session
                .model()
                .expect_class(ModelClass::QuestionAnswering)?;
            let answers = answer(session, question, context, options)?;
            let row = |answer: gpt2::tasks::Answer| Row {
                text: answer.text,
                characters: answer.characters,
                score: answer.score,
                ..Row::default()
            };
            Ok(answers.into_iter().map(row).collect())
        })
    })
}

/// How well each of several texts continues another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_choose(
    session: *mut gpt2_session,
    prompt: *const c_char,
    choices: *const *const c_char,
    n_choices: usize,
    results: *mut *mut gpt2_results,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("results", results)? };
        // SAFETY: the caller's texts are as the header asks.
        let (prompt, choices) = unsafe {
            (
                optional_text("prompt", prompt)?.unwrap_or_default(),
                texts("choices", choices, n_choices)?,
            )
        };
        if choices.len() < 2 {
            return Err(Failure::argument(format!(
                "choices: expected at least two, found {}",
                choices.len()
            )));
        }
        report(session, target, |session| {
            let model = session.model().clone();
            if model.hyperparameters().class == ModelClass::LanguageModel {
                return by_likelihood(session, prompt, &choices);
            }
            model.expect_class(ModelClass::DoubleHeads)?;
            let tokenizer = model.tokenizer()?;
            let encode = |choice: &&str| tokenizer.encode(&format!("{prompt}{choice}"));
            let ids = choices
                .iter()
                .map(encode)
                .collect::<gpt2::Result<Vec<_>>>()?;
            let found = session.choose(&ids, None)?;
            if found.shape != [choices.len()] {
                return Err(Failure::new(
                    GPT2_ERROR_UNSUPPORTED,
                    format!(
                        "the model's summary gives {:?} numbers and not one a choice",
                        found.shape
                    ),
                ));
            }
            Ok(choice_rows(&choices, &found.scores))
        })
    })
}

/// The likelihoods of choices, for a model without a head for them.
fn by_likelihood(session: &mut Session, prompt: &str, choices: &[&str]) -> Outcome<Vec<Row>> {
    let likelihoods = choice_likelihoods(session, prompt, choices)?;
    let sums = likelihoods
        .iter()
        .map(|choice| choice.log_probability as f32);
    Ok(choice_rows(choices, &sums.collect::<Vec<_>>()))
}

/// A row for each choice, scores being probabilities among them.
fn choice_rows(choices: &[&str], logits: &[f32]) -> Vec<Row> {
    let scores = softmax(logits).into_iter().zip(logits);
    let row = |(index, ((score, &logit), text)): (usize, ((f32, &f32), &&str))| Row {
        text: (*text).to_owned(),
        id: index as u64,
        score,
        logit,
        ..Row::default()
    };
    scores.zip(choices).enumerate().map(row).collect()
}

/// One vector for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_embed(
    session: *mut gpt2_session,
    text: *const c_char,
    text_bytes: usize,
    pooling: i32,
    normalize: i32,
    vector: *mut f32,
    capacity: usize,
    length: *mut usize,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointers are as the header asks.
        let (text, buffer) = unsafe {
            (
                text_of("text", text, text_bytes)?,
                Buffer::new("vector", vector, capacity, length)?,
            )
        };
        let poolings = [
            (GPT2_POOLING_LAST, Pooling::Last),
            (GPT2_POOLING_MEAN, Pooling::Mean),
        ];
        let pooling = choice("pooling", &poolings, pooling)?;
        with_session(session, |session| {
            let model = session.model().clone();
            buffer.expect(model.hyperparameters().n_embd)?;
            let ids = model.tokenizer()?.encode(text)?;
            buffer.fill(&session.embed(&ids, pooling, normalize != 0)?)
        })
    })
}
