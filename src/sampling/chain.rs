//! The links that a request asks for, at work: from logits to scores to the next token.

use std::any::Any;

use super::Processor;
use super::draw::Generator;
use super::link::{ChainContext, Link, NamedLink};
use super::options::SamplingOptions;
use super::order;
use crate::{Error, Result, TokenId};

/// What a step of decoding gives the chain besides the logits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepInputs<'a> {
    /// The prompt and everything generated after it.
    pub ids: &'a [TokenId],
    /// The model's logits without the prompt, `[vocabulary]`, for guidance.
    pub unconditional: Option<&'a [f32]>,
    /// The tokens that the beams of earlier groups chose in this step, for the diversity penalty.
    pub chosen: &'a [TokenId],
    /// The only tokens that may come next, such as a grammar's, a bit each: of token t bit t % 32
    /// of word t / 32. Others are ruled out after every processor and before the warpers, so that
    /// these choose among what is left. Default: all.
    pub allowed: Option<&'a [u32]>,
}

/// From the model's logits to the next token.
pub struct Chain {
    /// In the order they act.
    links: Vec<NamedLink>,
    /// Where the links end that come before a caller's own.
    own_end: usize,
    guided: bool,
    do_sample: bool,
    /// The processed scores; the caller's logits stay as they are.
    scores: Vec<f32>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Chain")
            .field("links", &self.names().collect::<Vec<_>>())
            .field("do_sample", &self.do_sample)
            .finish_non_exhaustive()
    }
}

/// The name of links that callers add.
const CUSTOM: &str = "custom";

impl Chain {
    /// The chain for `options`: only what changes a score becomes a link.
    ///
    /// # Errors
    ///
    /// As [`SamplingOptions::validate`].
    pub fn new(options: &SamplingOptions, context: &ChainContext) -> Result<Self> {
        options.validate()?;
        let mut links = order::processors(options, context);
        let own_end = links.len();
        links.extend(order::warpers(options, context));
        Ok(Self {
            links,
            own_end,
            guided: options.guidance_scale != 1.0,
            do_sample: options.do_sample,
            scores: Vec::new(),
        })
    }

    /// Adds a processor of the caller's own: in the place of the one of the same type when the
    /// options asked for one, otherwise after all that act without sampling and after those added
    /// before.
    pub fn push(&mut self, processor: Box<dyn Processor>) {
        let type_of = |processor: &dyn Processor| (processor as &dyn Any).type_id();
        let wanted = type_of(&*processor);
        let same = self.links[..self.own_end]
            .iter_mut()
            .find_map(|(name, link)| match link {
                Link::Processor(own) if *name != CUSTOM && type_of(&**own) == wanted => Some(own),
                _ => None,
            });
        if let Some(own) = same {
            *own = processor;
        } else {
            let link = (CUSTOM, Link::Processor(processor));
            self.links.insert(self.own_end, link);
            self.own_end += 1;
        }
    }

    /// The parameters that act, under transformers' names and in their order; a processor added
    /// with [`Self::push`] is `custom`.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.links.iter().map(|(name, _)| *name)
    }

    /// Whether [`Self::process_guided`] is to be used: the options ask for guidance.
    pub fn needs_unconditional(&self) -> bool {
        self.guided
    }

    /// The scores after every processor, `[vocabulary]`; `ids` is the prompt and what followed.
    ///
    /// Without guidance and without a diversity penalty, which need more: see
    /// [`Self::process_step`].
    pub fn process<'a>(&'a mut self, logits: &'a [f32], ids: &[TokenId]) -> &'a [f32] {
        let inputs = StepInputs {
            ids,
            ..StepInputs::default()
        };
        self.run(logits, &inputs)
    }

    /// [`Self::process`] with guidance by the logits without the prompt, `[vocabulary]`.
    ///
    /// # Errors
    ///
    /// As [`Self::process_step`].
    pub fn process_guided<'a>(
        &'a mut self,
        logits: &'a [f32],
        unconditional: &[f32],
        ids: &[TokenId],
    ) -> Result<&'a [f32]> {
        let inputs = StepInputs {
            ids,
            unconditional: Some(unconditional),
            ..StepInputs::default()
        };
        self.process_step(logits, &inputs)
    }

    /// [`Self::process`] with everything that a step can give.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when the options ask for guidance and the unconditional logits are
    /// missing, or are not as many as the logits.
    pub fn process_step<'a>(
        &'a mut self,
        logits: &'a [f32],
        inputs: &StepInputs,
    ) -> Result<&'a [f32]> {
        if self.guided && inputs.unconditional.map(<[f32]>::len) != Some(logits.len()) {
            let found = inputs
                .unconditional
                .map_or("none".to_owned(), |found| found.len().to_string());
            return Err(Error::Argument(format!(
                "guidance_scale: expected {} logits without the prompt, found {found}",
                logits.len()
            )));
        }
        Ok(self.run(logits, inputs))
    }

    fn run<'a>(&'a mut self, logits: &'a [f32], inputs: &StepInputs) -> &'a [f32] {
        if self.links.is_empty() && inputs.allowed.is_none() {
            return logits;
        }
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        let (own, warpers) = self.links.split_at_mut(self.own_end);
        apply(own, &mut self.scores, inputs);
        if let Some(allowed) = inputs.allowed {
            rule_out(&mut self.scores, allowed);
        }
        apply(warpers, &mut self.scores, inputs);
        &self.scores
    }

    /// The next token: drawn with `generator` when sampling, the best one otherwise.
    ///
    /// # Errors
    ///
    /// As [`Self::process_step`] and [`Generator::choose`].
    pub fn choose(
        &mut self,
        logits: &[f32],
        ids: &[TokenId],
        generator: &mut Generator,
    ) -> Result<TokenId> {
        let do_sample = self.do_sample;
        let inputs = StepInputs {
            ids,
            ..StepInputs::default()
        };
        let scores = self.process_step(logits, &inputs)?;
        generator.choose(scores, do_sample)
    }
}

/// Runs links in their order.
fn apply(links: &mut [NamedLink], scores: &mut [f32], inputs: &StepInputs) {
    for (_, link) in links {
        match link {
            Link::Guidance(guidance) => {
                if let Some(unconditional) = inputs.unconditional {
                    guidance.apply(scores, unconditional);
                }
            }
            Link::Diversity(penalty) => penalty.apply(scores, inputs.chosen),
            Link::Processor(processor) => processor.apply(scores, inputs.ids),
        }
    }
}

/// Rules out what is not among the bits of `allowed`; NaN stays to be found.
fn rule_out(scores: &mut [f32], allowed: &[u32]) {
    let words = allowed.iter().copied().chain(std::iter::repeat(0));
    for (scores, word) in scores.chunks_mut(32).zip(words) {
        if word == u32::MAX {
            continue;
        }
        for (bit, score) in scores.iter_mut().enumerate() {
            if word & 1 << bit == 0 {
                *score += f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::OUT;
    use super::*;

    fn chain(change: impl FnOnce(&mut SamplingOptions), prompt_length: usize) -> Chain {
        let mut options = SamplingOptions::default();
        change(&mut options);
        let prompt = vec![0; prompt_length];
        let context = ChainContext {
            prompt: &prompt,
            eos: &[3],
            beams: 1,
            max_length: None,
        };
        Chain::new(&options, &context).unwrap()
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
        let context = ChainContext {
            prompt: &[],
            eos: &[],
            beams: 1,
            max_length: None,
        };
        assert!(Chain::new(&options, &context).is_err());
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

    /// Adds to the score of token 0.
    struct Add(f32);

    impl Processor for Add {
        fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
            logits[0] += self.0;
        }
    }

    #[test]
    fn own_processors_come_before_the_warpers_in_the_order_given() {
        let mut chain = chain(
            |o| {
                (o.do_sample, o.temperature, o.top_k) = (true, 0.5, 0);
                o.suppress_tokens = vec![1];
            },
            0,
        );
        chain.push(Box::new(Add(1.0)));
        chain.push(Box::new(crate::sampling::Temperature::new(0.25)));
        chain.push(Box::new(Add(3.0)));
        let names: Vec<&str> = chain.names().collect();
        let custom = "custom";
        assert_eq!(
            names,
            ["suppress_tokens", custom, custom, custom, "temperature"]
        );
        // ((1 + 1) / .25 + 3) / .5.
        assert_eq!(chain.process(&[1.0, 1.0], &[]), [22.0, OUT]);
    }

    #[test]
    fn an_own_processor_of_a_type_that_is_there_takes_its_place() {
        let mut chain = chain(
            |o| {
                o.repetition_penalty = 2.0;
                o.suppress_tokens = vec![0];
            },
            0,
        );
        chain.push(Box::new(crate::sampling::RepetitionPenalty::new(4.0)));
        let names: Vec<&str> = chain.names().collect();
        assert_eq!(names, ["repetition_penalty", "suppress_tokens"]);
        assert_eq!(chain.process(&[4.0, 4.0], &[1]), [OUT, 1.0]);
    }

    #[test]
    fn guidance_is_never_left_out_unseen() {
        let mut chain = chain(|o| o.guidance_scale = 2.0, 0);
        assert!(chain.needs_unconditional());
        let logits = [libm::logf(3.0), 0.0];
        // As in the processor's own test: 1.125 and .125.
        let scores = chain.process_guided(&logits, &[7.0, 7.0], &[]).unwrap();
        assert!((scores[0] - libm::logf(1.125)).abs() < 1e-6, "{scores:?}");
        let error = chain.choose(&logits, &[], &mut Generator::new(0));
        let message = error.unwrap_err().to_string();
        assert!(
            message.contains("guidance_scale: expected 2 logits without the prompt, found none"),
            "{message}"
        );
        let error = chain.process_guided(&logits, &[7.0], &[]);
        assert!(error.unwrap_err().to_string().contains("found 1"));
    }

    #[test]
    fn groups_avoid_what_earlier_ones_chose() {
        let mut chain = chain(|o| o.diversity_penalty = 0.5, 0);
        let inputs = StepInputs {
            chosen: &[1, 1],
            ..StepInputs::default()
        };
        assert_eq!(
            chain.process_step(&[1.0, 1.0], &inputs).unwrap(),
            [1.0, 0.0]
        );
        assert_eq!(chain.process(&[1.0, 1.0], &[]), [1.0, 1.0]);
    }

    #[test]
    fn only_allowed_tokens_are_left_for_the_warpers() {
        let allowed = StepInputs {
            allowed: Some(&[0b1010, 1]),
            ..StepInputs::default()
        };
        let mut bare = chain(|_| (), 0);
        let logits: Vec<f32> = (0..40_u8).map(f32::from).collect();
        let mut expected = vec![OUT; 40];
        (expected[1], expected[3], expected[32]) = (1.0, 3.0, 32.0);
        assert_eq!(bare.process_step(&logits, &allowed).unwrap(), expected);
        // Of the three the best two; of all, tokens 38 and 39.
        let mut best = chain(|o| (o.do_sample, o.top_k) = (true, 2), 0);
        expected[1] = OUT;
        assert_eq!(best.process_step(&logits, &allowed).unwrap(), expected);
        // What a processor makes of −∞ is ruled out all the same.
        let mut mended = chain(|o| o.remove_invalid_values = true, 0);
        let scores = mended.process_step(&[OUT; 4], &allowed).unwrap();
        assert!(scores[0] == OUT && scores[1] > OUT);
        let scores = bare.process_step(&[f32::NAN; 4], &allowed).unwrap();
        assert!(scores[0].is_nan());
    }

    #[test]
    fn nothing_asked_for_is_nothing_copied() {
        let mut chain = chain(|_| (), 0);
        let logits = [1.0, f32::NAN];
        assert_eq!(chain.process(&logits, &[]).as_ptr(), logits.as_ptr());
    }
}
