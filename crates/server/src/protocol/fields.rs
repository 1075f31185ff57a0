//! The fields of a request: a table with a row for each says its type, its range, and where its
//! value goes.
//!
//! Parameters of a generation go to the library's one table by their name. What no row names is
//! refused with the name that is nearest.

use std::ops::RangeInclusive;

use gpt2::{GenerationOptions, TokenId};
use serde_json::Value as Json;

use super::input::{Input, ids};
use super::{json, refusal};
use crate::error::ApiError;

/// Biases that a request may have, and how far they may go.
const BIASES: usize = 1024;
const BIAS: f64 = 100.0;
/// Bytes of a text that is a name, and of a value that is a number.
const NAME: usize = 256;

/// A row: a field of the request `P`.
pub(crate) struct Field<P: 'static> {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind<P>,
    /// What it does, for people.
    pub(crate) help: &'static str,
}

type Place<P, T> = fn(&mut P) -> &mut T;

/// What a field is, and where its value goes.
pub(crate) enum Kind<P: 'static> {
    Switch(Place<P, bool>),
    /// A switch that has no default here.
    Choice(Place<P, Option<bool>>),
    Count(Place<P, Option<u64>>, RangeInclusive<u64>),
    /// A name, such as a model's.
    Name(Place<P, Option<String>>),
    /// A text of any length.
    Text(Place<P, Option<String>>),
    /// One of these names.
    OneOf(Place<P, Option<&'static str>>, &'static [&'static str]),
    /// A text, or a list: at most this many, each of at least one byte and at most this many.
    Texts(Place<P, Vec<String>>, usize, usize),
    /// Texts or tokens.
    Input(Place<P, Option<Input>>),
    /// A list of token ids.
    Ids(Place<P, Option<Vec<TokenId>>>),
    /// An object from token ids to biases.
    Biases(Place<P, Vec<(TokenId, f64)>>),
    /// A parameter of the library's table.
    Parameter(Place<P, GenerationOptions>, &'static str),
    /// A value of a type of its own: what it may be, in words, and how it is taken.
    Other(&'static str, fn(&mut P, &Json) -> Result<(), ApiError>),
    /// Accepted, and without effect.
    Ignored,
    /// Refused with this advice, unless it is empty.
    Refused(&'static str),
}

impl<P> Field<P> {
    pub(crate) const fn new(name: &'static str, kind: Kind<P>, help: &'static str) -> Self {
        Self { name, kind, help }
    }

    /// What a value must be, in words.
    pub(crate) fn expected(&self) -> String {
        match &self.kind {
            Kind::Switch(_) | Kind::Choice(_) => "true or false".to_owned(),
            Kind::Count(_, range) => match (*range.start(), *range.end()) {
                (from, u64::MAX) => format!("a whole number of at least {from}"),
                (from, to) => format!("a whole number of {from} to {to}"),
            },
            Kind::Name(_) => format!("a text of at most {NAME} bytes"),
            Kind::Text(_) => "a text".to_owned(),
            Kind::OneOf(_, names) => format!("one of {}", names.join(", ")),
            Kind::Texts(_, count, bytes) => {
                format!("a text or a list of at most {count}, each of 1 to {bytes} bytes")
            }
            Kind::Input(_) => "a text, a list of texts, a list of token ids or a list of such \
                               lists"
                .to_owned(),
            Kind::Ids(_) => "a list of token ids".to_owned(),
            Kind::Biases(_) => format!(
                "an object of at most {BIASES} token ids, each with a number of −{BIAS} to {BIAS}"
            ),
            Kind::Parameter(_, name) => {
                let known = gpt2::generate::parameters();
                let parameter = known
                    .into_iter()
                    .find(|parameter| parameter.name() == *name);
                parameter.map_or_else(String::new, |parameter| {
                    let range = parameter.range();
                    range.unwrap_or(parameter.kind().expected()).to_owned()
                })
            }
            Kind::Other(expected, _) => (*expected).to_owned(),
            Kind::Ignored | Kind::Refused(_) => String::new(),
        }
    }

    /// Takes the value; `None` when it is not what is expected.
    fn take(&self, request: &mut P, json: &Json) -> Result<Option<()>, ApiError> {
        let taken = match &self.kind {
            Kind::Switch(at) => put(json.as_bool(), at(request)),
            Kind::Choice(at) => put(json.as_bool().map(Some), at(request)),
            Kind::Count(at, range) => {
                let number = json.as_u64().filter(|number| range.contains(number));
                put(number.map(Some), at(request))
            }
            Kind::Name(at) => {
                let name = json.as_str().filter(|name| name.len() <= NAME);
                put(name.map(|name| Some(name.to_owned())), at(request))
            }
            Kind::Text(at) => put(json.as_str().map(|text| Some(text.to_owned())), at(request)),
            Kind::OneOf(at, names) => {
                let known = |name: &str| names.iter().copied().find(|known| *known == name);
                put(json.as_str().and_then(known).map(Some), at(request))
            }
            Kind::Texts(at, count, bytes) => put(texts(json, *count, *bytes), at(request)),
            Kind::Input(at) => put(Input::of(json).map(Some), at(request)),
            Kind::Ids(at) => put(ids(json).map(Some), at(request)),
            Kind::Biases(at) => put(biases(json), at(request)),
            Kind::Parameter(at, name) => {
                let value = json.to_string();
                if value.len() > NAME {
                    return Ok(None);
                }
                at(request)
                    .set(name, &value)
                    .map_err(|error| refusal::of_library(error, self.name).param(self.name))?;
                Some(())
            }
            Kind::Other(_, take) => {
                take(request, json)?;
                Some(())
            }
            Kind::Ignored => Some(()),
            Kind::Refused(_) if is_empty(json) => Some(()),
            Kind::Refused(advice) => return Err(refusal::unsupported(self.name, advice)),
        };
        Ok(taken)
    }
}

/// The request that `body`, the bytes of a JSON object at most `depth` deep, is: every field where
/// its row says; `null` counts as not given.
///
/// # Errors
/// [`ApiError`] (400) for what is no such object, a field that has no row, or a value that is not
/// what its row expects.
pub(crate) fn read<P: Default>(
    fields: &[Field<P>],
    body: &[u8],
    depth: usize,
) -> Result<P, ApiError> {
    let mut request = P::default();
    for (name, value) in &json::object(body, depth)? {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(unknown(fields, name));
        };
        if !value.is_null() && field.take(&mut request, value)?.is_none() {
            return Err(refusal::expected(name, field.expected(), value));
        }
    }
    Ok(request)
}

fn unknown<P>(fields: &[Field<P>], name: &str) -> ApiError {
    let name = refusal::shortened(name);
    let distance = |field: &&Field<P>| strsim::osa_distance(field.name, &name);
    let takes_effect = |field: &&Field<P>| !matches!(field.kind, Kind::Ignored | Kind::Refused(_));
    let nearest = fields.iter().filter(takes_effect).min_by_key(distance);
    let nearest = nearest.map_or_else(String::new, |nearest| {
        format!("; the nearest in spelling is {}", nearest.name)
    });
    ApiError::invalid(format!("{name:?} is no field of this request{nearest}"))
        .param(name)
        .code("unknown_parameter")
}

fn put<T>(value: Option<T>, place: &mut T) -> Option<()> {
    *place = value?;
    Some(())
}

/// Whether a value asks for nothing.
fn is_empty(json: &Json) -> bool {
    match json {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn texts(json: &Json, count: usize, bytes: usize) -> Option<Vec<String>> {
    let text = |json: &Json| {
        let text = json.as_str()?;
        (1..=bytes).contains(&text.len()).then(|| text.to_owned())
    };
    match json {
        Json::Array(items) if items.len() <= count => items.iter().map(text).collect(),
        Json::String(_) => Some(vec![text(json)?]),
        _ => None,
    }
}

fn biases(json: &Json) -> Option<Vec<(TokenId, f64)>> {
    let map = json.as_object().filter(|map| map.len() <= BIASES)?;
    let pair = |(id, bias): (&String, &Json)| {
        let bias = bias.as_f64()?;
        let digits = id.bytes().all(|byte| byte.is_ascii_digit());
        (digits && (-BIAS..=BIAS).contains(&bias)).then_some((id.parse().ok()?, bias))
    };
    map.iter().map(pair).collect()
}
