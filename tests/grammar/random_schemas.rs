//! Values that the demo model is made to write by random schemas: each parses, and each keeps to
//! its schema.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::common::cores;
use crate::{schema, session, wild, write};
use gpt2::generate::FinishReason;

/// A schema, mostly of few and short values, so that texts come to an end.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-50..50i64, 0..40i64).prop_map(|(least, more)| {
            json!({"type": "integer", "minimum": least, "maximum": least + more})
        }),
        (1..9u32).prop_map(|step| {
            json!({"type": "integer", "minimum": 0, "maximum": 99, "multipleOf": step})
        }),
        (0..5u32).prop_map(|least| {
            json!({"type": "number", "exclusiveMinimum": least, "maximum": least + 3})
        }),
        (0..3u32, 0..4u32).prop_map(|(least, more)| {
            json!({"type": "string", "minLength": least, "maxLength": least + more})
        }),
        Just(json!({"type": "string", "pattern": "^[a-f]{2,4}$"})),
        Just(json!({"type": "string", "format": "date"})),
        Just(json!({"enum": ["a b", 7, null, {"x": [true]}, "é\n\"\\"]})),
        Just(json!({"const": "日本"})),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let properties = proptest::collection::btree_map("[a-c]{1,2}|é|\"", inner.clone(), 0..4);
        prop_oneof![
            (inner.clone(), 0..3usize, 0..3usize).prop_map(|(items, least, more)| {
                let most = least + more;
                json!({"type": "array", "items": items, "minItems": least, "maxItems": most})
            }),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|items| {
                let count = items.len();
                json!({"type": "array", "prefixItems": items, "minItems": count, "items": false})
            }),
            (properties, any::<u8>()).prop_map(|(properties, bits)| {
                let numbered = properties.keys().enumerate();
                let required: Vec<&String> = numbered
                    .filter(|(index, _)| bits >> index & 1 == 1)
                    .map(|(_, name)| name)
                    .collect();
                json!({"type": "object", "properties": properties, "required": required,
                       "additionalProperties": false})
            }),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|all| json!({"anyOf": all})),
            inner.prop_map(|schema| json!({"$ref": "#/$defs/one", "$defs": {"one": schema}})),
        ]
    })
}

/// Definitions stand at the root, where references look for them; below, a schema is its own.
fn inlined(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => match map.get("$defs") {
            Some(definitions) => inlined(&definitions["one"]),
            None => map
                .iter()
                .map(|(key, value)| (key.clone(), inlined(value)))
                .collect(),
        },
        Value::Array(items) => items.iter().map(inlined).collect(),
        other => other.clone(),
    }
}

/// A random schema that refers to itself once, at the root.
fn rooted(schema: &Value) -> Value {
    json!({"$ref": "#/$defs/root", "$defs": {"root": inlined(schema)}})
}

/// Whether a value keeps to a schema of the keywords above.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else {
        return schema == &Value::Bool(true);
    };
    // The other keywords look at values of the type.
    let typed = schema.get("type");
    typed.is_none_or(|wanted| keeps("type", wanted, schema, value))
        && schema
            .iter()
            .all(|(keyword, wanted)| keeps(keyword, wanted, schema, value))
}

fn keeps(keyword: &str, wanted: &Value, schema: &Map<String, Value>, value: &Value) -> bool {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let text = value.as_str();
    match keyword {
        "type" => match wanted.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other}"),
        },
        "minimum" => number(value) >= number(wanted),
        "maximum" => number(value) <= number(wanted),
        "exclusiveMinimum" => number(value) > number(wanted),
        "multipleOf" => number(value) % number(wanted) == 0.0,
        "minLength" => text.unwrap().chars().count() as f64 >= number(wanted),
        "maxLength" => text.unwrap().chars().count() as f64 <= number(wanted),
        "pattern" => {
            let letters = text
                .unwrap()
                .bytes()
                .all(|byte| (b'a'..=b'f').contains(&byte));
            letters && (2..=4).contains(&text.unwrap().len())
        }
        "format" => {
            let parts: Vec<&str> = text.unwrap().split('-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            let number = |part: &str| part.parse::<u32>().unwrap();
            lengths == [4, 2, 2]
                && (1..=12).contains(&number(parts[1]))
                && (1..=31).contains(&number(parts[2]))
        }
        "enum" => wanted.as_array().unwrap().contains(value),
        "const" => wanted == value,
        "minItems" => value.as_array().unwrap().len() as f64 >= number(wanted),
        "maxItems" => value.as_array().unwrap().len() as f64 <= number(wanted),
        "items" => {
            let skipped = schema
                .get("prefixItems")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let mut items = value.as_array().unwrap().iter().skip(skipped);
            items.all(|item| is_valid(wanted, item))
        }
        "prefixItems" => {
            let pairs = wanted
                .as_array()
                .unwrap()
                .iter()
                .zip(value.as_array().unwrap());
            pairs
                .into_iter()
                .all(|(schema, item)| is_valid(schema, item))
        }
        "properties" => value.as_object().unwrap().iter().all(|(name, value)| {
            wanted
                .get(name)
                .is_some_and(|schema| is_valid(schema, value))
        }),
        "additionalProperties" => true,
        "required" => {
            let mut names = wanted.as_array().unwrap().iter();
            names.all(|name| value.get(name.as_str().unwrap()).is_some())
        }
        "anyOf" => {
            let mut schemas = wanted.as_array().unwrap().iter();
            schemas.any(|schema| is_valid(schema, value))
        }
        other => panic!("the keyword {other} is not among those tested"),
    }
}

#[test]
fn values_parse_and_keep_to_their_schema() {
    let _cores = cores();
    let mut session = session(1);
    let whole = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let session = std::cell::RefCell::new(&mut session);
    runner
        .run(&(schemas(), any::<u64>()), |(random, seed)| {
            let plain = inlined(&random);
            let grammar = schema(&rooted(&random).to_string());
            let grammar = grammar.map_err(|error| TestCaseError::fail(format!("{error}")))?;
            let options = wild(grammar, 160, seed);
            let text = write(&mut session.borrow_mut(), &options);
            let text = text.map_err(|error| TestCaseError::fail(format!("{error}")))?;
            if text.finish_reason == FinishReason::Length {
                return Ok(());
            }
            prop_assert_eq!(text.finish_reason, FinishReason::Eos);
            let value: Result<Value, _> = serde_json::from_str(&text.text);
            let value = value.map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
            prop_assert!(is_valid(&plain, &value), "{} is not as {}", value, plain);
            whole.set(whole.get() + 1);
            Ok(())
        })
        .unwrap();
    assert!(
        whole.get() > 75,
        "only {} texts came to an end",
        whole.get()
    );
}

#[test]
fn the_validator_finds_what_does_not_keep() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 3}},
                        "required": ["a"], "additionalProperties": false});
    assert!(is_valid(&schema, &json!({"a": 3})));
    for wrong in [
        json!({"a": 4}),
        json!({}),
        json!({"a": 1, "b": 1}),
        json!([]),
        json!({"a": "1"}),
    ] {
        assert!(!is_valid(&schema, &wrong), "{wrong}");
    }
}
