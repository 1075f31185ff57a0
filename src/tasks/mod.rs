//! What heads mean: labels with scores, words with labels, answers with their places; and how
//! likely the language-model head holds a text.
//!
//! transformers' pipelines do the same. This room turns the numbers of [`crate::session`] into
//! answers about texts; it knows tokens' places in a text, and nothing of graphs, files or
//! commands.

mod answer;
mod heads;
mod likelihood;
mod perplexity;
mod results;
mod scores;
mod scoring;
mod tag;

pub use answer::{Answer, AnswerOptions, answer, best_spans};
pub use heads::{ChoiceScores, Pooling, last_token};
pub use likelihood::{ChoiceLikelihood, Normalization, choice_likelihoods};
pub use perplexity::{Comparison, Perplexity, PerplexityOptions, perplexity};
pub use results::{
    Answered, Choice, ChoiceDetails, Chosen, Classified, FoundAnswer, Place, Tagged, TaggedEntity,
    TaggedToken, TaggedWord,
};
pub use scores::{LabelScore, ScoreFunction, label_scores};
pub use scoring::{
    Batching, ScoreOptions, ScoreRequest, ScoredText, TextScores, WordScore, score, scoring_needs,
    word_scores,
};
pub use tag::{Aggregation, Entity, TokenTag, WordTag, entities, tag, words};
