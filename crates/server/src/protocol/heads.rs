//! `POST /classify`, `/tag`, `/answer`, `/choose`: the task heads, with the commands' JSON.
//!
//! A plan is a list of jobs for a session, each of which makes a row, so that others have their
//! turn between two of them.

use std::sync::LazyLock;

use gpt2::spec::ModelClass;
use gpt2::tasks::{
    Aggregation, AnswerOptions, Answered, Chosen, Classified, Normalization, ScoreFunction, Tagged,
};
use gpt2::{Session, TokenId};
use serde_json::{Value as Json, json};

use super::fields::{Field, Kind, read};
use super::input::{Input, Prompt, check_bytes};
use super::refusal;
use super::served::Served;
use crate::error::ApiError;

/// Texts of one request, and choices of one text.
const TEXTS: usize = 256;
/// Bytes of a text that is read in windows.
const READ_BYTES: usize = 1 << 16;
/// Answers to a question, and the tokens of one.
const ANSWERS: u64 = 100;

/// Work for a session, and the row that it makes.
pub(crate) type Job = Box<dyn FnOnce(&mut Session) -> gpt2::Result<Json> + Send>;

/// What a request asks for.
pub(crate) enum Plan {
    /// A row for each text: `{"rows": […]}`.
    Rows(Vec<Job>),
    /// One document.
    One(Job),
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    model: Option<String>,
    input: Option<Input>,
    function: Option<&'static str>,
    aggregation: Option<&'static str>,
}

pub(super) static CLASSIFY: LazyLock<Vec<Field<Texts>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Texts| &mut r.model),
            "the model's name",
        ),
        Field::new(
            "input",
            Kind::Input(|r| &mut r.input),
            "the texts, or their tokens",
        ),
        Field::new(
            "function",
            Kind::OneOf(|r| &mut r.function, &["softmax", "sigmoid", "none"]),
            "how logits become scores [as the model's problem asks]",
        ),
    ]
});

pub(super) static TAG: LazyLock<Vec<Field<Texts>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Texts| &mut r.model),
            "the model's name",
        ),
        Field::new(
            "input",
            Kind::Input(|r| &mut r.input),
            "the texts; not tokens",
        ),
        Field::new(
            "aggregation",
            Kind::OneOf(|r| &mut r.aggregation, &["first", "average", "max"]),
            "which label a word of several tokens gets [first]",
        ),
    ]
});

#[derive(Debug, Default)]
pub(super) struct Questions {
    model: Option<String>,
    question: Vec<String>,
    context: Vec<String>,
    top_k: Option<u64>,
    max_answer_length: Option<u64>,
    align_to_words: Option<bool>,
}

pub(super) static ANSWER: LazyLock<Vec<Field<Questions>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Questions| &mut r.model),
            "the model's name",
        ),
        Field::new(
            "question",
            Kind::Texts(|r| &mut r.question, TEXTS, READ_BYTES),
            "the questions",
        ),
        Field::new(
            "context",
            Kind::Texts(|r| &mut r.context, TEXTS, READ_BYTES),
            "the texts; each is asked every question",
        ),
        Field::new(
            "top_k",
            Kind::Count(|r| &mut r.top_k, 1..=ANSWERS),
            "answers to each question [1]",
        ),
        Field::new(
            "max_answer_length",
            Kind::Count(|r| &mut r.max_answer_length, 1..=1024),
            "most tokens of an answer [15]",
        ),
        Field::new(
            "align_to_words",
            Kind::Choice(|r| &mut r.align_to_words),
            "let answers begin and end with whole words [true]",
        ),
    ]
});

#[derive(Debug, Default)]
pub(super) struct Choosing {
    model: Option<String>,
    prompt: Option<String>,
    choices: Vec<String>,
    ids: Option<Input>,
    mc_token_ids: Option<Vec<TokenId>>,
    normalize: Option<&'static str>,
}

pub(super) static CHOOSE: LazyLock<Vec<Field<Choosing>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Choosing| &mut r.model),
            "the model's name",
        ),
        Field::new(
            "prompt",
            Kind::Text(|r| &mut r.prompt),
            "what stands before every choice [nothing]",
        ),
        Field::new(
            "choices",
            Kind::Texts(|r| &mut r.choices, TEXTS, READ_BYTES),
            "at least two texts, each with the space that begins it",
        ),
        Field::new(
            "ids",
            Kind::Input(|r| &mut r.ids),
            "for double heads, the choices as tokens, with what stands before them",
        ),
        Field::new(
            "mc_token_ids",
            Kind::Ids(|r| &mut r.mc_token_ids),
            "for double heads, the token that each choice is scored at [the last]",
        ),
        Field::new(
            "normalize",
            Kind::OneOf(|r| &mut r.normalize, &["none", "tokens", "bytes"]),
            "what likelihoods are compared by [none]",
        ),
    ]
});

fn fields<P: Default>(
    body: &[u8],
    served: &Served,
    fields: &[Field<P>],
    model: fn(&P) -> &Option<String>,
) -> Result<P, ApiError> {
    let request = read(fields, body, served.json_depth)?;
    served.check_model(model(&request).as_deref())?;
    Ok(request)
}

/// Refuses a model that has no such head.
fn expect(served: &Served, class: ModelClass) -> Result<(), ApiError> {
    let has = served.model.expect_class(class);
    has.map_err(|error| {
        ApiError::from(error)
            .param("model")
            .code("unsupported_model")
    })
}

/// The texts of a request, each with its tokens.
fn inputs(input: Option<Input>, served: &Served) -> Result<Vec<Prompt>, ApiError> {
    let Some(input) = input else {
        return Err(refusal::field(
            "input",
            "input: expected a text, found none",
        ));
    };
    if input.count() > TEXTS {
        let message = format!(
            "input: expected at most {TEXTS} texts, found {}",
            input.count()
        );
        return Err(refusal::field("input", message));
    }
    let prompts = input.prompts("input", served)?;
    prompts
        .iter()
        .try_for_each(|prompt| prompt.check_not_empty("input"))?;
    Ok(prompts)
}

/// `/classify`.
///
/// # Errors
/// [`ApiError`] (400) for a field that is wrong, or a model without this head.
pub(crate) fn classify(body: &[u8], served: &Served) -> Result<Plan, ApiError> {
    let request = fields(body, served, &CLASSIFY, |request| &request.model)?;
    expect(served, ModelClass::SequenceClassification)?;
    let function = request.function.and_then(ScoreFunction::from_name);
    let job = |prompt: Prompt| -> Job {
        Box::new(move |session| {
            let row = Classified::new(session, prompt.text, prompt.ids, function)?;
            Ok(json!(row))
        })
    };
    let prompts = inputs(request.input, served)?.into_iter();
    Ok(Plan::Rows(prompts.map(job).collect()))
}

/// `/tag`.
///
/// # Errors
/// As [`classify`].
pub(crate) fn tag(body: &[u8], served: &Served) -> Result<Plan, ApiError> {
    let request = fields(body, served, &TAG, |request| &request.model)?;
    expect(served, ModelClass::TokenClassification)?;
    let aggregation = request.aggregation.and_then(Aggregation::from_name);
    let aggregation = aggregation.unwrap_or_default();
    let job = |prompt: Prompt| -> Result<Job, ApiError> {
        let Some(text) = prompt.text else {
            return Err(refusal::field(
                "input",
                "input: expected texts, found tokens",
            ));
        };
        let job = move |session: &mut Session| Ok(json!(Tagged::new(session, text, aggregation)?));
        Ok(Box::new(job))
    };
    let prompts = inputs(request.input, served)?.into_iter();
    Ok(Plan::Rows(prompts.map(job).collect::<Result<_, _>>()?))
}

/// `/answer`.
///
/// # Errors
/// As [`classify`].
pub(crate) fn answer(body: &[u8], served: &Served) -> Result<Plan, ApiError> {
    let request = fields(body, served, &ANSWER, |request| &request.model)?;
    expect(served, ModelClass::QuestionAnswering)?;
    let pairs = request.question.len() * request.context.len();
    if !(1..=TEXTS).contains(&pairs) {
        let message = format!(
            "question: expected from 1 to {TEXTS} questions, each text's counted, found {pairs}"
        );
        return Err(refusal::field("question", message));
    }
    for question in &request.question {
        check_bytes("question", served, question)?;
    }
    let defaults = AnswerOptions::default();
    let count = |given: Option<u64>, default| given.map_or(default, |count| count as usize);
    let options = AnswerOptions {
        max_length: count(request.max_answer_length, defaults.max_length),
        count: count(request.top_k, defaults.count),
        align_to_words: request.align_to_words.unwrap_or(defaults.align_to_words),
    };
    let several = request.context.len() > 1;
    let mut jobs: Vec<Job> = Vec::new();
    for context in &request.context {
        for question in &request.question {
            let (context, question) = (context.clone(), question.clone());
            jobs.push(Box::new(move |session| {
                let mut row = Answered::new(session, &question, &context, options)?;
                row.context = several.then_some(context);
                Ok(json!(row))
            }));
        }
    }
    Ok(Plan::Rows(jobs))
}

/// `/choose`.
///
/// # Errors
/// As [`classify`].
pub(crate) fn choose(body: &[u8], served: &Served) -> Result<Plan, ApiError> {
    let request = fields(body, served, &CHOOSE, |request| &request.model)?;
    let class = served.model.hyperparameters().class;
    let prompt = request.prompt.unwrap_or_default();
    if class == ModelClass::LanguageModel {
        if request.ids.is_some() || request.mc_token_ids.is_some() {
            let message = "ids: expected choices, since the model has no double heads";
            return Err(refusal::field("ids", message));
        }
        let choices = request.choices;
        check_count(choices.len())?;
        for choice in &choices {
            Prompt::of_text("choices", served, format!("{prompt}{choice}"))?;
        }
        let normalization = request.normalize.and_then(Normalization::from_name);
        let normalization = normalization.unwrap_or_default();
        return Ok(Plan::One(Box::new(move |session| {
            let chosen = Chosen::by_likelihood(session, &prompt, &choices, normalization)?;
            Ok(json!(chosen))
        })));
    }
    expect(served, ModelClass::DoubleHeads)?;
    let given = match request.ids {
        Some(_) if !request.choices.is_empty() => {
            let message = "ids: expected either ids or choices, found both";
            return Err(refusal::field("ids", message));
        }
        Some(Input::Text(_) | Input::Texts(_)) => {
            return Err(refusal::field(
                "ids",
                "ids: expected lists of token ids, found texts",
            ));
        }
        Some(ids) => ids.prompts("ids", served)?,
        None => {
            let whole = request
                .choices
                .iter()
                .map(|choice| format!("{prompt}{choice}"));
            let whole = whole.map(|text| Prompt::of_text("choices", served, text));
            whole.collect::<Result<Vec<_>, _>>()?
        }
    };
    check_count(given.len())?;
    given
        .iter()
        .try_for_each(|choice| choice.check_not_empty("choices"))?;
    let mut texts = request.choices.into_iter();
    let choices: Vec<_> = given
        .into_iter()
        .map(|choice| (texts.next(), choice.ids))
        .collect();
    let indices = request.mc_token_ids;
    let indices = indices.map(|ids| ids.into_iter().map(|id| id as usize).collect::<Vec<_>>());
    Ok(Plan::One(Box::new(move |session| {
        Ok(json!(Chosen::by_head(
            session,
            choices,
            indices.as_deref()
        )?))
    })))
}

fn check_count(count: usize) -> Result<(), ApiError> {
    if (2..=TEXTS).contains(&count) {
        return Ok(());
    }
    let message = format!("choices: expected from 2 to {TEXTS} choices, found {count}");
    Err(refusal::field("choices", message))
}
