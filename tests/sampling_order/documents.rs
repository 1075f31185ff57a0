//! `docs/sampling.md` says what the table of parameters says: every parameter, and the order.

use std::fmt::Write;
use std::path::Path;

use gpt2::generate::{GenerationOptions, ParameterGroup, ParameterKind, parameters};

use crate::scenario::Scenario;

const BEGIN: &str =
    "<!-- The tables of the parameters: UPDATE_DOCS=1 cargo test --test sampling_order -->\n";
const END: &str = "<!-- The end of the tables. -->\n";

const GROUPS: [(ParameterGroup, &str); 5] = [
    (ParameterGroup::Choice, "Choosing tokens"),
    (ParameterGroup::Scores, "Changing scores"),
    (ParameterGroup::Search, "Searching"),
    (ParameterGroup::End, "Ending"),
    (
        ParameterGroup::Request,
        "Of a request, not of a model's file",
    ),
];

/// What a value of the type must be, in a cell of a table.
fn expected(kind: ParameterKind, range: Option<&str>) -> String {
    range.unwrap_or(kind.expected()).replace('|', "\\|")
}

/// The tables, a group each.
fn tables() -> String {
    let defaults = GenerationOptions::default();
    let mut text = String::new();
    for (group, heading) in GROUPS {
        let of_group = parameters().filter(|parameter| parameter.group() == group);
        write!(
            text,
            "\n{heading}:\n\n| parameter | value | default | |\n|---|---|---|---|\n"
        )
        .unwrap();
        for parameter in of_group {
            let default = match parameter.get(&defaults).as_str() {
                "null" | "[]" => "none".to_owned(),
                value => value.to_owned(),
            };
            let value = expected(parameter.kind(), parameter.range());
            let (name, help) = (parameter.name(), parameter.help());
            writeln!(text, "| `{name}` | {value} | {default} | {help} |").unwrap();
        }
    }
    text.push('\n');
    text
}

#[test]
fn every_parameter_is_documented_as_the_table_has_it() {
    let listed: usize = GROUPS
        .iter()
        .map(|(group, _)| {
            parameters()
                .filter(|parameter| parameter.group() == *group)
                .count()
        })
        .sum();
    assert_eq!(listed, parameters().count(), "a group is missing here");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sampling.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let expected = tables();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert!(
            found == expected,
            "docs/sampling.md: run UPDATE_DOCS=1 cargo test --test sampling_order"
        );
    }
}

#[test]
fn the_order_is_documented_as_the_chain_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sampling.md");
    let document = std::fs::read_to_string(path).unwrap();
    // Rows such as | 18 | `top_k` k | … | and | | a caller's own processors | … |.
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|');
        let number = cells.next()?.trim();
        let step = cells.next()?.trim();
        let numbered = number.is_empty() || number.parse::<usize>().is_ok();
        let name = step
            .strip_prefix('`')
            .and_then(|step| step.split('`').next());
        match name {
            Some(name) if numbered => Some(name),
            _ => step.starts_with("a caller's own").then_some("custom"),
        }
    });
    let documented: Vec<&str> = rows.collect();
    let scenario = Scenario::middle();
    let chain = scenario.chain();
    assert_eq!(documented, chain.names().collect::<Vec<_>>());
}
