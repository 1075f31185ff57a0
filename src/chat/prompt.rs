//! The prompt of the next reply: what of the conversation fits, in tokens that are there already
//! where that can be.

use super::conversation::Conversation;
use super::format::{ChatFormat, encode};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, TokenId};

/// How much fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Positions of the context.
    pub context: usize,
    /// Positions that the model was made for.
    pub model_limit: usize,
    /// Positions to leave free for the reply; a quarter of the context at most is.
    pub reply: usize,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens.
    pub ids: Vec<TokenId>,
    /// Turns that were left out of it and not of the prompt before.
    pub newly_hidden: usize,
}

impl ChatFormat {
    /// The prompt for the next reply in `conversation`, whose last turn is the user's.
    ///
    /// When it does not fit, the oldest exchanges are hidden until it takes half the context: a
    /// model's positions are absolute, and what comes after a gap must be recomputed, which happens
    /// seldom this way.
    ///
    /// The ids are those of [`encode`](Self::encode), with one exception: what a session `cached`
    /// (the last prompt and the reply, as the model chose its tokens) is kept where its text is the
    /// same, even if the tokenizer would have cut a reply in another way.
    ///
    /// # Errors
    /// As [`text`](Self::text); [`Error::ContextFull`] when the last turn alone does not fit;
    /// [`Error::Format`] when the prompt is empty.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &mut Conversation,
        cached: &[TokenId],
        room: Room,
    ) -> Result<Prompt> {
        let turns = conversation.turns().len();
        let ids_from = |first: usize| -> Result<Vec<TokenId>> {
            let text = self.text(&conversation.shown_from(first), true)?;
            with_cached(tokenizer, cached, &text)
        };
        let before = conversation.hidden;
        // A turn has at least one token; more turns than positions are not even tried.
        let mut first = before.max(turns.saturating_sub(room.context).next_multiple_of(2));
        let mut ids = ids_from(first)?;
        if ids.len() + room.reply.min(room.context / 4) > room.context {
            let last = turns.saturating_sub(1);
            // Exchanges to hide: between none and all.
            let (mut low, mut high) = (0, last.saturating_sub(first) / 2);
            while low < high {
                let middle = usize::midpoint(low, high);
                if ids_from(first + 2 * middle)?.len() <= room.context / 2 {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            first += 2 * low;
            ids = ids_from(first)?;
        }
        if ids.is_empty() {
            return Err(Error::format("chat template", "it made an empty prompt"));
        }
        if ids.len() >= room.context {
            return Err(Error::ContextFull {
                needed: ids.len() + 1,
                available: room.context,
                model_limit: room.model_limit,
            });
        }
        conversation.hidden = first;
        Ok(Prompt {
            ids,
            newly_hidden: first.saturating_sub(before),
        })
    }
}

/// The ids of `text`, which begin with `cached` as far as its text begins `text` and ends at a
/// seam.
fn with_cached(tokenizer: &Tokenizer, cached: &[TokenId], text: &str) -> Result<Vec<TokenId>> {
    let ids = encode(tokenizer, text)?;
    let same = ids
        .iter()
        .zip(cached)
        .take_while(|(id, cached)| id == cached);
    let shared = same.count();
    // Where each cached token ends in the text, for those that are in it.
    let mut ends = Vec::new();
    let mut end = 0;
    for &id in cached {
        let bytes = tokenizer.token_bytes(id, false);
        if bytes.is_empty() || !text.as_bytes()[end..].starts_with(bytes) {
            break;
        }
        end += bytes.len();
        ends.push(end);
    }
    for kept in (shared + 1..=ends.len()).rev() {
        let end = ends[kept - 1];
        let (Some(before), Some(rest)) = (text.get(..end), text.get(end..)) else {
            continue;
        };
        if is_seam(tokenizer, cached[kept - 1], before, rest) {
            let rest = encode(tokenizer, rest)?;
            return Ok([&cached[..kept], &rest].concat());
        }
    }
    Ok(ids)
}

/// Whether a text can be cut here, after the token `last`, without any token of the rest becoming
/// another.
fn is_seam(tokenizer: &Tokenizer, last: TokenId, before: &str, rest: &str) -> bool {
    let settings = tokenizer.settings();
    let special_follows = || {
        let mut special = settings.added_tokens.iter().filter(|token| token.special);
        special.any(|token| !token.content.is_empty() && rest.starts_with(&token.content))
    };
    // A line's end after a word is a piece of its own.
    let line_ends = || {
        rest.starts_with('\n')
            && !before.ends_with(char::is_whitespace)
            && settings.use_regex
            && !settings.add_prefix_space
    };
    rest.is_empty() || tokenizer.is_special(last) || special_follows() || line_ends()
}
