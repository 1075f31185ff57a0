//! The turns so far.

use super::message::{Message, Role};
use crate::{Error, Result};

/// A system prompt, if any, then turns of user and assistant alternately.
///
/// What no longer fits the context stays here: a conversation is saved whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    system: Option<Message>,
    turns: Vec<Message>,
    /// Turns at the beginning that the model is no longer shown.
    pub(super) hidden: usize,
}

impl Conversation {
    /// A conversation without turns.
    pub fn new(system: Option<String>) -> Self {
        Self {
            system: system.map(Message::system),
            ..Self::default()
        }
    }

    /// A conversation of `messages`: a system message at most, at the beginning, then user and
    /// assistant alternately. The last may be the user's, who then waits for an answer.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first message that is out of turn.
    pub fn from_messages(messages: Vec<Message>) -> Result<Self> {
        let mut conversation = Self::default();
        for (index, message) in messages.into_iter().enumerate() {
            if index == 0 && message.role == Role::System {
                conversation.system = Some(message);
                continue;
            }
            let expected = conversation.next_role();
            if message.role != expected {
                return Err(Error::Argument(format!(
                    "message {index}: expected the role {}, found {}",
                    expected.name(),
                    message.role.name()
                )));
            }
            conversation.turns.push(message);
        }
        Ok(conversation)
    }

    fn next_role(&self) -> Role {
        match self.turns.last() {
            Some(last) if last.role == Role::User => Role::Assistant,
            _ => Role::User,
        }
    }

    /// What the model is told before the conversation.
    pub fn system(&self) -> Option<&str> {
        self.system.as_ref().map(|message| message.content.as_str())
    }

    /// The turns, without the system prompt.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// The system prompt and all turns.
    pub fn messages(&self) -> Vec<Message> {
        self.shown_from(0)
    }

    /// Turns at the beginning that the model is no longer shown, since they do not fit.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The system prompt and the turns from turn `first` on.
    pub(super) fn shown_from(&self, first: usize) -> Vec<Message> {
        let turns = self.turns.get(first..).unwrap_or_default();
        self.system.iter().chain(turns).cloned().collect()
    }

    /// Takes the user's turn, and must be [answered](Self::answer) or [undone](Self::undo) then.
    ///
    /// # Errors
    /// [`Error::Argument`] when the user's last turn was not answered yet.
    pub fn ask(&mut self, content: impl Into<String>) -> Result<()> {
        self.push(Message::user(content))
    }

    /// Takes the model's turn.
    ///
    /// # Errors
    /// [`Error::Argument`] when it is not the model's turn.
    pub fn answer(&mut self, content: impl Into<String>) -> Result<()> {
        self.push(Message::assistant(content))
    }

    fn push(&mut self, message: Message) -> Result<()> {
        if message.role != self.next_role() {
            return Err(Error::Argument(format!(
                "expected a turn of the {}, found one of the {}",
                self.next_role().name(),
                message.role.name()
            )));
        }
        self.turns.push(message);
        Ok(())
    }

    /// Takes the user's last turn back, with its answer; gives what the user had said.
    pub fn undo(&mut self) -> Option<String> {
        if self.next_role() == Role::User {
            self.turns.pop();
        }
        let taken = self.turns.pop();
        if self.turns.len() <= self.hidden {
            self.hidden = 0;
        }
        taken.map(|message| message.content)
    }

    /// Forgets all turns; the system prompt stays.
    pub fn reset(&mut self) {
        self.turns.clear();
        self.hidden = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_alternate() {
        let mut conversation = Conversation::new(Some("be brief".to_owned()));
        assert!(conversation.answer("?").is_err());
        conversation.ask("one").unwrap();
        assert!(conversation.ask("again").is_err());
        conversation.answer("two").unwrap();
        assert_eq!(
            conversation.messages(),
            [
                Message::system("be brief"),
                Message::user("one"),
                Message::assistant("two")
            ]
        );
        let again = Conversation::from_messages(conversation.messages()).unwrap();
        assert_eq!(again, conversation);
    }

    #[test]
    fn messages_out_of_turn_are_named() {
        let refused = |messages: Vec<Message>| {
            let error = Conversation::from_messages(messages).unwrap_err();
            error.to_string()
        };
        assert!(
            refused(vec![Message::user("a"), Message::user("b")])
                .contains("message 1: expected the role assistant, found user")
        );
        assert!(refused(vec![Message::assistant("a")]).contains("expected the role user"));
        assert!(refused(vec![Message::user("a"), Message::system("b")]).contains("found system"));
    }

    #[test]
    fn undo_takes_an_exchange_and_reset_all() {
        let mut conversation = Conversation::new(Some("s".to_owned()));
        assert_eq!(conversation.undo(), None);
        for turn in ["1", "2"] {
            conversation.ask(turn).unwrap();
            conversation.answer("a").unwrap();
        }
        conversation.ask("3").unwrap();
        assert_eq!(conversation.undo().as_deref(), Some("3"));
        conversation.hidden = 2;
        assert_eq!(conversation.undo().as_deref(), Some("2"));
        assert_eq!((conversation.turns().len(), conversation.hidden()), (2, 0));
        conversation.reset();
        assert_eq!(conversation.messages(), [Message::system("s")]);
    }
}
