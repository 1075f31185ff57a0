//! A conversation in a file: JSON with its format's name and version.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::conversation::Conversation;
use super::message::Message;
use crate::input::read_text;
use crate::output::AtomicFile;
use crate::{Error, Result};

/// What a conversation's file says it is.
const FORMAT: &str = "gpt2-edge conversation";
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    messages: Vec<Message>,
}

impl Conversation {
    /// Writes the whole conversation to `path`, at once or not at all.
    ///
    /// # Errors
    /// [`Error::Argument`] when the file exists and `overwrite` is false; [`Error::Io`].
    pub fn save(&self, path: &Path, overwrite: bool) -> Result<()> {
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            messages: self.messages(),
        };
        let mut text = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::format(path.display().to_string(), error.to_string()))?;
        text.push('\n');
        let mut file = AtomicFile::create(path, overwrite)?;
        file.write_all(text.as_bytes())
            .map_err(|error| Error::io(path, error))?;
        file.finish()
    }

    /// Reads a conversation that [`save`](Self::save) wrote; `\r\n` in messages is read as `\n`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is no conversation, or its
    /// turns are out of order or end without an answer; [`Error::Unsupported`] for a newer version.
    pub fn load(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let bytes = read_text(path, &mut Vec::new())?;
        let mut document: Document = serde_json::from_slice(&bytes).map_err(|error| {
            Error::format(&place, format!("expected a saved conversation: {error}"))
        })?;
        if document.format != FORMAT {
            let found = document.format.chars().take(60).collect::<String>();
            let message = format!("expected the format {FORMAT:?}, found {found:?}");
            return Err(Error::format(place, message));
        }
        if document.version == 0 || document.version > VERSION {
            return Err(Error::Unsupported(format!(
                "{place}: a conversation of version {}; this program reads version {VERSION}",
                document.version
            )));
        }
        // Written by hand or another program: what is typed has no others.
        for message in &mut document.messages {
            message.content = message.content.replace("\r\n", "\n");
        }
        let conversation = Self::from_messages(document.messages)
            .map_err(|error| Error::format(&place, error.to_string()))?;
        if conversation.turns().len() % 2 != 0 {
            let message = "expected the last turn to be the assistant's, found the user's";
            return Err(Error::format(place, message));
        }
        Ok(conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let mut conversation = Conversation::new(Some("be\nbrief".to_owned()));
        conversation.ask("\"How\" — 海?\n\u{1b}").unwrap();
        conversation.answer("").unwrap();
        conversation.save(&path, false).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), conversation);
        let error = conversation.save(&path, false).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
        conversation.reset();
        conversation.save(&path, true).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), conversation);
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        for (text, said) in [
            ("", "expected a saved conversation"),
            ("{\"format\": 3}", "expected a saved conversation"),
            (
                r#"{"format": "other", "version": 1, "messages": []}"#,
                "found \"other\"",
            ),
            (
                r#"{"format": "gpt2-edge conversation", "version": 2, "messages": []}"#,
                "version 2; this program reads version 1",
            ),
            (
                r#"{"format": "gpt2-edge conversation", "version": 1,
                    "messages": [{"role": "assistant", "content": ""}]}"#,
                "message 0: expected the role user",
            ),
            (
                r#"{"format": "gpt2-edge conversation", "version": 1,
                    "messages": [{"role": "user", "content": ""}]}"#,
                "the last turn",
            ),
            (
                r#"{"format": "gpt2-edge conversation", "version": 1,
                    "messages": [{"role": "tool", "content": ""}]}"#,
                "expected a saved conversation",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = Conversation::load(&path).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
            assert!(message.contains("talk.json"), "{message}");
        }
    }
}
