//! The kernels against the reference.

use half::{bf16, f16};

use super::dispatch::InstructionSet;
use super::epilogue::{Epilogue, SliceEpilogue};
use super::f16_accumulation;
use super::format::Format;
use super::gemm::{Options, multiply, multiply_with};
use super::matrix::Matrix;
use super::microkernel::{BatchSize, KernelSet};
use super::reference::{self, Order};
use crate::pool::Pool;

const FORMATS: [Format; 15] = [
    Format::F32,
    Format::Bf16,
    Format::F16,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q2K,
    Format::Q3K,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
    Format::Iq4Nl,
    Format::Iq4Xs,
];

/// Values that look random, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }
}

/// Where the f16 scales of a block are.
fn scales(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::Bf16 => &[],
        Format::F16
        | Format::Q4_0
        | Format::Q5_0
        | Format::Q8_0
        | Format::Iq4Nl
        | Format::Iq4Xs => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Q6K => &[208],
    }
}

/// Rows of random bits in which only the scales are of a sensible size.
fn weights(format: Format, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let mut float = || random.float() / 64.0;
    let elements = rows * columns;
    match format {
        Format::F32 => return (0..elements).flat_map(|_| float().to_le_bytes()).collect(),
        Format::Bf16 => {
            let values = (0..elements).map(|_| bf16::from_f32(float()));
            return values.flat_map(bf16::to_le_bytes).collect();
        }
        _ => {}
    }
    let places = scales(format);
    let block = format.block_bytes();
    let mut bytes = vec![0; elements / format.block_elements() * block];
    for block in bytes.chunks_exact_mut(block) {
        for &place in places {
            block[place..place + 2].copy_from_slice(&f16::from_f32(float()).to_le_bytes());
        }
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        let place = index % block;
        if !places
            .iter()
            .any(|&scale| (scale..scale + 2).contains(&place))
        {
            *byte = random.next() as u8;
        }
    }
    bytes
}

fn activations(count: usize, random: &mut Random) -> Vec<f32> {
    let mut x: Vec<f32> = (0..count).map(|_| random.float()).collect();
    // Blocks of zeros, of subnormals, and with one large value.
    if count > 64 {
        x[..32].fill(0.0);
    }
    if count > 600 {
        x[256..512].fill(1e-41);
        x[520] = -300.0;
    }
    x
}

/// The order in which this processor's kernels accumulate.
fn order(set: InstructionSet, matrix: &Matrix, token: usize, tokens: usize) -> Order {
    let format = matrix.format();
    let by_block = cfg!(target_arch = "aarch64");
    let batch = set.batch_size(format, tokens);
    // Tokens in the tiles of f16's own product.
    let tile = set.tile_sizes(format, BatchSize::Small)[0];
    let float_gemm = set.float_gemm(format);
    let in_tiles = if float_gemm.is_some_and(|gemm| gemm.microkernel(tile).is_some()) {
        tokens / tile * tile
    } else {
        0
    };
    let is_multiple = matrix.columns().is_multiple_of(f16_accumulation::MULTIPLE);
    let f16_bound = matrix
        .f16_bound
        .filter(|_| set.accumulates_f16() && is_multiple);
    Order {
        four: !by_block && batch == BatchSize::Small && token < tokens / 4 * 4,
        large: by_block || matches!(batch, BatchSize::Medium | BatchSize::Large),
        f16_bound: f16_bound.filter(|_| token >= in_tiles),
    }
}

fn expected_results(set: InstructionSet, matrix: &Matrix, source: &[u8], x: &[f32]) -> Vec<f32> {
    let mut results = Vec::new();
    let tokens = x.len() / matrix.columns();
    for (token, x) in x.chunks(matrix.columns()).enumerate() {
        let order = order(set, matrix, token, tokens);
        for row in source.chunks(source.len() / matrix.rows()) {
            results.push(reference::product(matrix.format(), row, x, order));
        }
    }
    results
}

/// The largest difference; equal values have none, and two NaNs neither.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |worst, (a, b)| {
        let same = a.to_bits() == b.to_bits() || a == b || a.is_nan() && b.is_nan();
        if same {
            worst
        } else {
            f32::max(worst, (a - b).abs())
        }
    })
}

#[test]
fn every_kernel_is_bit_identical_to_the_reference() {
    let mut random = Random(1);
    for format in FORMATS {
        for set in InstructionSet::available() {
            let mut worst = 0.0f32;
            for (rows, columns) in [
                (1, 256),
                (3, 768),
                (8, 512),
                (29, 768),
                (64, 256),
                (131, 1024),
                (13, 304),
                (5, 1),
                (9, 7),
                (33, 13),
                (21, 100),
                (17, 287),
            ]
            .into_iter()
            .filter(|&(_, columns)| format.is_fast(columns))
            {
                let source = weights(format, rows, columns, &mut random);
                let matrix = Matrix::alone(format, rows, columns, &source);
                for tokens in [1, 2, 3, 5, 8, 16, 31, 65] {
                    for threads in [1, 2] {
                        let x = activations(tokens * columns, &mut random);
                        let mut output = vec![f32::NAN; tokens * rows];
                        multiply_with(
                            set,
                            &matrix,
                            &x,
                            &Epilogue::NONE.into(),
                            &Pool::new(threads),
                            &mut output,
                        );
                        let expected = expected_results(set, &matrix, &source, &x);
                        let results = output.chunks(rows).zip(expected.chunks(rows));
                        for (token, (output, expected)) in results.enumerate() {
                            let exact = !format.is_float()
                                || order(set, &matrix, token, tokens).f16_bound.is_some();
                            let found = difference(output, expected);
                            assert!(found == 0.0 || !exact, "{format:?} {set:?}: {found:e}");
                            worst = worst.max(found);
                        }
                    }
                }
            }
            println!("{format:?} {set:?}: largest difference {worst:e}");
            assert!(worst <= 2e-4, "{format:?} {set:?}: {worst:e}");
        }
    }
}

#[test]
fn rows_of_a_matrix_are_unpacked_as_they_were() {
    let mut random = Random(9);
    for format in FORMATS {
        for rows in [1, 8, 29] {
            let source = weights(format, rows, 512, &mut random);
            let matrix = Matrix::alone(format, rows, 512, &source);
            let mut row = vec![0xaa; matrix.row_bytes()];
            for (index, expected) in source.chunks_exact(row.len()).enumerate() {
                matrix.copy_row(index, &mut row);
                assert_eq!(row, expected, "{format:?}, row {index} of {rows}");
            }
        }
    }
}

/// Sums of few bits in the middle of a kernel must hold the largest products.
#[test]
fn the_largest_weights_and_activations_fit_every_sum() {
    let mut random = Random(4);
    let (rows, columns) = (8, 512);
    for format in FORMATS {
        for fill in [0x00, 0x7f, 0x80, 0x88, 0xff] {
            let mut source = weights(format, rows, columns, &mut random);
            if format.is_float() {
                continue;
            }
            for block in source.chunks_exact_mut(format.block_bytes()) {
                let kept = block.to_vec();
                block.fill(fill);
                for &place in scales(format) {
                    block[place..place + 2].copy_from_slice(&kept[place..place + 2]);
                }
            }
            let matrix = Matrix::alone(format, rows, columns, &source);
            for sign in [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]] {
                let x: Vec<f32> = (0..2 * columns).map(|index| sign[index % 2]).collect();
                for set in InstructionSet::available() {
                    let expected = expected_results(set, &matrix, &source, &x);
                    let mut output = vec![f32::NAN; 2 * rows];
                    let pool = Pool::new(1);
                    multiply_with(set, &matrix, &x, &Epilogue::NONE.into(), &pool, &mut output);
                    let worst = difference(&output, &expected);
                    assert!(worst == 0.0, "{format:?} {set:?} {fill:#x}: {worst:e}");
                }
            }
        }
    }
}

#[test]
fn scales_that_are_nan_reach_the_results() {
    for format in FORMATS {
        let mut random = Random(2);
        let (rows, columns) = (9, 256);
        let mut source = weights(format, rows, columns, &mut random);
        let row_bytes = source.len() / rows;
        match format {
            Format::F32 => source[4 * row_bytes..][..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            Format::Bf16 => source[4 * row_bytes..][..2].copy_from_slice(&bf16::NAN.to_le_bytes()),
            _ => {
                let place = 4 * row_bytes + scales(format)[0];
                source[place..][..2].copy_from_slice(&f16::NAN.to_le_bytes());
            }
        }
        let matrix = Matrix::alone(format, rows, columns, &source);
        let x: Vec<f32> = (0..columns).map(|_| random.float()).collect();
        let mut output = vec![0.0; rows];
        multiply(
            &matrix,
            &x,
            &Epilogue::NONE.into(),
            &Pool::new(1),
            &mut output,
        );
        for (row, value) in output.iter().enumerate() {
            assert_eq!(value.is_nan(), row == 4, "{format:?} row {row}: {value}");
        }
    }
}

#[test]
fn bias_activation_and_residual_follow_the_product() {
    let mut random = Random(3);
    let (rows, columns, tokens) = (45, 512, 19);
    let source = weights(Format::Q4_0, rows, columns, &mut random);
    let matrix = Matrix::alone(Format::Q4_0, rows, columns, &source);
    let x = activations(tokens * columns, &mut random);
    let bias: Vec<f32> = (0..rows).map(|_| random.float()).collect();
    let residual: Vec<f32> = (0..rows * tokens).map(|_| random.float()).collect();
    let pool = Pool::new(3);
    let square = |values: &mut [f32]| values.iter_mut().for_each(|value| *value *= *value);
    let run = |epilogue: SliceEpilogue<'_>| {
        let mut output = vec![0.0; tokens * rows];
        multiply(&matrix, &x, &epilogue.into(), &pool, &mut output);
        output
    };
    let product = run(Epilogue::NONE);
    let bias_of = |index: usize| bias[index % rows];
    // Every subset of the three.
    for (has_bias, has_activation, has_residual) in
        (0..8).map(|n| (n & 1 > 0, n & 2 > 0, n & 4 > 0))
    {
        let expected: Vec<f32> = (product.iter().enumerate())
            .map(|(index, &value)| {
                let biased = if has_bias {
                    value + bias_of(index)
                } else {
                    value
                };
                let activated = if has_activation {
                    biased * biased
                } else {
                    biased
                };
                if has_residual {
                    activated + residual[index]
                } else {
                    activated
                }
            })
            .collect();
        let found = run(Epilogue {
            bias: has_bias.then_some(&bias),
            activation: if has_activation { Some(&square) } else { None },
            residual: has_residual.then_some(&residual),
        });
        assert_eq!(
            found, expected,
            "{has_bias} {has_activation} {has_residual}"
        );
    }
}

#[test]
fn a_batch_invariant_product_gives_each_token_the_bits_it_has_alone() {
    let mut random = Random(5);
    let (rows, columns, most) = (10, 512, 65);
    let pool = Pool::new(1);
    for format in FORMATS {
        let source = weights(format, rows, columns, &mut random);
        let matrix = Matrix::alone(format, rows, columns, &source);
        let x = activations(most * columns, &mut random);
        for set in InstructionSet::available() {
            let run = |x: &[f32], batch_invariant: bool| {
                let mut output = vec![f32::NAN; x.len() / columns * rows];
                let options = Options {
                    batch_invariant,
                    ..Epilogue::NONE.into()
                };
                multiply_with(set, &matrix, x, &options, &pool, &mut output);
                output
            };
            let alone: Vec<f32> = x.chunks(columns).flat_map(|x| run(x, false)).collect();
            for tokens in 1..=most {
                let (x, alone) = (&x[..tokens * columns], &alone[..tokens * rows]);
                let worst = difference(&run(x, true), alone);
                assert!(worst == 0.0, "{format:?} {set:?} {tokens}: {worst:e}");
                if set.is_batch_invariant(format, tokens) {
                    let worst = difference(&run(x, false), alone);
                    assert!(worst == 0.0, "{format:?} {set:?} {tokens}: {worst:e}");
                }
            }
        }
    }
}
