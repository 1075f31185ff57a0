//! Texts as a model takes them: two put together, cut to a length, filled up to one length.
//!
//! The names and the results are those of calling a tokenizer of transformers.

use std::ops::Range;

use super::settings::PairPart;
use super::{EncodeOptions, Tokenizer};
use crate::{Error, Result, TokenId};

/// The longest row that is filled up: far beyond any model's positions, and its lists still fit the
/// memory of a small computer.
const MAX_PADDED: usize = 1 << 22;

/// An end of a row of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// The beginning.
    Left,
    /// The end.
    #[default]
    Right,
}

/// Which of two texts is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TruncationStrategy {
    /// The longer, until both fit; of equals the second.
    #[default]
    LongestFirst,
    /// The first alone.
    OnlyFirst,
    /// The second alone.
    OnlySecond,
}

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Most tokens, those put around the texts included.
    pub max_length: usize,
    /// The end at which tokens go.
    pub side: Side,
    /// Of two texts, which is cut.
    pub strategy: TruncationStrategy,
}

/// How long rows become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PaddingLength {
    /// As long as the longest.
    #[default]
    Longest,
    /// This many tokens; a longer row stays as it is.
    Tokens(usize),
}

/// How rows are filled up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Padding {
    /// To which length.
    pub length: PaddingLength,
    /// Up to the next multiple of this.
    pub multiple_of: Option<usize>,
    /// The end that is filled: the left one for generating, where new tokens follow the text.
    pub side: Side,
    /// With which token; without one the tokenizer's own.
    pub token: Option<TokenId>,
}

/// A row of tokens with what a model is told of each. All lists are of one length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens.
    pub ids: Vec<TokenId>,
    /// Their types: for most tokenizers 0 in the first text and 1 in the second.
    pub type_ids: Vec<u32>,
    /// Whether a token is seen: all but padding.
    pub attention_mask: Vec<bool>,
    /// Whether a token was put around the texts, or is padding.
    pub special_tokens_mask: Vec<bool>,
    /// The characters of its text that a token came from; `0..0` for those put around.
    pub offsets: Vec<Range<usize>>,
    /// Which text a token is of, 0 or 1; `None` for those put around.
    pub sequence_ids: Vec<Option<usize>>,
}

/// The tokens of one text.
type Tokens = Vec<(TokenId, Range<usize>)>;

impl Encoding {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn push_around(&mut self, id: TokenId, type_id: u32) {
        self.ids.push(id);
        self.type_ids.push(type_id);
        self.attention_mask.push(true);
        self.special_tokens_mask.push(true);
        self.offsets.push(0..0);
        self.sequence_ids.push(None);
    }

    fn push_text(&mut self, tokens: &Tokens, type_id: u32, sequence: usize) {
        for (id, characters) in tokens {
            self.ids.push(*id);
            self.type_ids.push(type_id);
            self.attention_mask.push(true);
            self.special_tokens_mask.push(false);
            self.offsets.push(characters.clone());
            self.sequence_ids.push(Some(sequence));
        }
    }

    /// Fills up to `length` tokens.
    fn pad(&mut self, length: usize, id: TokenId, side: Side) {
        let missing = length.saturating_sub(self.len());
        fill(&mut self.ids, missing, &id, side);
        fill(&mut self.type_ids, missing, &0, side);
        fill(&mut self.attention_mask, missing, &false, side);
        fill(&mut self.special_tokens_mask, missing, &true, side);
        fill(&mut self.offsets, missing, &(0..0), side);
        fill(&mut self.sequence_ids, missing, &None, side);
    }
}

fn fill<T: Clone>(values: &mut Vec<T>, missing: usize, value: &T, side: Side) {
    let place = match side {
        Side::Left => 0,
        Side::Right => values.len(),
    };
    values.splice(place..place, std::iter::repeat_n(value.clone(), missing));
}

impl Tokenizer {
    /// One text, or two put together, as the model takes them, cut where it is too long.
    ///
    /// # Errors
    /// As [`encode_with`](Self::encode_with); [`Error::Argument`] where cutting as asked leaves
    /// more tokens than allowed.
    pub fn encode_pair(
        &self,
        first: &str,
        second: Option<&str>,
        options: EncodeOptions,
        truncation: Option<Truncation>,
    ) -> Result<Encoding> {
        let within = EncodeOptions {
            add_special_tokens: false,
            ..options
        };
        let tokens = |text: &str| -> Result<Tokens> {
            let spans = self.encode_with_offsets(text, within)?;
            let parts = spans.into_iter().map(|span| (span.id, span.characters));
            Ok(parts.collect())
        };
        let mut texts = [
            tokens(first)?,
            second.map(tokens).transpose()?.unwrap_or_default(),
        ];
        let parts = self.parts(second.is_some(), options.add_special_tokens);
        if let Some(truncation) = truncation {
            let around = parts
                .iter()
                .filter(|part| matches!(part, PairPart::Token { .. }));
            truncate(&mut texts, around.count(), truncation)?;
        }
        let mut encoding = Encoding::default();
        for part in parts {
            match part {
                PairPart::Token { id, type_id } => encoding.push_around(id, type_id),
                PairPart::First { type_id } => encoding.push_text(&texts[0], type_id, 0),
                PairPart::Second { type_id } => encoding.push_text(&texts[1], type_id, 1),
            }
        }
        Ok(encoding)
    }

    /// Fills rows up to one length.
    ///
    /// # Errors
    /// [`Error::Argument`] for a tokenizer without a padding token where none is given, for
    /// multiples of 0, and for more than 4 million tokens.
    pub fn pad(&self, rows: &mut [Encoding], padding: Padding) -> Result<()> {
        let id = padding.token.or(self.padding()).ok_or_else(|| {
            Error::Argument(
                "the tokenizer has no padding token; say which token to fill rows with".to_owned(),
            )
        })?;
        let length = match padding.length {
            PaddingLength::Longest => rows.iter().map(Encoding::len).max().unwrap_or(0),
            PaddingLength::Tokens(length) => length,
        };
        let multiple = padding.multiple_of.unwrap_or(1);
        if multiple == 0 {
            return Err(Error::Argument(
                "expected a multiple of at least 1 to pad to, found 0".to_owned(),
            ));
        }
        let length = length.checked_next_multiple_of(multiple);
        let length = length
            .filter(|&length| length <= MAX_PADDED)
            .ok_or_else(|| {
                Error::Argument(format!(
                    "expected to pad to at most {MAX_PADDED} tokens, found more"
                ))
            })?;
        for row in rows {
            row.pad(length, id, padding.side);
        }
        Ok(())
    }

    /// How one text or two are put together.
    fn parts(&self, is_pair: bool, add_special_tokens: bool) -> Vec<PairPart> {
        let settings = self.settings();
        let texts = [
            PairPart::First { type_id: 0 },
            PairPart::Second { type_id: 1 },
        ];
        let texts = &texts[..if is_pair { 2 } else { 1 }];
        if !add_special_tokens {
            // The types of the texts are the template's all the same.
            let of_text = |part: &&PairPart| !matches!(part, PairPart::Token { .. });
            let pair = settings.pair.iter().filter(of_text).copied();
            return if is_pair && !settings.pair.is_empty() {
                pair.collect()
            } else {
                texts.to_vec()
            };
        }
        if is_pair && !settings.pair.is_empty() {
            return settings.pair.clone();
        }
        let token = |&id: &TokenId| PairPart::Token { id, type_id: 0 };
        let before = settings.tokens_before.iter().map(token);
        let after = settings.tokens_after.iter().map(token);
        before.chain(texts.iter().copied()).chain(after).collect()
    }
}

/// Cuts two texts, the second of which may be none, to what is left beside `around` tokens.
fn truncate(texts: &mut [Tokens; 2], around: usize, truncation: Truncation) -> Result<()> {
    let [first, second] = [texts[0].len(), texts[1].len()];
    let total = first + second + around;
    if total <= truncation.max_length {
        return Ok(());
    }
    let excess = total - truncation.max_length;
    let refusal = |found: usize| {
        Error::Argument(format!(
            "a text of {found} tokens cannot be cut by {excess} to come to {} in all; cut another \
             text too, or allow more tokens",
            truncation.max_length
        ))
    };
    let keep = match truncation.strategy {
        // There is room for nothing but what stands around.
        _ if truncation.max_length == around => [0, 0],
        TruncationStrategy::OnlyFirst if first > excess => [first - excess, second],
        TruncationStrategy::OnlyFirst => return Err(refusal(first)),
        TruncationStrategy::OnlySecond if second > excess => [first, second - excess],
        TruncationStrategy::OnlySecond => return Err(refusal(second)),
        TruncationStrategy::LongestFirst => {
            let available = truncation.max_length.checked_sub(around);
            longest_first([first, second], available.ok_or_else(|| refusal(first))?)
        }
    };
    for (text, keep) in texts.iter_mut().zip(keep) {
        let excess = text.len() - keep;
        match truncation.side {
            Side::Left => drop(text.drain(..excess)),
            Side::Right => text.truncate(keep),
        }
    }
    Ok(())
}

/// How much of each text stays when the longer is cut until both fit.
fn longest_first([first, second]: [usize; 2], available: usize) -> [usize; 2] {
    let (shorter, longer) = (first.min(second), first.max(second));
    let shorter_kept = shorter.min(available / 2);
    let longer_kept = longer.min(available - shorter_kept);
    // Whatever the longer cannot use goes back to the shorter.
    let shorter_kept = shorter.min(available - longer_kept);
    if first > second {
        [longer_kept, shorter_kept]
    } else {
        [shorter_kept, longer_kept]
    }
}
