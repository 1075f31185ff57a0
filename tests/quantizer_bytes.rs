//! The quantizers' bytes are those of ggml as llama.cpp compiles it, whatever processor this build
//! is for.
//!
//! `tests/data/quantizers/make_digests.cpp` wrote the digests, from the same numbers.

use gpt2::gguf::TensorType;
use gpt2::quant::quantize_rows;

const COLUMNS: usize = 512;
const ROWS: usize = 64;

/// What the rows are multiplied by in turn: usual weights, zeros, tiny and large ones.
const SCALES: [f32; 8] = [0.02, 0.0, 1e-6, 1000.0, 0.02, 1.0, 0.5, 0.02];

/// A sum of four uniform numbers: exact in `f32`, so the same everywhere.
fn draw(state: &mut u32) -> f32 {
    (0..4).fold(0.0, |sum, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        sum + ((*state >> 12) as f32 / 1_048_576.0 - 0.5)
    })
}

/// FNV-1a, 64 bits.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn quantized_bytes_are_those_of_llama_cpp() {
    let mut state = 1;
    let source: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|index| draw(&mut state) * SCALES[index / COLUMNS % SCALES.len()])
        .collect();
    let importance: Vec<f32> = (0..COLUMNS)
        .map(|_| draw(&mut state).abs() + 0.001)
        .collect();

    let mut wrong = Vec::new();
    for line in include_str!("data/quantizers/digests.txt").lines() {
        let [name, plain, weighted] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("digests.txt: expected three fields in {line:?}");
        };
        let tensor_type = TensorType::from_name(name).expect("a type that ggml knows");
        let row = tensor_type.row_bytes(COLUMNS as u64).expect("whole blocks") as usize;
        let mut bytes = vec![0; row * ROWS];
        for (kind, importance, expected) in [
            ("plain", None, plain),
            ("weighted", Some(&importance[..]), weighted),
        ] {
            quantize_rows(tensor_type, &source, COLUMNS, importance, &mut bytes)
                .expect("quantizes");
            let found = digest(&bytes);
            if found != expected {
                wrong.push(format!("{name} {kind}: expected {expected}, found {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
