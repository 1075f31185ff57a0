//! What is to be scored, and the scores of one text.

use crate::TokenId;
use crate::sampling::TokenScore;

/// Tokens to score, and what stands before them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoreRequest {
    /// Tokens before those that are scored; they are not scored themselves. Without any, the first
    /// token has no score.
    pub context: Vec<TokenId>,
    /// The tokens to score.
    pub tokens: Vec<TokenId>,
}

/// A text's scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextScores {
    /// Each token's; none for a first token with nothing before it.
    pub tokens: Vec<Option<TokenScore>>,
    /// In how many windows the text was computed: 1 unless it is longer than the context, 0 when
    /// nothing was to be scored.
    pub windows: usize,
}

impl TextScores {
    /// How many tokens have a score.
    pub fn scored(&self) -> usize {
        self.tokens.iter().flatten().count()
    }

    /// Σ ln p, in nats.
    pub fn sum(&self) -> f64 {
        let scores = self.tokens.iter().flatten();
        // An empty sum would be −0.
        scores.fold(0.0, |sum, score| sum + score.log_probability)
    }

    /// The sum by the number of tokens scored; none when that is 0.
    pub fn mean(&self) -> Option<f64> {
        let count = self.scored();
        (count > 0).then(|| self.sum() / count as f64)
    }

    /// exp(−mean); none when no token was scored.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(|mean| libm::exp(-mean))
    }
}
