//! What a text's state says of a token that was chosen.

/// Whether a text goes on after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The text goes on.
    More,
    /// The text is whole, and nothing may follow.
    Over,
}
