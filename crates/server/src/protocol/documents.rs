//! `docs/server.md` says what the tables of fields say.

use std::fmt::Write;
use std::path::Path;

use super::fields::{Field, Kind};
use super::{chat, completions, embeddings, llama, tokenizer};

const BEGIN: &str = "<!-- The tables of the fields: UPDATE_DOCS=1 cargo test -p gpt2-edge-server --lib \
                     documents -->\n";
const END: &str = "<!-- The end of the tables. -->\n";

/// The table of an endpoint's fields.
fn table<P>(path: &str, fields: &[Field<P>]) -> String {
    let mut text = format!("\n### {path}\n\n| field | value | |\n|---|---|---|\n");
    let (mut ignored, mut refused) = (Vec::new(), Vec::new());
    for field in fields {
        let name = format!("`{}`", field.name);
        match field.kind {
            Kind::Ignored => ignored.push(name),
            Kind::Refused(_) => refused.push(name),
            _ => writeln!(text, "| {name} | {} | {} |", field.expected(), field.help).unwrap(),
        }
    }
    for (what, names) in [("Ignored", ignored), ("Refused unless empty", refused)] {
        if !names.is_empty() {
            write!(text, "\n{what}: {}.\n", names.join(", ")).unwrap();
        }
    }
    text
}

#[test]
fn documents_list_every_field() {
    let tables = [
        table("/v1/completions", &completions::FIELDS),
        table("/v1/chat/completions", &chat::FIELDS),
        table("/v1/embeddings", &embeddings::FIELDS),
        table("/tokenize", &tokenizer::TEXT),
        table("/detokenize", &tokenizer::IDS),
        table("/completion", &llama::FIELDS),
    ];
    let expected = tables.concat() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert!(found == expected, "docs/server.md: run with UPDATE_DOCS=1");
    }
}
