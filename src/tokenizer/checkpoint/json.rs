//! The parts of the tokenizer's JSON files that serde's derived readers do not fit.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::input::without_mark;
use crate::{Error, Result, TokenId};

/// Reads the JSON file named `file`.
///
/// # Errors
/// [`Error::Format`] with the file and the line and column in it.
pub(super) fn parse<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T> {
    let bytes = without_mark(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(Error::format(file, "the file is empty; download it again"));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::format(file, error.to_string()))
}

/// The text of the file named `file`.
///
/// # Errors
/// [`Error::Format`] for what is not UTF-8.
pub(super) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    str::from_utf8(without_mark(bytes))
        .map_err(|error| Error::format(file, format!("not UTF-8: {error}")))
}

/// `model.vocab` of tokenizer.json, or all of vocab.json: tokens with their ids, in file order.
#[derive(Debug, Default)]
pub(super) enum VocabularyMap {
    /// Tokens and ids; no token twice.
    Tokens(Vec<(String, TokenId)>),
    /// Something else, as models other than BPE have.
    #[default]
    Other,
}

impl<'de> Deserialize<'de> for VocabularyMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VocabularyMap;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabularyMap, A::Error> {
                let mut tokens = Vec::new();
                let mut seen = HashSet::new();
                while let Some((token, id)) = map.next_entry::<String, TokenId>()? {
                    if !seen.insert(token.clone()) {
                        return Err(A::Error::custom(format!(
                            "the token {token:?} occurs twice"
                        )));
                    }
                    tokens.push((token, id));
                }
                Ok(VocabularyMap::Tokens(tokens))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<VocabularyMap, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(VocabularyMap::Other)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<VocabularyMap, E> {
                Ok(VocabularyMap::Other)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// One of `model.merges`, written `"a b"` or `["a", "b"]`; kept as `a b`.
#[derive(Debug)]
pub(super) struct MergeText(pub(super) String);

impl<'de> Deserialize<'de> for MergeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = MergeText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a merge: \"a b\" or [\"a\", \"b\"]")
            }

            fn visit_str<E: serde::de::Error>(self, merge: &str) -> Result<MergeText, E> {
                Ok(MergeText(merge.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MergeText, A::Error> {
                let mut part = |index| {
                    list.next_element::<String>()?
                        .ok_or_else(|| A::Error::invalid_length(index, &self))
                };
                let (left, right) = (part(0)?, part(1)?);
                if list.next_element::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                // GGUF keeps a merge as one text, parted by its only space.
                if left.contains(' ') || right.contains(' ') {
                    return Err(A::Error::custom(format!(
                        "the merge of {left:?} and {right:?} has a space within a token"
                    )));
                }
                Ok(MergeText(format!("{left} {right}")))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The `type` of a part of tokenizer.json.
pub(super) fn type_of(part: &Value) -> &str {
    part.get("type")
        .and_then(Value::as_str)
        .unwrap_or("unnamed")
}

/// A truth value in `part`.
pub(super) fn flag(part: &Value, name: &str) -> Option<bool> {
    part.get(name).and_then(Value::as_bool)
}

/// `json` without the whitespace between its tokens; what it says stays, character for character.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = character == '"';
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_touches_no_string() {
        let json = "{ \"a \\\" b\" : [ 1,\n\t\"\\\\\" , \" \" ] }\r\n";
        assert_eq!(compact(json), "{\"a \\\" b\":[1,\"\\\\\",\" \"]}");
    }

    #[test]
    fn merges_have_two_forms_and_no_third() -> Result<()> {
        let merges: Vec<MergeText> = parse("f", br##"["a b", ["c", "d"], "# #"]"##)?;
        let texts: Vec<&str> = merges.iter().map(|merge| merge.0.as_str()).collect();
        assert_eq!(texts, ["a b", "c d", "# #"]);
        for (json, expected) in [
            (r#"[["a"]]"#, "invalid length 1"),
            (r#"[["a", "b", "c"]]"#, "invalid length 3"),
            (r#"[["a b", "c"]]"#, "a space within a token"),
            ("[7]", "expected a merge"),
        ] {
            let error = parse::<Vec<MergeText>>("f", json.as_bytes()).err();
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(
                message.starts_with("f: ") && message.contains(expected),
                "{message}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_token_twice_is_refused() {
        let error = parse::<VocabularyMap>("vocab.json", br#"{"a": 0, "a": 1}"#).err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("\"a\" occurs twice"), "{message}");
    }
}
