//! What the warpers share: probabilities of the tokens still in play, and sorting no further than
//! needed.

use std::cmp::Ordering;

use crate::{Error, Result};

/// A token that has not been ruled out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) token: usize,
    pub(super) probability: f32,
}

/// The largest value of `values`, −∞ when there is none; NaN is passed over.
pub(super) fn maximum(values: &[f32]) -> f32 {
    // Independent lanes let the compiler use vector instructions; one running maximum would not.
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// ln Σ exp(logit), as the largest logit and what the others add to it: of very large logits their
/// sum would keep nothing of the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSum {
    largest: f64,
    added: f64,
}

impl LogSum {
    /// That of `logits`, in f64.
    ///
    /// # Errors
    /// [`Error::Format`] when NaN or +∞ is among them, or nothing above −∞.
    pub(crate) fn of(logits: &[f32]) -> Result<Self> {
        let largest = f64::from(maximum(logits));
        let weights = logits
            .iter()
            .map(|&logit| libm::exp(f64::from(logit) - largest));
        let added = libm::log(weights.sum());
        if added.is_finite() {
            return Ok(Self { largest, added });
        }
        Err(Error::format(
            "logits",
            "expected finite numbers; the model's weights are broken",
        ))
    }

    /// −ln p of a token with this logit.
    pub(crate) fn information(self, logit: f32) -> f64 {
        (self.largest - f64::from(logit)) + self.added
    }
}

/// Fills `candidates` with the tokens above −∞, in token order, and their softmax.
pub(super) fn fill_softmax(logits: &[f32], candidates: &mut Vec<Candidate>) -> LogSum {
    candidates.clear();
    let largest = maximum(logits);
    let mut sum = 0.0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > f32::NEG_INFINITY {
            let probability = libm::expf(logit - largest);
            sum += f64::from(probability);
            candidates.push(Candidate { token, probability });
        }
    }
    for candidate in candidates {
        candidate.probability = (f64::from(candidate.probability) / sum) as f32;
    }
    LogSum {
        largest: f64::from(largest),
        added: libm::log(sum),
    }
}

/// exp(xᵢ) / Σ exp(xⱼ), computed in f64.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|&logit| libm::exp(f64::from(logit) - f64::from(largest)))
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

/// Fills `scores` with the log-probabilities of softmax(`logits`), `[vocabulary]`.
///
/// −∞ stays −∞, also where everything is ruled out; NaN or +∞ among the logits makes NaN. In f32,
/// subtracting the largest logit first, as torch does.
pub fn log_softmax(logits: &[f32], scores: &mut Vec<f32>) {
    scores.clear();
    scores.extend_from_slice(logits);
    log_softmax_in_place(scores);
}

/// [`log_softmax`] over its own input.
pub(super) fn log_softmax_in_place(scores: &mut [f32]) {
    let largest = maximum(scores);
    if largest == f32::NEG_INFINITY {
        return;
    }
    let sum: f64 = scores
        .iter()
        .map(|&score| f64::from(libm::expf(score - largest)))
        .sum();
    let log_sum = libm::log(sum) as f32;
    for score in scores {
        *score = (*score - largest) - log_sum;
    }
}

/// The order of falling scores, the earlier of equals first; 0 and −0 are equal.
pub(super) fn by_falling_score(logits: &[f32]) -> impl Fn(&Candidate, &Candidate) -> Ordering {
    |a, b| {
        // Candidates are above −∞, which NaN is not.
        let falling = logits[b.token].partial_cmp(&logits[a.token]);
        falling
            .unwrap_or(Ordering::Equal)
            .then(a.token.cmp(&b.token))
    }
}

/// The entropy −Σ p·ln p, in nats, of what [`fill_softmax`] made of `logits`.
pub(super) fn entropy(logits: &[f32], candidates: &[Candidate], log_sum: LogSum) -> f64 {
    candidates
        .iter()
        .map(|c| log_sum.information(logits[c.token]) * f64::from(c.probability))
        .sum()
}

/// The k-th largest of `values`; `None` when there are no more than `k`, or fewer than `k` above
/// −∞.
///
/// `buffer` is kept by the caller to save its allocation.
pub(super) fn kth_largest(values: &[f32], k: usize, buffer: &mut Vec<f32>) -> Option<f32> {
    if k == 0 || k >= values.len() {
        return None;
    }
    // One pass with a small buffer: what is not above the k-th largest so far cannot change it.
    // When the buffer is full it is cut down to its k largest again.
    let capacity = (2 * k).max(1024);
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let mut threshold = f32::NEG_INFINITY;
    buffer.clear();
    for &value in values {
        if value > threshold {
            buffer.push(value);
            if buffer.len() == capacity {
                threshold = *buffer.select_nth_unstable_by(k - 1, descending).1;
                buffer.truncate(k);
            }
        }
    }
    if buffer.len() < k {
        return None;
    }
    Some(*buffer.select_nth_unstable_by(k - 1, descending).1)
}

/// Visits `items` in the order of `compare` until `keep` says no, sorting in growing blocks, so
/// that a short answer costs one selection and not a full sort; returns how many were kept.
///
/// The kept items are afterwards the front of `items`.
pub(super) fn keep_front<T>(
    items: &mut [T],
    compare: impl Fn(&T, &T) -> Ordering,
    mut keep: impl FnMut(&T) -> bool,
) -> usize {
    let mut kept = 0;
    let mut block = 256;
    while kept < items.len() {
        let rest = &mut items[kept..];
        let size = block.min(rest.len());
        if size < rest.len() {
            rest.select_nth_unstable_by(size - 1, &compare);
        }
        let front = &mut rest[..size];
        front.sort_unstable_by(&compare);
        let passed = front.iter().take_while(|item| keep(item)).count();
        kept += passed;
        if passed < size {
            break;
        }
        block *= 4;
    }
    kept
}

/// Puts the first `count` of `items` by the order of `compare` in front, sorted; returns how many
/// those are when there are fewer.
pub(super) fn sort_front<T>(
    items: &mut [T],
    count: usize,
    compare: impl Fn(&T, &T) -> Ordering,
) -> usize {
    let mut left = count;
    keep_front(items, compare, |_| {
        let more = left > 0;
        left = left.saturating_sub(1);
        more
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maximum_of_any_length_and_of_nan() {
        let values: Vec<f32> = (0..37u8).map(|i| f32::from(i * 7 % 37)).collect();
        for length in 1..values.len() {
            let expected = values[..length]
                .iter()
                .copied()
                .fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(maximum(&values[..length]), expected, "of {length} values");
        }
        assert_eq!(maximum(&[]), f32::NEG_INFINITY);
        assert_eq!(maximum(&[f32::NAN, 2.0, f32::NAN]), 2.0);
    }

    #[test]
    fn log_softmax_is_of_probabilities() {
        let out = f32::NEG_INFINITY;
        let mut scores = vec![9.0; 9];
        // e^0 : e^ln 3 = 1 : 3.
        log_softmax(&[0.0, out, libm::logf(3.0)], &mut scores);
        assert_eq!((scores.len(), scores[1]), (3, out));
        for (score, probability) in [(scores[0], 0.25), (scores[2], 0.75)] {
            assert!((score - libm::logf(probability)).abs() < 1e-6, "{scores:?}");
        }
        // Large logits do not overflow: the difference alone counts, ln ½.
        log_softmax(&[1e30, 1e30], &mut scores);
        assert!((scores[0] + libm::logf(2.0)).abs() < 1e-6, "{scores:?}");
        log_softmax(&[out, out], &mut scores);
        assert_eq!(scores, [out, out]);
        log_softmax(&[], &mut scores);
        assert!(scores.is_empty());
        log_softmax(&[1.0, f32::NAN], &mut scores);
        assert!(scores.iter().all(|score| score.is_nan()), "{scores:?}");
        log_softmax(&[1.0, f32::INFINITY], &mut scores);
        assert!(scores[1].is_nan(), "{scores:?}");
    }

    #[test]
    fn equal_scores_keep_the_order_of_tokens() {
        let logits = [0.0, 1.0, -0.0, f32::NAN, 0.0, 1.0];
        let mut candidates = Vec::new();
        fill_softmax(&logits, &mut candidates);
        candidates.reverse();
        candidates.sort_by(by_falling_score(&logits));
        let order: Vec<usize> = candidates.iter().map(|c| c.token).collect();
        assert_eq!(order, [1, 5, 0, 2, 4]);
    }

    #[test]
    fn front_is_sorted_as_far_as_asked() {
        let mut items: Vec<u32> = (0..5000)
            .map(|i| i * 2_654_435_761_u64 % 5003)
            .map(|i| i as u32)
            .collect();
        let mut expected = items.clone();
        expected.sort_unstable();
        for wanted in [0_usize, 1, 255, 256, 257, 1280, 4999, 5000] {
            let kept = sort_front(&mut items, wanted, Ord::cmp);
            assert_eq!(kept, wanted);
            assert_eq!(items[..kept], expected[..kept]);
        }
        assert_eq!(sort_front(&mut items, usize::MAX, Ord::cmp), 5000);
    }

    #[test]
    fn entropy_is_in_nats() {
        // ½ ¼ ¼: ½ ln 2 + 2·¼ ln 4 = 1.5 ln 2.
        let logits = [libm::logf(2.0), 0.0, f32::NEG_INFINITY, 0.0];
        let mut candidates = Vec::new();
        let log_sum = fill_softmax(&logits, &mut candidates);
        let found = entropy(&logits, &candidates, log_sum);
        assert!((found - 1.5 * libm::log(2.0)).abs() < 1e-6, "{found}");
    }

    #[test]
    fn softmax_leaves_out_what_is_ruled_out() {
        let mut candidates = Vec::new();
        // e^0 : e^ln 3 = 1 : 3.
        let log_sum = fill_softmax(&[0.0, f32::NEG_INFINITY, libm::logf(3.0)], &mut candidates);
        assert_eq!(candidates.len(), 2);
        for (candidate, (token, probability)) in candidates.iter().zip([(0, 0.25), (2, 0.75)]) {
            assert_eq!(candidate.token, token);
            assert!((candidate.probability - probability).abs() < 1e-6);
        }
        // −ln ¼.
        assert!((log_sum.information(0.0) - libm::log(4.0)).abs() < 1e-6);
        let log_sum = fill_softmax(&[f32::MIN, f32::MIN], &mut candidates);
        assert!((log_sum.information(f32::MIN) - libm::log(2.0)).abs() < 1e-6);
    }
}
