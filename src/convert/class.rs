//! Which class a checkpoint is of, and how many outputs its head has: from the claims of the
//! configuration and the tensors.

use crate::error::{Error, Result};
use crate::spec::tensor_table::{class_of_head, head_matrix_of};
use crate::spec::{Hyperparameters, ModelClass};

/// The number of outputs of double heads for a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SummaryOutputs {
    /// The hidden state itself (`summary_use_proj` false).
    NoProjection,
    /// One: `GPT2DoubleHeadsModel` has a single label (`summary_proj_to_labels`).
    One,
    /// `n_embd`.
    Embd,
}

/// What a configuration says of the class.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// `architectures`, as the file names them.
    pub architectures: Vec<String>,
    /// Outputs of double heads.
    pub summary_outputs: SummaryOutputs,
}

impl Claim {
    /// Determines the class of a checkpoint that has the tensors `paths` (without the prefix);
    /// `shape_of` returns the shape of one, in `PyTorch`'s order. Sets the model's class and its
    /// head's outputs.
    ///
    /// `architectures` is not reliable: fine-tuned checkpoints keep the names of the model they
    /// started from, or have names of their own. So tensors of a head override a claim to have
    /// none; missing tensors of a head that is claimed are reported later, by name.
    ///
    /// # Errors
    /// [`Error::Format`] when there are not as many labels as outputs.
    pub(super) fn resolve(
        &self,
        paths: &[&str],
        shape_of: &dyn Fn(&str) -> Option<Vec<u64>>,
        model: &mut Hyperparameters,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let known = self
            .architectures
            .iter()
            .find_map(|name| ModelClass::from_name(name));
        let mut classes_present = paths.iter().filter_map(|path| class_of_head(path));
        let has_language_head = paths.iter().any(|path| path.starts_with("lm_head."));
        let present = classes_present.next();
        model.class = match (known, present) {
            (Some(class), _) if head_matrix_of(class).is_some() => class,
            (claimed, Some(class)) => {
                if let Some(claimed) = claimed {
                    warnings.push(format!(
                        "config.json says {}, but the weights have the head of a {}, which is used",
                        claimed.name(),
                        class.name()
                    ));
                }
                class
            }
            (Some(ModelClass::Base), None) if !has_language_head => ModelClass::Base,
            _ => ModelClass::LanguageModel,
        };
        if let (None, Some(unknown)) = (known, self.architectures.first()) {
            warnings.push(format!(
                "config.json: the architecture '{unknown}' is not known; by its tensors it is a {}",
                model.class.name()
            ));
        }
        model.head.outputs = self.outputs(shape_of, model);
        let is_classifier = matches!(
            model.class,
            ModelClass::SequenceClassification | ModelClass::TokenClassification
        );
        if !is_classifier {
            model.head.labels.clear();
            model.head.problem_type = None;
        }
        let (outputs, labels) = (model.head.outputs, model.head.labels.len());
        if labels > 0 && outputs > 0 && labels != outputs {
            return Err(Error::format(
                "config.json: id2label",
                format!("names {labels} labels, but the head has {outputs} outputs"),
            ));
        }
        Ok(())
    }

    /// Outputs of the head of the class.
    fn outputs(
        &self,
        shape_of: &dyn Fn(&str) -> Option<Vec<u64>>,
        model: &Hyperparameters,
    ) -> usize {
        match model.class {
            ModelClass::Base | ModelClass::LanguageModel => 0,
            ModelClass::DoubleHeads => match self.summary_outputs {
                SummaryOutputs::NoProjection => 0,
                SummaryOutputs::One => 1,
                SummaryOutputs::Embd => model.n_embd,
            },
            ModelClass::QuestionAnswering => 2,
            // The rows of the matrix decide. Without one any number will do: it is reported
            // missing.
            ModelClass::SequenceClassification | ModelClass::TokenClassification => {
                let shape = head_matrix_of(model.class).and_then(shape_of);
                let rows = shape.and_then(|shape| shape.first().copied());
                rows.and_then(|rows| usize::try_from(rows).ok())
                    .unwrap_or(model.head.labels.len().max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class and outputs of a checkpoint, and the warnings.
    fn resolved(
        architectures: &[&str],
        tensors: &[(&str, &[u64])],
        labels: usize,
    ) -> Result<(ModelClass, usize, Vec<String>)> {
        let claim = Claim {
            architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
            summary_outputs: SummaryOutputs::One,
        };
        let mut model = Hyperparameters::default();
        model.head.labels = (0..labels).map(|id| id.to_string()).collect();
        let mut warnings = Vec::new();
        let paths: Vec<&str> = tensors.iter().map(|(path, _)| *path).collect();
        let shape_of = |path: &str| {
            let found = tensors.iter().find(|(known, _)| *known == path);
            found.map(|(_, shape)| shape.to_vec())
        };
        claim.resolve(&paths, &shape_of, &mut model, &mut warnings)?;
        Ok((model.class, model.head.outputs, warnings))
    }

    const SCORE: (&str, &[u64]) = ("score.weight", &[3, 64]);

    #[test]
    fn a_head_that_is_there_counts() {
        let (class, outputs, warnings) = resolved(&["GPT2LMHeadModel"], &[SCORE], 0).unwrap();
        assert_eq!((class, outputs), (ModelClass::SequenceClassification, 3));
        assert_eq!(warnings.len(), 1);
        let (class, outputs, warnings) = resolved(&[], &[SCORE], 3).unwrap();
        assert_eq!((class, outputs), (ModelClass::SequenceClassification, 3));
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_head_that_is_claimed_is_missed_later() {
        for (labels, expected) in [(0, 1), (2, 2)] {
            let (class, outputs, _) =
                resolved(&["GPT2ForSequenceClassification"], &[], labels).unwrap();
            assert_eq!(class, ModelClass::SequenceClassification);
            assert_eq!(outputs, expected);
        }
    }

    #[test]
    fn a_bare_model_with_a_language_head_is_a_language_model() {
        let class = |tensors: &[(&str, &[u64])]| resolved(&["GPT2Model"], tensors, 0).unwrap().0;
        assert_eq!(class(&[]), ModelClass::Base);
        assert_eq!(
            class(&[("lm_head.weight", &[9, 4])]),
            ModelClass::LanguageModel
        );
    }

    #[test]
    fn unknown_architectures_are_told() {
        let (class, _, warnings) = resolved(&["GPT2LMAndValueHeadModel"], &[], 0).unwrap();
        assert_eq!(class, ModelClass::LanguageModel);
        assert!(
            warnings[0].contains("GPT2LMAndValueHeadModel"),
            "{warnings:?}"
        );
    }

    #[test]
    fn labels_are_as_many_as_outputs() {
        let message = resolved(&[], &[SCORE], 2).unwrap_err().to_string();
        assert!(
            message.contains("id2label") && message.contains('3'),
            "{message}"
        );
    }
}
