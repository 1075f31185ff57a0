//! The numbers and switches that make one GPT-2 differ from another, and what is allowed of them.

use crate::TokenId;
use crate::error::{Error, Result};
use crate::spec::{Activation, HeadSettings, ModelClass};

/// The widest model accepted, in elements; far above any GPT-2, low enough that products of two
/// dimensions cannot overflow.
pub(super) const MAX_DIMENSION: u64 = 1 << 24;
/// The most layers accepted.
pub(super) const MAX_LAYERS: u64 = 4096;

/// What a GPT-2 looks like. The default has GPT-2's switches and no size.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// Rows of the token embedding; may be more than the tokenizer has tokens.
    pub vocabulary: usize,
    /// Positions the model was trained for (`n_positions`): a hard limit.
    pub positions: usize,
    /// Width of the residual stream, d (`n_embd`).
    pub width: usize,
    /// Blocks (`n_layer`).
    pub layers: usize,
    /// Attention heads, H (`n_head`); divides the width.
    pub heads: usize,
    /// Width of the feed-forward part (`n_inner`; 4d when the configuration is silent).
    pub inner: usize,
    /// Epsilon of every `LayerNorm`.
    pub epsilon: f32,
    /// The function between the two feed-forward matrices.
    pub activation: Activation,
    /// Whether scores are divided by √(d/H).
    pub scale_attention_weights: bool,
    /// Whether scores are also divided by the layer's number, counted from 1.
    pub scale_attention_by_inverse_layer: bool,
    /// Whether the language-model head is the token embedding.
    pub tied_head: bool,
    /// Which head the model has.
    pub class: ModelClass,
    /// What the head of the class is like, for classes that have one beside the language model's.
    pub head: HeadSettings,
    /// The token that begins a text.
    pub bos: Option<TokenId>,
    /// The tokens that end a text, the first being the usual one.
    pub eos: Vec<TokenId>,
    /// The token that fills up shorter rows of a batch.
    pub pad: Option<TokenId>,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            vocabulary: 0,
            positions: 0,
            width: 0,
            layers: 0,
            heads: 0,
            inner: 0,
            epsilon: 1e-5,
            activation: Activation::GeluNew,
            scale_attention_weights: true,
            scale_attention_by_inverse_layer: false,
            tied_head: true,
            class: ModelClass::LanguageModel,
            head: HeadSettings::default(),
            bos: None,
            eos: Vec::new(),
            pad: None,
        }
    }
}

impl Hyperparameters {
    /// Whether the model predicts tokens. A bare transformer does with its embedding for a head, unless
    /// its configuration says that they are not tied.
    pub fn predicts_tokens(&self) -> bool {
        self.class.has_language_head() || (self.class == ModelClass::Base && self.tied_head)
    }

    /// Elements of one head.
    pub fn head_width(&self) -> usize {
        self.width.checked_div(self.heads).unwrap_or(0)
    }

    /// The factor scores are multiplied by in `layer` (counted from 0):
    /// `[1/√(d/H) if scaled] · [1/(layer + 1) if scaled by layer]`.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let by_width = if self.scale_attention_weights {
            1.0 / (self.head_width() as f32).sqrt()
        } else {
            1.0
        };
        if self.scale_attention_by_inverse_layer {
            by_width / (layer + 1) as f32
        } else {
            by_width
        }
    }

    /// Checks what no single key can: ranges, and that the heads divide the width. `place` begins
    /// the messages.
    ///
    /// # Errors
    /// [`Error::Format`] saying which value is wrong and what it should be.
    pub fn validate(&self, place: &str) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocabulary, MAX_DIMENSION),
            ("positions", self.positions, MAX_DIMENSION),
            ("width", self.width, MAX_DIMENSION),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_DIMENSION),
            ("inner width", self.inner, MAX_DIMENSION),
            // A head without outputs is no head.
            (
                "outputs of the head",
                self.head.outputs.max(1),
                MAX_DIMENSION,
            ),
        ];
        for (name, size, limit) in sizes {
            if size == 0 || size as u64 > limit {
                return Err(Error::format(
                    place,
                    format!("{name}: expected 1 to {limit}, found {size}"),
                ));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::format(
                place,
                format!(
                    "width {} is not a multiple of its {} heads",
                    self.width, self.heads
                ),
            ));
        }
        if !(self.epsilon.is_finite() && self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(Error::format(
                place,
                format!(
                    "layer norm epsilon: expected a number between 0 and 1, found {}",
                    self.epsilon
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Hyperparameters {
        Hyperparameters {
            vocabulary: 300,
            positions: 64,
            width: 64,
            layers: 2,
            heads: 2,
            inner: 256,
            ..Hyperparameters::default()
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        assert!(small().validate("test").is_ok());
        let broken = [
            (
                Hyperparameters {
                    vocabulary: 0,
                    ..small()
                },
                "vocabulary",
            ),
            (
                Hyperparameters {
                    positions: 0,
                    ..small()
                },
                "positions",
            ),
            (
                Hyperparameters {
                    layers: 5000,
                    ..small()
                },
                "layers",
            ),
            (
                Hyperparameters {
                    inner: 1 << 30,
                    ..small()
                },
                "inner width",
            ),
            (
                Hyperparameters {
                    heads: 3,
                    ..small()
                },
                "not a multiple",
            ),
            (
                Hyperparameters {
                    epsilon: f32::NAN,
                    ..small()
                },
                "epsilon",
            ),
        ];
        for (hyperparameters, word) in broken {
            let message = hyperparameters.validate("test").unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn attention_scale_follows_both_switches() {
        let plain = Hyperparameters {
            width: 128,
            ..small()
        };
        assert_eq!(plain.attention_scale(3), 0.125);
        let by_layer = Hyperparameters {
            scale_attention_by_inverse_layer: true,
            ..plain.clone()
        };
        assert_eq!(by_layer.attention_scale(3), 0.125 / 4.0);
        let unscaled = Hyperparameters {
            scale_attention_weights: false,
            ..plain
        };
        assert_eq!(unscaled.attention_scale(3), 1.0);
    }
}
