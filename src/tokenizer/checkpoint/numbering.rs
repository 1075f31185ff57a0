//! The ids of added tokens.
//!
//! The `tokenizers` library does not take them from the files: a token that the vocabulary has
//! keeps the id it has there, and the others are numbered on from the vocabulary's size, in their
//! order. A model was trained with those ids, whatever a file lists.

use std::collections::{HashMap, HashSet};

use crate::tokenizer::settings::AddedToken;
use crate::{Error, Result, TokenId};

/// Added tokens with the ids that the library gives them.
pub(super) struct Numbering<'a> {
    added: Vec<AddedToken>,
    /// Where a token's text stands in `added`.
    places: HashMap<String, usize>,
    /// The vocabulary.
    ids: &'a HashMap<&'a str, TokenId>,
    /// The ids of the vocabulary and of the added tokens.
    taken: HashSet<TokenId>,
    /// The highest of those.
    highest: TokenId,
    /// Tokens that got another id than the listed one, and a word on the first of them.
    moved: HashSet<(String, TokenId)>,
    example: Option<String>,
    /// A token for which no id is left.
    unnumbered: Option<String>,
}

impl<'a> Numbering<'a> {
    /// Nothing added yet to a vocabulary.
    pub(super) fn new(ids: &'a HashMap<&'a str, TokenId>) -> Self {
        Self {
            added: Vec::new(),
            places: HashMap::new(),
            ids,
            taken: ids.values().copied().collect(),
            highest: ids.values().copied().max().unwrap_or_default(),
            moved: HashSet::new(),
            example: None,
            unnumbered: None,
        }
    }

    /// Adds tokens that a file lists together. Their ids are what the file says, `TokenId::MAX`
    /// where it says nothing.
    pub(super) fn add(&mut self, tokens: Vec<AddedToken>) {
        let size = self.ids.len() as u64;
        let highest = self.added.iter().map(|token| u64::from(token.id)).max();
        let mut next = highest.map_or(size, |id| size.max(id + 1));
        for mut token in tokens {
            if token.content.is_empty() {
                continue;
            }
            let listed = token.id;
            let place = self.places.get(&token.content).copied();
            let known = match place {
                Some(place) => Some(self.added[place].id),
                None => self.ids.get(token.content.as_str()).copied(),
            };
            let id = known.or_else(|| self.free(listed, &mut next));
            let Some(id) = id else {
                self.unnumbered.get_or_insert(token.content);
                continue;
            };
            if listed != id && listed != TokenId::MAX {
                self.moved.insert((token.content.clone(), listed));
                let content = &token.content;
                self.example
                    .get_or_insert_with(|| format!("{content:?} with {listed}, which has {id}"));
            }
            token.id = id;
            self.taken.insert(id);
            self.highest = self.highest.max(id);
            if let Some(place) = place {
                // Once special, a token stays so.
                token.special |= self.added[place].special;
                self.added[place] = token;
            } else {
                self.places.insert(token.content.clone(), self.added.len());
                self.added.push(token);
            }
        }
    }

    /// The id of a token that is new. Where the ids of a vocabulary have gaps, its size is an id
    /// that is taken: there what the file lists counts.
    fn free(&self, listed: TokenId, next: &mut u64) -> Option<TokenId> {
        let mut id = TokenId::try_from(*next).ok()?;
        if self.taken.contains(&id) {
            id = listed;
            if self.taken.contains(&listed) || listed == TokenId::MAX {
                id = self.highest.checked_add(1)?;
            }
        }
        *next = u64::from(id) + 1;
        (id != TokenId::MAX).then_some(id)
    }

    /// The id of a token, added or of the vocabulary.
    pub(super) fn id(&self, content: &str) -> Option<TokenId> {
        match self.places.get(content) {
            Some(&place) => Some(self.added[place].id),
            None => self.ids.get(content).copied(),
        }
    }

    /// The texts of the added tokens.
    pub(super) fn contents(&self) -> impl Iterator<Item = &str> {
        self.added.iter().map(|token| token.content.as_str())
    }

    /// The tokens, and what the user should know.
    ///
    /// # Errors
    /// A token for which no id was left.
    pub(super) fn finish(self) -> Result<(Vec<AddedToken>, Vec<String>)> {
        if let Some(content) = self.unnumbered {
            let message = format!("no id is left for {content:?}");
            return Err(Error::format("added tokens", message));
        }
        let count = self.moved.len();
        let warning = |example| {
            format!(
                "{count} added tokens are listed with other ids than they have (the first: \
                 {example})"
            )
        };
        Ok((self.added, self.example.map(warning).into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str, id: TokenId) -> AddedToken {
        AddedToken {
            id,
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }

    /// Added tokens with their ids, and the number of warnings.
    fn numbered(
        vocabulary: &[(&str, TokenId)],
        batches: &[Vec<(&str, TokenId)>],
    ) -> Result<(Vec<(String, TokenId)>, usize)> {
        let ids = vocabulary.iter().copied().collect();
        let mut numbering = Numbering::new(&ids);
        for batch in batches {
            numbering.add(batch.iter().map(|(text, id)| token(text, *id)).collect());
        }
        let (added, warnings) = numbering.finish()?;
        let added = added.into_iter().map(|token| (token.content, token.id));
        Ok((added.collect(), warnings.len()))
    }

    #[test]
    fn added_tokens_are_numbered_on_from_the_vocabulary() -> Result<()> {
        let cases = [
            (vec![vec![("x", 2), ("y", 3)]], vec![("x", 2), ("y", 3)], 0),
            // The vocabulary's id counts.
            (vec![vec![("b", 2), ("y", 2)]], vec![("b", 1), ("y", 2)], 1),
            // Twice in one list, and in two.
            (
                vec![vec![("x", 2), ("x", 3), ("y", 4)]],
                vec![("x", 2), ("y", 3)],
                1,
            ),
            (
                vec![vec![("x", 2)], vec![("x", 2), ("y", TokenId::MAX)]],
                vec![("x", 2), ("y", 3)],
                0,
            ),
            (vec![vec![("x", 9), ("", 3)]], vec![("x", 2)], 1),
        ];
        for (batches, expected, warnings) in cases {
            let expected = expected.into_iter().map(|(text, id)| (text.to_owned(), id));
            let expected = (expected.collect(), warnings);
            assert_eq!(numbered(&[("a", 0), ("b", 1)], &batches)?, expected);
        }
        Ok(())
    }

    #[test]
    fn in_gaps_of_the_vocabulary_nothing_is_given_twice() -> Result<()> {
        let batch = vec![("x", 7), ("y", 2), ("z", TokenId::MAX)];
        let (added, _) = numbered(&[("a", 0), ("b", 2)], &[batch])?;
        let ids: Vec<TokenId> = added.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids, [7, 8, 9]);
        let full = [("a", TokenId::MAX), ("b", 2)];
        assert!(numbered(&full, &[vec![("x", TokenId::MAX)]]).is_err());
        Ok(())
    }
}
