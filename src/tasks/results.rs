//! What a head says of a whole text, with the fields that its JSON has: the commands print it, the
//! server sends it.

use std::ops::Range;

use serde::Serialize;

use super::answer::{AnswerOptions, answer};
use super::likelihood::{Normalization, choice_likelihoods};
use super::scores::{LabelScore, ScoreFunction, label_scores};
use super::tag::{Aggregation, entities, tag, words};
use crate::sampling::softmax;
use crate::session::Session;
use crate::spec::ModelClass;
use crate::{Error, Result, TokenId};

/// A text with its label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classified {
    /// The text, unless ids were given.
    pub text: Option<String>,
    /// Its tokens.
    pub ids: Vec<TokenId>,
    /// The best label.
    pub label: String,
    /// Its score.
    pub score: f32,
    /// Every label with its score, the best first.
    pub scores: Vec<LabelScore>,
    /// The model's numbers, in the order of the labels.
    pub logits: Vec<f32>,
}

impl Classified {
    /// The label of `ids`; `function` is [`ScoreFunction::of`] the model's head unless given.
    ///
    /// # Errors
    /// As [`Session::classify`].
    pub fn new(
        session: &mut Session,
        text: Option<String>,
        ids: Vec<TokenId>,
        function: Option<ScoreFunction>,
    ) -> Result<Self> {
        let logits = session.classify(&ids)?;
        let head = &session.model().hyperparameters().head;
        let function = function.unwrap_or(ScoreFunction::of(head));
        let scores = label_scores(head, &logits, function);
        let best = scores.first();
        let (label, score) = best
            .map(|best| (best.label.clone(), best.score))
            .unwrap_or_default();
        Ok(Self {
            text,
            ids,
            label,
            score,
            scores,
            logits,
        })
    }
}

/// A text with the labels of its tokens, its words, and the entities that words make up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tagged {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TaggedToken>,
    /// What stands between white space.
    pub words: Vec<TaggedWord>,
    /// Words labelled `B-…` and `I-…` that belong together.
    pub entities: Vec<TaggedEntity>,
}

/// A token with its label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaggedToken {
    /// The token.
    pub id: TokenId,
    /// As the vocabulary writes it.
    pub token: Option<String>,
    /// The best label.
    pub label: String,
    /// Its probability.
    pub score: f32,
    /// Its characters in the text.
    #[serde(flatten)]
    pub place: Place,
}

/// A word with its label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaggedWord {
    /// The word.
    pub word: String,
    /// The best label.
    pub label: String,
    /// Its score.
    pub score: f32,
    /// Its characters in the text.
    #[serde(flatten)]
    pub place: Place,
}

/// Words that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaggedEntity {
    /// What it is.
    pub entity: String,
    /// Its text.
    pub text: String,
    /// The mean of its words' scores.
    pub score: f32,
    /// Its characters in the text.
    #[serde(flatten)]
    pub place: Place,
}

/// Characters of a text, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The first.
    pub start: usize,
    /// The one after the last.
    pub end: usize,
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

impl Tagged {
    /// The labels of a text.
    ///
    /// # Errors
    /// As [`tag`].
    pub fn new(session: &mut Session, text: String, aggregation: Aggregation) -> Result<Self> {
        let tags = tag(session, &text)?;
        let model = session.model();
        let tokenizer = model.tokenizer()?;
        let words = words(&model.hyperparameters().head, &text, &tags, aggregation);
        let entities = entities(&text, &words);
        let token = |tag: super::TokenTag| TaggedToken {
            id: tag.id,
            token: tokenizer.token_text(tag.id),
            label: tag.label,
            score: tag.score,
            place: tag.characters.into(),
        };
        let entity = |entity: super::Entity| TaggedEntity {
            entity: entity.entity,
            text: entity.text,
            score: entity.score,
            place: entity.characters.into(),
        };
        let word = |word: super::WordTag| TaggedWord {
            word: word.word,
            label: word.label,
            score: word.score,
            place: word.characters.into(),
        };
        Ok(Self {
            tokens: tags.into_iter().map(token).collect(),
            words: words.into_iter().map(word).collect(),
            entities: entities.into_iter().map(entity).collect(),
            text,
        })
    }
}

/// A question with its answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// The question.
    pub question: String,
    /// The best answer.
    #[serde(flatten)]
    pub best: Option<FoundAnswer>,
    /// All of them, the best first.
    pub answers: Vec<FoundAnswer>,
    /// The text, where it is one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundAnswer {
    /// Its text.
    pub answer: String,
    /// The probability that it starts and ends where it does.
    pub score: f32,
    /// Its characters in the text.
    #[serde(flatten)]
    pub place: Place,
}

impl Answered {
    /// The answers to `question` in `context`.
    ///
    /// # Errors
    /// As [`answer`].
    pub fn new(
        session: &mut Session,
        question: &str,
        context: &str,
        options: AnswerOptions,
    ) -> Result<Self> {
        let found = answer(session, question, context, options)?;
        let answers: Vec<FoundAnswer> = found
            .into_iter()
            .map(|found| FoundAnswer {
                answer: found.text,
                score: found.score,
                place: found.characters.into(),
            })
            .collect();
        Ok(Self {
            question: question.to_owned(),
            best: answers.first().cloned(),
            answers,
            context: None,
        })
    }
}

/// Continuations of a text, of which one is chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    /// What chose: `likelihood` or `head`.
    pub by: &'static str,
    /// What likelihoods were compared by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<&'static str>,
    /// The best choice; of equals the first.
    pub best: usize,
    /// The choices, in their order.
    pub rows: Vec<Choice>,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Its text, unless ids were given.
    pub choice: Option<String>,
    /// Its probability among the choices.
    pub score: f32,
    /// What that follows from.
    #[serde(flatten)]
    pub details: ChoiceDetails,
}

/// What the score of a choice follows from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ChoiceDetails {
    /// How likely a language model holds it.
    Likelihood {
        /// Σ ln p of its tokens.
        logprob: f64,
        /// By the number of tokens.
        logprob_per_token: f64,
        /// By the number of bytes.
        logprob_per_byte: f64,
        /// The number of tokens.
        tokens: usize,
    },
    /// What a double heads model gives it.
    Head {
        /// Its tokens, with those before it.
        ids: Vec<TokenId>,
        /// The number.
        logit: f32,
    },
}

impl Chosen {
    /// Chooses by the likelihoods that a language model gives after `context`.
    ///
    /// # Errors
    /// As [`choice_likelihoods`]; [`Error::Argument`] for fewer than two choices.
    pub fn by_likelihood(
        session: &mut Session,
        context: &str,
        choices: &[String],
        normalization: Normalization,
    ) -> Result<Self> {
        check_count(choices.len())?;
        let likelihoods = choice_likelihoods(session, context, choices)?;
        let values: Vec<f64> = likelihoods
            .iter()
            .map(|choice| choice.by(normalization))
            .collect();
        let details = likelihoods
            .iter()
            .map(|likelihood| ChoiceDetails::Likelihood {
                logprob: likelihood.log_probability,
                logprob_per_token: likelihood.by(Normalization::Tokens),
                logprob_per_byte: likelihood.by(Normalization::Bytes),
                tokens: likelihood.tokens,
            });
        let texts = choices.iter().cloned().map(Some);
        Ok(Self {
            normalization: Some(normalization.name()),
            ..Self::of("likelihood", &values, texts.zip(details))
        })
    }

    /// Chooses by the scores of a double heads model; each choice is given with what comes before
    /// it, and looked at at one of `indices`, by default the last token.
    ///
    /// # Errors
    /// As [`Session::choose`]; [`Error::Argument`] for fewer than two choices;
    /// [`Error::Unsupported`] for a summary of more than one number a choice.
    pub fn by_head(
        session: &mut Session,
        choices: Vec<(Option<String>, Vec<TokenId>)>,
        indices: Option<&[usize]>,
    ) -> Result<Self> {
        session.model().expect_class(ModelClass::DoubleHeads)?;
        check_count(choices.len())?;
        let (texts, ids): (Vec<_>, Vec<_>) = choices.into_iter().unzip();
        if ids.iter().any(Vec::is_empty) {
            return Err(Error::Argument(
                "expected choices of at least one token, found an empty one".to_owned(),
            ));
        }
        let scores = session.choose(&ids, indices)?;
        if scores.shape != [ids.len()] {
            return Err(Error::Unsupported(format!(
                "the model's summary gives {:?} values and not one a choice",
                scores.shape
            )));
        }
        let values: Vec<f64> = scores.scores.iter().map(|&logit| logit.into()).collect();
        let details = ids.into_iter().zip(&scores.scores);
        let details = details.map(|(ids, &logit)| ChoiceDetails::Head { ids, logit });
        Ok(Self::of("head", &values, texts.into_iter().zip(details)))
    }

    fn of(
        by: &'static str,
        values: &[f64],
        choices: impl Iterator<Item = (Option<String>, ChoiceDetails)>,
    ) -> Self {
        let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let better = |best: usize, other: usize| {
            if values[other] > values[best] {
                other
            } else {
                best
            }
        };
        let row = |((choice, details), score)| Choice {
            choice,
            score,
            details,
        };
        Self {
            by,
            normalization: None,
            best: (0..values.len()).reduce(better).unwrap_or_default(),
            rows: choices.zip(softmax(&narrow)).map(row).collect(),
        }
    }
}

fn check_count(count: usize) -> Result<()> {
    if count >= 2 {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "expected at least two choices of one token or more, found {count}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_its_score_and_what_that_follows_from() {
        let details = [1, 2, 3].map(|id| ChoiceDetails::Head {
            ids: vec![id],
            logit: 0.5,
        });
        let texts = [Some("a".to_owned()), None, None];
        let chosen = Chosen::of("head", &[0.0, 0.5, 0.5], texts.into_iter().zip(details));
        assert_eq!(chosen.best, 1);
        let json = serde_json::to_string(&chosen).unwrap();
        assert!(json.starts_with(r#"{"by":"head","best":1,"rows":[{"choice":"a","score":0."#));
        assert!(json.contains(r#","ids":[1],"logit":0.5}"#), "{json}");
    }

    #[test]
    fn the_best_answer_stands_beside_all() {
        let found = FoundAnswer {
            answer: "Emma".to_owned(),
            score: 0.5,
            place: (1..5).into(),
        };
        let answered = Answered {
            question: "Who?".to_owned(),
            best: Some(found.clone()),
            answers: vec![found],
            context: None,
        };
        let one = r#""answer":"Emma","score":0.5,"start":1,"end":5"#;
        let expected = format!(r#"{{"question":"Who?",{one},"answers":[{{{one}}}]}}"#);
        assert_eq!(serde_json::to_string(&answered).unwrap(), expected);
    }
}
