//! What the heads of the other classes give for whole texts, as numbers; the room `tasks` says what
//! they mean.

use crate::TokenId;
use crate::error::{Error, Result};
use crate::session::Batch;
use crate::session::Model;
use crate::session::SequenceSet;
use crate::session::Session;
use crate::spec::{ModelClass, SummaryType};

/// How the hidden states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pooling {
    /// The last token's, which has seen the whole text.
    #[default]
    Last,
    /// The mean over all tokens.
    Mean,
}

const POOLINGS: &[(&str, Pooling)] = &[("last", Pooling::Last), ("mean", Pooling::Mean)];

impl Pooling {
    /// The pooling called `name`: `last` or `mean`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = POOLINGS.iter().find(|(known, _)| *known == name);
        found.map(|(_, pooling)| *pooling)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        POOLINGS.iter().map(|(name, _)| *name)
    }
}

/// What double heads give for the choices of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceScores {
    /// The numbers, row-major.
    pub scores: Vec<f32>,
    /// How they stand: `[choices]` for most models; further axes for a head with other summaries.
    pub shape: Vec<usize>,
}

/// Where a sequence classifier looks: the last token that is not `pad`, else the first; without a
/// `pad` the last one (`GPT2ForSequenceClassification.forward` of transformers).
pub fn last_token(tokens: &[TokenId], pad: Option<TokenId>) -> usize {
    match pad {
        Some(pad) => tokens.iter().rposition(|&token| token != pad).unwrap_or(0),
        None => tokens.len().saturating_sub(1),
    }
}

impl Model {
    /// The outputs of the head for rows of last hidden states (row-major `[n, width]`): row-major
    /// `[n, outputs]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model whose class has no such head; [`Error::Argument`] for
    /// rows of another width.
    pub fn head_outputs(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let width = self.hyperparameters().n_embd;
        if !rows.len().is_multiple_of(width) {
            return Err(Error::Argument(format!(
                "expected rows of {width} numbers, found {} numbers",
                rows.len()
            )));
        }
        match self.task_head() {
            Some(head) => Ok(head.apply(rows)),
            None => Err(Error::Unsupported(format!(
                "outputs of a head from a {}, which has none beside the language model's",
                self.hyperparameters().class.name()
            ))),
        }
    }

    /// Refuses a model that is not of `class`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming both classes.
    pub fn expect_class(&self, class: ModelClass) -> Result<()> {
        let found = self.hyperparameters().class;
        if found == class {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "expected a {}, found a {}",
            class.name(),
            found.name()
        )))
    }

    /// Scores of choices from their last hidden states (each row-major `[tokens, width]`), as
    /// double heads sum them up: `indices` are the tokens that `cls_index` looks at, one a choice.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another class; [`Error::Argument`] when there are no choices,
    /// they differ in length where they are compared token by token, or an index is outside its
    /// choice.
    pub fn choice_scores(&self, choices: &[Vec<f32>], indices: &[usize]) -> Result<ChoiceScores> {
        self.expect_class(ModelClass::DoubleHeads)?;
        let width = self.hyperparameters().n_embd;
        let summary = self.hyperparameters().head.summary;
        let Some(first) = choices.first() else {
            return Err(Error::Argument(
                "expected at least one choice, found none".to_owned(),
            ));
        };
        let mut pooled = if summary.kind == SummaryType::ClassificationIndex {
            at_indices(choices, indices, width)?
        } else {
            if choices.iter().any(|choice| choice.len() != first.len()) {
                return Err(Error::Argument(format!(
                    "expected choices of one length, which summary_type {} compares token by token",
                    summary.kind.name()
                )));
            }
            across(choices, summary.kind)
        };
        let rows = pooled.len() / width;
        let outputs = match self.task_head() {
            Some(head) => {
                pooled = head.apply(&pooled);
                head.outputs()
            }
            None => width,
        };
        if let Some(activation) = summary.activation {
            activation.kernel()(&mut pooled);
        }
        let mut shape = vec![rows];
        if outputs != 1 {
            shape.push(outputs);
        }
        Ok(ChoiceScores {
            scores: pooled,
            shape,
        })
    }
}

/// The hidden state at an index of each choice.
fn at_indices(choices: &[Vec<f32>], indices: &[usize], width: usize) -> Result<Vec<f32>> {
    if indices.len() != choices.len() {
        return Err(Error::Argument(format!(
            "expected an index for each of {} choices, found {}",
            choices.len(),
            indices.len()
        )));
    }
    let mut pooled = Vec::with_capacity(choices.len() * width);
    for (choice, &index) in choices.iter().zip(indices) {
        let state = choice.chunks_exact(width).nth(index).ok_or_else(|| {
            Error::Argument(format!(
                "expected an index below a choice's {} tokens, found {index}",
                choice.len() / width
            ))
        })?;
        pooled.extend_from_slice(state);
    }
    Ok(pooled)
}

/// One row a token: the last or first choice's, or the mean over choices.
fn across(choices: &[Vec<f32>], kind: SummaryType) -> Vec<f32> {
    let choice = |choice: Option<&Vec<f32>>| choice.cloned().unwrap_or_default();
    match kind {
        SummaryType::First => choice(choices.first()),
        SummaryType::Mean => {
            let mut mean = vec![0.0; choice(choices.first()).len()];
            for choice in choices {
                for (sum, value) in mean.iter_mut().zip(choice) {
                    *sum += value;
                }
            }
            for sum in &mut mean {
                *sum /= choices.len() as f32;
            }
            mean
        }
        SummaryType::Last | SummaryType::ClassificationIndex => choice(choices.last()),
    }
}

impl Session {
    /// The last hidden states of a text alone, row-major `[tokens, width]`. What sequence 0 held is
    /// let go.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Argument`] when there are no tokens.
    pub fn text_states(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
        if tokens.is_empty() {
            return Err(Error::Argument(
                "expected at least one token, found none".to_owned(),
            ));
        }
        self.truncate(0, 0)?;
        let mut batch = Batch::of_text(tokens, 0, SequenceSet::of(0)?, |_| true);
        (batch.logits, batch.last_hidden_state) = (false, true);
        Ok(&self.run(&batch)?.last_hidden_state)
    }

    /// A sequence classifier's logits for a text, `[labels]`: those at [`last_token`].
    ///
    /// # Errors
    /// As [`Session::text_states`]; [`Error::Unsupported`] for a model of another class.
    pub fn classify(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>> {
        self.model()
            .expect_class(ModelClass::SequenceClassification)?;
        let width = self.model().hyperparameters().n_embd;
        let last = last_token(tokens, self.model().hyperparameters().pad);
        let states = self.text_states(tokens)?;
        let state = states[last * width..(last + 1) * width].to_vec();
        self.model().head_outputs(&state)
    }

    /// A token classifier's logits, row-major `[tokens, labels]`.
    ///
    /// # Errors
    /// As [`Session::classify`].
    pub fn tag(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>> {
        self.model().expect_class(ModelClass::TokenClassification)?;
        self.all_outputs(tokens)
    }

    /// How well an answer starts and ends at each token: logits `[tokens]` of starts, and of ends.
    ///
    /// # Errors
    /// As [`Session::classify`].
    pub fn answer(&mut self, tokens: &[TokenId]) -> Result<(Vec<f32>, Vec<f32>)> {
        self.model().expect_class(ModelClass::QuestionAnswering)?;
        let outputs = self.all_outputs(tokens)?;
        Ok(outputs
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .unzip())
    }

    /// Scores of choices, each with what comes before it. `indices` are the tokens the head looks
    /// at; the last ones unless given.
    ///
    /// # Errors
    /// As [`Session::classify`] and [`Model::choice_scores`].
    pub fn choose(
        &mut self,
        choices: &[Vec<TokenId>],
        indices: Option<&[usize]>,
    ) -> Result<ChoiceScores> {
        self.model().expect_class(ModelClass::DoubleHeads)?;
        let mut states = Vec::with_capacity(choices.len());
        for choice in choices {
            states.push(self.text_states(choice)?.to_vec());
        }
        let last: Vec<usize> = choices.iter().map(|choice| choice.len() - 1).collect();
        self.model()
            .choice_scores(&states, indices.unwrap_or(&last))
    }

    /// One vector for a text, `[width]`; with `normalize` its length is 1 (unless it is all zeros).
    ///
    /// # Errors
    /// As [`Session::text_states`].
    pub fn embed(
        &mut self,
        tokens: &[TokenId],
        pooling: Pooling,
        normalize: bool,
    ) -> Result<Vec<f32>> {
        let width = self.model().hyperparameters().n_embd;
        let states = self.text_states(tokens)?;
        let mut sums = vec![0.0f64; width];
        let (rows, count) = match pooling {
            Pooling::Last => (&states[states.len() - width..], 1),
            Pooling::Mean => (states, tokens.len()),
        };
        for row in rows.chunks_exact(width) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        let divisor = if normalize && length > 0.0 {
            length
        } else {
            count as f64
        };
        Ok(sums.iter().map(|sum| (sum / divisor) as f32).collect())
    }

    fn all_outputs(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>> {
        let states = self.text_states(tokens)?.to_vec();
        self.model().head_outputs(&states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_end() {
        assert_eq!(last_token(&[5, 6, 9, 9], Some(9)), 1);
        assert_eq!(last_token(&[9, 5, 9, 6], Some(9)), 3);
        assert_eq!(last_token(&[9, 9], Some(9)), 0);
        assert_eq!(last_token(&[5, 6, 9], None), 2);
    }

    #[test]
    fn choices_are_compared_token_by_token_or_at_an_index() {
        let choices = [vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0, 7.0, 10.0]];
        assert_eq!(
            at_indices(&choices, &[1, 0], 2).unwrap(),
            [3.0, 4.0, 5.0, 6.0]
        );
        assert!(at_indices(&choices, &[1, 2], 2).is_err());
        assert!(at_indices(&choices, &[1], 2).is_err());
        assert_eq!(across(&choices, SummaryType::First), choices[0]);
        assert_eq!(across(&choices, SummaryType::Last), choices[1]);
        assert_eq!(across(&choices, SummaryType::Mean), [3.0, 4.0, 5.0, 7.0]);
    }
}
