//! The classes of GPT-2: which head, if any, follows the transformer.

/// A class of models, after transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ModelClass {
    /// `GPT2Model`: the transformer alone.
    Base,
    /// `GPT2LMHeadModel`: the next token's logits.
    #[default]
    LanguageModel,
    /// `GPT2DoubleHeadsModel`: a language model that also scores the choices of a question.
    DoubleHeads,
    /// `GPT2ForSequenceClassification`: a label for a text.
    SequenceClassification,
    /// `GPT2ForTokenClassification`: a label for each token.
    TokenClassification,
    /// `GPT2ForQuestionAnswering`: where an answer starts and ends.
    QuestionAnswering,
}

/// Every class with the name transformers gives it, which is also the one in files.
const CLASSES: &[(&str, ModelClass)] = &[
    ("GPT2Model", ModelClass::Base),
    ("GPT2LMHeadModel", ModelClass::LanguageModel),
    ("GPT2DoubleHeadsModel", ModelClass::DoubleHeads),
    (
        "GPT2ForSequenceClassification",
        ModelClass::SequenceClassification,
    ),
    (
        "GPT2ForTokenClassification",
        ModelClass::TokenClassification,
    ),
    ("GPT2ForQuestionAnswering", ModelClass::QuestionAnswering),
];

/// Prefixes of the classes of other frameworks.
const FRAMEWORKS: &[&str] = &["TF", "Flax"];

impl ModelClass {
    /// The class transformers calls `name`, in whichever framework.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = FRAMEWORKS
            .iter()
            .find_map(|framework| name.strip_prefix(framework))
            .unwrap_or(name);
        CLASSES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, class)| *class)
    }

    /// The name transformers gives the class.
    pub fn name(self) -> &'static str {
        CLASSES
            .iter()
            .find(|(_, class)| *class == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether a language-model head, tied or not, is part of the class.
    pub fn has_language_head(self) -> bool {
        matches!(self, Self::LanguageModel | Self::DoubleHeads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_comes_back() {
        for (name, class) in CLASSES {
            assert_eq!(ModelClass::from_name(name), Some(*class));
            assert_eq!(class.name(), *name);
        }
        let flax = ModelClass::from_name("FlaxGPT2LMHeadModel");
        assert_eq!(flax, Some(ModelClass::LanguageModel));
        assert_eq!(ModelClass::from_name("GPT2LMAndValueHeadModel"), None);
    }
}
