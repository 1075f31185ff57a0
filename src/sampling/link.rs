//! A link of the chain, and what the links need to know of a request.

use super::Processor;
use super::guidance::ClassifierFreeGuidance;
use super::penalties::DiversityPenalty;
use crate::TokenId;

/// What the processors need to know of a request besides its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainContext<'a> {
    /// The prompt's ids.
    pub prompt: &'a [TokenId],
    /// The ids that end a text.
    pub eos: &'a [TokenId],
    /// Beams of the search; 1 without one. With more, no filter leaves fewer tokens than there are
    /// ends of text and one more.
    pub beams: usize,
    /// Most ids in total, prompt included.
    pub max_length: Option<usize>,
}

/// A link of the chain, by what it looks at besides the scores.
pub(super) enum Link {
    Guidance(ClassifierFreeGuidance),
    Diversity(DiversityPenalty),
    Processor(Box<dyn Processor>),
}

/// A link and the parameter that it comes from.
pub(super) type NamedLink = (&'static str, Link);
