//! What measurements have in common: the tokens they compute, and their mean.

use gpt2::TokenId;

/// Ids all over the vocabulary, the same every time; which ones makes no difference to the speed.
pub(super) fn ids(vocabulary: usize, count: usize) -> Vec<TokenId> {
    // Knuth's multiplicative hash: a step by the golden ratio of 2³².
    let id = |index: usize| (index as u64 * 2_654_435_761 % (1 << 32) * vocabulary as u64) >> 32;
    (1..=count).map(|index| id(index) as TokenId).collect()
}

/// The mean and the sample standard deviation, 0 for one value.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = if values.len() > 1 {
        (squares / (count - 1.0)).sqrt()
    } else {
        0.0
    };
    (mean, deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_the_vocabulary() {
        let found = ids(50257, 1024);
        assert!(found.iter().all(|&id| id < 50257));
        assert!(found.iter().any(|&id| id < 1000) && found.iter().any(|&id| id > 49000));
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
