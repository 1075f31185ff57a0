//! Labels of tokens become labels of words, and of the names that words make up.

use std::ops::Range;

use crate::TokenId;
use crate::error::Result;
use crate::sampling::softmax;
use crate::session::Session;
use crate::spec::HeadSettings;
use crate::tokenizer::EncodeOptions;

/// A token with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenTag {
    /// The token.
    pub id: TokenId,
    /// The characters it came from, counted from 0; a space before a word is part of its token.
    pub characters: Range<usize>,
    /// The best label.
    pub label: String,
    /// The best label's probability.
    pub score: f32,
    /// The probability of each label.
    pub scores: Vec<f32>,
}

/// A word with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct WordTag {
    /// The word.
    pub word: String,
    /// Its characters in the text.
    pub characters: Range<usize>,
    /// The best label.
    pub label: String,
    /// Its score.
    pub score: f32,
}

/// Words next to each other whose labels say that they belong together, as `B-PER I-PER` do.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// What it is: a label without `B-` or `I-`.
    pub entity: String,
    /// The text of it.
    pub text: String,
    /// Its characters in the text.
    pub characters: Range<usize>,
    /// The mean of its words' scores.
    pub score: f32,
}

/// How the labels of a word's tokens become one (`aggregation_strategy` of transformers' pipeline).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Aggregation {
    /// The first token's.
    #[default]
    First,
    /// The one of the largest mean probability.
    Average,
    /// The one of the token that is surest.
    Max,
}

const AGGREGATIONS: &[(&str, Aggregation)] = &[
    ("first", Aggregation::First),
    ("average", Aggregation::Average),
    ("max", Aggregation::Max),
];

impl Aggregation {
    /// The way called `name`: `first`, `average` or `max`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = AGGREGATIONS.iter().find(|(known, _)| *known == name);
        found.map(|(_, aggregation)| *aggregation)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        AGGREGATIONS.iter().map(|(name, _)| *name)
    }

    /// The probability of each label for a word whose tokens have `scores`.
    fn combine(self, scores: &[&[f32]]) -> Vec<f32> {
        let surest = |scores: &[f32]| scores.iter().copied().fold(0.0, f32::max);
        match self {
            Self::First => scores
                .first()
                .map(|first| first.to_vec())
                .unwrap_or_default(),
            Self::Max => scores
                .iter()
                .copied()
                .reduce(|best, other| {
                    if surest(other) > surest(best) {
                        other
                    } else {
                        best
                    }
                })
                .map(<[f32]>::to_vec)
                .unwrap_or_default(),
            Self::Average => {
                let mut mean = vec![0.0; scores.first().map_or(0, |first| first.len())];
                for token in scores {
                    for (sum, score) in mean.iter_mut().zip(*token) {
                        *sum += score / scores.len() as f32;
                    }
                }
                mean
            }
        }
    }
}

/// Labels every token of `text`.
///
/// # Errors
/// As [`Session::tag`], and those of the tokenizer.
pub fn tag(session: &mut Session, text: &str) -> Result<Vec<TokenTag>> {
    let model = session.model().clone();
    let encoding = model
        .tokenizer()?
        .encode_pair(text, None, EncodeOptions::default(), None)?;
    if encoding.is_empty() {
        return Ok(Vec::new());
    }
    let logits = session.tag(&encoding.ids)?;
    let head = &model.hyperparameters().head;
    let places = encoding.offsets.into_iter().zip(encoding.sequence_ids);
    Ok(encoding
        .ids
        .into_iter()
        .zip(places)
        .zip(logits.chunks_exact(head.outputs))
        // What was put around the text is none of it.
        .filter(|((_, (_, sequence)), _)| sequence.is_some())
        .map(|((id, (characters, _)), logits)| {
            let scores = softmax(logits);
            let (label, score) = best(head, &scores);
            TokenTag {
                id,
                characters,
                label,
                score,
                scores,
            }
        })
        .collect())
}

/// The labels of the words of `text`, words being what stands between white space. A token is of
/// the word its first visible character is in.
pub fn words(
    head: &HeadSettings,
    text: &str,
    tags: &[TokenTag],
    aggregation: Aggregation,
) -> Vec<WordTag> {
    let characters: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut tags = tags.iter().peekable();
    let mut start = 0;
    while start < characters.len() {
        if characters[start].is_whitespace() {
            start += 1;
            continue;
        }
        let length = characters[start..]
            .iter()
            .take_while(|character| !character.is_whitespace())
            .count();
        let word = start..start + length;
        let visible = |tag: &TokenTag| {
            // Not beyond the text, wherever a caller says that the token is.
            let mut range = tag.characters.start..tag.characters.end.min(characters.len());
            range.find(|&place| characters.get(place).is_some_and(|c| !c.is_whitespace()))
        };
        let mut scores: Vec<&[f32]> = Vec::new();
        while let Some(tag) = tags.next_if(|tag| visible(tag).is_none_or(|at| at < word.end)) {
            if visible(tag).is_some_and(|at| word.contains(&at)) {
                scores.push(&tag.scores);
            }
        }
        if !scores.is_empty() {
            let (label, score) = best(head, &aggregation.combine(&scores));
            words.push(WordTag {
                word: characters[word.clone()].iter().collect(),
                characters: word.clone(),
                label,
                score,
            });
        }
        start = word.end;
    }
    words
}

/// The names that words make up. `B-X` begins a name, `I-X` goes on with one of the same kind, a
/// label with neither is taken for `I-`; words labelled `O` are of none.
pub fn entities(text: &str, words: &[WordTag]) -> Vec<Entity> {
    let characters: Vec<char> = text.chars().collect();
    let mut entities: Vec<(Entity, usize)> = Vec::new();
    let mut follows = false;
    for word in words {
        if word.label == "O" {
            follows = false;
            continue;
        }
        let begins = word.label.starts_with("B-");
        let kind = word
            .label
            .strip_prefix("B-")
            .or(word.label.strip_prefix("I-"));
        let kind = kind.unwrap_or(&word.label);
        match entities.last_mut() {
            Some((entity, count)) if follows && !begins && entity.entity == kind => {
                entity.characters.end = word.characters.end;
                entity.score += word.score;
                *count += 1;
            }
            _ => {
                let entity = Entity {
                    entity: kind.to_owned(),
                    text: String::new(),
                    characters: word.characters.clone(),
                    score: word.score,
                };
                entities.push((entity, 1));
            }
        }
        follows = true;
    }
    entities
        .into_iter()
        .map(|(mut entity, count)| {
            entity.score /= count as f32;
            let range = entity.characters.clone();
            entity.text = characters.get(range).unwrap_or_default().iter().collect();
            entity
        })
        .collect()
}

/// The largest score and its label, of equals the first.
fn best(head: &HeadSettings, scores: &[f32]) -> (String, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (id, score);
        }
    }
    (head.label(best.0), best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> HeadSettings {
        HeadSettings {
            outputs: 3,
            labels: ["O", "B-PER", "I-PER"].map(str::to_owned).into(),
            ..HeadSettings::default()
        }
    }

    fn token(characters: Range<usize>, scores: [f32; 3]) -> TokenTag {
        let (label, score) = best(&head(), &scores);
        TokenTag {
            id: 0,
            characters,
            label,
            score,
            scores: scores.to_vec(),
        }
    }

    const TEXT: &str = "Émma Wood said.";

    /// "Ém", "ma", " Wo", "od", " said", ".".
    fn tags() -> Vec<TokenTag> {
        vec![
            token(0..2, [0.1, 0.6, 0.3]),
            token(2..4, [0.9, 0.1, 0.0]),
            token(4..7, [0.2, 0.2, 0.6]),
            token(7..9, [0.1, 0.8, 0.1]),
            token(9..14, [0.7, 0.2, 0.1]),
            token(14..15, [0.1, 0.7, 0.2]),
        ]
    }

    #[test]
    fn words_take_the_label_of_their_tokens() {
        let labels = |aggregation| -> Vec<(String, String, Range<usize>)> {
            words(&head(), TEXT, &tags(), aggregation)
                .into_iter()
                .map(|word| (word.word, word.label, word.characters))
                .collect()
        };
        let expected = |labels: [&str; 3]| -> Vec<(String, String, Range<usize>)> {
            ["Émma", "Wood", "said."]
                .into_iter()
                .zip(labels)
                .zip([0..4, 5..9, 10..15])
                .map(|((word, label), range)| (word.to_owned(), label.to_owned(), range))
                .collect()
        };
        assert_eq!(
            labels(Aggregation::First),
            expected(["B-PER", "I-PER", "O"])
        );
        // .9 > .6; .8 > .6; .7 first of equals.
        assert_eq!(labels(Aggregation::Max), expected(["O", "B-PER", "O"]));
        // Means .5 .35 .15; .15 .5 .35; .4 .45 .15.
        assert_eq!(
            labels(Aggregation::Average),
            expected(["O", "B-PER", "B-PER"])
        );
    }

    #[test]
    fn words_that_belong_together_are_one_entity() {
        let words = words(&head(), TEXT, &tags(), Aggregation::First);
        let found = entities(TEXT, &words);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].entity, &*found[0].text), ("PER", "Émma Wood"));
        assert_eq!(found[0].characters, 0..9);
        assert!((found[0].score - 0.6).abs() < 1e-6);
        // A second beginning is a second name.
        let two = super::words(&head(), TEXT, &tags(), Aggregation::Average);
        let texts: Vec<String> = entities(TEXT, &two).into_iter().map(|e| e.text).collect();
        assert_eq!(texts, ["Wood", "said."]);
    }

    #[test]
    fn texts_without_words_have_none() {
        assert!(
            words(
                &head(),
                " \n",
                &[token(0..2, [1.0, 0.0, 0.0])],
                Aggregation::First
            )
            .is_empty()
        );
        assert!(words(&head(), "", &[], Aggregation::Max).is_empty());
    }
}
