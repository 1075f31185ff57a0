//! Ids from the command line, and the ids of a text.

use gpt2::TokenId;
use gpt2::session::Model;

use crate::failure::Failure;

/// Ids from the command line, clap's way to give an option with many values one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids(pub(crate) Vec<TokenId>);

/// Reads ids separated by commas, spaces or both; brackets around them, as JSON has them, are let
/// pass.
pub(crate) fn parse_ids(text: &str) -> Result<Ids, String> {
    let inner = text.trim();
    let inner = inner
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(inner);
    inner
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse()
                .map_err(|_| format!("expected token ids such as 1,2,3, found {part:?}"))
        })
        .collect::<Result<_, _>>()
        .map(Ids)
}

/// The ids of a prompt; a text of none begins with the model's beginning of text.
pub(crate) fn encode(model: &Model, text: &str) -> Result<Vec<TokenId>, Failure> {
    let mut ids = model.tokenizer()?.encode(text)?;
    if ids.is_empty() {
        let Some(bos) = model.hyperparameters().bos else {
            return Err(Failure::Work(
                "the prompt is empty and the model names no token to begin with; give a prompt"
                    .to_owned(),
            ));
        };
        ids.push(bos);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_several_spellings() {
        for text in ["1,2,3", "1 2 3", " 1, 2,\n3 ", "[1, 2, 3]"] {
            assert_eq!(parse_ids(text), Ok(Ids(vec![1, 2, 3])), "{text}");
        }
        assert_eq!(parse_ids(""), Ok(Ids(Vec::new())));
        for text in ["1;2", "-1", "1.5", "4294967296", "one", "[1"] {
            assert!(parse_ids(text).is_err(), "{text}");
        }
    }
}
