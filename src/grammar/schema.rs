//! What of JSON Schema is supported, checked before the engine sees a schema: it passes over
//! keywords that it does not know, and its values would keep to less than was asked for.

use std::collections::HashSet;

use serde_json::Value;

use super::bounds::{self, refusal};
use crate::{Error, Result};

/// Keywords that restrict values, without schemas in them.
const LIMITS: &[&str] = &[
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
];

/// Keywords whose value is a schema.
const SCHEMA: &[&str] = &["additionalItems", "additionalProperties", "items"];

/// Keywords whose value is a list of schemas.
const SCHEMAS: &[&str] = &["allOf", "anyOf", "items", "oneOf", "prefixItems"];

/// Keywords whose value has a schema for each name.
const NAMED_SCHEMAS: &[&str] = &["$defs", "definitions", "patternProperties", "properties"];

/// Keywords that restrict nothing.
const NOTES: &[&str] = &[
    "$anchor",
    "$comment",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "description",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// All steps of `multipleOf` in a schema together: the engine counts remainders of their least
/// common multiple in 32 bits.
const COMMON_MULTIPLE: u64 = 100_000_000;

/// Refuses a schema that is not supported, or too large.
pub(super) fn check(schema: &Value) -> Result<()> {
    let mut check = Check::default();
    check.schema(schema, "#", 0)?;
    check.references()?;
    check.steps()
}

/// What is collected on the way through a schema.
#[derive(Default)]
struct Check<'a> {
    /// Where schemas are, as references name the places.
    places: HashSet<String>,
    /// References, each with where it stands.
    references: Vec<(&'a str, String)>,
    /// Values of `multipleOf`.
    steps: Vec<f64>,
}

impl<'a> Check<'a> {
    fn schema(&mut self, schema: &'a Value, place: &str, level: usize) -> Result<()> {
        if level > bounds::LEVELS {
            return Err(refusal(format!(
                "expected at most {} levels of schemas, found more",
                bounds::LEVELS
            )));
        }
        if self.places.len() >= bounds::DEFINITIONS {
            return Err(refusal(format!(
                "expected at most {} schemas in a schema, found more",
                bounds::DEFINITIONS
            )));
        }
        self.places.insert(place.to_owned());
        let keywords = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(keywords) => keywords,
            other => {
                return Err(refusal(format!(
                    "{place}: expected a schema (an object, true or false), found {}",
                    kind(other)
                )));
            }
        };
        for (keyword, value) in keywords {
            self.keyword(keyword, value, &format!("{place}/{keyword}"), level + 1)?;
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &'a Value,
        place: &str,
        level: usize,
    ) -> Result<()> {
        match value {
            Value::Array(schemas) if SCHEMAS.contains(&keyword) => {
                for (index, schema) in schemas.iter().enumerate() {
                    self.schema(schema, &format!("{place}/{index}"), level)?;
                }
            }
            Value::Object(schemas) if NAMED_SCHEMAS.contains(&keyword) => {
                if keyword == "properties" && schemas.len() > bounds::PROPERTIES {
                    return Err(refusal(format!(
                        "{place}: expected at most {} properties, found {}",
                        bounds::PROPERTIES,
                        schemas.len()
                    )));
                }
                for (name, schema) in schemas {
                    self.schema(schema, &format!("{place}/{name}"), level)?;
                }
            }
            _ if SCHEMA.contains(&keyword) => self.schema(value, place, level)?,
            _ if SCHEMAS.contains(&keyword) || NAMED_SCHEMAS.contains(&keyword) => {
                return Err(refusal(format!(
                    "{place}: expected schemas, found {}",
                    kind(value)
                )));
            }
            Value::String(reference) if keyword == "$ref" => {
                self.references.push((reference, place.to_owned()));
            }
            _ if keyword == "$ref" => {
                return Err(refusal(format!(
                    "{place}: expected a reference such as \"#/$defs/name\", found {}",
                    kind(value)
                )));
            }
            _ if LIMITS.contains(&keyword) => {
                if keyword == "multipleOf" {
                    self.steps.extend(value.as_f64());
                }
            }
            _ if NOTES.contains(&keyword) => (),
            _ => {
                return Err(Error::Unsupported(format!(
                    "the keyword {keyword:?} of a JSON schema, found at {place}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses references to anything but a schema of this schema.
    fn references(&self) -> Result<()> {
        for (reference, place) in &self.references {
            let within = if *reference == "#/" { "#" } else { reference };
            if !within.starts_with('#') {
                return Err(refusal(format!(
                    "{place}: expected a reference within the schema such as \"#/$defs/name\", \
                     found {reference:?}; files and addresses are never read"
                )));
            }
            if !self.places.contains(within) {
                return Err(refusal(format!(
                    "{place}: expected a reference to a schema such as \"#/$defs/name\", found \
                     {reference:?}, where there is none"
                )));
            }
        }
        Ok(())
    }

    fn steps(&self) -> Result<()> {
        let mut common = 1;
        for step in &self.steps {
            let step = decimal(*step).filter(|&step| step > 0);
            common = step
                .and_then(|step| least_common_multiple(common, step))
                .filter(|&common| common <= COMMON_MULTIPLE)
                .ok_or_else(|| {
                    Error::Unsupported(
                        "the keyword \"multipleOf\" of a JSON schema with steps that are not \
                         above 0, have more than 4 decimals, or have no common multiple below \
                         10,000"
                            .to_owned(),
                    )
                })?;
        }
        Ok(())
    }
}

/// A step in ten-thousandths, where it is a whole number of them.
fn decimal(step: f64) -> Option<u64> {
    let scaled = step.abs() * 1e4;
    let whole = scaled.round();
    ((scaled - whole).abs() < 1e-6 && whole < COMMON_MULTIPLE as f64 * 2.0).then_some(whole as u64)
}

fn least_common_multiple(a: u64, b: u64) -> Option<u64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).checked_mul(b)
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        check(schema).unwrap_err().to_string()
    }

    #[test]
    fn what_is_supported_passes() {
        check(&json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "A person",
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 20},
                // A name, not a keyword.
                "not": {"const": {"if": 1}},
                "friends": {"type": "array", "items": {"$ref": "#"}},
                "size": {"$ref": "#/$defs/size"},
            },
            "required": ["name"],
            "additionalProperties": false,
            "$defs": {"size": {"type": "number", "multipleOf": 0.25}},
        }))
        .unwrap();
        check(&json!(true)).unwrap();
    }

    #[test]
    fn a_keyword_that_is_not_supported_is_named() {
        for keyword in [
            "not",
            "if",
            "uniqueItems",
            "contains",
            "minLenght",
            "x-guidance",
        ] {
            let message = refused(&json!({"properties": {"a": {keyword: 1}}}));
            assert_eq!(
                message,
                format!(
                    "unsupported: the keyword {keyword:?} of a JSON schema, found at \
                     #/properties/a/{keyword}"
                )
            );
        }
    }

    #[test]
    fn references_stay_within_the_schema() {
        for reference in [
            "other.json",
            "file:///etc/passwd",
            "https://example.com/a#/b",
        ] {
            let message = refused(&json!({"$ref": reference}));
            assert!(
                message.contains(reference) && message.contains("never read"),
                "{message}"
            );
        }
        for reference in ["#name", "#/$defs/b", "#/$defs/a/const"] {
            let schema = json!({"$ref": reference, "$defs": {"a": {"const": {"x-guidance": 1}}}});
            assert!(refused(&schema).contains("where there is none"));
        }
        let message = refused(&json!({"$ref": 1}));
        assert!(
            message.contains("#/$ref: expected a reference"),
            "{message}"
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        assert!(refused(&json!([1])).contains("#: expected a schema"));
        assert!(refused(&json!({"properties": []})).contains("expected schemas, found a list"));
        let message = refused(&json!({"anyOf": [true, 3]}));
        assert!(
            message.contains("#/anyOf/1: expected a schema"),
            "{message}"
        );
    }

    #[test]
    fn levels_and_schemas_are_counted() {
        let mut deep = json!(true);
        for _ in 0..=bounds::LEVELS {
            deep = json!({"items": deep});
        }
        assert!(refused(&deep).contains("at most 64 levels"));
        check(&deep["items"]).unwrap();
        let many: Vec<Value> = vec![json!(true); bounds::DEFINITIONS];
        assert!(refused(&json!({"anyOf": many})).contains("at most 4096 schemas"));
    }

    #[test]
    fn steps_are_counted_together() {
        let steps = |steps: &[f64]| {
            let all: Vec<Value> = steps
                .iter()
                .map(|step| json!({"multipleOf": step}))
                .collect();
            check(&json!({"anyOf": all}))
        };
        steps(&[0.01, 0.25, 5.0, 9.0]).unwrap();
        for wrong in [&[0.0][..], &[0.00001], &[1e300], &[9973.0, 9967.0]] {
            let message = steps(wrong).unwrap_err().to_string();
            assert!(message.contains("multipleOf"), "{wrong:?}: {message}");
        }
    }
}
