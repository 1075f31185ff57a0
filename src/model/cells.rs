//! The bookkeeping of the cache: which cell holds which position of which sequences. Knows no
//! tensors.
//!
//! Each sequence has the list of its cells in the order of its positions. So whatever is asked of a
//! sequence costs as much as the sequence is long, however many others there are.

use super::kv_cache::{MAX_SEQUENCES, SequenceId, SequenceSet};
use crate::TokenId;

/// A cell of the cache: one token of some sequences.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Whether it is of any sequence; it is free otherwise.
    used: bool,
    token: TokenId,
    position: usize,
    sequences: SequenceSet,
    /// Whether attention skips it.
    masked: bool,
}

/// Which cell holds what. Sequences may share cells, so a common prefix is stored once.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    all: Vec<Cell>,
    /// The cells of each sequence in the order of positions; as many sequences as were used.
    lists: Vec<Vec<u32>>,
    /// How many cells are in use.
    used: usize,
    /// How many of them attention skips.
    masked: usize,
    /// Every cell from here on is free.
    end: usize,
    /// Every cell below is in use.
    first_free: usize,
}

impl Cells {
    /// `capacity` free cells, of which at most 2³² can be used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            all: vec![Cell::default(); capacity],
            lists: Vec::new(),
            used: 0,
            masked: 0,
            end: 0,
            first_free: 0,
        }
    }

    /// One more than the highest cell in use.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// One more than the highest position of `sequence`; 0 when it is empty.
    pub(crate) fn length(&self, sequence: SequenceId) -> usize {
        let last = self.of(sequence).last();
        last.map_or(0, |&cell| self.position(cell as usize) + 1)
    }

    /// The tokens of `sequence` in the order of their positions.
    pub(crate) fn tokens(&self, sequence: SequenceId) -> Vec<TokenId> {
        let cells = self.of(sequence).iter();
        cells.map(|&cell| self.all[cell as usize].token).collect()
    }

    /// The cells of `sequence` in the order of their positions.
    pub(crate) fn of(&self, sequence: SequenceId) -> &[u32] {
        self.lists.get(sequence).map_or(&[], Vec::as_slice)
    }

    /// Whether `sequence` has a token at `position`.
    pub(crate) fn holds(&self, sequence: SequenceId, position: usize) -> bool {
        let cells = self.of(sequence);
        let place = cells.partition_point(|&cell| self.position(cell as usize) < position);
        let found = cells.get(place);
        found.is_some_and(|&cell| self.position(cell as usize) == position)
    }

    /// The position of `cell`.
    pub(crate) fn position(&self, cell: usize) -> usize {
        self.all[cell].position
    }

    /// The number of free cells.
    pub(crate) fn free(&self) -> usize {
        self.all.len() - self.used
    }

    /// The number of cells that are of some of `sequences`, and of no other.
    pub(crate) fn only_of(&self, sequences: SequenceSet) -> usize {
        let lists = sequences.iter().map(|sequence| {
            let own = self.of(sequence).iter().filter(|&&cell| {
                let of_cell = self.all[cell as usize].sequences;
                // A cell of several counts in the first one's list.
                sequences.includes(of_cell) && of_cell.iter().next() == Some(sequence)
            });
            own.count()
        });
        lists.sum()
    }

    /// Allocates a free cell for `token` at `position` of `sequences`; `None` when there is none.
    pub(crate) fn take(
        &mut self,
        token: TokenId,
        position: usize,
        sequences: SequenceSet,
    ) -> Option<usize> {
        let free = self.all[self.first_free..]
            .iter()
            .position(|cell| !cell.used)?;
        let index = self.first_free + free;
        let number = u32::try_from(index).ok()?;
        self.all[index] = Cell {
            used: true,
            token,
            position,
            sequences,
            masked: false,
        };
        for sequence in sequences.iter() {
            let list = list(&mut self.lists, sequence);
            let before = |&cell: &u32| self.all[cell as usize].position <= position;
            // Nearly always the last.
            let place = match list.last() {
                Some(last) if !before(last) => list.partition_point(before),
                _ => list.len(),
            };
            list.insert(place, number);
        }
        self.used += 1;
        self.first_free = index + 1;
        self.end = self.end.max(index + 1);
        Some(index)
    }

    /// Makes attention skip `cell`, which is in use, from now on.
    pub(crate) fn mask(&mut self, cell: usize) {
        let cell = &mut self.all[cell];
        self.masked += usize::from(!cell.masked);
        cell.masked = true;
    }

    /// Frees cells that were taken, whatever their sequences.
    pub(crate) fn free_again(&mut self, cells: &[usize]) {
        let mut of = SequenceSet::default();
        for &cell in cells {
            of = of.union(self.all[cell].sequences);
            self.all[cell].sequences = SequenceSet::default();
            self.free_if_unused(cell);
        }
        for sequence in of.iter() {
            let all = &self.all;
            self.lists[sequence].retain(|&cell| all[cell as usize].sequences.contains(sequence));
        }
        self.trim();
    }

    /// How many of `tokens` equal the first tokens of `sequence`, without a gap and none masked.
    pub(crate) fn common_prefix(&self, sequence: SequenceId, tokens: &[TokenId]) -> usize {
        let pairs = self.of(sequence).iter().zip(tokens).enumerate();
        let equal = pairs.take_while(|(position, (cell, token))| {
            let cell = self.all[**cell as usize];
            cell.position == *position && cell.token == **token && !cell.masked
        });
        equal.count()
    }

    /// Removes the positions of `sequence` from `length` on.
    pub(crate) fn truncate(&mut self, sequence: SequenceId, length: usize) {
        let cells = self.of(sequence);
        let kept = cells.partition_point(|&cell| self.position(cell as usize) < length);
        if kept == cells.len() {
            return;
        }
        for cell in self.lists[sequence].split_off(kept) {
            self.all[cell as usize].sequences.remove(sequence);
            self.free_if_unused(cell as usize);
        }
        self.trim();
    }

    /// Makes `to`, which must be empty, share every cell of `from`.
    pub(crate) fn share(&mut self, from: SequenceId, to: SequenceId) {
        let cells = self.of(from).to_vec();
        for &cell in &cells {
            self.all[cell as usize].sequences.insert(to);
        }
        *list(&mut self.lists, to) = cells;
    }

    /// Makes every sequence `first + n`, n below `parents.len()`, what sequence `first +
    /// parents[n]` was.
    pub(crate) fn reorder(&mut self, first: SequenceId, parents: &[SequenceId]) {
        let moves = parents.iter().enumerate();
        let moves: Vec<_> = moves.filter(|(child, parent)| child != *parent).collect();
        let new = moves.iter().map(|(_, parent)| self.of(first + **parent));
        let new: Vec<Vec<u32>> = new.map(<[u32]>::to_vec).collect();
        let mut old = Vec::with_capacity(moves.len());
        for ((child, _), cells) in moves.iter().zip(new) {
            let list = list(&mut self.lists, first + child);
            old.push((first + child, std::mem::replace(list, cells)));
        }
        for (child, cells) in &old {
            for &cell in cells {
                self.all[cell as usize].sequences.remove(*child);
            }
        }
        for (child, _) in &old {
            for &cell in &self.lists[*child] {
                self.all[cell as usize].sequences.insert(*child);
            }
        }
        for cell in old.into_iter().flat_map(|(_, cells)| cells) {
            self.free_if_unused(cell as usize);
        }
        self.trim();
    }

    /// Frees `cell` when the last of its sequences has left it.
    fn free_if_unused(&mut self, cell: usize) {
        let found = &mut self.all[cell];
        if found.used && found.sequences.is_empty() {
            self.used -= 1;
            self.masked -= usize::from(found.masked);
            *found = Cell::default();
            self.first_free = self.first_free.min(cell);
        }
    }

    /// Lowers the end to what is in use.
    fn trim(&mut self) {
        let last = self.all[..self.end].iter().rposition(|cell| cell.used);
        self.end = last.map_or(0, |last| last + 1);
    }

    /// Whether `cell` is of all of `sequences`.
    pub(crate) fn is_of(&self, cell: usize, sequences: SequenceSet) -> bool {
        let cell = self.all[cell];
        cell.used && cell.sequences.includes(sequences)
    }

    /// Whether a token at `position` of `sequences` attends to `cell`.
    pub(crate) fn is_visible(&self, index: usize, position: usize, sequences: SequenceSet) -> bool {
        let cell = self.all[index];
        self.is_of(index, sequences) && !cell.masked && cell.position <= position
    }

    /// Appends to `list` the cells that a token of all of `sequences`, of which there is at least
    /// one, attends to at the highest position, in the order of positions.
    pub(crate) fn append_visible(&self, sequences: SequenceSet, list: &mut Vec<u32>) {
        let Some(first) = sequences.iter().next() else {
            return;
        };
        let cells = self.of(first);
        if self.masked == 0 && sequences.end() == first + 1 {
            list.extend_from_slice(cells);
            return;
        }
        list.extend(cells.iter().copied().filter(|&cell| {
            let cell = self.all[cell as usize];
            cell.sequences.includes(sequences) && !cell.masked
        }));
    }

    /// How many of `cells`, which are in the order of positions, are at `position` or before.
    pub(crate) fn count_until(&self, cells: &[u32], position: usize) -> usize {
        cells.partition_point(|&cell| self.position(cell as usize) <= position)
    }
}

/// The list of `sequence`, which is below [`MAX_SEQUENCES`].
fn list(lists: &mut Vec<Vec<u32>>, sequence: SequenceId) -> &mut Vec<u32> {
    debug_assert!(sequence < MAX_SEQUENCES);
    if lists.len() <= sequence {
        lists.resize_with(sequence + 1, Vec::new);
    }
    &mut lists[sequence]
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::collection::vec;
    use proptest::prelude::*;

    fn set(sequence: SequenceId) -> SequenceSet {
        SequenceSet::of(sequence).unwrap()
    }

    #[test]
    fn cells_are_taken_in_order_and_reused() {
        let mut cells = Cells::new(4);
        for position in 0..3 {
            assert_eq!(cells.take(7, position, set(0)), Some(position));
        }
        assert_eq!((cells.length(0), cells.end(), cells.free()), (3, 3, 1));
        cells.truncate(0, 1);
        assert_eq!((cells.length(0), cells.end(), cells.free()), (1, 1, 3));
        assert_eq!(cells.take(10, 0, set(1)), Some(1));
        assert_eq!(cells.take(11, 1, set(1)), Some(2));
        cells.truncate(0, 0);
        assert_eq!(cells.take(12, 2, set(1)), Some(0));
        assert_eq!(cells.take(13, 3, set(1)), Some(3));
        assert_eq!(cells.take(14, 4, set(1)), None);
    }

    #[test]
    fn a_shared_prefix_is_seen_by_both_sequences_and_outlives_one() {
        let mut cells = Cells::new(8);
        cells.take(10, 0, set(0));
        cells.take(11, 1, set(0));
        cells.share(0, 5);
        assert_eq!((cells.length(5), cells.tokens(5)), (2, vec![10, 11]));
        cells.take(12, 2, set(0));
        assert!(cells.is_visible(1, 2, set(5)) && cells.is_visible(1, 2, set(0)));
        assert!(
            !cells.is_visible(2, 2, set(5)),
            "what sequence 0 added is its own"
        );
        assert!(!cells.is_visible(1, 0, set(0)), "no token sees the future");
        cells.truncate(0, 0);
        assert_eq!((cells.length(0), cells.length(5), cells.free()), (0, 2, 6));
    }

    #[test]
    fn freed_cells_leave_the_others_as_they_were() {
        let mut cells = Cells::new(4);
        cells.take(10, 0, set(0));
        let taken = [cells.take(11, 1, set(0)), cells.take(12, 0, set(1))].map(Option::unwrap);
        cells.mask(taken[0]);
        cells.free_again(&taken);
        assert_eq!((cells.end(), cells.free(), cells.length(1)), (1, 3, 0));
        assert_eq!(cells.tokens(0), [10]);
        assert_eq!(cells.take(13, 1, set(0)), Some(1));
        assert!(
            cells.is_visible(1, 1, set(0)),
            "nothing of the mask is left"
        );
    }

    #[test]
    fn a_common_prefix_ends_at_another_token_a_gap_or_a_masked_one() {
        let mut cells = Cells::new(8);
        for (position, token) in [(0, 7), (1, 8), (2, 9), (4, 5)] {
            cells.take(token, position, set(3));
        }
        assert_eq!(cells.common_prefix(3, &[7, 8, 1]), 2);
        assert_eq!(cells.common_prefix(3, &[7, 8]), 2);
        assert_eq!(
            cells.common_prefix(3, &[7, 8, 9, 5]),
            3,
            "position 3 is missing"
        );
        assert_eq!(cells.common_prefix(0, &[7, 8]), 0);
        cells.mask(1);
        assert_eq!(cells.common_prefix(3, &[7, 8]), 1);
    }

    #[test]
    fn a_token_of_two_sequences_sees_only_what_both_have() {
        let both = set(0).with(1).unwrap();
        let mut cells = Cells::new(4);
        cells.take(10, 0, both);
        cells.take(11, 1, set(0));
        assert!(cells.is_visible(0, 1, both));
        assert!(!cells.is_visible(1, 1, both));
        assert!(set(MAX_SEQUENCES - 1).with(MAX_SEQUENCES).is_err());
        assert_eq!(both.end(), 2);
    }

    /// What the bookkeeping must be like: cells by themselves, looked at one by one.
    #[derive(Clone, Default)]
    struct Scanned(Vec<Cell>);

    impl Scanned {
        fn of(&self, wanted: SequenceSet) -> Vec<usize> {
            let cells = self.0.iter().enumerate();
            let cells = cells.filter(|(_, cell)| cell.used && cell.sequences.includes(wanted));
            let mut cells: Vec<usize> = cells.map(|(index, _)| index).collect();
            cells.sort_by_key(|&cell| self.0[cell].position);
            cells
        }

        fn end(&self) -> usize {
            let last = self.0.iter().rposition(|cell| cell.used);
            last.map_or(0, |last| last + 1)
        }

        fn each(&mut self, change: impl Fn(&mut Cell)) {
            for cell in self.0.iter_mut().filter(|cell| cell.used) {
                change(cell);
                if cell.sequences.is_empty() {
                    *cell = Cell::default();
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        /// Tokens at the end of all sequences of a set, and whether they are freed again.
        Take(Vec<SequenceId>, usize, bool),
        Mask(usize),
        Truncate(SequenceId, usize),
        Fork(SequenceId, SequenceId),
        Reorder(SequenceId, Vec<SequenceId>),
    }

    const SEQUENCES: usize = 5;
    const CAPACITY: usize = 40;

    fn operation() -> impl Strategy<Value = Operation> {
        let one = || 0..SEQUENCES;
        prop_oneof![
            4 => (vec(one(), 1..4), 1..8usize, any::<bool>())
                .prop_map(|(set, count, freed)| Operation::Take(set, count, freed)),
            1 => (0..CAPACITY).prop_map(Operation::Mask),
            2 => (one(), 0..12usize).prop_map(|(of, length)| Operation::Truncate(of, length)),
            1 => (one(), one()).prop_map(|(from, to)| Operation::Fork(from, to)),
            1 => (0..3usize).prop_flat_map(|first| {
                let left = SEQUENCES - first;
                (Just(first), vec(0..left, 0..=left))
            })
            .prop_map(|(first, parents)| Operation::Reorder(first, parents)),
        ]
    }

    fn apply(operation: &Operation, cells: &mut Cells, scanned: &mut Scanned) {
        match operation {
            Operation::Take(of, count, freed) => {
                let all = of
                    .iter()
                    .fold(SequenceSet::default(), |all, &one| all.with(one).unwrap());
                let mut taken = Vec::new();
                for token in 0..*count as TokenId {
                    let longest = of.iter().map(|&sequence| cells.length(sequence)).max();
                    let position = longest.unwrap_or(0) + usize::from(token == 3);
                    let place = scanned.0.iter().position(|cell| !cell.used);
                    assert_eq!(cells.take(token, position, all), place);
                    if let Some(place) = place {
                        taken.push(place);
                        scanned.0[place] = Cell {
                            used: true,
                            token,
                            position,
                            sequences: all,
                            masked: false,
                        };
                    }
                }
                if *freed {
                    cells.free_again(&taken);
                    for cell in taken {
                        scanned.0[cell] = Cell::default();
                    }
                }
            }
            Operation::Mask(cell) if scanned.0[*cell].used => {
                cells.mask(*cell);
                scanned.0[*cell].masked = true;
            }
            Operation::Truncate(of, length) => {
                cells.truncate(*of, *length);
                scanned.each(|cell| {
                    if cell.position >= *length {
                        cell.sequences.remove(*of);
                    }
                });
            }
            Operation::Fork(from, to) if from != to => {
                cells.truncate(*to, 0);
                cells.share(*from, *to);
                scanned.each(|cell| {
                    cell.sequences.remove(*to);
                    if cell.sequences.contains(*from) {
                        cell.sequences.insert(*to);
                    }
                });
            }
            Operation::Reorder(first, parents) => {
                cells.reorder(*first, parents);
                scanned.each(|cell| {
                    let before = cell.sequences;
                    for (child, parent) in parents.iter().enumerate() {
                        cell.sequences.remove(first + child);
                        if before.contains(first + parent) {
                            cell.sequences.insert(first + child);
                        }
                    }
                });
            }
            Operation::Mask(_) | Operation::Fork(..) => {}
        }
    }

    proptest! {
        #[test]
        fn lists_are_what_looking_at_every_cell_finds(operations in vec(operation(), 0..40)) {
            let mut cells = Cells::new(CAPACITY);
            let mut scanned = Scanned(vec![Cell::default(); CAPACITY]);
            for operation in &operations {
                apply(operation, &mut cells, &mut scanned);
                prop_assert_eq!(cells.end(), scanned.end());
                let used = scanned.0.iter().filter(|cell| cell.used).count();
                prop_assert_eq!(cells.free(), CAPACITY - used);
                for sequence in 0..SEQUENCES {
                    let found = scanned.of(set(sequence));
                    let same = cells.of(sequence).iter().map(|&cell| cell as usize);
                    prop_assert!(same.eq(found.iter().copied()), "{:?}", operation);
                    let last = found.last().map_or(0, |&cell| scanned.0[cell].position + 1);
                    prop_assert_eq!(cells.length(sequence), last);
                    let tokens: Vec<_> = found.iter().map(|&cell| scanned.0[cell].token).collect();
                    prop_assert_eq!(cells.tokens(sequence), tokens);
                    let pair = set(sequence).union(set(sequence / 2));
                    let used = scanned.0.iter().filter(|cell| cell.used);
                    let only = used.filter(|cell| pair.includes(cell.sequences)).count();
                    prop_assert_eq!(cells.only_of(pair), only);
                    let positions = found.iter().map(|&cell| scanned.0[cell].position);
                    let positions: Vec<_> = positions.collect();
                    for position in 0..=last {
                        let holds = positions.contains(&position);
                        prop_assert_eq!(cells.holds(sequence, position), holds);
                    }
                    // What a token of this sequence and its neighbour sees.
                    for sequences in [set(sequence), set(sequence).union(set(sequence / 2))] {
                        let mut visible = Vec::new();
                        cells.append_visible(sequences, &mut visible);
                        for position in [0, last / 2, last] {
                            let seen = cells.count_until(&visible, position);
                            let seen = visible[..seen].iter().map(|&cell| cell as usize);
                            let found = scanned.of(sequences).into_iter();
                            let found = found.filter(|&cell| {
                                let one = scanned.0[cell];
                                let expected = !one.masked && one.position <= position;
                                assert_eq!(cells.is_visible(cell, position, sequences), expected);
                                expected
                            });
                            prop_assert!(seen.eq(found));
                        }
                    }
                }
            }
        }
    }
}
