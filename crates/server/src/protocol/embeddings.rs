//! `POST /v1/embeddings`: a vector for each text, from its hidden states.

use std::fmt::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gpt2::tasks::Pooling;
use serde_json::{Value as Json, json};

use super::fields::{Field, Kind, read};
use super::input::{Input, Prompt};
use super::refusal;
use super::served::Served;
use crate::error::ApiError;

/// Texts of one request, as OpenAI allows.
const INPUTS: usize = 2048;
/// Numbers in one response.
const NUMBERS: usize = 1 << 22;

#[derive(Debug, Default)]
pub(super) struct Request {
    model: Option<String>,
    input: Option<Input>,
    encoding: Option<&'static str>,
    dimensions: Option<u64>,
    pooling: Option<&'static str>,
    normalize: Option<bool>,
}

pub(super) static FIELDS: LazyLock<Vec<Field<Request>>> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Request| &mut r.model),
            "the model's name, as `/v1/models` has it; may be left out",
        ),
        Field::new(
            "input",
            Kind::Input(|r| &mut r.input),
            "the texts, or their tokens",
        ),
        Field::new(
            "encoding_format",
            Kind::OneOf(|r| &mut r.encoding, &["float", "base64"]),
            "how numbers are written; base64 is of little-endian f32 [float]",
        ),
        Field::new(
            "dimensions",
            Kind::Count(|r| &mut r.dimensions, 1..=u64::MAX),
            "only the model's own",
        ),
        Field::new(
            "pooling",
            Kind::OneOf(|r| &mut r.pooling, &["mean", "last"]),
            "the mean over all tokens, or the last token's state [mean]",
        ),
        Field::new(
            "normalize",
            Kind::Choice(|r| &mut r.normalize),
            "give each vector the length 1 [true]",
        ),
    ];
    let ignored = ["user", "safety_identifier"];
    fields.extend(ignored.map(|name| Field::new(name, Kind::Ignored, "")));
    fields
});

/// A request for embeddings, checked, with the tokens of its texts.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Prompt>,
    pub(crate) pooling: Pooling,
    pub(crate) normalize: bool,
    base64: bool,
}

impl Plan {
    /// What `body` asks for.
    ///
    /// # Errors
    /// [`ApiError`] (400) for a field that is wrong, 404 for another model.
    pub(crate) fn of(body: &[u8], served: &Served) -> Result<Self, ApiError> {
        let request = read(&FIELDS, body, served.json_depth)?;
        served.check_model(request.model.as_deref())?;
        let Some(input) = request.input else {
            return Err(refusal::field(
                "input",
                "input: expected texts or tokens, found none",
            ));
        };
        let width = served.model.hyperparameters().n_embd;
        if let Some(dimensions) = request.dimensions
            && dimensions != width as u64
        {
            let message =
                format!("dimensions: expected {width}, the model's size, found {dimensions}");
            return Err(refusal::field("dimensions", message));
        }
        let most = INPUTS.min(NUMBERS / width.max(1)).max(1);
        if input.count() > most {
            let message = format!(
                "input: expected at most {most} texts, found {}",
                input.count()
            );
            return Err(refusal::field("input", message));
        }
        let inputs = input.prompts("input", served)?;
        inputs
            .iter()
            .try_for_each(|input| input.check_not_empty("input"))?;
        let pooling = request.pooling.and_then(Pooling::from_name);
        Ok(Self {
            inputs,
            pooling: pooling.unwrap_or(Pooling::Mean),
            normalize: request.normalize.unwrap_or(true),
            base64: request.encoding == Some("base64"),
        })
    }

    /// A response without vectors.
    pub(crate) fn begin(&self) -> Response {
        Response {
            base64: self.base64,
            count: 0,
            tokens: 0,
            data: String::new(),
        }
    }
}

/// A response that grows by a vector at a time, as it is written.
#[derive(Debug)]
pub(crate) struct Response {
    base64: bool,
    count: usize,
    tokens: usize,
    data: String,
}

impl Response {
    /// Adds the vector of a text of `tokens` tokens.
    pub(crate) fn add(&mut self, vector: &[f32], tokens: usize) {
        let embedding = if self.base64 {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            Json::from(BASE64.encode(&bytes))
        } else {
            json!(vector)
        };
        let entry = json!({ "object": "embedding", "index": self.count, "embedding": embedding });
        let comma = if self.count > 0 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.data, "{comma}{entry}");
        self.count += 1;
        self.tokens += tokens;
    }

    /// The document.
    pub(crate) fn finish(self, served: &Served) -> String {
        let model = Json::from(served.name());
        let usage = json!({ "prompt_tokens": self.tokens, "total_tokens": self.tokens });
        let data = self.data;
        format!(r#"{{"object":"list","data":[{data}],"model":{model},"usage":{usage}}}"#)
    }
}
