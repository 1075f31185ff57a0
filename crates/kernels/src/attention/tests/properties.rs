//! Against the formula, against the portable version, and what results must not depend on.

use super::super::attend;
use super::{
    Case, Elements, InstructionSet, KINDS, Kind, Pool, Sight, Sights, Visibility, available,
    difference, same_bits,
};
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::simd::{Portable, Token};

/// Shapes: tokens, cells, heads, head width.
const SHAPES: &[[usize; 4]] = &[
    [1, 32, 1, 8],
    [1, 64, 12, 64],
    [1, 512, 2, 64],
    [1, 1024, 3, 80],
    [1, 96, 2, 1],
    [1, 33, 1, 256],
    [1, 100, 5, 32],
    [1, 200, 7, 64],
    [3, 130, 4, 32],
    [2, 96, 3, 40],
    [7, 1024, 2, 128],
    [63, 64, 2, 64],
    [64, 64, 2, 64],
    [64, 96, 3, 40],
    [65, 1024, 2, 80],
    [65, 100, 2, 13],
    [200, 224, 2, 128],
    [200, 480, 1, 8],
    [200, 512, 2, 64],
];

fn cases() -> impl Iterator<Item = (String, Kind, Case)> {
    SHAPES.iter().enumerate().flat_map(|(index, &shape)| {
        let kinds = KINDS.iter().copied().filter(move |kind| {
            matches!(kind, Kind::F32 | Kind::F16) || shape[3].is_multiple_of(32)
        });
        kinds.flat_map(move |kind| {
            [
                Visibility::Causal,
                Visibility::Random,
                Visibility::Unfilled(20),
            ]
            .map(|visibility| {
                let case = Case::new(kind, shape, visibility, index as u64 + 1);
                (format!("{kind:?} {shape:?} {visibility:?}"), kind, case)
            })
        })
    })
}

/// What roundings allow: queries are rounded like the cache when tokens are few, and so are sums of
/// half precision values; nothing is in tiles.
fn tolerance(kind: Kind, tokens: usize) -> f64 {
    match kind {
        Kind::F32 => 5e-6,
        _ if tokens >= 64 => 5e-6,
        Kind::F16 => 4e-3,
        Kind::Q8_0 | Kind::Q4_0 => 3e-2,
    }
}

#[test]
fn results_are_the_formulas() {
    for instruction_set in available() {
        let mut worst = KINDS.map(|_| (0.0, String::new()));
        for (name, kind, case) in cases() {
            let found = case.result(instruction_set, 1);
            let difference = difference(&found, &case.reference());
            let limit = tolerance(kind, case.tokens);
            assert!(
                difference < limit,
                "{instruction_set:?} {name}: {difference:e}"
            );
            let worst = &mut worst[kind as usize];
            if difference > worst.0 {
                *worst = (difference, name);
            }
        }
        for (difference, name) in worst {
            println!("{instruction_set:?}: largest difference {difference:.2e} ({name})");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_give_the_bits_of_the_portable_version() {
    for (name, _, case) in cases() {
        if let Some(simd) = Avx2::detect() {
            let (found, expected) = (case.result_by(simd), case.result_by(Portable::<8, true>));
            assert!(same_bits(&found, &expected), "AVX2: {name}");
        }
        if let Some(simd) = Avx512::detect() {
            let (found, expected) = (case.result_by(simd), case.result_by(Portable::<16, true>));
            assert!(same_bits(&found, &expected), "AVX-512: {name}");
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn vectors_give_the_bits_of_the_portable_version() {
    for (name, _, case) in cases() {
        if let Some(simd) = Neon::detect() {
            let (found, expected) = (case.result_by(simd), case.result_by(Portable::<8, true>));
            assert!(same_bits(&found, &expected), "NEON: {name}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (name, _, case) in cases() {
        let mut alone = vec![f32::NAN; case.tokens * case.width()];
        attend(&case.attention(), &Pool::new(1), &mut alone);
        for threads in [2, 5, 16] {
            let found = case.result(InstructionSet::detect(), threads);
            assert!(same_bits(&found, &alone), "{name}, {threads} threads");
        }
    }
}

#[test]
fn a_token_gets_the_same_bits_alone_and_among_others() {
    // More than take turns; of 512 cells some see fewer than ggml splits.
    let (tokens, unused) = (20, 20);
    for kind in KINDS {
        for cells in [96, 480, 512, 544, 1024] {
            let together = Case::new(
                kind,
                [tokens, cells, 3, 64],
                Visibility::Unfilled(unused),
                5,
            );
            let found = together.result(InstructionSet::detect(), 1);
            let width = together.width();
            for token in 0..tokens {
                let seen = together.sights.seen(token).to_vec();
                assert_eq!(seen.len(), cells - unused - (tokens - token - 1));
                let mut alone = together.clone();
                alone.tokens = 1;
                alone.queries = together.queries[token * 3 * width..][..3 * width].to_vec();
                let count = seen.len();
                alone.sights = Sights::new(seen, vec![Sight { first: 0, count }], false);
                let alone = alone.result(InstructionSet::detect(), 2);
                let expected = &found[token * width..][..width];
                assert!(
                    same_bits(&alone, expected),
                    "{kind:?}, {cells} cells, token {token}"
                );
            }
        }
    }
}

#[test]
fn a_token_that_sees_nothing_gets_zeros() {
    for kind in KINDS {
        for tokens in [1, 3, 70] {
            let mut case = Case::new(kind, [tokens, 544, 2, 32], Visibility::Causal, 9);
            let cells: Vec<u32> = (0..544).collect();
            let sight = |token| Sight {
                first: 0,
                count: if token + 1 == tokens { 0 } else { 500 },
            };
            case.sights = Sights::new(cells, (0..tokens).map(sight).collect(), false);
            for instruction_set in available() {
                let found = case.result(instruction_set, 1);
                let (others, last) = found.split_at((tokens - 1) * case.width());
                assert!(last.iter().all(|&value| value == 0.0), "{kind:?} {tokens}");
                assert!(
                    others.iter().all(|value| value.is_finite()),
                    "{kind:?} {tokens}"
                );
            }
        }
    }
}

/// What cells that are not seen hold is not looked at; what those hold that are comes out.
#[test]
fn hidden_cells_do_not_matter_and_seen_ones_do() {
    for tokens in [1, 70] {
        let mut case = Case::new(Kind::F32, [tokens, 128, 2, 32], Visibility::Unfilled(28), 3);
        let width = case.width();
        let before = case.result(InstructionSet::detect(), 1);
        let fill = |elements: &mut Elements, cell: usize, value: f32| {
            if let Elements::F32(data) = elements {
                data[cell * width..][..width].fill(value);
            }
        };
        for cell in 100..128 {
            fill(&mut case.keys, cell, 1e30);
            fill(&mut case.values, cell, -1e30);
        }
        assert!(
            same_bits(&case.result(InstructionSet::detect(), 1), &before),
            "{tokens} tokens"
        );
        fill(&mut case.values, 0, f32::NAN);
        let found = case.result(InstructionSet::detect(), 1);
        assert!(found.iter().all(|value| value.is_nan()), "{tokens} tokens");
    }
}

/// Scores far apart, beyond what e^x can show, and equal ones.
#[test]
fn extreme_scores_get_the_right_weights() {
    for kind in KINDS {
        for tokens in [1, 4, 66] {
            for factor in [0.0, 40.0, 3000.0] {
                let mut case = Case::new(kind, [tokens, 576, 2, 32], Visibility::Causal, 17);
                for query in &mut case.queries {
                    *query *= factor;
                }
                let expected = case.reference();
                for instruction_set in available() {
                    let found = case.result(instruction_set, 1);
                    let finite = found.iter().all(|value| value.is_finite());
                    assert!(finite, "{instruction_set:?} {kind:?} {tokens} {factor}");
                    // Steep weights multiply the roundings of queries and scores.
                    let limit = if factor == 0.0 { 2e-3 } else { 1.5 };
                    let difference = difference(&found, &expected);
                    let exact = kind == Kind::F32 || tokens >= 64;
                    let limit = if exact {
                        1e-6 * factor.max(10.0) as f64
                    } else {
                        limit
                    };
                    assert!(
                        difference < limit,
                        "{kind:?} {tokens} {factor}: {difference:e}"
                    );
                }
            }
        }
    }
}
