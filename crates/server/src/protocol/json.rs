//! The body of a request: bytes to one JSON object.

use serde_json::{Map, Value as Json};

use crate::error::ApiError;

/// The object that `body` is. Of a key given twice the last value counts, as in Python's and
/// JavaScript's readers. Lists and objects may be nested `levels` deep; numbers that are no f64 and
/// halves of surrogate pairs are refused.
///
/// # Errors
/// [`ApiError`] (400) for anything else.
pub(crate) fn object(body: &[u8], levels: usize) -> Result<Map<String, Json>, ApiError> {
    if depth(body) > levels {
        return Err(ApiError::invalid(format!(
            "the body: expected JSON of at most {levels} levels, found more"
        )));
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid(
            "the body: expected a JSON object, found another value",
        )),
        Err(error) => Err(ApiError::invalid(format!(
            "the body: expected JSON, found {error}"
        ))),
    }
}

/// The deepest nesting of `body`, by its brackets outside of strings.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(body: &[u8]) -> Result<Map<String, Json>, ApiError> {
        super::object(body, 64)
    }

    #[test]
    fn only_an_object_is_a_body() {
        for body in [
            "",
            "1",
            "[]",
            "null",
            "{",
            "{}x",
            "{\"a\":NaN}",
            "{\"a\":1e999}",
            "{\"a\":-Infinity}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\u{0}\"}",
            "{'a':1}",
            "{\"a\":01}",
        ] {
            assert_eq!(object(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert_eq!(object(b"{\"a\":1,\"a\":2}").unwrap()["a"], 2);
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_texts_do_not_count() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(63).as_bytes()).is_ok());
        let error = object(nested(64).as_bytes()).unwrap_err();
        assert!(error.message.contains("64 levels"), "{}", error.message);
        assert!(object(nested(100_000).as_bytes()).is_err());
        let text = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(1000));
        assert!(object(text.as_bytes()).is_ok());
    }
}
