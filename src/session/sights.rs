//! What the tokens of a run see: as lists of cells for this library's attention kernel, or as a
//! mask over all cells for ggml's operations.

use std::collections::HashMap;
use std::ops::Range;

use half::f16;

use super::batch::BatchToken;
use crate::model::cells::Cells;
use crate::model::kv_cache::SequenceSet;
use crate::model::ops::RunSights;
use gpt2_kernels::attention::{Sight, Sights};

/// What `tokens` see, whose keys and values go to the cells `own`, and what those of them at the
/// places `selected` see. A token that would see nothing sees its own cell. For `by_rows` see
/// [`Sights::new`].
pub(super) fn lists(
    cells: &Cells,
    tokens: &[BatchToken],
    own: &[usize],
    selected: &[usize],
    by_rows: bool,
) -> RunSights {
    let mut lists = Vec::new();
    let mut of_set: HashMap<SequenceSet, Range<usize>> = HashMap::new();
    let sights = tokens.iter().zip(own).map(|(token, &own)| {
        let list = of_set.entry(token.sequences).or_insert_with(|| {
            let first = lists.len();
            cells.append_visible(token.sequences, &mut lists);
            first..lists.len()
        });
        let count = cells.count_until(&lists[list.clone()], token.position);
        if count > 0 {
            let first = list.start;
            return Sight { first, count };
        }
        lists.push(own as u32);
        Sight {
            first: lists.len() - 1,
            count: 1,
        }
    });
    let all: Vec<Sight> = sights.collect();
    let selected = if selected.len() == tokens.len() {
        Sights::default()
    } else {
        let selected = selected.iter().map(|&index| all[index]).collect();
        Sights::new(lists.clone(), selected, by_rows)
    };
    RunSights {
        all: Sights::new(lists, all, by_rows),
        selected,
    }
}

/// A row over the first `keys` cells for each of the tokens `of`: 0 for the cells it sees, −∞ for
/// the others. A token that would see nothing sees its own cell.
pub(super) fn mask(
    cells: &Cells,
    tokens: &[BatchToken],
    own: &[usize],
    of: &[usize],
    keys: usize,
) -> Vec<f16> {
    let mut mask = Vec::with_capacity(keys * of.len());
    for &index in of {
        let BatchToken {
            position,
            sequences,
            ..
        } = tokens[index];
        let start = mask.len();
        let mut sees_nothing = true;
        mask.extend((0..keys).map(|cell| {
            if cells.is_visible(cell, position, sequences) {
                sees_nothing = false;
                f16::ZERO
            } else {
                f16::NEG_INFINITY
            }
        }));
        if sees_nothing {
            mask[start + own[index]] = f16::ZERO;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(sequences: &[usize]) -> SequenceSet {
        let add = |set: SequenceSet, &one: &usize| set.with(one).unwrap();
        sequences.iter().fold(SequenceSet::default(), add)
    }

    /// The cells that a mask shows to each token.
    fn shown(mask: &[f16], keys: usize) -> Vec<Vec<u32>> {
        let rows = mask.chunks_exact(keys).map(|row| {
            let cells = (0..keys as u32).zip(row);
            cells
                .filter(|(_, mask)| **mask == f16::ZERO)
                .map(|(cell, _)| cell)
        });
        rows.map(Iterator::collect).collect()
    }

    #[test]
    fn lists_and_mask_show_the_same() {
        let mut cells = Cells::new(32);
        // Position, sequences, masked; the last five are in the run.
        let all: [(usize, &[usize], bool); 10] = [
            (0, &[0, 1], false),
            (0, &[2], true),
            (1, &[0, 1], true),
            (2, &[0], false),
            (2, &[1], false),
            (3, &[0], false),
            (3, &[1], true),
            (1, &[2], true),
            (5, &[0, 1], false),
            (0, &[3], false),
        ];
        let taken = all.map(|(position, sequences, masked)| {
            let cell = cells.take(7, position, set(sequences)).unwrap();
            if masked {
                cells.mask(cell);
            }
            cell
        });
        let tokens: Vec<BatchToken> = all[5..]
            .iter()
            .map(|&(position, sequences, masked)| BatchToken {
                position,
                sequences: set(sequences),
                masked,
                ..BatchToken::default()
            })
            .collect();
        let own = &taken[5..];
        let selected = [1, 2, 4];
        let sights = lists(&cells, &tokens, own, &selected, false);
        let expected: [&[usize]; 5] = [&[0, 3, 5], &[0, 4], &[7], &[0, 8], &[9]];
        for (found, of) in [
            (&sights.all, &[0, 1, 2, 3, 4][..]),
            (&sights.selected, &selected),
        ] {
            let mask = shown(&mask(&cells, &tokens, own, of, 32), 32);
            for (place, &index) in of.iter().enumerate() {
                let seen: Vec<usize> = found
                    .seen(place)
                    .iter()
                    .map(|&cell| cell as usize)
                    .collect();
                assert_eq!(seen, expected[index]);
                let mut seen = found.seen(place).to_vec();
                seen.sort_unstable();
                assert_eq!(seen, mask[place]);
            }
        }
    }
}
