//! The processors a request asks for, in the one order that gives transformers' results.

use super::Processor;
use super::draw::{Generator, greedy};
use super::options::SamplingOptions;
use super::penalties::{MinimumLength, NoRepeatNgram, RepetitionPenalty};
use super::warpers::{MinP, Temperature, TopK, TopP, TypicalP};
use crate::{Result, TokenId};

/// From the model's logits to the next token.
pub struct Chain {
    processors: Vec<Box<dyn Processor>>,
    do_sample: bool,
    /// The processed scores; the caller's logits stay as they are.
    scores: Vec<f32>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Chain")
            .field("processors", &self.processors.len())
            .field("do_sample", &self.do_sample)
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// The chain for `options`: only what changes a score becomes a link.
    ///
    /// `prompt_length` is in ids; `eos` are the ids that end a text, ruled out while the text is
    /// shorter than asked.
    ///
    /// # Errors
    ///
    /// As [`SamplingOptions::validate`].
    pub fn new(options: &SamplingOptions, prompt_length: usize, eos: &[TokenId]) -> Result<Self> {
        options.validate()?;
        let mut processors: Vec<Box<dyn Processor>> = Vec::new();
        let mut add = |wanted: bool, make: &dyn Fn() -> Box<dyn Processor>| {
            if wanted {
                processors.push(make());
            }
        };
        let o = options;
        let minimum_length = prompt_length.saturating_add(o.min_new_tokens);
        add(o.repetition_penalty != 1.0, &|| {
            Box::new(RepetitionPenalty::new(o.repetition_penalty))
        });
        add(o.no_repeat_ngram_size > 0, &|| {
            Box::new(NoRepeatNgram::new(o.no_repeat_ngram_size))
        });
        add(o.min_length > prompt_length, &|| {
            Box::new(MinimumLength::new(o.min_length, eos))
        });
        add(o.min_new_tokens > 0, &|| {
            Box::new(MinimumLength::new(minimum_length, eos))
        });
        if o.do_sample {
            add(o.temperature != 1.0, &|| {
                Box::new(Temperature::new(o.temperature))
            });
            add(o.top_k > 0, &|| Box::new(TopK::new(o.top_k)));
            add(o.top_p < 1.0, &|| Box::new(TopP::new(o.top_p)));
            add(o.min_p > 0.0, &|| Box::new(MinP::new(o.min_p)));
            add(o.typical_p < 1.0, &|| Box::new(TypicalP::new(o.typical_p)));
        }
        Ok(Self {
            processors,
            do_sample: options.do_sample,
            scores: Vec::new(),
        })
    }

    /// The scores after every processor, `[vocabulary]`; `ids` is the prompt and what followed.
    pub fn process<'a>(&'a mut self, logits: &'a [f32], ids: &[TokenId]) -> &'a [f32] {
        if self.processors.is_empty() {
            return logits;
        }
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        for processor in &mut self.processors {
            processor.apply(&mut self.scores, ids);
        }
        &self.scores
    }

    /// The next token: drawn with `generator` when sampling, the best one otherwise.
    ///
    /// # Errors
    ///
    /// As [`greedy`] and [`Generator::draw`].
    pub fn choose(
        &mut self,
        logits: &[f32],
        ids: &[TokenId],
        generator: &mut Generator,
    ) -> Result<TokenId> {
        let do_sample = self.do_sample;
        let scores = self.process(logits, ids);
        if do_sample {
            generator.draw(scores)
        } else {
            greedy(scores)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    fn chain(change: impl FnOnce(&mut SamplingOptions), prompt_length: usize) -> Chain {
        let mut options = SamplingOptions::default();
        change(&mut options);
        Chain::new(&options, prompt_length, &[3]).unwrap()
    }

    #[test]
    fn greedy_leaves_the_warpers_out() {
        let mut chain = chain(|o| o.temperature = 0.1, 0);
        let logits = [1.0, 2.0];
        assert_eq!(chain.process(&logits, &[]), logits);
        assert_eq!(
            chain.choose(&logits, &[], &mut Generator::new(0)).unwrap(),
            1
        );
    }

    #[test]
    fn penalties_come_before_warpers() {
        // Penalty: 4 → 2, so that token 1 is the best one; top-k 1 keeps it.
        let mut chain = chain(
            |o| {
                o.do_sample = true;
                o.repetition_penalty = 2.0;
                o.top_k = 1;
            },
            1,
        );
        assert_eq!(
            chain.process(&[4.0, 3.0, 1.0, 0.0], &[0]),
            [OUT, 3.0, OUT, OUT]
        );
    }

    #[test]
    fn temperature_comes_before_top_p() {
        // Probabilities .6 .3 .1; at temperature .5 squared and renormalized: .783 .196 .022.
        let logits = [libm::logf(0.6), libm::logf(0.3), libm::logf(0.1)];
        let mut plain = chain(|o| (o.do_sample, o.top_p) = (true, 0.7), 0);
        assert_eq!(plain.process(&logits, &[])[2], OUT);
        assert!(plain.process(&logits, &[])[1] > OUT);
        let mut sharp = chain(
            |o| (o.do_sample, o.top_p, o.temperature) = (true, 0.7, 0.5),
            0,
        );
        assert_eq!(sharp.process(&logits, &[])[1..], [OUT, OUT]);
    }

    #[test]
    fn min_p_counts_after_top_p() {
        let probabilities = [0.4f32, 0.3, 0.2, 0.1];
        let logits = probabilities.map(libm::logf);
        let mut chain = chain(|o| (o.do_sample, o.top_p, o.min_p) = (true, 0.85, 0.7), 0);
        // top_p drops .1; min_p: .7·.4 = .28 drops .2.
        let survivors: Vec<bool> = chain
            .process(&logits, &[])
            .iter()
            .map(|s| *s > OUT)
            .collect();
        assert_eq!(survivors, [true, true, false, false]);
    }

    #[test]
    fn minimum_of_new_tokens_counts_from_the_prompt() {
        let mut chain = chain(|o| o.min_new_tokens = 2, 3);
        let logits = [0.0, 0.0, 0.0, 9.0];
        let mut generator = Generator::new(0);
        assert_eq!(chain.choose(&logits, &[0; 4], &mut generator).unwrap(), 0);
        assert_eq!(chain.choose(&logits, &[0; 5], &mut generator).unwrap(), 3);
        // A limit no text reaches.
        let mut endless = self::chain(|o| o.min_new_tokens = usize::MAX, 3);
        assert_eq!(
            endless.choose(&logits, &[0; 500], &mut generator).unwrap(),
            0
        );
    }

    #[test]
    fn invalid_options_make_no_chain() {
        let options = SamplingOptions {
            top_p: 0.0,
            ..SamplingOptions::default()
        };
        assert!(Chain::new(&options, 0, &[]).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        let logits: Vec<f32> = (0..300_u32).map(|i| (i * 37 % 101) as f32 / 20.0).collect();
        let run = |seed| {
            let mut chain = chain(|o| (o.do_sample, o.top_p) = (true, 0.9), 0);
            let mut generator = Generator::new(seed);
            (0..20)
                .map(|_| chain.choose(&logits, &[], &mut generator).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
