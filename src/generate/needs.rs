//! What a generation needs of a session.

use super::method::{Method, is_contrastive};
use super::options::GenerationOptions;
use crate::session::MAX_SEQUENCES;

impl GenerationOptions {
    /// Sequences that a session needs for this.
    pub fn sequences(&self) -> usize {
        if is_contrastive(self) {
            return self.sampling.top_k;
        }
        let guided = usize::from(self.sampling.guidance_scale != 1.0);
        self.num_beams.max(1 + guided)
    }

    /// The parameter that decides [`GenerationOptions::sequences`].
    pub(super) fn parameter_of_sequences(&self) -> &'static str {
        if is_contrastive(self) {
            "penalty_alpha (one for each of top_k candidates)"
        } else if self.num_beams > 1 {
            "num_beams"
        } else if self.sampling.guidance_scale != 1.0 {
            "guidance_scale"
        } else {
            "the slot"
        }
    }

    /// Whether several prompts are continued in the same passes: texts made token by token, but for
    /// guidance, which computes two texts for each, and for going on past a full context, which
    /// recomputes one.
    pub(super) fn fits_together(&self) -> bool {
        matches!(Method::of(self, false), Ok(Method::Tokens))
            && self.sampling.guidance_scale == 1.0
            && self.on_overflow.is_none()
    }

    /// What a session needs to continue prompts of these lengths, in texts of at most `positions`
    /// tokens: its sequences, and positions of all of them together. Texts of a search share their
    /// prompt, and candidates of contrastive search all but their last token.
    pub fn needs(&self, prompts: &[usize], positions: usize) -> (usize, usize) {
        let together = prompts.len() > 1 && self.fits_together();
        let texts = prompts.len().saturating_mul(self.num_return_sequences);
        let sequences = if together {
            texts.clamp(1, MAX_SEQUENCES)
        } else {
            self.sequences()
        };
        let needed = prompts.iter().map(|&prompt| {
            let prompt = prompt.min(positions);
            let text = prompt
                .saturating_add(self.new_tokens(prompt))
                .min(positions);
            if is_contrastive(self) {
                text.saturating_add(sequences)
            } else if self.num_beams > 1 {
                // The prompt is at most the text.
                (text - prompt + 1)
                    .saturating_mul(sequences)
                    .saturating_add(prompt)
            } else {
                text.saturating_mul(sequences)
            }
        });
        let most = positions.saturating_mul(sequences);
        (sequences, needed.max().unwrap_or(1).clamp(1, most.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(
        prompts: &[usize],
        positions: usize,
        change: impl FnOnce(&mut GenerationOptions),
    ) -> (usize, usize) {
        let mut options = GenerationOptions {
            max_new_tokens: 10,
            ..GenerationOptions::default()
        };
        change(&mut options);
        options.needs(prompts, positions)
    }

    #[test]
    fn sessions_are_as_large_as_needed() {
        assert_eq!(needs(&[5], 100, |_| ()), (1, 15));
        assert_eq!(needs(&[5], 12, |_| ()), (1, 12));
        assert_eq!(needs(&[5], 100, |o| o.max_length = Some(8)), (1, 8));
        // Rows of the longest, as many as a cache tells apart.
        assert_eq!(needs(&[5, 7, 2], 100, |_| ()), (3, 51));
        assert_eq!(needs(&[1; 70], 100, |_| ()), (64, 64 * 11));
        let drawn = |o: &mut GenerationOptions| {
            (o.sampling.do_sample, o.num_return_sequences) = (true, 2);
        };
        assert_eq!(needs(&[5], 100, drawn), (1, 15));
        assert_eq!(needs(&[5, 7], 100, drawn), (4, 68));
        // A shared prompt, and ten tokens and one more for each of four.
        assert_eq!(needs(&[5, 7], 100, |o| o.num_beams = 4), (4, 51));
        let contrastive =
            |o: &mut GenerationOptions| (o.penalty_alpha, o.sampling.top_k) = (0.6, 4);
        assert_eq!(needs(&[5], 100, contrastive), (4, 19));
        assert_eq!(
            needs(&[5], 100, |o| o.sampling.guidance_scale = 2.0),
            (2, 30)
        );
        // Never more than the sequences can have.
        assert_eq!(needs(&[5], 6, |o| o.num_beams = 2), (2, 9));
        assert_eq!(needs(&[900], 6, |o| o.num_beams = 2), (2, 8));
    }
}
