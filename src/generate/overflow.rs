//! What is kept of a text that has outgrown the context.

use crate::{Error, Result, TokenId};

/// Checks that something new has room in a context of `capacity` when `keep` tokens stay.
///
/// # Errors
/// [`Error::Argument`].
pub(super) fn check(keep: usize, capacity: usize) -> Result<()> {
    room(keep, capacity).map(|_| ())
}

/// Tokens that can be kept behind the first `keep`, with room for one new token at least.
fn room(keep: usize, capacity: usize) -> Result<usize> {
    match capacity.saturating_sub(keep).saturating_sub(1) {
        0 => Err(Error::Argument(format!(
            "on_overflow: expected to keep at most {} tokens of a context of {capacity}, \
             found {keep}",
            capacity.saturating_sub(2)
        ))),
        room => Ok(room),
    }
}

/// The tokens to recompute when `ids` fill a context of `capacity`: the first `keep` and the
/// newest, half a context of them.
///
/// # Errors
/// [`Error::Argument`] when `keep` leaves no room for anything new.
pub(super) fn window(ids: &[TokenId], keep: usize, capacity: usize) -> Result<Vec<TokenId>> {
    let room = room(keep, capacity)?;
    let newest = (capacity / 2).clamp(1, room);
    let keep = keep.min(ids.len());
    let start = ids.len().saturating_sub(newest).max(keep);
    Ok([&ids[..keep], &ids[start..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_newest_half_are_kept() {
        let ids: Vec<TokenId> = (0..10).collect();
        assert_eq!(window(&ids, 2, 10).unwrap(), [0, 1, 5, 6, 7, 8, 9]);
        assert_eq!(window(&ids, 0, 10).unwrap(), [5, 6, 7, 8, 9]);
        // The new token needs room.
        assert_eq!(window(&ids, 7, 10).unwrap(), [0, 1, 2, 3, 4, 5, 6, 8, 9]);
        assert_eq!(window(&ids, 8, 10).unwrap().len(), 9);
        assert!(window(&ids, 9, 10).is_err());
        assert!(window(&ids, 0, 1).is_err());
        // A text that is shorter than what is kept is whole.
        assert_eq!(window(&ids[..3], 4, 10).unwrap(), [0, 1, 2]);
    }
}
