//! How turns are joined to one text, and where a reply ends.

use std::fmt::Write;

use super::message::{Message, Role};
use super::special_tokens::{self, SpecialTokens};
use super::template::Template;
use crate::gguf::Metadata;
use crate::tokenizer::{CHAT_TEMPLATE_KEY, EncodeOptions, Tokenizer};
use crate::{Error, Result, TokenId};

/// The form of a conversation that a model was made for.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    form: Form,
    tokens: SpecialTokens,
}

#[derive(Debug, Clone)]
enum Form {
    Template(Template),
    EosJoined(String),
    Transcript,
}

/// The names that a transcript gives to the speakers.
const USER: &str = "User:";
const ASSISTANT: &str = "Assistant:";
/// Where a speaker's turn begins in a transcript: what the model writes ends there.
const NEXT_SPEAKER: [&str; 2] = ["\nUser:", "\nAssistant:"];

impl ChatFormat {
    /// What the file asks for: its chat template, or a [transcript](Self::transcript) if it has
    /// none.
    ///
    /// # Errors
    /// [`Error::Format`] for a template that cannot be read, [`Error::Unsupported`] for any in a
    /// build without the feature `chat-template`.
    pub fn of_model(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self> {
        match metadata.str(CHAT_TEMPLATE_KEY)? {
            Some(source) => Self::template(source, metadata, tokenizer),
            None => Ok(Self::transcript()),
        }
    }

    /// A Jinja template, as transformers' `chat_template`. It sees `messages`,
    /// `add_generation_prompt`, `tools` and `documents` (none) and the special tokens by their
    /// names; `raise_exception`, `tojson` and Python's methods of strings are there.
    ///
    /// # Errors
    /// As [`of_model`](Self::of_model).
    pub fn template(source: &str, metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self {
            form: Form::Template(Template::new(source)?),
            tokens: special_tokens::of_model(metadata, tokenizer)?,
        })
    }

    /// `DialoGPT`'s form, which transformers had as GPT-2's default: every turn followed by the end
    /// of text, whoever speaks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the tokenizer names no end of text.
    pub fn eos_joined(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self> {
        let tokens = special_tokens::of_model(metadata, tokenizer)?;
        let Some(eos) = tokens.get("eos_token").cloned() else {
            return Err(Error::Unsupported(
                "turns that the end of text divides: this tokenizer names no end of text"
                    .to_owned(),
            ));
        };
        Ok(Self {
            form: Form::EosJoined(eos),
            tokens,
        })
    }

    /// For a model of plain texts: the system prompt and an empty line, then a line `User: …` or
    /// `Assistant: …` for each turn. A reply ends before the next speaker's name at the start of a
    /// line.
    pub fn transcript() -> Self {
        Self {
            form: Form::Transcript,
            tokens: SpecialTokens::new(),
        }
    }

    /// What this form is called.
    pub fn name(&self) -> &'static str {
        match self.form {
            Form::Template(_) => "chat template",
            Form::EosJoined(_) => "dialogpt",
            Form::Transcript => "transcript",
        }
    }

    /// The text of `messages`; with `add_generation_prompt` it ends where the reply is to begin.
    ///
    /// # Errors
    /// [`Error::Format`] when the template refuses the messages or fails.
    pub fn text(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        match &self.form {
            Form::Template(template) => {
                template.render(messages, &self.tokens, add_generation_prompt)
            }
            Form::EosJoined(eos) => Ok(messages
                .iter()
                .flat_map(|message| [message.content.as_str(), eos])
                .collect()),
            Form::Transcript => Ok(transcript(messages, add_generation_prompt)),
        }
    }

    /// The ids of `messages` with what begins the reply, as transformers' `apply_chat_template`
    /// gives them: special tokens that stand in the text become those tokens.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<TokenId>> {
        encode(tokenizer, &self.text(messages, true)?)
    }

    /// Texts that end a reply and are not part of it.
    pub fn stop_strings(&self) -> Vec<String> {
        match self.form {
            Form::Transcript => NEXT_SPEAKER.map(str::to_owned).to_vec(),
            Form::Template(_) | Form::EosJoined(_) => Vec::new(),
        }
    }

    /// Tokens that end a reply: the tokenizer's end of text, and the special token that the
    /// template puts after what the assistant says.
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Vec<TokenId> {
        let mut ends: Vec<TokenId> = tokenizer.eos().into_iter().collect();
        if let Form::Template(_) = self.form {
            ends.extend(
                self.after_reply(tokenizer)
                    .filter(|id| tokenizer.is_special(*id) && !ends.contains(id)),
            );
        }
        ends
    }

    /// The first token after a reply in a finished exchange.
    fn after_reply(&self, tokenizer: &Tokenizer) -> Option<TokenId> {
        /// Occurs in no template.
        const REPLY: &str = "\u{2}reply\u{3}";
        let exchange = [Message::user("a"), Message::assistant(REPLY)];
        let text = self.text(&exchange, false).ok()?;
        let (_, after) = text.rsplit_once(REPLY)?;
        encode(tokenizer, after).ok()?.first().copied()
    }

    /// The reply in what the model wrote.
    pub fn reply<'a>(&self, written: &'a str) -> &'a str {
        match self.form {
            Form::Transcript => written.trim(),
            Form::Template(_) | Form::EosJoined(_) => written,
        }
    }
}

/// Ids as `apply_chat_template` gives them: nothing put around, since the text has all that belongs
/// there.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>> {
    let options = EncodeOptions {
        add_special_tokens: false,
        ..EncodeOptions::default()
    };
    tokenizer.encode_with(text, options)
}

fn transcript(messages: &[Message], add_generation_prompt: bool) -> String {
    let mut text = String::new();
    for message in messages {
        let content = &message.content;
        // Writing to a string does not fail.
        let _ = match message.role {
            Role::System => write!(text, "{content}\n\n"),
            Role::User => writeln!(text, "{USER} {content}"),
            Role::Assistant => writeln!(text, "{ASSISTANT} {content}"),
        };
    }
    if add_generation_prompt {
        text.push_str(ASSISTANT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_names_the_speakers() {
        let format = ChatFormat::transcript();
        let messages = [
            Message::system("A talk in Bath."),
            Message::user("Who is there?"),
            Message::assistant("Anne."),
            Message::user("Which?"),
        ];
        assert_eq!(
            format.text(&messages, true).unwrap(),
            "A talk in Bath.\n\nUser: Who is there?\nAssistant: Anne.\nUser: Which?\nAssistant:"
        );
        assert_eq!(format.stop_strings(), ["\nUser:", "\nAssistant:"]);
        assert_eq!(format.reply(" Miss Elliot.\n"), "Miss Elliot.");
    }
}
