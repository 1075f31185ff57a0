//! Text to token ids and back, from what a GGUF file carries.
//!
//! Encoding goes in three steps, each in its own file: added tokens are found in the text
//! ([`added_tokens`]), what is between them is cut into pieces ([`pretokenizer`]), and the bytes of
//! each piece are merged into tokens ([`bpe`]). The measure is Hugging Face's `tokenizers` library,
//! id for id; tokenizers of other kinds are run by it ([`whole`]). Knows nothing of models, tensors
//! or sampling.

mod added_tokens;
mod batch;
mod bpe;
mod bytes;
pub mod checkpoint;
mod load;
mod model;
mod offsets;
mod parts;
mod pretokenizer;
mod save;
mod settings;
mod stream;
mod vocabulary;
#[cfg_attr(not(feature = "tokenizers"), path = "no_whole.rs")]
mod whole;

use std::ops::Range;

use added_tokens::{AddedTokens, Segment};
use bpe::Scratch;
use model::ByteLevelBpe;
use offsets::CharacterCounter;
use parts::{Model, Parts, SpecialTokens};

pub use batch::{Encoding, Padding, PaddingLength, Side, Truncation, TruncationStrategy};
pub use offsets::TokenSpan;
pub use save::{VocabularyFile, save_vocabulary_files, vocabulary_files};
pub use settings::{
    AddedToken, CHAT_TEMPLATE_KEY, PairPart, SETTINGS_KEY, SPECIAL_TOKENS_KEY, TokenizerSettings,
};
pub(crate) use stream::TokenStream;
pub use stream::{StreamDecoder, Utf8Stream};
pub use vocabulary::TokenType;
use vocabulary::Vocabulary;

use crate::gguf::Metadata;
use crate::{Error, Result, TokenId};

/// Turns text into token ids and ids into text. Shared freely between threads.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    added: AddedTokens,
    special: SpecialTokens,
    settings: TokenizerSettings,
}

/// How to encode a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Special tokens written out in the text, such as `<|endoftext|>`, become those tokens;
    /// otherwise they are text like any other. Added tokens that are not special always match.
    /// Where the checkpoint says [`split_special_tokens`](TokenizerSettings::split_special_tokens),
    /// special tokens never match.
    pub match_special_tokens: bool,
    /// Put the tokens around the text that the tokenizer says belong there (GPT-2's says none).
    pub add_special_tokens: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            match_special_tokens: true,
            add_special_tokens: true,
        }
    }
}

/// How to decode tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave out tokens that are markers, not text.
    pub skip_special_tokens: bool,
    /// Take out the spaces before `.`, `?`, `!`, `,` and English contractions, as transformers'
    /// `clean_up_tokenization_spaces` does. Not reversible, and not for a stream.
    pub clean_up_spaces: bool,
}

impl Tokenizer {
    /// The tokenizer a GGUF file carries, written by this library or by llama.cpp.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tokenizer or pre-tokenizer other than GPT-2's, by name, unless
    /// the file carries it whole and the feature `tokenizers` is on;
    /// [`Error::Format`] for missing keys, merges outside the vocabulary, ids out of range.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let Parts {
            model,
            added,
            special,
            settings,
        } = load::from_metadata(metadata)?;
        Ok(Self {
            model,
            added,
            special,
            settings,
        })
    }

    /// The tokens of `text`, with [`EncodeOptions::default`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a text of 4 GiB or more.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        self.encode_with(text, EncodeOptions::default())
    }

    /// The tokens of `text` where nothing in it is special and nothing is put around it: for text
    /// that is not trusted.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text of 4 GiB or more.
    pub fn encode_ordinary(&self, text: &str) -> Result<Vec<TokenId>> {
        let options = EncodeOptions {
            match_special_tokens: false,
            add_special_tokens: false,
        };
        self.encode_with(text, options)
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text of 4 GiB or more; of a tokenizer that is not byte-level BPE,
    /// [`Error::Format`] for a text it has no tokens for.
    pub fn encode_with(&self, text: &str, options: EncodeOptions) -> Result<Vec<TokenId>> {
        let [before, after] = self.around(options);
        let mut ids = before.to_vec();
        match &self.model {
            Model::ByteLevelBpe(model) => {
                self.tokens(model, text, options, &mut |id, _| ids.push(id))?;
            }
            Model::Whole(model) => {
                check_length(text)?;
                ids.extend(model.ids(text, self.matches_special(options))?);
            }
        }
        ids.extend(after);
        Ok(ids)
    }

    /// The tokens of `text`, each with the characters it came from.
    ///
    /// # Errors
    /// As [`encode_with`](Self::encode_with).
    pub fn encode_with_offsets(
        &self,
        text: &str,
        options: EncodeOptions,
    ) -> Result<Vec<TokenSpan>> {
        let [before, after] = self.around(options);
        let placeless = |&id: &TokenId| TokenSpan {
            id,
            characters: 0..0,
        };
        let mut spans: Vec<TokenSpan> = before.iter().map(placeless).collect();
        match &self.model {
            Model::ByteLevelBpe(model) => {
                let mut counter = CharacterCounter::new(text);
                self.tokens(model, text, options, &mut |id, bytes| {
                    let characters = counter.span(&bytes);
                    spans.push(TokenSpan { id, characters });
                })?;
            }
            Model::Whole(model) => {
                check_length(text)?;
                spans.extend(model.spans(text, self.matches_special(options))?);
            }
        }
        spans.extend(after.iter().map(placeless));
        Ok(spans)
    }

    /// The characters of each word of `text`: the pieces that it is cut into before they become
    /// tokens. In GPT-2 a word has the space before it.
    ///
    /// # Errors
    /// As [`encode_with`](Self::encode_with).
    pub fn words(&self, text: &str) -> Result<Vec<Range<usize>>> {
        check_length(text)?;
        match &self.model {
            Model::ByteLevelBpe(model) => {
                let mut counter = CharacterCounter::new(text);
                let mut words = Vec::new();
                let special = !self.settings.split_special_tokens;
                self.added
                    .split(text, special, &mut |segment| match segment {
                        Segment::Token(_, range) => words.push(counter.span(&range)),
                        Segment::Text(range) => {
                            let mut start = range.start;
                            for piece in model.words(&text[range]) {
                                words.push(counter.span(&(start..start + piece.len())));
                                start += piece.len();
                            }
                        }
                    });
                Ok(words)
            }
            Model::Whole(model) => model.words(text, !self.settings.split_special_tokens),
        }
    }

    /// What is put before and after a text.
    fn around(&self, options: EncodeOptions) -> [&[TokenId]; 2] {
        if options.add_special_tokens {
            [&self.settings.tokens_before, &self.settings.tokens_after]
        } else {
            [&[], &[]]
        }
    }

    /// Whether special tokens are looked for in a text.
    fn matches_special(&self, options: EncodeOptions) -> bool {
        options.match_special_tokens && !self.settings.split_special_tokens
    }

    /// Calls `emit` with each token of `text`, nothing around them, and the bytes of `text` it
    /// covers.
    fn tokens(
        &self,
        model: &ByteLevelBpe,
        text: &str,
        options: EncodeOptions,
        emit: &mut impl FnMut(TokenId, Range<usize>),
    ) -> Result<()> {
        check_length(text)?;
        let mut scratch = Scratch::default();
        self.added.split(
            text,
            self.matches_special(options),
            &mut |segment| match segment {
                Segment::Token(id, range) => emit(id, range),
                Segment::Text(range) => {
                    let start = range.start;
                    model.encode(&text[range], start, &mut scratch, emit);
                }
            },
        );
        Ok(())
    }

    /// The text of `ids`, with U+FFFD for what is not UTF-8. Ids outside the vocabulary are
    /// skipped.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        self.decode_with(ids, DecodeOptions::default())
    }

    /// As [`decode`](Self::decode), with a choice of what to leave out.
    pub fn decode_with(&self, ids: &[TokenId], options: DecodeOptions) -> String {
        let bytes = self.decode_bytes(ids, options.skip_special_tokens);
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        if options.clean_up_spaces {
            clean_up_spaces(text)
        } else {
            text
        }
    }

    /// The bytes of `ids`, which need not be UTF-8 where a character is cut.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special_tokens: bool) -> Vec<u8> {
        match &self.model {
            Model::ByteLevelBpe(_) => ids
                .iter()
                .flat_map(|&id| self.token_bytes(id, skip_special_tokens))
                .copied()
                .collect(),
            Model::Whole(model) => model.decode(ids, skip_special_tokens).into_bytes(),
        }
    }

    /// The bytes that token `id` adds to a text; none for an id without a token. What a token of a
    /// tokenizer that is not byte-level BPE adds depends on those before it: there these are the
    /// bytes of [`token_text`](Self::token_text), and [`StreamDecoder`] makes text of them.
    pub fn token_bytes(&self, id: TokenId, skip_special_tokens: bool) -> &[u8] {
        if skip_special_tokens && self.is_special(id) {
            return &[];
        }
        self.vocabulary().bytes(id).unwrap_or_default()
    }

    /// Token `id` as the vocabulary files write it (`Ġworld` for ` world`); `None` for an id
    /// without a token.
    pub fn token_text(&self, id: TokenId) -> Option<String> {
        self.vocabulary().text(id)
    }

    /// The token that the vocabulary files write as `text`.
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.vocabulary().find_text(text, &mut Vec::new())
    }

    /// Whether every token has bytes of its own, whatever is before it.
    #[cfg(feature = "grammar")]
    pub(crate) fn is_byte_level(&self) -> bool {
        matches!(self.model, Model::ByteLevelBpe(_))
    }

    /// What token `id` is; `None` for an id without a token.
    pub fn token_type(&self, id: TokenId) -> Option<TokenType> {
        self.vocabulary().token_type(id)
    }

    /// Whether token `id` is a marker, not text.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.vocabulary().token_type(id) == Some(TokenType::Control)
    }

    fn vocabulary(&self) -> &Vocabulary {
        match &self.model {
            Model::ByteLevelBpe(model) => model.vocabulary(),
            Model::Whole(model) => model.vocabulary(),
        }
    }

    /// How many ids there are, those without a token included: the columns of the logits.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary().len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<TokenId> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<TokenId> {
        self.special.eos
    }

    /// The token the checkpoint names for what it does not know.
    pub fn unknown(&self) -> Option<TokenId> {
        self.special.unknown
    }

    /// The token that fills rows up.
    pub fn padding(&self) -> Option<TokenId> {
        self.special.padding
    }

    /// All that is neither vocabulary nor merges.
    pub fn settings(&self) -> &TokenizerSettings {
        &self.settings
    }
}

/// Refuses what offsets of 32 bits cannot hold: one byte less, for the space that may be put
/// before.
fn check_length(text: &str) -> Result<()> {
    if text.len() < u32::MAX as usize {
        return Ok(());
    }
    let message = format!("expected a text under 4 GiB, found {} bytes", text.len());
    Err(Error::Argument(message))
}

/// The replacements of transformers' `clean_up_tokenization`, in its order.
fn clean_up_spaces(text: String) -> String {
    const REPLACEMENTS: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    REPLACEMENTS
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gguf::{Gguf, GgufHeader, Value};

    const TOKENS: [&str; 11] = [
        "a", "b", "Ġ", "Ġa", "ab", "<|end|>", "N Y", "[PAD7]", "Ã", "©", "'s",
    ];
    const TYPES: [i32; 11] = [1, 1, 1, 1, 1, 3, 4, 5, 1, 1, 1];
    const MERGES: [&str; 2] = ["Ġ a", "a b"];

    /// A file's metadata: that of llama.cpp for the vocabulary above, and `more`.
    fn read(more: &[(&str, Value)]) -> Result<Tokenizer> {
        let mut header = GgufHeader::new();
        header.set("tokenizer.ggml.model", "gpt2")?;
        header.set("tokenizer.ggml.pre", "gpt-2")?;
        header.set("tokenizer.ggml.tokens", TOKENS.as_slice())?;
        header.set("tokenizer.ggml.token_type", TYPES.to_vec())?;
        header.set("tokenizer.ggml.merges", MERGES.as_slice())?;
        header.set("tokenizer.ggml.bos_token_id", 5_u32)?;
        for (key, value) in more {
            header.set(*key, value.clone())?;
        }
        let file = Gguf::parse(Arc::new(header.encode()))?;
        Tokenizer::from_metadata(file.metadata())
    }

    #[test]
    fn a_file_of_llama_cpp_is_enough() -> Result<()> {
        let tokenizer = read(&[])?;
        assert_eq!(tokenizer.vocabulary_size(), 11);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(5), None));
        assert_eq!(tokenizer.encode("ab<|end|> aN Y b")?, [4, 5, 3, 6, 2, 1]);
        assert_eq!(tokenizer.encode_ordinary("ab<|end|>N Y")?, [4, 6]);
        let ids = [4, 5, 6, 7, 99, 8, 9, 8];
        assert_eq!(tokenizer.decode(&ids), "ab<|end|>N Yé\u{FFFD}");
        let skipping = DecodeOptions {
            skip_special_tokens: true,
            ..DecodeOptions::default()
        };
        assert_eq!(tokenizer.decode_with(&ids, skipping), "abN Yé\u{FFFD}");
        let mut decoder = StreamDecoder::new(&tokenizer, skipping);
        let parts: Vec<String> = ids.iter().map(|&id| decoder.push(id)).collect();
        assert_eq!(parts, ["ab", "", "N Y", "", "", "", "é", ""]);
        assert_eq!(decoder.finish(), "\u{FFFD}");
        assert_eq!(tokenizer.token_text(3).as_deref(), Some("Ġa"));
        assert_eq!(tokenizer.token_text(7), None);
        assert_eq!(tokenizer.token_id("Ġa"), Some(3));
        assert!(tokenizer.is_special(5) && !tokenizer.is_special(6));
        Ok(())
    }

    #[test]
    fn keys_and_settings_say_what_is_put_around() -> Result<()> {
        let add = Value::from(true);
        let tokenizer = read(&[
            ("tokenizer.ggml.add_bos_token", add.clone()),
            ("tokenizer.ggml.add_space_prefix", add),
        ])?;
        assert_eq!(tokenizer.encode("a")?, [5, 3]);
        assert_eq!(tokenizer.encode_ordinary("a b")?, [3, 2, 1]);
        let spans = tokenizer.encode_with_offsets("éa a", EncodeOptions::default())?;
        let spans: Vec<_> = spans
            .into_iter()
            .map(|span| (span.id, span.characters))
            .collect();
        assert_eq!(
            spans,
            [
                (5, 0..0),
                (2, 0..1),
                (8, 0..1),
                (9, 0..1),
                (0, 1..2),
                (3, 2..4)
            ]
        );
        let json = r#"{"tokens_after": [5], "use_regex": false, "ignore_merges": true}"#;
        let tokenizer = read(&[(SETTINGS_KEY, json.into())])?;
        assert_eq!(tokenizer.encode("'s")?, [10, 5]);
        assert_eq!(tokenizer.encode("'s a")?, [3, 5]);
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let cases: [(&str, Value, &str); 7] = [
            (
                "tokenizer.ggml.model",
                "llama".into(),
                "tokenizer.ggml.model = \"llama\"",
            ),
            (
                "tokenizer.ggml.pre",
                "llama-bpe".into(),
                "tokenizer.ggml.pre = \"llama-bpe\"",
            ),
            (
                "tokenizer.ggml.token_type",
                vec![1_i32].into(),
                "expected 11 types",
            ),
            (
                "tokenizer.ggml.eos_token_id",
                11_u32.into(),
                "one of 11 tokens, found 11",
            ),
            (
                "tokenizer.ggml.merges",
                vec!["a c".to_owned()].into(),
                "tokenizer.ggml.merges[0]",
            ),
            (
                SETTINGS_KEY,
                r#"{"tokens_before": [12]}"#.into(),
                "one of 11 tokens, found 12",
            ),
            (
                SETTINGS_KEY,
                r#"{"unk_token": "?"}"#.into(),
                "unk_token \"?\"",
            ),
        ];
        for (key, value, expected) in cases {
            let message =
                read(&[(key, value)]).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(message.contains(expected), "{key}: {message}");
        }
    }

    #[test]
    fn spaces_are_cleaned_up_in_transformers_order() {
        let text = "Is n't it ? I 'm , you 've ' x ' .";
        assert_eq!(
            clean_up_spaces(text.to_owned()),
            "Isn't it? I'm, you've'x '."
        );
    }
}
