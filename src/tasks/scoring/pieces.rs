//! Tokens in pieces whose logits fit into little memory: those of a text of 512 tokens and 50257
//! ids would be 103 MB.

use crate::session::BatchToken;

/// Logits computed at a time, in bytes: enough for the matrix kernels.
const LOGITS_BYTES: usize = 16 << 20;

/// Rows of logits that are there at once.
pub(in super::super) fn rows_at_once(vocabulary: usize) -> usize {
    (LOGITS_BYTES / size_of::<f32>() / vocabulary.max(1)).max(16)
}

/// The tokens in pieces with at most `rows` outputs each.
pub(in super::super) fn pieces(
    tokens: Vec<BatchToken>,
    rows: usize,
) -> impl Iterator<Item = Vec<BatchToken>> {
    let mut tokens = tokens.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut piece = Vec::new();
        let mut outputs = 0;
        while let Some(token) = tokens.next_if(|token| !token.output || outputs < rows) {
            outputs += usize::from(token.output);
            piece.push(token);
        }
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_before_an_output_too_many() {
        let token = |index: u32| BatchToken {
            token: index,
            output: index >= 3,
            ..BatchToken::default()
        };
        let lengths = |rows| -> Vec<usize> {
            let pieces = pieces((0..8).map(token).collect(), rows);
            pieces.map(|piece| piece.len()).collect()
        };
        assert_eq!(lengths(2), [5, 2, 1]);
        assert_eq!(lengths(9), [8]);
        assert_eq!(pieces(Vec::new(), 2).count(), 0);
        assert_eq!(rows_at_once(50257), 83);
        assert_eq!(rows_at_once(usize::MAX), 16);
    }
}
