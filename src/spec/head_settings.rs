//! The settings of the head of a class: its outputs, their labels, the summary of a sequence.

use crate::error::{Error, Result};
use crate::gguf::{GgufHeader, Metadata};
use crate::spec::Activation;

/// The keys in GGUF files. That of the labels is llama.cpp's.
mod key {
    pub(super) const LABELS: &str = "gpt2.classifier.output_labels";
    pub(super) const PROBLEM_TYPE: &str = "gpt2_edge.problem_type";
    pub(super) const SUMMARY_TYPE: &str = "gpt2_edge.summary_type";
    pub(super) const SUMMARY_ACTIVATION: &str = "gpt2_edge.summary_activation";
}

/// The settings of a model's head.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeadSettings {
    /// Outputs for a token: one for each label; 2 for question answering; 0 when there is no
    /// matrix.
    pub outputs: usize,
    /// Names of the outputs of a classifier, one for each, or none (`id2label`).
    pub labels: Vec<String>,
    /// What the outputs of a classifier mean, when the configuration says.
    pub problem_type: Option<ProblemType>,
    /// How double heads summarize a choice.
    pub summary: Summary,
}

/// What the outputs of a classifier mean (`problem_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemType {
    /// Quantities.
    Regression,
    /// Exactly one label is right.
    SingleLabel,
    /// Any number of labels is right.
    MultiLabel,
}

const PROBLEM_TYPES: &[(&str, ProblemType)] = &[
    ("regression", ProblemType::Regression),
    ("single_label_classification", ProblemType::SingleLabel),
    ("multi_label_classification", ProblemType::MultiLabel),
];

/// Which hidden states double heads use (`summary_type`).
///
/// Apart from `cls_index` they work on the axis after the batch's, which for a batch of choices is
/// the choices' own, as in transformers' `SequenceSummary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SummaryType {
    /// The token at an index of its own for each choice; the last one unless it is given.
    #[default]
    ClassificationIndex,
    /// The last.
    Last,
    /// The first.
    First,
    /// The mean.
    Mean,
}

const SUMMARY_TYPES: &[(&str, SummaryType)] = &[
    ("cls_index", SummaryType::ClassificationIndex),
    ("last", SummaryType::Last),
    ("first", SummaryType::First),
    ("mean", SummaryType::Mean),
];

/// How double heads summarize a choice: which hidden states, then the matrix if there is one, then
/// a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Which hidden states.
    pub kind: SummaryType,
    /// The function after the matrix (`summary_activation`).
    pub activation: Option<Activation>,
}

impl ProblemType {
    /// The kind of problem transformers calls `name`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another name, listing those that are known.
    pub fn from_name(name: &str) -> Result<Self> {
        find(PROBLEM_TYPES, "problem_type", name)
    }

    /// The name transformers gives it.
    pub fn name(self) -> &'static str {
        name_of(PROBLEM_TYPES, self)
    }
}

impl SummaryType {
    /// The summary transformers calls `name`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another name, listing those that are known.
    pub fn from_name(name: &str) -> Result<Self> {
        find(SUMMARY_TYPES, "summary_type", name)
    }

    /// The name transformers gives it.
    pub fn name(self) -> &'static str {
        name_of(SUMMARY_TYPES, self)
    }
}

impl HeadSettings {
    /// The name of output `index`: the model's, or transformers' default.
    pub fn label(&self, index: usize) -> String {
        self.labels
            .get(index)
            .cloned()
            .unwrap_or_else(|| format!("LABEL_{index}"))
    }

    /// Reads the settings from a GGUF file; `outputs` are the rows of the head's matrix.
    ///
    /// # Errors
    /// [`Error::Format`] for values of the wrong type, or names that are not as many as the
    /// outputs; [`Error::Unsupported`] for unknown names of settings.
    pub(super) fn from_metadata(metadata: &Metadata, outputs: usize) -> Result<Self> {
        let labels = match metadata.strings(key::LABELS)? {
            // Without outputs they belong to another head.
            Some(labels) if outputs > 0 => labels
                .map(|label| label.map(str::to_owned))
                .collect::<Result<Vec<_>>>()?,
            _ => Vec::new(),
        };
        if !labels.is_empty() && labels.len() != outputs {
            return Err(Error::format(
                format!("key {}", key::LABELS),
                format!(
                    "expected a name for each of the head's {outputs} outputs, found {}",
                    labels.len()
                ),
            ));
        }
        let problem_type = metadata.str(key::PROBLEM_TYPE)?;
        let kind = metadata.str(key::SUMMARY_TYPE)?;
        let activation = metadata.str(key::SUMMARY_ACTIVATION)?;
        Ok(Self {
            outputs,
            labels,
            problem_type: problem_type.map(ProblemType::from_name).transpose()?,
            summary: Summary {
                kind: kind.map_or(Ok(SummaryType::default()), SummaryType::from_name)?,
                activation: activation.map(Activation::from_name).transpose()?,
            },
        })
    }

    /// Writes what differs from the default under the keys that [`HeadSettings::from_metadata`]
    /// reads.
    pub(super) fn write_to(&self, header: &mut GgufHeader) -> Result<()> {
        if !self.labels.is_empty() {
            header.set(key::LABELS, self.labels.clone())?;
        }
        if let Some(problem_type) = self.problem_type {
            header.set(key::PROBLEM_TYPE, problem_type.name())?;
        }
        if self.summary.kind != SummaryType::default() {
            header.set(key::SUMMARY_TYPE, self.summary.kind.name())?;
        }
        if let Some(activation) = self.summary.activation {
            header.set(key::SUMMARY_ACTIVATION, activation.name())?;
        }
        Ok(())
    }
}

fn find<T: Copy>(names: &[(&str, T)], field: &str, name: &str) -> Result<T> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
        Error::Unsupported(format!("{field} '{name}'; known are {}", known.join(", ")))
    })
}

fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    let found = names.iter().find(|(_, known)| *known == value);
    found.map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_come_back() {
        for (name, kind) in SUMMARY_TYPES {
            assert_eq!(SummaryType::from_name(name).unwrap(), *kind);
            assert_eq!(kind.name(), *name);
        }
        for (name, problem_type) in PROBLEM_TYPES {
            assert_eq!(ProblemType::from_name(name).unwrap(), *problem_type);
            assert_eq!(problem_type.name(), *name);
        }
        let message = SummaryType::from_name("attn").unwrap_err().to_string();
        assert!(
            message.contains("'attn'") && message.contains("cls_index"),
            "{message}"
        );
    }

    #[test]
    fn outputs_without_names_get_defaults() {
        let settings = HeadSettings {
            labels: vec!["good".to_owned()],
            ..HeadSettings::default()
        };
        assert_eq!(
            (settings.label(0), settings.label(1)),
            ("good".into(), "LABEL_1".into())
        );
    }
}
