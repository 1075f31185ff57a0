//! Logits of labels become scores.

use serde::Serialize;

use crate::sampling::softmax;
use crate::spec::{HeadSettings, ProblemType};

/// A label with its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelScore {
    /// The label's number.
    #[serde(skip)]
    pub id: usize,
    /// Its name.
    pub label: String,
    /// Its score: a probability, or for regression the number itself.
    pub score: f32,
}

/// How logits become scores (`function_to_apply` of transformers' pipelines).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScoreFunction {
    /// Probabilities that sum to 1: one label is right.
    Softmax,
    /// A probability for each label by itself.
    Sigmoid,
    /// The logits as they are.
    None,
}

const FUNCTIONS: &[(&str, ScoreFunction)] = &[
    ("softmax", ScoreFunction::Softmax),
    ("sigmoid", ScoreFunction::Sigmoid),
    ("none", ScoreFunction::None),
];

impl ScoreFunction {
    /// The function called `name`: `softmax`, `sigmoid` or `none`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
        found.map(|(_, function)| *function)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|(name, _)| *name)
    }

    /// What a sequence classifier's scores are made with: nothing for regression, sigmoid for
    /// several labels at a time or for a single label, else softmax.
    pub fn of(head: &HeadSettings) -> Self {
        match head.problem_type {
            Some(ProblemType::Regression) => Self::None,
            Some(ProblemType::MultiLabel) => Self::Sigmoid,
            _ if head.outputs == 1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// The scores of `logits`.
    pub fn apply(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Self::Softmax => softmax(logits),
            Self::Sigmoid => logits
                .iter()
                .map(|&logit| (1.0 / (1.0 + libm::exp(-f64::from(logit)))) as f32)
                .collect(),
            Self::None => logits.to_vec(),
        }
    }
}

/// Every label with its score, the best first, of equals the smaller number.
pub fn label_scores(
    head: &HeadSettings,
    logits: &[f32],
    function: ScoreFunction,
) -> Vec<LabelScore> {
    let mut scores: Vec<LabelScore> = function
        .apply(logits)
        .into_iter()
        .enumerate()
        .map(|(id, score)| LabelScore {
            id,
            label: head.label(id),
            score,
        })
        .collect();
    scores.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(outputs: usize, problem_type: Option<ProblemType>) -> HeadSettings {
        HeadSettings {
            outputs,
            problem_type,
            ..HeadSettings::default()
        }
    }

    #[test]
    fn the_function_follows_the_pipelines() {
        let of = |outputs, problem_type| ScoreFunction::of(&head(outputs, problem_type));
        assert_eq!(of(1, None), ScoreFunction::Sigmoid);
        assert_eq!(of(3, None), ScoreFunction::Softmax);
        assert_eq!(
            of(3, Some(ProblemType::SingleLabel)),
            ScoreFunction::Softmax
        );
        assert_eq!(of(3, Some(ProblemType::MultiLabel)), ScoreFunction::Sigmoid);
        assert_eq!(of(1, Some(ProblemType::Regression)), ScoreFunction::None);
    }

    #[test]
    fn scores_by_hand() {
        let ln3 = libm::logf(3.0);
        // e^0 : e^ln 3 = 1 : 3.
        let scores = label_scores(&head(2, None), &[0.0, ln3], ScoreFunction::Softmax);
        assert_eq!((scores[0].id, &*scores[0].label), (1, "LABEL_1"));
        assert!((scores[0].score - 0.75).abs() < 1e-6 && (scores[1].score - 0.25).abs() < 1e-6);
        // 1/(1 + 1/3) and 1/2.
        let scores = ScoreFunction::Sigmoid.apply(&[ln3, 0.0]);
        assert!((scores[0] - 0.75).abs() < 1e-6 && (scores[1] - 0.5).abs() < 1e-6);
        assert_eq!(ScoreFunction::None.apply(&[-7.0]), [-7.0]);
        // Large numbers do not overflow.
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
        assert!(softmax(&[]).is_empty());
    }
}
