//! In a build without the feature `chat-template`: templates are refused.

use super::message::Message;
use super::special_tokens::SpecialTokens;
use crate::{Error, Result};

/// Cannot be made in this build.
#[derive(Debug, Clone)]
pub(super) enum Template {}

impl Template {
    /// Refuses.
    pub(super) fn new(_source: &str) -> Result<Self> {
        Err(Error::Unsupported(
            "chat templates in this build, which is without the feature chat-template; \
             choose another form (dialogpt or transcript)"
                .to_owned(),
        ))
    }

    /// Never called.
    pub(super) fn render(
        &self,
        _messages: &[Message],
        _tokens: &SpecialTokens,
        _add_generation_prompt: bool,
    ) -> Result<String> {
        match *self {}
    }
}
