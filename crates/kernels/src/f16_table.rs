//! A function looked up in a table of f16.

use half::f16;

use super::f16_convert;

/// Entries of a table: one for each f16.
pub const ENTRIES: usize = 1 << 16;

/// Elements that are converted together; they stay in the first-level cache.
const CHUNK: usize = 256;

/// Beyond this magnitude a GELU is 0 or its argument, and the table is not read.
const LIMIT: f32 = 10.0;

/// GELU of each element, in place, by `table`, the function's value for every f16 in the order of
/// their bits: the argument is rounded to f16 first; 0 up to −10, and the argument itself from 10.
///
/// This is how ggml computes GELU. Computing it is closer to the formula; but wherever activations
/// are quantized next, the difference is below what quantization loses, and with the table the
/// tokens are those of other programs over ggml.
pub fn gelu_by_table(values: &mut [f32], table: &[f16; ENTRIES]) {
    let mut halves = [f16::ZERO; CHUNK];
    let mut results = [0.0f32; CHUNK];
    for chunk in values.chunks_mut(CHUNK) {
        let halves = &mut halves[..chunk.len()];
        let results = &mut results[..chunk.len()];
        f16_convert::from_f32(chunk, halves);
        for half in &mut *halves {
            *half = table[usize::from(half.to_bits())];
        }
        f16_convert::to_f32(halves, results);
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
        let mut nan = [f32::NAN];
        gelu_by_table(&mut nan, &table);
        assert!(nan[0].is_nan());
    }
}
