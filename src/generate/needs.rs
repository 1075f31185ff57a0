//! What a generation needs of a session.

use super::method::{Method, is_contrastive};
use super::options::GenerationOptions;
use crate::session::MAX_SEQUENCES;

impl GenerationOptions {
    /// Whether the options ask for contrastive search.
    pub(super) fn is_contrastive(&self) -> bool {
        is_contrastive(self)
    }

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

    /// Whether a request's continuations share its prompt in the cache and are made at the same
    /// time: texts made token by token, but for guidance, which computes two texts for each, and
    /// for going on past a full context, which recomputes one.
    pub(super) fn shares_prompt(&self) -> bool {
        matches!(Method::of(self, false), Ok(Method::Tokens))
            && self.sampling.guidance_scale == 1.0
            && self.on_overflow.is_none()
    }

    /// What a session needs to continue prompts of these lengths, in texts of at most `positions`
    /// tokens: its sequences, and positions of all of them together. Several prompts have equal
    /// shares. Continuations of one prompt share it, and candidates of contrastive search all but
    /// their last token.
    pub fn needs(&self, prompts: &[usize], positions: usize) -> (usize, usize) {
        let shares = self.shares_prompt();
        let texts = prompts.len().saturating_mul(self.num_return_sequences);
        let sequences = if shares {
            texts.clamp(1, MAX_SEQUENCES)
        } else {
            self.sequences()
        };
        let several = prompts.len() > 1;
        let needed = prompts.iter().map(|&prompt| {
            let prompt = prompt.min(positions);
            let needed = self.reservation(prompt, positions);
            match (shares, several) {
                (true, true) => needed.positions(1).saturating_mul(sequences),
                (true, false) => needed.positions(sequences),
                (false, _) => needed.positions(1),
            }
        });
        let most = positions.saturating_mul(sequences);
        (sequences, needed.max().unwrap_or(1).clamp(1, most.max(1)))
    }

    /// What a request with a prompt of this length may take of a session, in texts of at most
    /// `positions` tokens.
    pub(super) fn reservation(&self, prompt: usize, positions: usize) -> Reservation {
        let sequences = self.sequences();
        let new = self
            .new_tokens(prompt)
            .min(positions.saturating_sub(prompt));
        let text = prompt.saturating_add(new);
        let together = |positions| Reservation {
            sequences,
            prompt: 0,
            text: positions,
        };
        if self.shares_prompt() {
            Reservation {
                sequences,
                prompt,
                text: new,
            }
        } else if is_contrastive(self) {
            together(text.saturating_add(sequences))
        } else if self.num_beams > 1 {
            let beams = (new + 1).saturating_mul(sequences);
            together(beams.saturating_add(prompt))
        } else if self.sampling.guidance_scale != 1.0 {
            let negative = self.negative_prompt.as_ref().map_or(1, Vec::len);
            let negative = negative.saturating_add(new).min(positions);
            together(text.max(negative).saturating_mul(sequences))
        } else {
            together(text)
        }
    }
}

/// What a request may take of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    /// Sequences of each of its texts.
    pub(super) sequences: usize,
    /// Positions that its texts share.
    pub(super) prompt: usize,
    /// Positions of each.
    pub(super) text: usize,
}

impl Reservation {
    /// Positions of `texts` texts.
    pub(super) fn positions(self, texts: usize) -> usize {
        let own = self.text.saturating_mul(texts);
        self.prompt.saturating_add(own)
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
        // A prompt that two share.
        assert_eq!(needs(&[5], 100, drawn), (2, 25));
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
