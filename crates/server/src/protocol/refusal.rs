//! How a request is refused: what was expected of which field, and what was found.

use axum::http::StatusCode;
use serde_json::Value as Json;

use crate::error::ApiError;

/// The longest part of a request that is repeated in a message, in characters.
const QUOTED: usize = 60;

/// A field with a wrong value.
pub(super) fn field(name: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(message).param(name).code("invalid_value")
}

/// A field of another type, or outside its range.
pub(super) fn expected(name: &str, expected: impl std::fmt::Display, found: &Json) -> ApiError {
    let found = quoted(found);
    field(name, format!("{name}: expected {expected}, found {found}"))
}

/// A field that is known and not supported.
pub(super) fn unsupported(name: &str, advice: &str) -> ApiError {
    let message = format!("{name} is not supported: {advice}");
    ApiError::invalid(message)
        .param(name)
        .code("unsupported_parameter")
}

/// A text that is longer than the context.
pub(super) fn context_length(name: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(message)
        .param(name)
        .code("context_length_exceeded")
}

/// Another model than the one that is served.
pub(super) fn model_not_found(found: &str, served: &str) -> ApiError {
    let found = shortened(found);
    let message = format!("the model {found:?} does not exist; this server has {served:?}");
    ApiError::new(StatusCode::NOT_FOUND, message)
        .param("model")
        .code("model_not_found")
}

/// What the library refuses, with the field that it names, and `field` where it names none.
pub(crate) fn of_library(error: gpt2::Error, field: &str) -> ApiError {
    let name = match &error {
        gpt2::Error::OutOfRange {
            name: "num_return_sequences",
            ..
        } => "n",
        gpt2::Error::OutOfRange { name, .. } | gpt2::Error::WrongType { name, .. } => *name,
        _ => field,
    };
    let refused = ApiError::from(error).param(name);
    match refused.code {
        None if refused.status == StatusCode::BAD_REQUEST => refused.code("invalid_value"),
        _ => refused,
    }
}

/// A value as it was found, shortened.
pub(super) fn quoted(json: &Json) -> String {
    match json {
        // A long list is not written out only to be cut.
        Json::Array(items) if items.len() > QUOTED => format!("a list of {}", items.len()),
        Json::Object(_) => "an object".to_owned(),
        Json::String(text) => format!("{:?}", shortened(text)),
        other => shortened(&other.to_string()),
    }
}

/// A text cut to what a message has room for.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_repeated_is_short() {
        let long = Json::from("é".repeat(1000));
        let message = expected("x", "a number", &long).message;
        assert!(message.chars().count() < 120, "{message}");
        assert_eq!(quoted(&json!(vec![1; 1000])), "a list of 1000");
        assert_eq!(
            expected("n", "a whole number", &json!("1")).message,
            "n: expected a whole number, found \"1\""
        );
    }

    #[test]
    fn the_librarys_errors_name_their_field() {
        let error = gpt2::Error::OutOfRange {
            name: "top_p",
            expected: "above 0".to_owned(),
            found: "0".to_owned(),
        };
        let refused = of_library(error, "prompt");
        assert_eq!(refused.param.as_deref(), Some("top_p"));
        assert_eq!(
            (refused.status.as_u16(), refused.code),
            (400, Some("invalid_value"))
        );
        let full = gpt2::Error::ContextFull {
            needed: 3,
            available: 2,
            model_limit: 2,
        };
        let refused = of_library(full, "prompt");
        assert_eq!(refused.code, Some("context_length_exceeded"));
        assert_eq!(refused.param.as_deref(), Some("prompt"));
    }
}
