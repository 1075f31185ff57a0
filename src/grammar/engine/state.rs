//! Where a text is in its grammar.

use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;

use super::super::bounds::refusal;
use super::call;
use crate::{Result, TokenId};

/// One text's place in a grammar. After an error it gives errors alone.
pub(crate) struct State {
    parser: TokenParser,
    /// The token that stands for the end of a text.
    end: TokenId,
    /// The tokens that may come next.
    mask: SimpleVob,
    broken: bool,
}

impl State {
    pub(super) fn new(parser: TokenParser, end: TokenId) -> Self {
        Self {
            parser,
            end,
            mask: SimpleVob::alloc(0),
            broken: false,
        }
    }

    /// The tokens that may come next, a bit each: of token t bit t % 32 of word t / 32. Those of
    /// `eos` are among them where the text may end.
    ///
    /// # Errors
    /// [`Error::Grammar`](crate::Error::Grammar) when the grammar has run out of what it may
    /// compute, or no token may follow.
    pub(crate) fn allowed(&mut self, eos: &[TokenId]) -> Result<&[u32]> {
        let may_end = self.compute()?;
        for &token in eos.iter().filter(|&&token| token < self.end) {
            self.mask.set(token as usize, may_end);
        }
        if self.mask.is_zero() {
            self.broken = true;
            return Err(refusal(if may_end {
                "the text ends here, and the model has no token that ends a text"
            } else {
                "it asks for a token that ends the text, which comes by itself at the end"
            }));
        }
        Ok(self.mask.as_slice())
    }

    /// One of the tokens that may come next; none where only the end may.
    pub(super) fn first(&mut self) -> Result<Option<TokenId>> {
        self.compute()?;
        let first = self.mask.first_bit_set();
        Ok(first.map(|token| token as TokenId))
    }

    /// Computes the mask, without the end; whether the text may end.
    fn compute(&mut self) -> Result<bool> {
        self.check()?;
        let mask = call(|| self.parser.compute_mask());
        self.broken = mask.is_err();
        if self.broken && self.parser.stop_reason() == StopReason::NoExtensionBias {
            return Err(refusal(
                "no token may follow: no text keeps to it from here, or none of the model's tokens",
            ));
        }
        self.mask = mask?;
        let may_end = self.mask.is_allowed(self.end);
        self.mask.disallow_token(self.end);
        Ok(may_end)
    }

    /// Takes the token that was chosen; whether the text is whole with it, and nothing may follow.
    ///
    /// # Errors
    /// As [`State::allowed`], and when the token may not come next: other parameters have ruled out
    /// what the grammar allows.
    pub(crate) fn advance(&mut self, token: TokenId, eos: &[TokenId]) -> Result<bool> {
        self.check()?;
        if !is_set(self.mask.as_slice(), token) {
            self.broken = true;
            return Err(refusal(
                "the other parameters leave no token that the grammar allows",
            ));
        }
        if eos.contains(&token) {
            return Ok(true);
        }
        let parser = &mut self.parser;
        let over = call(|| {
            parser.consume_token(token)?;
            parser.check_stop()
        });
        self.broken = over.is_err();
        over
    }

    fn check(&self) -> Result<()> {
        if self.broken {
            return Err(refusal("the text cannot be continued"));
        }
        Ok(())
    }
}

/// Whether a bit of a mask is set.
fn is_set(mask: &[u32], token: TokenId) -> bool {
    let word = mask.get(token as usize / 32);
    word.is_some_and(|word| word & 1 << (token % 32) != 0)
}
