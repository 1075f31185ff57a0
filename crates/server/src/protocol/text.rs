//! A text on its way out: tokens and text become pieces, each with the tokens that made it.

use gpt2::generate::{Continuation, FinishReason};
use gpt2::sampling::TokenScore;
use gpt2::tokenizer::Utf8Stream;
use gpt2::{Model, TokenId, Tokenizer};
use serde_json::{Value as Json, json};

/// A token of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextToken {
    pub(crate) id: TokenId,
    /// The character of the text, counted from 0, that its first byte is in.
    pub(crate) offset: usize,
    /// How likely it was; the first of a prompt has none.
    pub(crate) score: Option<TokenScore>,
}

/// A part of a text, or all of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TextToken>,
    /// Why the text ends, in its last piece.
    pub(crate) finish: Option<FinishReason>,
}

impl Piece {
    /// Adds what follows.
    pub(crate) fn append(&mut self, mut next: Self) {
        self.text.push_str(&next.text);
        self.tokens.append(&mut next.tokens);
        self.finish = next.finish.or(self.finish);
    }

    /// The ids of its tokens.
    pub(crate) fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// Cuts a text that is being made into pieces. A token is sent with the text it begins in, so that
/// none stands in a piece that a stop string cuts off.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    /// Characters that the tokens so far make up.
    decoded: usize,
    stream: Utf8Stream,
    /// Characters and bytes that were sent.
    sent_characters: usize,
    sent_bytes: usize,
    waiting: Vec<TextToken>,
}

impl TextWriter {
    /// A writer of a text that follows this many characters.
    pub(crate) fn after(characters: usize) -> Self {
        Self {
            decoded: characters,
            sent_characters: characters,
            ..Self::default()
        }
    }

    /// Takes a token and the text that became certain with it.
    pub(crate) fn token(
        &mut self,
        tokenizer: Option<&Tokenizer>,
        id: TokenId,
        text: &str,
        score: Option<TokenScore>,
    ) -> Option<Piece> {
        let offset = self.decoded;
        let bytes = tokenizer.map_or(&[][..], |tokenizer| tokenizer.token_bytes(id, true));
        self.decoded += self.stream.push(bytes).chars().count();
        self.waiting.push(TextToken { id, offset, score });
        self.send(text);
        let before_end = |token: &TextToken| token.offset < self.sent_characters;
        // Without a tokenizer there is no text to wait for.
        let ready = match tokenizer {
            Some(_) => self
                .waiting
                .iter()
                .take_while(|token| before_end(token))
                .count(),
            None => self.waiting.len(),
        };
        let tokens: Vec<TextToken> = self.waiting.drain(..ready).collect();
        let piece = Piece {
            text: text.to_owned(),
            tokens,
            finish: None,
        };
        (!piece.text.is_empty() || !piece.tokens.is_empty()).then_some(piece)
    }

    fn send(&mut self, text: &str) {
        self.sent_characters += text.chars().count();
        self.sent_bytes += text.len();
    }

    /// The last piece: what only the end made certain.
    pub(crate) fn finish(&mut self, continuation: &Continuation) -> Piece {
        let rest = continuation.text.get(self.sent_bytes..).unwrap_or_default();
        self.send(rest);
        let mut tokens = std::mem::take(&mut self.waiting);
        if continuation.finish_reason == FinishReason::Stop {
            tokens.retain(|token| token.offset < self.sent_characters);
        }
        Piece {
            text: rest.to_owned(),
            tokens,
            finish: Some(continuation.finish_reason),
        }
    }
}

/// The text of a prompt that was given as tokens.
pub(crate) fn prompt_text(model: &Model, ids: &[TokenId]) -> String {
    let tokenizer = model.tokenizer();
    tokenizer.map_or_else(|_| String::new(), |tokenizer| tokenizer.decode(ids))
}

/// A prompt's tokens with their places in its text.
pub(crate) fn prompt_tokens(
    model: &Model,
    ids: &[TokenId],
    scores: Vec<Option<TokenScore>>,
) -> Vec<TextToken> {
    let mut stream = Utf8Stream::default();
    let mut decoded = 0;
    let tokenizer = model.tokenizer().ok();
    let mut scores = scores.into_iter();
    let token = |&id: &TokenId| {
        let offset = decoded;
        let bytes = tokenizer.map_or(&[][..], |tokenizer| tokenizer.token_bytes(id, false));
        decoded += stream.push(bytes).chars().count();
        let score = scores.next().flatten();
        TextToken { id, offset, score }
    };
    ids.iter().map(token).collect()
}

/// A token as log-probabilities name it: its text, or its bytes where they are no whole characters
/// (`bytes:\xe2\x80`).
pub(crate) fn token_name(model: &Model, id: TokenId) -> String {
    let Ok(tokenizer) = model.tokenizer() else {
        return format!("token_id:{id}");
    };
    let bytes = tokenizer.token_bytes(id, false);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut name, byte| {
            use std::fmt::Write;
            // Writing to a string does not fail.
            let _ = write!(name, "\\x{byte:02x}");
            name
        }),
    }
}

/// A token with its bytes and its log-probability.
pub(crate) fn described(model: &Model, id: TokenId, log_probability: Option<f64>) -> Json {
    let bytes = model
        .tokenizer()
        .map_or(&[][..], |tokenizer| tokenizer.token_bytes(id, false));
    json!({
        "token": token_name(model, id), "logprob": log_probability.map(finite), "bytes": bytes,
    })
}

/// JSON has no infinity: what is ruled out gets OpenAI's smallest number.
pub(crate) fn finite(log_probability: f64) -> f64 {
    log_probability.max(-9999.0)
}

/// Why a text ended, in OpenAI's words.
pub(crate) fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos | FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::ContextFull | FinishReason::Time => "length",
        FinishReason::Stopped => "abort",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gpt2::ModelOptions;

    use super::*;

    fn model() -> Arc<Model> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/austen-gpt2-q8_0.gguf"
        );
        Model::open(path, &ModelOptions::default()).unwrap()
    }

    fn continuation(text: &str, finish_reason: FinishReason) -> Continuation {
        Continuation {
            ids: Vec::new(),
            text: text.to_owned(),
            finish_reason,
            score: None,
            scores: Vec::new(),
            logits: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// "ab€" with the euro's bytes as three tokens, then " ".
    fn ids(model: &Model) -> Vec<TokenId> {
        let tokenizer = model.tokenizer().unwrap();
        ["a", "b", "â", "Ĥ", "¬", "Ġ"]
            .map(|token| tokenizer.token_id(token).unwrap())
            .to_vec()
    }

    #[test]
    fn offsets_count_whole_characters() {
        let model = model();
        let ids = ids(&model);
        assert_eq!(prompt_text(&model, &ids), "ab€ ");
        let tokens = prompt_tokens(&model, &ids, Vec::new());
        let offsets: Vec<usize> = tokens.iter().map(|token| token.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 2, 2, 3]);
        assert_eq!(token_name(&model, ids[2]), r"bytes:\xe2");
        assert_eq!(token_name(&model, ids[5]), " ");
    }

    #[test]
    fn tokens_come_with_the_text_they_begin_in() {
        let model = model();
        let tokenizer = model.tokenizer().ok();
        let ids = ids(&model);
        let mut writer = TextWriter::after(10);
        let texts = ["a", "", "", "", "b€", " "];
        let mut sent = Vec::new();
        for (&id, text) in ids.iter().zip(texts) {
            let piece = writer.token(tokenizer, id, text, None);
            sent.push(piece.map(|piece| (piece.text, piece.tokens.len())));
        }
        let some = |text: &str, tokens| Some((text.to_owned(), tokens));
        assert_eq!(
            sent,
            [some("a", 1), None, None, None, some("b€", 4), some(" ", 1)]
        );
        let end = writer.finish(&continuation("ab€ ", FinishReason::Length));
        assert_eq!((end.text.as_str(), end.tokens.len()), ("", 0));
    }

    #[test]
    fn tokens_of_a_stop_string_are_no_part_of_the_text() {
        let model = model();
        let tokenizer = model.tokenizer().ok();
        let ids = ids(&model);
        let mut writer = TextWriter::default();
        assert!(writer.token(tokenizer, ids[0], "", None).is_none());
        assert!(writer.token(tokenizer, ids[1], "", None).is_none());
        let end = writer.finish(&continuation("a", FinishReason::Stop));
        assert_eq!((end.text.as_str(), end.ids()), ("a", vec![ids[0]]));
        // An end of text has no character, and is a token of the text.
        let mut writer = TextWriter::default();
        let eos = model.hyperparameters().eos[0];
        let piece = writer.token(tokenizer, ids[0], "a", None).unwrap();
        assert_eq!(piece.tokens.len(), 1);
        assert!(writer.token(tokenizer, eos, "", None).is_none());
        let end = writer.finish(&continuation("a", FinishReason::Eos));
        assert_eq!((end.tokens[0].id, end.tokens[0].offset), (eos, 1));
    }
}
