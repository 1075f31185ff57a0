//! What a parameter is: its name and type, what it does, its range, and where its value lies.
//!
//! A row of a table says this once. Setting by name, ranges, checks of token ids, flags, help texts
//! and documents follow from it.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::{Error, Result, TokenId};

/// The type of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterKind {
    /// `true` or `false`.
    Switch,
    /// A whole number of at least 0.
    Count,
    /// A number.
    Number,
    /// A number of seconds.
    Seconds,
    /// A token id.
    Token,
    /// A list of token ids, or one.
    Tokens,
    /// A list of lists of token ids.
    Sequences,
    /// A list of `[[ids], bias]`.
    Biases,
    /// `[start, factor]`.
    Decay,
    /// A list of texts, or one.
    Texts,
    /// `true`, `false` or `"never"`.
    EarlyStopping,
    /// `"low"`, `"high"` or a list of whole numbers.
    Layers,
}

impl ParameterKind {
    /// What a value may be, in words.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Count => "a whole number of at least 0",
            Self::Number => "a number",
            Self::Seconds => "a number of seconds",
            Self::Token => "a token id",
            Self::Tokens => "a token id or a list of them",
            Self::Sequences => "a list of lists of token ids",
            Self::Biases => "a list of [[ids], bias]",
            Self::Decay => "[start, factor]",
            Self::Texts => "a text or a list of texts",
            Self::EarlyStopping => "true, false or \"never\"",
            Self::Layers => "\"low\", \"high\" or a list",
        }
    }
}

/// Parameters that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterGroup {
    /// Which token of those that are likely.
    Choice,
    /// Changes to the scores before the choice.
    Scores,
    /// Searches and other methods than token by token.
    Search,
    /// Where a text ends.
    End,
    /// What belongs to one request, never to a model: its file does not set it.
    Request,
}

/// What a number must be: the words for it, and the test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range(pub(crate) &'static str, pub(crate) fn(f64) -> bool);

pub(crate) const FINITE: Range = Range("a finite number", f64::is_finite);
pub(crate) const POSITIVE: Range = Range("a number above 0", |x| x > 0.0 && x.is_finite());
pub(crate) const NOT_NEGATIVE: Range =
    Range("a number of at least 0", |x| x >= 0.0 && x.is_finite());
pub(crate) const MASS: Range = Range("above 0 and at most 1", |x| x > 0.0 && x <= 1.0);
pub(crate) const FRACTION: Range = Range("between 0 and 1", |x| (0.0..=1.0).contains(&x));
pub(crate) const CUTOFF: Range = Range("at least 0 and below 1", |x| (0.0..1.0).contains(&x));
const BIAS: Range = Range("a finite number or −∞", |x| x < f64::INFINITY);

/// Where a value of type `T` lies in options of type `O`.
pub(crate) struct Place<O, T> {
    pub(crate) get: fn(&O) -> &T,
    pub(crate) get_mut: fn(&mut O) -> &mut T,
}

/// The [`Place`] of a field.
macro_rules! field {
    ($field:ident) => {
        $crate::sampling::parameter::Place {
            get: |options| &options.$field,
            get_mut: |options| &mut options.$field,
        }
    };
}
pub(crate) use field;

/// A value in options of type `O`.
pub(crate) enum Value<O> {
    Switch(Place<O, bool>),
    /// At least this many.
    Count(Place<O, usize>, usize),
    /// None by default, or at least this many.
    Limit(Place<O, Option<usize>>, usize),
    Seed(Place<O, u64>),
    Number(Place<O, f64>, Range),
    Seconds(Place<O, Option<Duration>>),
    Token(Place<O, Option<TokenId>>),
    Tokens(Place<O, Vec<TokenId>>),
    /// Tokens that replace the model's own.
    OwnTokens(Place<O, Option<Vec<TokenId>>>),
    /// A text's tokens in their order.
    Prompt(Place<O, Option<Vec<TokenId>>>),
    Sequences(Place<O, Vec<Vec<TokenId>>>),
    Biases(Place<O, Vec<(Vec<TokenId>, f64)>>),
    Decay(Place<O, Option<(usize, f64)>>, Range),
    Texts(Place<O, Vec<String>>),
    /// A value of a type of its own.
    Other {
        kind: ParameterKind,
        get: fn(&O) -> Json,
        set: fn(&mut O, &Json) -> Option<()>,
    },
}

/// What is said of a parameter.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) group: ParameterGroup,
    /// How help texts call the value.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
}

/// A row of the table.
pub(crate) struct Row<O: 'static> {
    pub(crate) about: About,
    pub(crate) value: Value<O>,
    /// What else changes when it is set.
    pub(crate) then: Option<fn(&mut O)>,
}

impl<O> Row<O> {
    pub(crate) const fn new(
        name: &'static str,
        group: ParameterGroup,
        label: &'static str,
        value: Value<O>,
        help: &'static str,
    ) -> Self {
        Self {
            about: About {
                name,
                group,
                value: label,
                help,
            },
            value,
            then: None,
        }
    }

    /// Changes another field whenever this one is set.
    pub(crate) const fn then(self, change: fn(&mut O)) -> Self {
        Self {
            then: Some(change),
            ..self
        }
    }

    pub(crate) fn kind(&self) -> ParameterKind {
        match &self.value {
            Value::Switch(_) => ParameterKind::Switch,
            Value::Count(..) | Value::Limit(..) | Value::Seed(_) => ParameterKind::Count,
            Value::Number(..) => ParameterKind::Number,
            Value::Seconds(_) => ParameterKind::Seconds,
            Value::Token(_) => ParameterKind::Token,
            Value::Tokens(_) | Value::OwnTokens(_) | Value::Prompt(_) => ParameterKind::Tokens,
            Value::Sequences(_) => ParameterKind::Sequences,
            Value::Biases(_) => ParameterKind::Biases,
            Value::Decay(..) => ParameterKind::Decay,
            Value::Texts(_) => ParameterKind::Texts,
            Value::Other { kind, .. } => *kind,
        }
    }

    /// What a value must be within its type.
    pub(crate) fn range(&self) -> Option<&'static str> {
        match &self.value {
            Value::Number(_, range) => Some(range.0),
            Value::Count(_, 1) | Value::Limit(_, 1) => Some(AT_LEAST_ONE),
            _ => None,
        }
    }

    /// The value as JSON; null for none.
    pub(crate) fn get(&self, options: &O) -> Json {
        match &self.value {
            Value::Switch(at) => json!((at.get)(options)),
            Value::Count(at, _) => json!((at.get)(options)),
            Value::Limit(at, _) => json!((at.get)(options)),
            Value::Seed(at) => json!((at.get)(options)),
            Value::Number(at, _) => json!((at.get)(options)),
            Value::Seconds(at) => json!((at.get)(options).map(|time| time.as_secs_f64())),
            Value::Token(at) => json!((at.get)(options)),
            Value::Tokens(at) => json!((at.get)(options)),
            Value::OwnTokens(at) | Value::Prompt(at) => json!((at.get)(options)),
            Value::Sequences(at) => json!((at.get)(options)),
            Value::Biases(at) => {
                let bias = |&bias: &f64| match bias {
                    // JSON has no infinity.
                    f64::NEG_INFINITY => json!("-inf"),
                    finite => json!(finite),
                };
                let pairs = (at.get)(options).iter();
                pairs.map(|(ids, x)| json!([ids, bias(x)])).collect()
            }
            Value::Decay(at, _) => json!((at.get)(options)),
            Value::Texts(at) => json!((at.get)(options)),
            Value::Other { get, .. } => get(options),
        }
    }

    /// Sets the value; null changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongType`].
    pub(crate) fn set(&self, options: &mut O, json: &Json) -> Result<()> {
        if json.is_null() {
            return Ok(());
        }
        self.put(options, json).ok_or_else(|| Error::WrongType {
            name: self.about.name,
            expected: self.kind().expected(),
            found: json.to_string(),
        })?;
        if let Some(change) = self.then {
            change(options);
        }
        Ok(())
    }

    fn put(&self, options: &mut O, json: &Json) -> Option<()> {
        match &self.value {
            Value::Switch(at) => *(at.get_mut)(options) = json.as_bool()?,
            Value::Count(at, _) => *(at.get_mut)(options) = count(json)?,
            Value::Limit(at, _) => *(at.get_mut)(options) = Some(count(json)?),
            Value::Seed(at) => *(at.get_mut)(options) = json.as_u64()?,
            Value::Number(at, _) => *(at.get_mut)(options) = json.as_f64()?,
            Value::Seconds(at) => {
                let time = Duration::try_from_secs_f64(json.as_f64()?).ok()?;
                *(at.get_mut)(options) = Some(time);
            }
            Value::Token(at) => *(at.get_mut)(options) = Some(id(json)?),
            Value::Tokens(at) => *(at.get_mut)(options) = ids(json)?,
            Value::OwnTokens(at) => {
                // Some training scripts write -1 for "none".
                *(at.get_mut)(options) = Some(match json.as_i64() {
                    Some(-1) => Vec::new(),
                    _ => ids(json)?,
                });
            }
            Value::Prompt(at) => *(at.get_mut)(options) = Some(ids(json)?),
            Value::Sequences(at) => {
                *(at.get_mut)(options) = list(json, |sequence| list(sequence, id))?;
            }
            Value::Biases(at) => *(at.get_mut)(options) = list(json, biased)?,
            Value::Decay(at, _) => *(at.get_mut)(options) = Some(decay(json)?),
            Value::Texts(at) => *(at.get_mut)(options) = texts(json)?,
            Value::Other { set, .. } => set(options, json)?,
        }
        Some(())
    }

    /// Checks the value against its range.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Argument`] for an empty sequence.
    pub(crate) fn check(&self, options: &O) -> Result<()> {
        let name = self.about.name;
        let within = |Range(range, fits): Range, x: f64| {
            if fits(x) {
                Ok(())
            } else {
                Err(Error::out_of_range(name, range, &x))
            }
        };
        let not_empty = |ids: &Vec<TokenId>| {
            if ids.is_empty() {
                Err(Error::Argument(format!(
                    "a sequence of {name} must have at least one id, found none"
                )))
            } else {
                Ok(())
            }
        };
        match &self.value {
            Value::Count(at, least) if (at.get)(options) < least => {
                Err(Error::out_of_range(name, AT_LEAST_ONE, &0))
            }
            Value::Limit(at, least) if (at.get)(options).is_some_and(|x| x < *least) => {
                Err(Error::out_of_range(name, AT_LEAST_ONE, &0))
            }
            Value::Number(at, range) => within(*range, *(at.get)(options)),
            Value::Decay(at, range) => match (at.get)(options) {
                Some((_, factor)) => within(*range, *factor),
                None => Ok(()),
            },
            Value::Sequences(at) => (at.get)(options).iter().try_for_each(not_empty),
            Value::Biases(at) => (at.get)(options).iter().try_for_each(|(ids, bias)| {
                within(BIAS, *bias)?;
                not_empty(ids)
            }),
            _ => Ok(()),
        }
    }

    /// The first of its token ids that is not below `vocabulary`.
    pub(crate) fn unknown_id(&self, options: &O, vocabulary: usize) -> Option<TokenId> {
        let unknown = |id: &&TokenId| **id as usize >= vocabulary;
        match &self.value {
            Value::Token(at) => (at.get)(options).iter().find(unknown),
            Value::Tokens(at) => (at.get)(options).iter().find(unknown),
            Value::OwnTokens(at) | Value::Prompt(at) => {
                (at.get)(options).iter().flatten().find(unknown)
            }
            Value::Sequences(at) => (at.get)(options).iter().flatten().find(unknown),
            Value::Biases(at) => {
                let mut ids = (at.get)(options).iter().flat_map(|(ids, _)| ids);
                ids.find(unknown)
            }
            _ => None,
        }
        .copied()
    }

    /// Leaves token ids out that are not below `vocabulary`; a sequence with one altogether.
    pub(crate) fn drop_unknown_ids(&self, options: &mut O, vocabulary: usize) {
        let known = |id: &TokenId| (*id as usize) < vocabulary;
        match &self.value {
            Value::Token(at) => {
                let token = (at.get_mut)(options);
                *token = token.filter(known);
            }
            Value::Tokens(at) => (at.get_mut)(options).retain(known),
            Value::OwnTokens(at) => {
                let own = (at.get_mut)(options);
                if let Some(ids) = own
                    && !ids.is_empty()
                {
                    ids.retain(known);
                    // The model's own, which the converter may know from the tokenizer.
                    if ids.is_empty() {
                        *own = None;
                    }
                }
            }
            Value::Prompt(at) => {
                let prompt = (at.get_mut)(options);
                if prompt.as_ref().is_some_and(|ids| !ids.iter().all(known)) {
                    *prompt = None;
                }
            }
            Value::Sequences(at) => (at.get_mut)(options).retain(|ids| ids.iter().all(known)),
            Value::Biases(at) => (at.get_mut)(options).retain(|(ids, _)| ids.iter().all(known)),
            _ => {}
        }
    }
}

const AT_LEAST_ONE: &str = "at least 1";

/// A whole number; Python's floats may be whole.
pub(crate) fn count(json: &Json) -> Option<usize> {
    let whole = |x: &f64| x.fract() == 0.0 && (0.0..=u32::MAX as f64).contains(x);
    let number = json
        .as_u64()
        .or_else(|| json.as_f64().filter(whole).map(|x| x as u64));
    usize::try_from(number?).ok()
}

/// A list of items.
pub(crate) fn list<T>(json: &Json, item: fn(&Json) -> Option<T>) -> Option<Vec<T>> {
    json.as_array()?.iter().map(item).collect()
}

fn id(json: &Json) -> Option<TokenId> {
    TokenId::try_from(json.as_u64()?).ok()
}

fn ids(json: &Json) -> Option<Vec<TokenId>> {
    match json {
        Json::Array(_) => list(json, id),
        single => Some(vec![id(single)?]),
    }
}

fn texts(json: &Json) -> Option<Vec<String>> {
    let text = |json: &Json| json.as_str().map(str::to_owned);
    match json {
        Json::Array(_) => list(json, text),
        single => Some(vec![text(single)?]),
    }
}

/// `[[ids], bias]`; JSON has no infinity, so a text may stand for it.
fn biased(json: &Json) -> Option<(Vec<TokenId>, f64)> {
    let [sequence, bias] = json.as_array()?.as_slice() else {
        return None;
    };
    let bias = bias.as_f64().or_else(|| bias.as_str()?.parse().ok())?;
    Some((list(sequence, id)?, bias))
}

/// `[start, factor]`.
fn decay(json: &Json) -> Option<(usize, f64)> {
    let [start, factor] = json.as_array()?.as_slice() else {
        return None;
    };
    Some((count(start)?, factor.as_f64()?))
}
