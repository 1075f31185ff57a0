//! Which cells each token sees, and in which company tokens are computed.
//!
//! A token sees the beginning of a list of cells: those of its sequence, in the order of positions.
//! Its result depends on that list and on where the list ends for it, not on where the cells lie
//! nor on the other tokens. In particular which kernel computes it depends on how many tokens of
//! the run have the same list, and not on how many there are of others.

use std::ops::Range;

/// Tokens of the same list from which on they are computed in tiles, as in ggml.
const TILE_TOKENS: usize = 64;

/// The most tokens that take turns with a block of cells.
pub(super) const MAX_TURNS: usize = 16;

/// What a token sees: a list of cells, up to some cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sight {
    /// Where the list begins in the cells of [`Sights`]. Tokens of the same list have the same
    /// beginning.
    pub first: usize,
    /// How many cells of the list the token sees; none gives a result of zeros.
    pub count: usize,
}

/// What each token of a run sees. One is made for a run and serves every layer.
#[derive(Debug, Clone, Default)]
pub struct Sights {
    cells: Vec<u32>,
    /// One more than the highest of [`Sights::cells`].
    end: usize,
    tokens: Vec<Sight>,
    /// The tokens, those of the same list together, and lists that begin alike side by side.
    order: Vec<u32>,
    /// Ranges of [`Sights::order`]: tokens of one list that are computed in tiles.
    tiled: Vec<Range<usize>>,
    /// Ranges of [`Sights::order`]: tokens that take turns, at most [`MAX_TURNS`].
    turns: Vec<Range<usize>>,
}

impl Sights {
    /// What `tokens` see of lists that lie in `cells`. With `by_rows` each token is computed by
    /// itself, so that it gets the same bits however many of its list are in the run; it costs more
    /// from 64 of them on.
    ///
    /// # Panics
    /// When a list reaches beyond `cells`.
    pub fn new(cells: Vec<u32>, tokens: Vec<Sight>, by_rows: bool) -> Self {
        let inside = |sight: &Sight| {
            let rest = cells.len().checked_sub(sight.first);
            rest.is_some_and(|rest| sight.count <= rest)
        };
        assert!(
            tokens.iter().all(inside),
            "attention: a list beyond the cells"
        );
        // Sequences that share a prefix have the same first cell.
        let start = |token: u32| {
            let sight = tokens[token as usize];
            (cells.get(sight.first).copied().unwrap_or(0), sight.first)
        };
        let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
        order.sort_by_key(|&token| start(token));
        let (mut tiled, mut turns) = (Vec::new(), Vec::new());
        let mut place = 0;
        for list in order.chunk_by(|&a, &b| start(a) == start(b)) {
            let range = place..place + list.len();
            place = range.end;
            if list.len() >= TILE_TOKENS && !by_rows {
                tiled.push(range);
                continue;
            }
            for token in range {
                match turns.last_mut() {
                    Some(last) if joins(last, token, |at| start(order[at]).0) => last.end += 1,
                    _ => turns.push(token..token + 1),
                }
            }
        }
        Self {
            end: cells.iter().max().map_or(0, |&last| last as usize + 1),
            cells,
            tokens,
            order,
            tiled,
            turns,
        }
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// One more than the highest cell of any list.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The cells that `token` sees, in order.
    ///
    /// # Panics
    /// When there is no such token.
    #[inline(always)]
    pub fn seen(&self, token: usize) -> &[u32] {
        let Sight { first, count } = self.tokens[token];
        &self.cells[first..first + count]
    }

    /// The tokens of each list that is computed in tiles.
    pub(super) fn tiled(&self) -> impl Iterator<Item = &[u32]> {
        self.tiled.iter().map(|range| &self.order[range.clone()])
    }

    /// How many times tokens take turns.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The tokens that take turns the `index`-th time.
    pub(super) fn turn(&self, index: usize) -> &[u32] {
        &self.order[self.turns[index].clone()]
    }
}

/// Whether the token at place `next` takes turns with those of `last`.
fn joins(last: &Range<usize>, next: usize, first_cell: impl Fn(usize) -> u32) -> bool {
    last.end == next && last.len() < MAX_TURNS && first_cell(last.start) == first_cell(next)
}
