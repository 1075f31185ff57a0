//! What a caller may ask of the choice of the next token, under transformers' names.

use crate::{Error, Result};

/// Parameters of the choice, with transformers' names, meanings and defaults.
///
/// Numbers are `f64` because Python's are: `1 − top_p` is rounded once, as it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Draw from the distribution; otherwise take the largest score (greedy) and leave
    /// `temperature`, `top_k`, `top_p`, `min_p` and `typical_p` aside. Default: false.
    pub do_sample: bool,
    /// Scores are divided by this; above 0. Default: 1.
    pub temperature: f64,
    /// Keep the k largest scores (and whatever ties with the last); 0 keeps all. Default: 50.
    pub top_k: usize,
    /// Keep the most probable tokens until their mass reaches this; in (0, 1], 1 keeps all.
    /// Default: 1.
    pub top_p: f64,
    /// Keep tokens at least this fraction as probable as the best; in [0, 1], 0 keeps all.
    /// Default: 0.
    pub min_p: f64,
    /// Keep the tokens whose information is nearest to the entropy, until their mass reaches
    /// this; in (0, 1], 1 keeps all. Default: 1.
    pub typical_p: f64,
    /// Above 1 makes ids seen before (prompt included) less likely; above 0. Default: 1.
    pub repetition_penalty: f64,
    /// No run of this many ids may occur twice (prompt included); 0 allows all. Default: 0.
    pub no_repeat_ngram_size: usize,
    /// No end of text before this many ids in total, prompt included. Default: 0.
    pub min_length: usize,
    /// No end of text before this many new ids. Default: 0.
    pub min_new_tokens: usize,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            min_length: 0,
            min_new_tokens: 0,
        }
    }
}

impl SamplingOptions {
    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] names the parameter, its range and the value found.
    pub fn validate(&self) -> Result<()> {
        if self.temperature == 0.0 {
            return Err(Error::Argument(
                "temperature must be above 0, found 0; for the most likely token every time, \
                 decode greedily (do_sample off)"
                    .into(),
            ));
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let mass = |value: f64| value > 0.0 && value <= 1.0;
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            (
                "temperature",
                self.temperature,
                positive(self.temperature),
                "a number above 0",
            ),
            (
                "top_p",
                self.top_p,
                mass(self.top_p),
                "above 0 and at most 1",
            ),
            ("min_p", self.min_p, fraction(self.min_p), "between 0 and 1"),
            (
                "typical_p",
                self.typical_p,
                mass(self.typical_p),
                "above 0 and at most 1",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                positive(self.repetition_penalty),
                "a number above 0",
            ),
        ];
        match checks.iter().find(|(_, _, ok, _)| !ok) {
            Some((name, value, _, range)) => Err(Error::Argument(format!(
                "{name} must be {range}, found {value}"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_transformers() {
        let options = SamplingOptions::default();
        options.validate().unwrap();
        assert_eq!(
            (options.top_k, options.temperature, options.top_p),
            (50, 1.0, 1.0)
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        let with = |change: fn(&mut SamplingOptions)| {
            let mut options = SamplingOptions::default();
            change(&mut options);
            options.validate().unwrap_err().to_string()
        };
        assert!(with(|o| o.temperature = 0.0).contains("greedily"));
        assert!(with(|o| o.temperature = f64::NAN).contains("temperature"));
        assert!(with(|o| o.top_p = 0.0).contains("top_p must be above 0 and at most 1, found 0"));
        assert!(with(|o| o.top_p = 1.5).contains("found 1.5"));
        assert!(with(|o| o.min_p = -0.1).contains("min_p"));
        assert!(with(|o| o.typical_p = f64::NAN).contains("typical_p"));
        assert!(with(|o| o.repetition_penalty = f64::INFINITY).contains("repetition_penalty"));
    }
}
