//! The choice itself: the largest score, or a draw.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::distribution::maximum;
use crate::{Error, Result, TokenId};

/// A seeded source of draws, the same on every machine and with any number of threads.
#[derive(Debug, Clone)]
pub struct Generator {
    numbers: Pcg64,
    /// Cumulative weights, kept between draws to save the allocation.
    cumulative: Vec<f64>,
}

impl Generator {
    /// A generator that repeats its draws for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            numbers: Pcg64::seed_from_u64(seed),
            cumulative: Vec::new(),
        }
    }

    /// A number of [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.numbers.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// The next token: drawn when `do_sample`, the best otherwise.
    ///
    /// # Errors
    ///
    /// As [`greedy`] and [`Self::draw`].
    pub fn choose(&mut self, scores: &[f32], do_sample: bool) -> Result<TokenId> {
        if do_sample {
            self.draw(scores)
        } else {
            greedy(scores)
        }
    }

    /// Draws a token with probability softmax(`logits`), walking the cumulative sum in token order.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when a logit is NaN or +∞ or every token is ruled out.
    pub fn draw(&mut self, logits: &[f32]) -> Result<TokenId> {
        let largest = checked_maximum(logits)?;
        Ok(self.position(logits, largest) as TokenId)
    }

    /// Draws up to `count` different positions of `logits`, each with probability softmax over
    /// those that are left, in the order drawn; fewer when fewer are not ruled out.
    ///
    /// `logits` may be the scores of several sequences on end: a position is not a token then.
    ///
    /// # Errors
    ///
    /// As [`Self::draw`].
    pub fn draw_without_replacement(&mut self, logits: &[f32], count: usize) -> Result<Vec<usize>> {
        let mut largest = checked_maximum(logits)?;
        let mut left = logits.to_vec();
        let mut drawn = Vec::new();
        while drawn.len() < count && largest > f32::NEG_INFINITY {
            let position = self.position(&left, largest);
            drawn.push(position);
            left[position] = f32::NEG_INFINITY;
            largest = maximum(&left);
        }
        Ok(drawn)
    }

    /// Draws a position of `logits`, the largest of which is a number.
    fn position(&mut self, logits: &[f32], largest: f32) -> usize {
        let mut sum = 0.0;
        self.cumulative.clear();
        self.cumulative.extend(logits.iter().map(|&logit| {
            if logit > f32::NEG_INFINITY {
                sum += f64::from(libm::expf(logit - largest));
            }
            sum
        }));
        let target = self.uniform() * sum;
        // The first whose sum is above the target: a token of weight 0 is never it, since its sum
        // equals the one before. The product may round up to the sum itself: then the last token
        // of any weight is meant.
        let position = self
            .cumulative
            .partition_point(|&cumulative| cumulative <= target);
        if position < logits.len() {
            position
        } else {
            self.cumulative
                .partition_point(|&cumulative| cumulative < sum)
        }
    }
}

/// The token with the largest logit, the first of equals.
///
/// # Errors
///
/// [`Error::Format`] when a logit is NaN or +∞ or every token is ruled out.
pub fn greedy(logits: &[f32]) -> Result<TokenId> {
    // Which chunk it is in is found many values at a time.
    const CHUNK: usize = 256;
    let largest = checked_maximum(logits)?;
    let is_largest = |logit: &&f32| **logit == largest;
    let mut chunks = logits.chunks(CHUNK);
    let chunk = chunks.position(|chunk| chunk.iter().filter(is_largest).count() > 0);
    let first = CHUNK * chunk.ok_or_else(nothing_left)?;
    let place = logits[first..]
        .iter()
        .take_while(|logit| !is_largest(logit));
    Ok((first + place.count()) as TokenId)
}

/// The largest logit, when there is a choice to make.
fn checked_maximum(logits: &[f32]) -> Result<f32> {
    // Counting, unlike looking for the first, compares many values at a time.
    let fine = |logit: &&f32| **logit < f32::INFINITY;
    if logits.iter().filter(fine).count() != logits.len() {
        let token = logits.iter().take_while(fine).count();
        return Err(Error::format(
            format!("logits, token {token}"),
            format!(
                "expected a finite number, found {}; the model's weights are broken",
                logits[token]
            ),
        ));
    }
    let largest = maximum(logits);
    if largest == f32::NEG_INFINITY {
        return Err(nothing_left());
    }
    Ok(largest)
}

fn nothing_left() -> Error {
    Error::format(
        "logits",
        "every token is ruled out; loosen what forbids tokens (no_repeat_ngram_size, \
         bad_words_ids, \
         suppress_tokens, the minimum length, prefix_allowed_tokens_fn)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]).unwrap(), 1);
        assert_eq!(greedy(&[OUT, -5.0]).unwrap(), 1);
    }

    #[test]
    fn broken_logits_are_errors() {
        let message = greedy(&[0.0, f32::NAN]).unwrap_err().to_string();
        assert!(
            message.contains("token 1") && message.contains("NaN"),
            "{message}"
        );
        assert!(
            greedy(&[0.0, f32::INFINITY])
                .unwrap_err()
                .to_string()
                .contains("inf")
        );
        assert!(
            greedy(&[OUT; 2])
                .unwrap_err()
                .to_string()
                .contains("ruled out")
        );
        assert!(greedy(&[]).is_err());
        let mut generator = Generator::new(1);
        assert!(generator.draw(&[f32::NAN]).is_err());
        assert!(generator.draw(&[OUT; 2]).is_err());
        assert!(generator.draw(&[]).is_err());
    }

    #[test]
    fn draws_follow_the_distribution() {
        // Weights 1 : 2 : 0 : 5.
        let logits = [0.0, libm::logf(2.0), OUT, libm::logf(5.0)];
        let mut generator = Generator::new(7);
        let mut counts = [0_u32; 4];
        for _ in 0..8000 {
            counts[generator.draw(&logits).unwrap() as usize] += 1;
        }
        // Standard deviations: 30, 39, 44.
        for (count, expected) in counts.into_iter().zip([1000_u32, 2000, 0, 5000]) {
            assert!(count.abs_diff(expected) < 4 * 44, "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn draws_never_change() {
        let logits = [0.0; 1000];
        let mut generator = Generator::new(42);
        let draws: Vec<TokenId> = (0..8).map(|_| generator.draw(&logits).unwrap()).collect();
        // Seeds are part of what users write down: a change of these numbers breaks them.
        assert_eq!(draws, [226, 239, 760, 527, 970, 375, 187, 524]);
    }

    #[test]
    fn draws_without_replacement_are_different() {
        let logits = [0.0, OUT, 2.0, 1.0, OUT];
        let mut generator = Generator::new(3);
        let mut again = generator.clone();
        for _ in 0..50 {
            // The first is the draw with replacement.
            let first = generator.clone().draw(&logits).unwrap();
            let mut drawn = generator.draw_without_replacement(&logits, 3).unwrap();
            assert_eq!(drawn[0], first as usize);
            drawn.sort_unstable();
            assert_eq!(drawn, [0, 2, 3]);
        }
        // Fewer are left than are wanted.
        let all = again.draw_without_replacement(&logits, 9).unwrap();
        assert_eq!(all.len(), 3);
        let none = again.draw_without_replacement(&logits, 0).unwrap();
        assert!(none.is_empty());
        assert!(again.draw_without_replacement(&[OUT; 2], 1).is_err());
        assert!(again.draw_without_replacement(&[0.0, f32::NAN], 1).is_err());
    }

    #[test]
    fn draws_without_replacement_follow_what_is_left() {
        // Weights 1 : 2 : 5. Pairs: P(2 then 1) = 5/8 · 2/3 = 5/12, P(2, 0) = 5/8 · 1/3 = 5/24,
        // P(1, 2) = 2/8 · 5/6 = 5/24.
        let logits = [0.0, libm::logf(2.0), libm::logf(5.0)];
        let mut generator = Generator::new(11);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..9600 {
            let pair = generator.draw_without_replacement(&logits, 2).unwrap();
            *counts.entry((pair[0], pair[1])).or_insert(0_u32) += 1;
        }
        // Standard deviations: 48, 40, 40.
        for (pair, expected) in [((2, 1), 4000_u32), ((2, 0), 2000), ((1, 2), 2000)] {
            assert!(counts[&pair].abs_diff(expected) < 4 * 48, "{counts:?}");
        }
    }

    #[test]
    fn draws_reach_tokens_far_below_the_best() {
        // exp(−10⁹) is 0 next to the first, but without it the others are 1 : 1.
        let mut generator = Generator::new(5);
        let drawn = generator
            .draw_without_replacement(&[0.0, -1e9, -1e9], 3)
            .unwrap();
        assert_eq!((drawn[0], drawn.len()), (0, 3));
    }

    #[test]
    fn tokens_of_no_weight_are_never_drawn() {
        let mut generator = Generator::new(0);
        for _ in 0..100 {
            assert_eq!(generator.draw(&[OUT, -200.0, 0.0, -200.0, OUT]).unwrap(), 2);
        }
    }
}
