//! The characters that nanoGPT's first example takes for tokens: its `meta.pkl`.

use super::machine::Machine;
use super::value::Value;
use crate::TokenId;
use crate::error::{Error, Result};

/// The entry with the character of each id.
const CHARACTERS: &str = "itos";

/// The character of each id, in the file's order.
///
/// # Errors
/// [`Error::Format`] for a file that is anything else.
pub(in crate::convert) fn characters(bytes: &[u8]) -> Result<Vec<(TokenId, char)>> {
    let broken = |message: String| Error::format("nanoGPT's meta.pkl", message);
    let mut machine = Machine::new();
    let (root, _) = machine.run(bytes)?;
    let entries = machine.dictionary(root).unwrap_or_default();
    let found = entries
        .iter()
        .find(|(key, _)| matches!(key, Value::Text(CHARACTERS)))
        .and_then(|(_, value)| machine.dictionary(*value));
    let found = found.ok_or_else(|| {
        broken(format!(
            "expected a dictionary of characters under '{CHARACTERS}', found none"
        ))
    })?;
    let character = |(id, text): &(Value, Value)| {
        let (Value::Integer(id), Value::Text(text)) = (id, text) else {
            return None;
        };
        let mut characters = text.chars();
        let (character, None) = (characters.next()?, characters.next()) else {
            return None;
        };
        Some((TokenId::try_from(*id).ok()?, character))
    };
    found
        .iter()
        .map(|entry| {
            character(entry)
                .ok_or_else(|| broken("expected an id and one character each".to_owned()))
        })
        .collect()
}
