//! Grammars and schemas from anywhere: refused, or followed within bounds; never a text that does
//! not keep to them, a panic, or an end of the process.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use gpt2::{Error, Result};

use crate::common::cores;
use crate::{lark, schema, session, wild, write};

/// Longer than anything takes on a busy machine; what has no end takes longer.
const LONG: Duration = Duration::from_secs(120);

/// The text that comes of it, in a thread with as little stack as a program may give.
fn attempt(make: impl FnOnce() -> Result<gpt2::grammar::Grammar>) -> Result<String> {
    let start = Instant::now();
    let grammar = make()?;
    let text = thread::scope(|scope| {
        let write = || write(&mut session(1), &wild(grammar, 24, 3)).map(|text| text.text);
        let builder = thread::Builder::new().stack_size(1 << 20);
        builder.spawn_scoped(scope, write).unwrap().join().unwrap()
    });
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    text
}

fn refused(result: Result<String>, part: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Grammar(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(part), "expected {part:?} in: {message}");
    assert!(!message.contains('\n') && message.len() < 1000, "{message}");
}

/// Rules or terminals each of which has the next within it.
fn chain(letter: char, length: usize) -> String {
    let mut text = format!("start: {letter}0\n");
    for index in 0..length {
        writeln!(text, "{letter}{index}: \"x\" {letter}{}?", index + 1).unwrap();
    }
    writeln!(text, "{letter}{length}: \"y\"").unwrap();
    text
}

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    [&open.repeat(levels), inner, &close.repeat(levels)].concat()
}

#[test]
fn nesting_ends_nothing() {
    let _cores = cores();
    let rule = |body: String| format!("start: {body}");
    for (open, close) in [("(", ")"), ("[", "]")] {
        let text = rule(nested(open, "\"a\"", close, 100_000));
        refused(attempt(|| lark(&text)), "too deeply nested");
    }
    let text = rule(format!("/{}/", nested("(", "a", ")", 100_000)));
    refused(attempt(|| lark(&text)), "invalid regex");
    let text = rule(format!("%json {}", nested("[", "", "]", 100_000)));
    refused(attempt(|| lark(&text)), "recursion limit");
    let text = nested("%lark { start: ", "\"a\"", "}", 4000);
    assert!(attempt(|| lark(&rule(text))).is_err());
    for letter in ['a', 'A'] {
        let text = attempt(|| lark(&chain(letter, 4000))).unwrap();
        assert!(
            text.trim_end_matches('y').bytes().all(|byte| byte == b'x'),
            "{text}"
        );
        refused(
            attempt(|| lark(&chain(letter, 5000))),
            "at most 4096 definitions",
        );
    }
    for (open, inner, close) in [("[", "", "]"), ("{\"items\":", "true", "}")] {
        let text = nested(open, inner, close, 20_000);
        refused(attempt(|| schema(&text)), "recursion limit");
    }
    // Each refers to the next.
    for one in [
        r##"{"type":"array","items":{"$ref":"#/$defs/NEXT"}}"##,
        r##"{"allOf":[{"$ref":"#/$defs/NEXT"}]}"##,
        r##"{"type":"array","$ref":"#/$defs/NEXT"}"##,
    ] {
        let mut text = r##"{"$ref":"#/$defs/a0","$defs":{"##.to_owned();
        for index in 0..1300 {
            let next = format!("a{}", index + 1);
            write!(text, "\"a{index}\":{},", one.replace("NEXT", &next)).unwrap();
        }
        text.push_str("\"a1300\":{\"type\":\"array\",\"maxItems\":0}}}");
        let written = attempt(|| schema(&text)).unwrap();
        assert!(written.starts_with('['), "{written}");
    }
}

#[test]
fn what_costs_too_much_ends_with_an_error() {
    let _cores = cores();
    let words =
        |count: usize| -> Vec<String> { (0..count).map(|index| format!("\"w{index}\"")).collect() };
    let alternatives = format!("start: {}", words(20_000).join("|"));
    refused(attempt(|| lark(&alternatives)), "items");
    refused(
        attempt(|| lark("start: A\nA: /.*a.{30}/ & /.*b.{30}/ & /.*c.{31}/")),
        "fuel exhausted",
    );
    // Found in the middle of a text.
    let late = format!("start: \"xyzzyxyzzy\" ({})", words(20_000).join("|"));
    refused(attempt(|| lark(&late)), "items");
    let many: Vec<String> = (0..501).map(|index| format!("\"p{index}\":true")).collect();
    let text = format!("{{\"properties\":{{{}}}}}", many.join(","));
    refused(attempt(|| schema(&text)), "at most 500 properties");
    let pairs: Vec<String> = (0..30)
        .map(|index| {
            let one = |letter| {
                format!(r#"{{"type":"object","properties":{{"{letter}{index}":{{"const":1}}}}}}"#)
            };
            format!(r#"{{"anyOf":[{},{}]}}"#, one('a'), one('b'))
        })
        .collect();
    let text = format!(r#"{{"allOf":[{}]}}"#, pairs.join(","));
    refused(attempt(|| schema(&text)), "schema too large");
    let long = format!("start: \"{}\"", "a".repeat(300_000));
    refused(attempt(|| lark(&long)), "at most 262144 bytes");
    refused(
        attempt(|| schema(&" ".repeat(300_000))),
        "at most 262144 bytes",
    );
}

#[test]
fn what_looks_dear_is_followed() {
    let _cores = cores();
    for (text, letters) in [
        ("start: /((a{1000}){1000}){1000}/", "a"),
        ("start: /(a|b)*a(a|b){200}/", "ab"),
        ("start: /(a?){500}a{500}/", "a"),
        ("start: \"a\"{0,1000000000}", "a"),
        ("start: (((\"a\"{1000}){1000}){1000}){1000}", "a"),
        ("start: s\ns: s s | \"a\" | s s s", "a"),
        ("start: (\"\"*)* ((\"\")+)* \"a\"", "a"),
    ] {
        let written = attempt(|| lark(text)).unwrap();
        assert!(
            written.chars().all(|letter| letters.contains(letter)),
            "{text}: {written}"
        );
    }
    let words: Vec<String> = (0..20_000).map(|index| format!("\"w{index}\"")).collect();
    let written = attempt(|| schema(&format!("{{\"enum\":[{}]}}", words.join(",")))).unwrap();
    assert!(words.contains(&written), "{written}");
    for text in [
        r#"{"type":"string","maxLength":1000000000}"#,
        r#"{"type":"string","minLength":1000000000}"#,
        r#"{"type":"string","pattern":"((a{1000}){1000}){1000}"}"#,
    ] {
        assert!(attempt(|| schema(text)).unwrap().starts_with('"'));
    }
    let written = attempt(|| schema(r#"{"type":"array","minItems":1000000000}"#)).unwrap();
    assert!(written.starts_with('['));
}

#[test]
fn what_no_text_keeps_to_is_refused() {
    for text in ["start: start \"a\"", "start: start", "start: a\na: b\nb: a"] {
        refused(attempt(|| lark(text)), "no text keeps to it");
    }
    for (text, part) in [
        ("false", "allows no value"),
        (
            r#"{"type":"integer","minimum":3,"maximum":2}"#,
            "Unsatisfiable",
        ),
        (
            r#"{"allOf":[{"type":"string"},{"type":"number"}]}"#,
            "Unsatisfiable",
        ),
        (
            r#"{"properties":{"a":false},"required":["a"],"type":"object"}"#,
            "'a' is unsatisfiable",
        ),
        (r##"{"$ref":"#"}"##, "no text keeps to it"),
        (
            r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
            "",
        ),
    ] {
        match attempt(|| schema(text)) {
            // Each object would have another in it: begun, and never whole.
            Ok(written) => assert!(part.is_empty() && written.starts_with('{'), "{written}"),
            Err(error) => refused(Err(error), part),
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused() {
    for (text, part) in [
        ("", "no start rule"),
        ("a: \"b\"", "no start rule"),
        ("start: \"a", "lexer error"),
        ("start: b", "unknown name"),
        ("root ::= \"a\"", "GBNF"),
        ("%import /etc/passwd\nstart: \"a\"", "Expected name"),
        ("%import common.FILE\nstart: \"a\"", "Unknown common regex"),
        ("start: @other", "unknown grammar"),
        ("start: <[0-1000000]>", "too large"),
        ("start: <|other|>", "unknown special token"),
        ("start: \"a\"{99999999999999999999}", "number too large"),
    ] {
        refused(attempt(|| lark(text)), part);
    }
    for (text, part) in [
        ("", "expected a JSON schema"),
        ("{", "expected a JSON schema"),
        ("[]", "expected a schema"),
        (r#"{"type":5}"#, "type must be"),
        (r#"{"type":"text"}"#, "Invalid type: text"),
        (
            r#"{"format":"colour","type":"string"}"#,
            "Unknown format: colour",
        ),
        (
            r#"{"$ref":"https://example.com/schema.json"}"#,
            "never read",
        ),
        (r#"{"$ref":"file:///etc/passwd"}"#, "never read"),
        (r#"{"type":"string","pattern":"(?=a)b"}"#, "look-around"),
    ] {
        refused(attempt(|| schema(text)), part);
    }
    let error = schema(r#"{"uniqueItems":true}"#).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert!(error.to_string().contains("\"uniqueItems\""), "{error}");
}

#[test]
fn an_end_that_the_grammar_names_is_refused() {
    let _cores = cores();
    let result = attempt(|| lark("start: \"a\" <|endoftext|>"));
    refused(result, "comes by itself");
}
