//! What a `spiece.model` says: the pieces of text that `SentencePiece` learned, and how it prepares
//! a text.

use super::protobuf::{Fields, Value};
use crate::{Error, Result, TokenId};

pub(super) const PLACE: &str = "spiece.model";

/// The most bytes of a piece; what is trained has up to some 50.
const MAX_PIECE: usize = 1024;

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Normal,
    /// Stands for what no piece covers.
    Unknown,
    /// A marker, which no text becomes.
    Control,
    /// A text that always becomes this piece.
    UserDefined,
    /// Left out.
    Unused,
    /// A byte of a character that no piece covers.
    Byte,
}

/// One piece.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// How a text is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// The most likely pieces.
    Unigram,
    /// Merges, by the score of what they make.
    Bpe,
    /// Another, by its number.
    Other(u64),
}

/// The model.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) all: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    pub(super) byte_fallback: bool,
    pub(super) whitespace_is_suffix: bool,
    pub(super) unknown: TokenId,
    /// The ids of the markers; none where the number is negative.
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) padding: Option<TokenId>,
    /// What characters become, in the form that the `tokenizers` library reads too.
    pub(super) characters: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

impl Pieces {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Format`] for what is no such file, and for pieces that are too long.
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        let mut found = Self {
            all: Vec::new(),
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            whitespace_is_suffix: false,
            unknown: 0,
            bos: Some(1),
            eos: Some(2),
            padding: None,
            characters: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in Fields::of(PLACE, file) {
            match field? {
                (1, Value::Bytes(piece)) => {
                    let piece = Piece::parse(piece)?;
                    found.all.push(piece);
                }
                (2, Value::Bytes(training)) => found.read_training(training)?,
                (3, Value::Bytes(normalizer)) => found.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        let is_unknown = |piece: &Piece| piece.kind == Kind::Unknown;
        if !found.piece(found.unknown).is_some_and(is_unknown) {
            let message = "expected a SentencePiece model, found none: no piece stands for what is \
                           unknown";
            return Err(Error::format(PLACE, message));
        }
        Ok(found)
    }

    fn read_training(&mut self, message: &[u8]) -> Result<()> {
        // A negative id says that there is none.
        let id = |number: u64| TokenId::try_from(number).ok();
        for field in Fields::of(PLACE, message) {
            match field? {
                (3, Value::Number(1)) => self.algorithm = Algorithm::Unigram,
                (3, Value::Number(2)) => self.algorithm = Algorithm::Bpe,
                (3, Value::Number(other)) => self.algorithm = Algorithm::Other(other),
                (24, Value::Number(flag)) => self.whitespace_is_suffix = flag != 0,
                (35, Value::Number(flag)) => self.byte_fallback = flag != 0,
                (40, Value::Number(number)) => self.unknown = id(number).unwrap_or(TokenId::MAX),
                (41, Value::Number(number)) => self.bos = id(number),
                (42, Value::Number(number)) => self.eos = id(number),
                (43, Value::Number(number)) => self.padding = id(number),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, message: &[u8]) -> Result<()> {
        for field in Fields::of(PLACE, message) {
            match field? {
                (2, Value::Bytes(characters)) => self.characters = characters.to_vec(),
                (3, Value::Number(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Value::Number(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Value::Number(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The piece with an id.
    pub(super) fn piece(&self, id: TokenId) -> Option<&Piece> {
        self.all.get(id as usize)
    }
}

impl Piece {
    fn parse(message: &[u8]) -> Result<Self> {
        let mut piece = Self {
            text: String::new(),
            score: 0.0,
            kind: Kind::Normal,
        };
        for field in Fields::of(PLACE, message) {
            match field? {
                (1, Value::Bytes(text)) if text.len() <= MAX_PIECE => {
                    let text = str::from_utf8(text);
                    let refused = |error| Error::format(PLACE, format!("a piece: {error}"));
                    text.map_err(refused)?.clone_into(&mut piece.text);
                }
                (1, Value::Bytes(text)) => {
                    let message = format!(
                        "expected pieces of up to {MAX_PIECE} bytes, found one of {}",
                        text.len()
                    );
                    return Err(Error::format(PLACE, message));
                }
                (2, Value::Float(score)) => piece.score = score,
                (3, Value::Number(kind)) => {
                    piece.kind = match kind {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        other => {
                            let message = format!("expected kinds of pieces 1 to 6, found {other}");
                            return Err(Error::format(PLACE, message));
                        }
                    }
                }
                _ => {}
            }
        }
        if !piece.score.is_finite() {
            let message = format!("the score of {:?} is not finite", piece.text);
            return Err(Error::format(PLACE, message));
        }
        Ok(piece)
    }
}
