//! Byte-pair merges: the bytes of a piece become tokens.
//!
//! Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), on bytes
//! as GPT-2 does it: of all adjacent pairs the one with the lowest rank is joined, leftmost first,
//! until no pair has a rank. Short pieces are scanned again for each merge; from [`LONG`] symbols
//! on a heap finds the next pair, so that a megabyte of one letter costs n log n.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::bytes;
use super::vocabulary::Vocabulary;
use crate::{Error, Result, TokenId};

/// From this many symbols on the heap is faster than scanning.
const LONG: usize = 48;

/// No symbol, no rank.
const NONE: u32 = u32::MAX;

/// How a token comes about.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// The place of the merge in the list, or [`NONE`].
    rank: u32,
    /// Bytes of its left part.
    left: u32,
}

/// Which pairs join, in which order, into what.
///
/// A merge is kept with the token it makes: a pair joins if its bytes together are a token and that
/// token has a merge which parts it there. Two tokens never spell the same, so this says as much as
/// a table of pairs, and needs no look-ups to be read.
#[derive(Debug)]
pub(super) struct Merges {
    origins: Vec<Origin>,
    /// The rank of a token's other merges, by where they part it.
    others: HashMap<(TokenId, u32), u32>,
}

/// A pair that joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    rank: u32,
    merged: TokenId,
}

impl Merges {
    /// Reads merges written as `left right` in order of rank; `place` names them in errors. Of a
    /// merge that occurs twice the last rank holds.
    ///
    /// # Errors
    /// A merge that is not two tokens with a space between, or whose result is not in the
    /// vocabulary.
    pub(super) fn build<'a>(
        merges: impl Iterator<Item = Result<&'a str>>,
        vocabulary: &Vocabulary,
        place: &str,
    ) -> Result<Self> {
        let nowhere = Origin {
            rank: NONE,
            left: 0,
        };
        let mut built = Self {
            origins: vec![nowhere; vocabulary.len()],
            others: HashMap::new(),
        };
        let mut spelled = Vec::new();
        let mut expected = NONE;
        for (rank, merge) in (0_u32..).zip(merges) {
            let merge = merge?;
            let fail = |message: String| Error::format(format!("{place}[{rank}]"), message);
            let (left, right) = parts(merge).ok_or_else(|| {
                fail(format!(
                    "expected two tokens with one space between, found {merge:?}"
                ))
            })?;
            spelled.clear();
            let mut verbatim = !bytes::append_spelled(left, &mut spelled);
            let left_bytes = spelled.len() as u32;
            verbatim |= !bytes::append_spelled(right, &mut spelled);
            // Trained vocabularies list the results of merges in order, so the next one is usually
            // the id after the last.
            let merged = if !verbatim && vocabulary.spelled(expected) == Some(spelled.as_slice()) {
                expected
            } else {
                vocabulary
                    .find_text(&[left, right].concat(), &mut spelled)
                    .ok_or_else(|| {
                        fail(format!(
                            "what the merge {merge:?} makes is not in the vocabulary"
                        ))
                    })?
            };
            expected = merged.saturating_add(1);
            // Text is made of bytes, so a token outside the byte alphabet is no part of any piece.
            if !verbatim {
                built.insert(merged, left_bytes, rank);
            }
        }
        Ok(built)
    }

    fn insert(&mut self, merged: TokenId, left: u32, rank: u32) {
        let origin = &mut self.origins[merged as usize];
        if origin.rank == NONE || origin.left == left {
            *origin = Origin { rank, left };
        } else {
            self.others.insert((merged, left), rank);
        }
    }

    /// The rank of the merge that makes `merged` of a left part of `left` bytes and the rest.
    fn rank(&self, merged: TokenId, left: usize) -> Option<u32> {
        let left = left as u32;
        let origin = self.origins.get(merged as usize)?;
        if origin.left == left {
            return Some(origin.rank).filter(|&rank| rank != NONE);
        }
        self.others.get(&(merged, left)).copied()
    }
}

/// Looks pairs up.
struct Pairs<'a> {
    vocabulary: &'a Vocabulary,
    merges: &'a Merges,
    joined: Vec<u8>,
}

impl Pairs<'_> {
    /// The merge of two tokens, if they join.
    fn get(&mut self, left: TokenId, right: TokenId) -> Option<Merge> {
        let left = self.vocabulary.spelled(left)?;
        let right = self.vocabulary.spelled(right)?;
        if left.len() + right.len() > self.vocabulary.longest() {
            return None;
        }
        self.joined.clear();
        self.joined.extend_from_slice(left);
        self.joined.extend_from_slice(right);
        let merged = self.vocabulary.find(&self.joined)?;
        let rank = self.merges.rank(merged, left.len())?;
        Some(Merge { rank, merged })
    }
}

/// The two tokens of a merge.
pub(super) fn parts(merge: &str) -> Option<(&str, &str)> {
    merge
        .split_once(' ')
        .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
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
    joined: Vec<u8>,
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
    (vocabulary, symbols, merges): (&Vocabulary, &Symbols, &Merges),
    scratch: &mut Scratch,
    mut emit: impl FnMut(TokenId, Range<usize>),
) {
    symbols.split(piece, &mut scratch.symbols);
    let mut pairs = Pairs {
        vocabulary,
        merges,
        joined: std::mem::take(&mut scratch.joined),
    };
    if scratch.symbols.len() < LONG {
        merge_short(&mut scratch.symbols, &mut pairs);
    } else {
        merge_long(scratch, &mut pairs);
    }
    scratch.joined = pairs.joined;
    for symbol in &scratch.symbols {
        emit(symbol.id, symbol.start as usize..symbol.end as usize);
    }
}

fn merge_short(symbols: &mut Vec<Symbol>, pairs: &mut Pairs<'_>) {
    for position in 0..symbols.len() {
        rank_pair(symbols, position, pairs);
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
        rank_pair(symbols, position, pairs);
        if let Some(before) = position.checked_sub(1) {
            rank_pair(symbols, before, pairs);
        }
    }
}

/// Notes at `position` how the symbol there joins the one to its right.
fn rank_pair(symbols: &mut [Symbol], position: usize, pairs: &mut Pairs<'_>) {
    let merge = symbols
        .get(position + 1)
        .and_then(|right| pairs.get(symbols[position].id, right.id));
    let symbol = &mut symbols[position];
    (symbol.rank, symbol.merged) = merge.map_or((NONE, NONE), |merge| (merge.rank, merge.merged));
}

fn merge_long(scratch: &mut Scratch, pairs: &mut Pairs<'_>) {
    let Scratch {
        symbols,
        links,
        queue,
        ..
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
        let pair = pairs.get(symbols[left as usize].id, symbols[left as usize + 1].id)?;
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
        let pair = pairs.get(symbols[left as usize].id, symbols[right as usize].id);
        // A queued pair whose halves have since joined others has another rank now, or none.
        let Some(Merge { merged, .. }) = pair.filter(|pair| pair.rank == rank) else {
            continue;
        };
        let next = links[right as usize].next;
        symbols[left as usize].id = merged;
        symbols[left as usize].end = symbols[right as usize].end;
        links[right as usize].alive = false;
        links[left as usize].next = next;
        if next != NONE {
            links[next as usize].previous = left;
            if let Some(pair) = pairs.get(merged, symbols[next as usize].id) {
                queue.push(Reverse((pair.rank, left)));
            }
        }
        if previous != NONE
            && let Some(pair) = pairs.get(symbols[previous as usize].id, merged)
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
        let merges = Merges::build(MERGES.into_iter().map(Ok), &vocabulary, "merges")?;
        Ok((vocabulary, merges))
    }

    fn tokens(
        piece: &str,
        unknown: Option<TokenId>,
        fuse: bool,
    ) -> Result<Vec<(TokenId, Range<usize>)>> {
        let (vocabulary, merges) = model()?;
        let symbols = Symbols::new(&vocabulary, unknown, fuse);
        let mut found = Vec::new();
        let parts = (&vocabulary, &symbols, &merges);
        encode(
            piece.as_bytes(),
            parts,
            &mut Scratch::default(),
            |id, range| {
                found.push((id, range));
            },
        );
        Ok(found)
    }

    #[test]
    fn lowest_rank_goes_first_leftmost_first() -> Result<()> {
        assert_eq!(tokens("abc", None, false)?, [(5, 0..3)]);
        assert_eq!(tokens("aaa", None, false)?, [(6, 0..2), (0, 2..3)]);
        assert_eq!(tokens("cab", None, false)?, [(2, 0..1), (3, 1..3)]);
        Ok(())
    }

    #[test]
    fn a_pair_joins_only_where_a_merge_parts_the_token() -> Result<()> {
        let tokens = ["a", "b", "c", "ab", "bc", "abc"];
        let rows = tokens.iter().map(|&token| Ok((token, TokenType::Normal)));
        let vocabulary = Vocabulary::build(rows, tokens.len())?;
        for (list, expected) in [
            (vec!["a b", "b c", "a bc"], vec![3, 2]),
            (vec!["b c", "a b", "a bc"], vec![5]),
            (vec!["b c", "ab c", "a bc"], vec![5]),
            (vec!["a b", "a bc", "b c", "ab c"], vec![5]),
            (vec!["a b", "b c", "a b"], vec![0, 4]),
        ] {
            let merges = Merges::build(list.iter().copied().map(Ok), &vocabulary, "merges")?;
            let symbols = Symbols::new(&vocabulary, None, false);
            let mut found = Vec::new();
            let parts = (&vocabulary, &symbols, &merges);
            encode(b"abc", parts, &mut Scratch::default(), |id, _| {
                found.push(id);
            });
            assert_eq!(found, expected, "{list:?}");
        }
        Ok(())
    }

    #[test]
    fn bytes_without_a_token_are_dropped_or_unknown() -> Result<()> {
        assert_eq!(tokens("axyb", None, false)?, [(3, 0..4)]);
        assert_eq!(
            tokens("axyb", Some(9), false)?,
            [(0, 0..1), (9, 1..2), (9, 2..3), (1, 3..4)]
        );
        assert_eq!(
            tokens("axyb", Some(9), true)?,
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
                "b b",
                "merges[1]: what the merge \"b b\" makes is not in the vocabulary",
            ),
        ] {
            let merges = ["a b", merge].into_iter().map(Ok);
            let error = Merges::build(merges, &vocabulary, "merges").err();
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
            let mut pairs = Pairs {
                vocabulary: &vocabulary,
                merges: &merges,
                joined: Vec::new(),
            };
            merge_short(&mut scanned, &mut pairs);
            if !scratch.symbols.is_empty() {
                merge_long(&mut scratch, &mut pairs);
            }
            let ids = |symbols: &[Symbol]| -> Vec<(TokenId, u32, u32)> {
                symbols.iter().map(|symbol| (symbol.id, symbol.start, symbol.end)).collect()
            };
            prop_assert_eq!(ids(&scanned), ids(&scratch.symbols));
        }
    }
}
