//! A function looked up in a table of half floats.

use half::f16;

use super::halves as conversion;

/// Entries: one for each half float.
pub const ENTRIES: usize = 1 << 16;

/// Elements converted together; they stay in the nearest cache.
const CHUNK: usize = 256;

/// Outside of this a GELU is 0 or its argument, and no table is asked.
const LIMIT: f32 = 10.0;

/// GELU of each element by `table`, the function's value for every half float in the order of their
/// bits: the argument is rounded to a half float first; 0 up to −10, and the argument itself from 10.
///
/// ggml computes GELU so. A computed one is closer to the formula, but wherever the activations are
/// quantized afterwards the difference is below what quantization loses, and with this one the tokens
/// are those of other programs on ggml.
pub fn gelu_by_table(values: &mut [f32], table: &[f16; ENTRIES]) {
    let mut halves = [f16::ZERO; CHUNK];
    let mut results = [0.0f32; CHUNK];
    for chunk in values.chunks_mut(CHUNK) {
        let halves = &mut halves[..chunk.len()];
        let results = &mut results[..chunk.len()];
        conversion::round(chunk, halves);
        for half in &mut *halves {
            *half = table[usize::from(half.to_bits())];
        }
        conversion::expand(halves, results);
        for (value, &result) in chunk.iter_mut().zip(&*results) {
            let inner = if *value <= -LIMIT { 0.0 } else { result };
            *value = if *value >= LIMIT { *value } else { inner };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_rounded_looked_up_and_limited() {
        let halved = |bits| f16::from_f32(f16::from_bits(bits).to_f32() / 2.0);
        let table: Box<[f16]> = (0..=u16::MAX).map(halved).collect();
        let table: Box<[f16; ENTRIES]> = table.try_into().unwrap();
        let mut values = vec![
            -11.0,
            -10.0,
            -9.0,
            0.0,
            1.0003,
            9.0,
            10.0,
            11.3,
            f32::INFINITY,
        ];
        values.extend([1.0; CHUNK]);
        gelu_by_table(&mut values, &table);
        assert_eq!(
            values[..9],
            [0.0, 0.0, -4.5, 0.0, 0.5, 4.5, 10.0, 11.3, f32::INFINITY]
        );
        assert!(values[9..].iter().all(|&value| value == 0.5));
        let mut not_a_number = [f32::NAN];
        gelu_by_table(&mut not_a_number, &table);
        assert!(not_a_number[0].is_nan());
    }
}
