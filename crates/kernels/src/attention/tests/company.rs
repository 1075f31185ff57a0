//! A token gets the same bits wherever its cells lie and whatever else is in the run.

use super::{Case, Elements, InstructionSet, KINDS, Kind, Random, Sight, Sights, available};
use super::{Visibility, same_bits};
use crate::simd::{BLOCK, Q4_0_BYTES, Q8_0_BYTES};

/// Heads, and elements of each.
const HEADS: [usize; 2] = [3, 64];
const WIDTH: usize = HEADS[0] * HEADS[1];

/// Tokens that see the same list, each one cell more than the one before.
#[derive(Debug, Clone)]
struct Text {
    /// The cells in the order of positions.
    list: Vec<u32>,
    /// Tokens in the run: the last ones of the list.
    tokens: usize,
}

impl Text {
    /// How many cells token `index` sees.
    fn count(&self, index: usize) -> usize {
        self.list.len() - (self.tokens - 1 - index)
    }
}

impl Elements {
    /// The rows of `cells`, in their order.
    fn rows(&self, cells: &[u32], width: usize) -> Self {
        fn of<T: Copy>(data: &[T], row: usize, cells: &[u32]) -> Vec<T> {
            let rows = cells
                .iter()
                .map(|&cell| &data[cell as usize * row..][..row]);
            rows.flatten().copied().collect()
        }
        let blocks = width / BLOCK;
        match self {
            Self::F32(data) => Self::F32(of(data, width, cells)),
            Self::F16(data) => Self::F16(of(data, width, cells)),
            Self::Q8_0(data) => Self::Q8_0(of(data, blocks * Q8_0_BYTES, cells)),
            Self::Q4_0(data) => Self::Q4_0(of(data, blocks * Q4_0_BYTES, cells)),
        }
    }
}

/// Texts that are computed in one run over one cache, their tokens in `order` (text by text, token
/// by token when it is ascending).
fn company(kind: Kind, cells: usize, texts: &[Text], order: &[u32], by_rows: bool) -> Case {
    let tokens: usize = texts.iter().map(|text| text.tokens).sum();
    let [heads, head_width] = HEADS;
    let shape = [tokens, cells, heads, head_width];
    let mut case = Case::new(kind, shape, Visibility::Causal, 11);
    let mut lists = Vec::new();
    let mut sights = Vec::new();
    for text in texts {
        let first = lists.len();
        lists.extend(&text.list);
        sights.extend((0..text.tokens).map(|index| Sight {
            first,
            count: text.count(index),
        }));
    }
    let sights = order.iter().map(|&token| sights[token as usize]).collect();
    case.sights = Sights::new(lists, sights, by_rows);
    case
}

/// Compares every token of every text with the text alone in cells 0, 1, 2 …
#[track_caller]
fn assert_as_alone(kind: Kind, cells: usize, texts: &[Text], order: &[u32], threads: usize) {
    let together = company(kind, cells, texts, order, false);
    for instruction_set in available() {
        let found = together.result(instruction_set, threads);
        let mut end = 0;
        for (number, text) in texts.iter().enumerate() {
            let own = end..end + text.tokens;
            end = own.end;
            // The text's tokens in the order in which the run has them.
            let places = order.iter().map(|&token| token as usize).enumerate();
            let places: Vec<(usize, usize)> = places
                .filter(|(_, token)| own.contains(token))
                .map(|(place, token)| (place, token - own.start))
                .collect();
            let mut alone = together.clone();
            alone.tokens = text.tokens;
            alone.cells = text.list.len();
            alone.keys = together.keys.rows(&text.list, WIDTH);
            alone.values = together.values.rows(&text.list, WIDTH);
            alone.queries = places
                .iter()
                .flat_map(|(place, _)| &together.queries[place * 3 * WIDTH..][..3 * WIDTH])
                .copied()
                .collect();
            let sights = places.iter().map(|&(_, index)| Sight {
                first: 0,
                count: text.count(index),
            });
            let list = (0..text.list.len() as u32).collect();
            alone.sights = Sights::new(list, sights.collect(), false);
            let alone = alone.result(instruction_set, 1);
            for ((place, index), expected) in places.iter().zip(alone.chunks_exact(WIDTH)) {
                assert!(
                    same_bits(&found[place * WIDTH..][..WIDTH], expected),
                    "{instruction_set:?} {kind:?}: token {index} of text {number}"
                );
            }
        }
    }
}

fn ascending(texts: &[Text]) -> Vec<u32> {
    (0..texts.iter().map(|text| text.tokens as u32).sum()).collect()
}

#[test]
fn bits_do_not_depend_on_where_cells_lie() {
    let mut random = Random(31);
    for kind in KINDS {
        for (tokens, length) in [
            (1, 1),
            (1, 63),
            (1, 65),
            (1, 480),
            (1, 481),
            (5, 483),
            (1, 700),
            (17, 130),
            (64, 64),
            (70, 500),
            (130, 200),
        ] {
            // Other texts' cells lie between.
            let cells = length + 90;
            let mut list = random.order(cells);
            list.truncate(length);
            let texts = [Text { list, tokens }];
            assert_as_alone(kind, cells, &texts, &ascending(&texts), 2);
        }
    }
}

#[test]
fn bits_do_not_depend_on_company() {
    let mut random = Random(32);
    for kind in KINDS {
        let lengths = [
            (1, 500),
            (70, 130),
            (1, 12),
            (64, 64),
            (20, 479),
            (1, 481),
            (63, 100),
            (1, 1),
        ];
        let cells = lengths.iter().map(|(_, length)| length).sum();
        let mut places = random.order(cells).into_iter();
        let texts = lengths.map(|(tokens, length)| Text {
            list: places.by_ref().take(length).collect(),
            tokens,
        });
        assert_as_alone(kind, cells, &texts, &ascending(&texts), 3);
        // Tokens of all texts among each other.
        let order = random.order(texts.iter().map(|text| text.tokens).sum());
        assert_as_alone(kind, cells, &texts, &order, 1);
    }
}

#[test]
fn bits_do_not_depend_on_a_shared_prefix() {
    let mut random = Random(33);
    for kind in KINDS {
        for prefix in [1, 64, 100, 470] {
            let cells = prefix + 5 * 80;
            let mut places = random.order(cells).into_iter();
            let shared: Vec<u32> = places.by_ref().take(prefix).collect();
            let texts = [(1, 0), (1, 1), (1, 30), (3, 80), (66, 80)].map(|(tokens, own)| Text {
                list: shared
                    .iter()
                    .copied()
                    .chain(places.by_ref().take(own))
                    .collect(),
                tokens,
            });
            assert_as_alone(kind, cells, &texts, &ascending(&texts), 2);
        }
    }
}

/// From 64 texts on nothing else is done than for one.
#[test]
fn many_texts_of_one_token_are_as_each_alone() {
    let mut random = Random(34);
    for kind in [Kind::F16, Kind::Q8_0] {
        let cells = 70 * 40;
        let mut places = random.order(cells).into_iter();
        let texts: Vec<Text> = (0..70)
            .map(|index| Text {
                list: places.by_ref().take(1 + index % 40).collect(),
                tokens: 1,
            })
            .collect();
        assert_as_alone(kind, cells, &texts, &ascending(&texts), 2);
    }
}

/// By rows a token has the bits that it has alone even among 64 of its text.
#[test]
fn rows_do_not_depend_on_how_many_tokens_of_the_text_are_in_the_run() {
    for kind in KINDS {
        let texts = [Text {
            list: (0..150).collect(),
            tokens: 70,
        }];
        let mut rows = company(kind, 150, &texts, &ascending(&texts), true);
        let found = rows.result(InstructionSet::detect(), 2);
        let queries = rows.queries.clone();
        for (token, found) in found.chunks_exact(WIDTH).enumerate() {
            rows.tokens = 1;
            rows.queries = queries[token * 3 * WIDTH..][..3 * WIDTH].to_vec();
            let count = texts[0].count(token);
            let list = texts[0].list.clone();
            rows.sights = Sights::new(list, vec![Sight { first: 0, count }], false);
            let alone = rows.result(InstructionSet::detect(), 1);
            assert!(same_bits(found, &alone), "{kind:?}: token {token}");
        }
    }
}
