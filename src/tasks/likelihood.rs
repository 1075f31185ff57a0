//! Multiple choice by likelihood: which continuation a language model finds likeliest.

use std::ops::ControlFlow;

use super::scoring::{ScoreOptions, ScoredText, score};
use crate::session::Session;
use crate::{Error, Result};

/// How likely a choice is after its context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceLikelihood {
    /// Σ ln p of its tokens, in nats.
    pub log_probability: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// What choices are compared by: longer ones are less likely by their length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Normalization {
    /// The sum itself (`acc` of lm-evaluation-harness).
    #[default]
    None,
    /// The sum by the number of tokens.
    Tokens,
    /// The sum by the number of bytes (`acc_bytes`; `acc_norm` counts characters, and leaves out
    /// the space in front).
    Bytes,
}

const NORMALIZATIONS: &[(&str, Normalization)] = &[
    ("none", Normalization::None),
    ("tokens", Normalization::Tokens),
    ("bytes", Normalization::Bytes),
];

impl Normalization {
    /// The normalization called `name`: `none`, `tokens` or `bytes`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = NORMALIZATIONS.iter().find(|(known, _)| *known == name);
        found.map(|(_, normalization)| *normalization)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = NORMALIZATIONS.iter().find(|(_, other)| *other == self);
        found.map_or("none", |(name, _)| name)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NORMALIZATIONS.iter().map(|(name, _)| *name)
    }
}

impl ChoiceLikelihood {
    /// What it is compared by.
    pub fn by(&self, normalization: Normalization) -> f64 {
        match normalization {
            Normalization::None => self.log_probability,
            Normalization::Tokens => self.log_probability / self.tokens as f64,
            Normalization::Bytes => self.log_probability / self.bytes as f64,
        }
    }
}

/// How likely each of `choices` is after `context`, which is computed once. Choices are encoded
/// apart from it: begin each with the space that begins its first word. An empty context is the
/// model's beginning of text. The session's cache is emptied.
///
/// # Errors
/// [`Error::Argument`] for a choice without tokens, or an empty context for a model without a
/// beginning of text; as [`score`] and [`ScoredText::new`].
pub fn choice_likelihoods(
    session: &mut Session,
    context: &str,
    choices: &[impl AsRef<str>],
) -> Result<Vec<ChoiceLikelihood>> {
    let model = session.model().clone();
    let bos = context.is_empty();
    let mut requests = Vec::with_capacity(choices.len());
    for choice in choices {
        let text = ScoredText::new(&model, Some(context), bos, choice.as_ref())?;
        if text.request.tokens.is_empty() {
            return Err(Error::Argument(
                "expected choices of at least one token, found an empty one".to_owned(),
            ));
        }
        requests.push(text.request);
    }
    let mut likelihoods = Vec::with_capacity(choices.len());
    score(
        session,
        &requests,
        &ScoreOptions::default(),
        &mut |index, scores| {
            likelihoods.push(ChoiceLikelihood {
                log_probability: scores.sum(),
                tokens: scores.tokens.len(),
                bytes: choices[index].as_ref().len(),
            });
            ControlFlow::Continue(())
        },
    )?;
    Ok(likelihoods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_likelihood_is_of_the_whole_a_token_or_a_byte() {
        let choice = ChoiceLikelihood {
            log_probability: -12.0,
            tokens: 2,
            bytes: 8,
        };
        let by = |name| choice.by(Normalization::from_name(name).unwrap());
        assert_eq!([by("none"), by("tokens"), by("bytes")], [-12.0, -6.0, -1.5]);
        let names: Vec<&str> = Normalization::names().collect();
        assert_eq!(names, ["none", "tokens", "bytes"]);
        assert_eq!(Normalization::Bytes.name(), "bytes");
        assert_eq!(Normalization::from_name("letters"), None);
    }
}
