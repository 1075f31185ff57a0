//! Byte-pair merges: the bytes of a piece become tokens.
//!
//! Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), on bytes as
//! GPT-2 does it: of all adjacent pairs the one with the lowest rank is joined, leftmost first, until
//! no pair has a rank. Short pieces are scanned anew for each merge; from [`LONG`] symbols on a heap
//! finds the next pair, so that a megabyte of one letter costs n log n.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::vocabulary::Vocabulary;
use crate::{Error, Result, TokenId};

/// From this many symbols on the heap is faster than scanning.
const LONG: usize = 48;

/// No symbol, no rank.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Merge {
    left: TokenId,
    right: TokenId,
    rank: u32,
    merged: TokenId,
}

/// Which pairs join, in which order, into what.
#[derive(Debug)]
pub(super) struct Merges {
    pairs: HashTable<Merge>,
    hasher: DefaultHashBuilder,
}

impl Merges {
    /// Reads merges written as `left right` in order of rank; `count` is a hint for the space they
    /// need, `place` names them in errors. Of a pair that occurs twice the last rank holds.
    ///
    /// # Errors
    /// A merge that is not two tokens with a space between, or whose parts or result are not in the
    /// vocabulary.
    pub(super) fn build<'a>(
        merges: impl Iterator<Item = Result<&'a str>>,
        count: usize,
        vocabulary: &Vocabulary,
        place: &str,
    ) -> Result<Self> {
        let mut built = Self {
            pairs: HashTable::with_capacity(count),
            hasher: DefaultHashBuilder::default(),
        };
        let mut joined = Vec::new();
        let mut right_bytes = Vec::new();
        let mut expected = NONE;
        for (rank, merge) in merges.enumerate() {
            let merge = merge?;
            let fail = |message: String| Error::format(format!("{place}[{rank}]"), message);
            let (left_text, right_text) = merge
                .split_once(' ')
                .filter(|(left, right)| {
                    !left.is_empty() && !right.is_empty() && !right.contains(' ')
                })
                .ok_or_else(|| {
                    fail(format!(
                        "expected two tokens with one space between, found {merge:?}"
                    ))
                })?;
            let missing = |token: &str| {
                fail(format!(
                    "{token:?} of the merge {merge:?} is not in the vocabulary"
                ))
            };
            let left = vocabulary
                .find_text(left_text, &mut joined)
                .ok_or_else(|| missing(left_text))?;
            let right = vocabulary
                .find_text(right_text, &mut right_bytes)
                .ok_or_else(|| missing(right_text))?;
            joined.extend_from_slice(&right_bytes);
            // Trained vocabularies list the results of merges in order, so the next one is usually
            // the id after the last.
            let merged = if vocabulary.bytes(expected) == Some(joined.as_slice()) {
                expected
            } else {
                let together = [left_text, right_text].concat();
                vocabulary
                    .find_text(&together, &mut joined)
                    .ok_or_else(|| missing(&together))?
            };
            expected = merged.saturating_add(1);
            let rank = u32::try_from(rank).map_err(|_| fail("too many merges".to_owned()))?;
            built.insert(Merge {
                left,
                right,
                rank,
                merged,
            });
        }
        Ok(built)
    }

    fn insert(&mut self, merge: Merge) {
        let hasher = &self.hasher;
        let hash = |left, right| hasher.hash_one(key(left, right));
        self.pairs
            .entry(
                hash(merge.left, merge.right),
                |other| (other.left, other.right) == (merge.left, merge.right),
                |other| hash(other.left, other.right),
            )
            .and_modify(|other| *other = merge)
            .or_insert(merge);
    }

    fn get(&self, left: TokenId, right: TokenId) -> Option<&Merge> {
        self.pairs
            .find(self.hasher.hash_one(key(left, right)), |merge| {
                merge.left == left && merge.right == right
            })
    }
}

fn key(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: TokenId,
    /// The bytes of the piece it covers.
    start: u32,
    end: u32,
    /// The merge with the symbol to the right, when short pieces are scanned: rank and result.
    rank: u32,
    merged: TokenId,
}

/// Neighbours of a symbol of a long piece; [`NONE`] at the ends.
#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
    alive: bool,
}

/// Space that one call after the other uses again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    links: Vec<Links>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

/// Tokens for single bytes, and what becomes of bytes that have none.
#[derive(Debug)]
pub(super) struct Symbols {
    /// The token of each byte, [`NONE`] where the vocabulary lacks it.
    of_byte: [TokenId; 256],
    unknown: Option<TokenId>,
    fuse_unknown: bool,
}

impl Symbols {
    /// The byte tokens of `vocabulary`. A byte without one becomes `unknown` (a run of them one
    /// token with `fuse_unknown`), or nothing.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        unknown: Option<TokenId>,
        fuse_unknown: bool,
    ) -> Self {
        let mut of_byte = [NONE; 256];
        for (byte, id) in (0..=u8::MAX).zip(&mut of_byte) {
            *id = vocabulary.find(&[byte]).unwrap_or(NONE);
        }
        Self {
            of_byte,
            unknown,
            fuse_unknown,
        }
    }

    fn split(&self, piece: &[u8], symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let mut after_unknown = false;
        for (position, &byte) in (0_u32..).zip(piece) {
            let known = self.of_byte[usize::from(byte)];
            let Some(id) = Some(known).filter(|&id| id != NONE).or(self.unknown) else {
                continue;
            };
            let is_unknown = known == NONE;
            match symbols.last_mut() {
                Some(last) if is_unknown && after_unknown && self.fuse_unknown => {
                    last.end = position + 1;
                }
                _ => symbols.push(Symbol {
                    id,
                    start: position,
                    end: position + 1,
                    rank: NONE,
                    merged: NONE,
                }),
            }
            after_unknown = is_unknown;
        }
    }
}

/// Calls `emit` with each token of `piece` (shorter than 4 GiB) and the bytes it covers, in order.
pub(super) fn encode(
    piece: &[u8],
    symbols: &Symbols,
    merges: &Merges,
    scratch: &mut Scratch,
    mut emit: impl FnMut(TokenId, Range<usize>),
) {
    symbols.split(piece, &mut scratch.symbols);
    if scratch.symbols.len() < LONG {
        merge_short(&mut scratch.symbols, merges);
    } else {
        merge_long(scratch, merges);
    }
    for symbol in &scratch.symbols {
        emit(symbol.id, symbol.start as usize..symbol.end as usize);
    }
}

fn merge_short(symbols: &mut Vec<Symbol>, merges: &Merges) {
    for position in 0..symbols.len() {
        rank_pair(symbols, position, merges);
    }
    loop {
        let lowest = symbols
            .iter()
            .enumerate()
            .min_by_key(|(_, symbol)| symbol.rank)
            .filter(|(_, symbol)| symbol.rank != NONE);
        let Some((position, &Symbol { merged, .. })) = lowest else {
            return;
        };
        let right = symbols.remove(position + 1);
        symbols[position].id = merged;
        symbols[position].end = right.end;
        rank_pair(symbols, position, merges);
        if let Some(before) = position.checked_sub(1) {
            rank_pair(symbols, before, merges);
        }
    }
}

/// Notes at `position` how the symbol there joins the one to its right.
fn rank_pair(symbols: &mut [Symbol], position: usize, merges: &Merges) {
    let merge = symbols
        .get(position + 1)
        .and_then(|right| merges.get(symbols[position].id, right.id));
    let symbol = &mut symbols[position];
    (symbol.rank, symbol.merged) = merge.map_or((NONE, NONE), |merge| (merge.rank, merge.merged));
}

fn merge_long(scratch: &mut Scratch, merges: &Merges) {
    let Scratch {
        symbols,
        links,
        queue,
    } = scratch;
    let count = symbols.len() as u32;
    links.clear();
    links.extend((0..count).map(|position| Links {
        previous: position.checked_sub(1).unwrap_or(NONE),
        next: if position + 1 < count {
            position + 1
        } else {
            NONE
        },
        alive: true,
    }));
    queue.clear();
    queue.extend((0..count - 1).filter_map(|left| {
        let pair = merges.get(symbols[left as usize].id, symbols[left as usize + 1].id)?;
        Some(Reverse((pair.rank, left)))
    }));
    while let Some(Reverse((rank, left))) = queue.pop() {
        let Links {
            previous,
            next: right,
            alive,
        } = links[left as usize];
        if !alive || right == NONE {
            continue;
        }
        let pair = merges.get(symbols[left as usize].id, symbols[right as usize].id);
        // A queued pair whose halves have since joined others has another rank now, or none.
        let Some(&Merge { merged, .. }) = pair.filter(|pair| pair.rank == rank) else {
            continue;
        };
        let next = links[right as usize].next;
        symbols[left as usize].id = merged;
        symbols[left as usize].end = symbols[right as usize].end;
        links[right as usize].alive = false;
        links[left as usize].next = next;
        if next != NONE {
            links[next as usize].previous = left;
            if let Some(pair) = merges.get(merged, symbols[next as usize].id) {
                queue.push(Reverse((pair.rank, left)));
            }
        }
        if previous != NONE
            && let Some(pair) = merges.get(symbols[previous as usize].id, merged)
        {
            queue.push(Reverse((pair.rank, previous)));
        }
    }
    let mut links = links.iter();
    symbols.retain(|_| links.next().is_some_and(|links| links.alive));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vocabulary::TokenType;
    use super::*;

    const TOKENS: [&str; 10] = ["a", "b", "c", "ab", "bc", "abc", "aa", "aaaa", "ca", "?"];
    const MERGES: [&str; 6] = ["a b", "b c", "ab c", "a a", "aa aa", "c a"];

    fn model() -> Result<(Vocabulary, Merges)> {
        let tokens = TOKENS.iter().map(|&token| Ok((token, TokenType::Normal)));
        let vocabulary = Vocabulary::build(tokens, TOKENS.len())?;
        let merges = Merges::build(
            MERGES.into_iter().map(Ok),
            MERGES.len(),
            &vocabulary,
            "merges",
        )?;
        Ok((vocabulary, merges))
    }

    fn tokens(piece: &str, symbols: &Symbols, merges: &Merges) -> Vec<(TokenId, Range<usize>)> {
        let mut found = Vec::new();
        let mut scratch = Scratch::default();
        encode(
            piece.as_bytes(),
            symbols,
            merges,
            &mut scratch,
            |id, range| {
                found.push((id, range));
            },
        );
        found
    }

    #[test]
    fn lowest_rank_goes_first_leftmost_first() -> Result<()> {
        let (vocabulary, merges) = model()?;
        let symbols = Symbols::new(&vocabulary, None, false);
        assert_eq!(tokens("abc", &symbols, &merges), [(5, 0..3)]);
        assert_eq!(tokens("aaa", &symbols, &merges), [(6, 0..2), (0, 2..3)]);
        assert_eq!(tokens("cab", &symbols, &merges), [(2, 0..1), (3, 1..3)]);
        Ok(())
    }

    #[test]
    fn bytes_without_a_token_are_dropped_or_unknown() -> Result<()> {
        let (vocabulary, merges) = model()?;
        let dropped = Symbols::new(&vocabulary, None, false);
        assert_eq!(tokens("axyb", &dropped, &merges), [(3, 0..4)]);
        let apart = Symbols::new(&vocabulary, Some(9), false);
        assert_eq!(
            tokens("axyb", &apart, &merges),
            [(0, 0..1), (9, 1..2), (9, 2..3), (1, 3..4)]
        );
        let fused = Symbols::new(&vocabulary, Some(9), true);
        assert_eq!(
            tokens("axyb", &fused, &merges),
            [(0, 0..1), (9, 1..3), (1, 3..4)]
        );
        Ok(())
    }

    #[test]
    fn broken_merges_are_refused_by_place() -> Result<()> {
        let (vocabulary, _) = model()?;
        for (merge, expected) in [
            (
                "ab",
                "merges[1]: expected two tokens with one space between, found \"ab\"",
            ),
            (
                "a  b",
                "merges[1]: expected two tokens with one space between, found \"a  b\"",
            ),
            (
                "a z",
                "merges[1]: \"z\" of the merge \"a z\" is not in the vocabulary",
            ),
            (
                "b b",
                "merges[1]: \"bb\" of the merge \"b b\" is not in the vocabulary",
            ),
        ] {
            let merges = ["a b", merge].into_iter().map(Ok);
            let error = Merges::build(merges, 2, &vocabulary, "merges").err();
            assert_eq!(
                error.map(|error| error.to_string()).as_deref(),
                Some(expected)
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn heap_and_scan_agree(piece in "[abc]{0,200}") {
            let (vocabulary, merges) = model()?;
            let symbols = Symbols::new(&vocabulary, None, false);
            let mut scratch = Scratch::default();
            symbols.split(piece.as_bytes(), &mut scratch.symbols);
            let mut scanned = scratch.symbols.clone();
            merge_short(&mut scanned, &merges);
            if !scratch.symbols.is_empty() {
                merge_long(&mut scratch, &merges);
            }
            let ids = |symbols: &[Symbol]| -> Vec<(TokenId, u32, u32)> {
                symbols.iter().map(|symbol| (symbol.id, symbol.start, symbol.end)).collect()
            };
            prop_assert_eq!(ids(&scanned), ids(&scratch.symbols));
        }
    }
}
