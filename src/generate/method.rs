//! Which method a request asks for, and what does not go together.

use super::options::{DolaLayers, GenerationOptions};
use crate::{Error, Result};

/// A way to decode.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Method {
    /// One token after the other: the best, or drawn.
    Tokens,
    /// The same from the difference between the last layer and an earlier one.
    Dola(DolaLayers),
    /// The candidate that is likely and unlike what came before.
    Contrastive,
    /// Beam search, with draws or in groups.
    Beams,
    /// Drafts of a smaller model, or of the prompt, verified many at a time.
    Speculative,
}

impl GenerationOptions {
    /// Checks the options that need no model.
    ///
    /// # Errors
    /// [`Error::Argument`] names the option, what it may be and what was found, or options that
    /// conflict.
    pub fn validate(&self) -> Result<()> {
        self.check_values()?;
        Method::of(self, false).map(|_| ())
    }
}

impl Method {
    /// The method transformers would choose, in its order.
    ///
    /// # Errors
    /// [`Error::Argument`] naming two parameters that do not go together.
    pub(super) fn of(options: &GenerationOptions, assistant: bool) -> Result<Self> {
        let lookup = options.prompt_lookup_num_tokens.is_some();
        let dola = options.dola_layers.is_some();
        let contrastive = is_contrastive(options);
        let beams = options.num_beams > 1;
        let asked = [
            ("num_beams", beams),
            ("an assistant model", assistant),
            ("prompt_lookup_num_tokens", lookup),
            ("dola_layers", dola),
            ("penalty_alpha", contrastive),
        ];
        let methods: Vec<&str> = asked
            .iter()
            .filter(|(_, asked)| *asked)
            .map(|(name, _)| *name)
            .collect();
        if methods.len() > 1 {
            return Err(Error::Argument(format!(
                "conflicting decoding methods: {}",
                methods.join(" and ")
            )));
        }
        let one_at_a_time = !matches!(methods[..], [] | ["dola_layers"]);
        let single = [
            ("guidance_scale", options.sampling.guidance_scale != 1.0),
            ("on_overflow", options.on_overflow.is_some()),
            ("grammar", options.grammar.is_some()),
        ];
        if let (true, Some((name, _))) = (one_at_a_time, single.iter().find(|(_, on)| *on)) {
            return Err(Error::Argument(format!(
                "{name} works where one token follows the other, not with {}",
                methods.join("")
            )));
        }
        if dola && options.grammar.is_some() {
            // It leaves only likely tokens, and a grammar none but its own.
            return Err(Error::Argument(
                "grammar does not go with dola_layers, which rules tokens out by itself".to_owned(),
            ));
        }
        let several = options.num_return_sequences > 1;
        if several && (assistant || lookup || contrastive) {
            return Err(Error::Argument(format!(
                "num_return_sequences {} does not go with {}, which has one result",
                options.num_return_sequences,
                methods.join("")
            )));
        }
        if options.sampling.diversity_penalty != 0.0 && options.num_beam_groups == 1 {
            return Err(Error::Argument(
                "diversity_penalty needs num_beam_groups above 1".to_owned(),
            ));
        }
        Ok(match &options.dola_layers {
            Some(layers) => Self::Dola(layers.clone()),
            None if beams => Self::Beams,
            None if assistant || lookup => Self::Speculative,
            None if contrastive => Self::Contrastive,
            None => Self::Tokens,
        })
    }
}

/// Whether the options ask for contrastive search: as in transformers, not with sampling, and not
/// with a single candidate.
pub(super) fn is_contrastive(options: &GenerationOptions) -> bool {
    options.penalty_alpha > 0.0 && options.sampling.top_k > 1 && !options.sampling.do_sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(change: impl FnOnce(&mut GenerationOptions)) -> Result<Method> {
        let mut options = GenerationOptions::default();
        change(&mut options);
        Method::of(&options, false)
    }

    #[test]
    fn the_method_follows_transformers() {
        assert_eq!(method(|_| ()).unwrap(), Method::Tokens);
        assert_eq!(
            method(|o| o.sampling.do_sample = true).unwrap(),
            Method::Tokens
        );
        assert_eq!(method(|o| o.num_beams = 2).unwrap(), Method::Beams);
        assert_eq!(
            method(|o| o.penalty_alpha = 0.6).unwrap(),
            Method::Contrastive
        );
        let sampled = method(|o| (o.penalty_alpha, o.sampling.do_sample) = (0.6, true));
        assert_eq!(sampled.unwrap(), Method::Tokens);
        let one = method(|o| (o.penalty_alpha, o.sampling.top_k) = (0.6, 1));
        assert_eq!(one.unwrap(), Method::Tokens);
        let lookup = method(|o| o.prompt_lookup_num_tokens = Some(3));
        assert_eq!(lookup.unwrap(), Method::Speculative);
        assert_eq!(
            Method::of(&GenerationOptions::default(), true).unwrap(),
            Method::Speculative
        );
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let refused = |change: fn(&mut GenerationOptions)| method(change).unwrap_err().to_string();
        let message = refused(|o| (o.num_beams, o.dola_layers) = (2, Some(DolaLayers::Low)));
        assert!(message.contains("num_beams and dola_layers"), "{message}");
        let message = refused(|o| (o.num_beams, o.on_overflow) = (2, Some(4)));
        assert!(
            message.contains("on_overflow") && message.contains("num_beams"),
            "{message}"
        );
        let message = refused(|o| (o.penalty_alpha, o.num_return_sequences) = (0.5, 2));
        assert!(message.contains("num_return_sequences 2"), "{message}");
        let message = refused(|o| o.sampling.diversity_penalty = 1.0);
        assert!(message.contains("num_beam_groups"), "{message}");
    }
}
