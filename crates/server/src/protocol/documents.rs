//! The tables of fields as documents have them.

use super::fields::{Field, Kind};
use super::{chat, completions, embeddings, heads, llama, tokenizer};

/// The table of an endpoint's fields.
fn table<P>(path: &str, fields: &[Field<P>]) -> String {
    let mut text = format!("\n### {path}\n\n| field | value | |\n|---|---|---|\n");
    let (mut ignored, mut refused) = (Vec::new(), Vec::new());
    for field in fields {
        let name = format!("`{}`", field.name);
        match field.kind {
            Kind::Ignored => ignored.push(name),
            Kind::Refused(_) => refused.push(name),
            _ => {
                let (expected, help) = (field.expected(), field.help);
                text.extend(["| ", &name, " | ", &expected, " | ", help, " |\n"]);
            }
        }
    }
    for (what, names) in [("Ignored", ignored), ("Refused unless empty", refused)] {
        if !names.is_empty() {
            text.extend(["\n", what, ": ", &names.join(", "), ".\n"]);
        }
    }
    text
}

/// Every endpoint's fields, in Markdown: the tables of `docs/server.md`.
pub fn reference() -> String {
    let tables = [
        table("/v1/completions", &completions::FIELDS),
        table("/v1/chat/completions", &chat::FIELDS),
        table("/v1/embeddings", &embeddings::FIELDS),
        table("/tokenize", &tokenizer::TEXT),
        table("/detokenize", &tokenizer::IDS),
        table("/completion", &llama::FIELDS),
        table("/classify", &heads::CLASSIFY),
        table("/tag", &heads::TAG),
        table("/answer", &heads::ANSWER),
        table("/choose", &heads::CHOOSE),
    ];
    tables.concat() + "\n"
}
