//! Scores of a prompt's tokens, piece by piece, so that there are logits of one piece at a time.

use crate::sampling::{ScoreDetails, TokenScore, score_token};
use crate::session::Output;
use crate::{Result, TokenId};

/// Tokens whose logits are there at a time.
pub(super) const MOST: usize = crate::generate::stretch::PIECE;

/// The scores of the tokens that come after those of a piece, by the logits of these, a row for
/// each from `position` on. The first piece begins with nothing, for position 0.
pub(super) fn of_piece(
    prompt: &[TokenId],
    position: usize,
    output: &Output,
    details: ScoreDetails,
) -> Result<(usize, Vec<Option<TokenScore>>)> {
    let following = prompt.get(position + 1..).unwrap_or_default();
    let scores = following.iter().take(output.rows()).enumerate();
    let scores = scores.map(|(row, &token)| score_token(output.row(row), token, details).map(Some));
    if position == 0 {
        let all = std::iter::once(Ok(None)).chain(scores);
        Ok((0, all.collect::<Result<_>>()?))
    } else {
        Ok((position + 1, scores.collect::<Result<_>>()?))
    }
}
