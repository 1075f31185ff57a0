//! The hyperparameters of a GPT-2 and the values they may have.

use crate::TokenId;
use crate::error::{Error, Result};
use crate::spec::{Activation, HeadSettings, ModelClass};

/// The largest dimension accepted; far above any GPT-2, low enough that products of two dimensions
/// cannot overflow.
pub(super) const MAX_DIMENSION: u64 = 1 << 24;
/// The most layers accepted.
pub(super) const MAX_LAYERS: u64 = 4096;

/// The hyperparameters of a GPT-2, named as in its `config.json`. The default has GPT-2's switches
/// and no sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// Rows of the token embedding; may be more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Positions the model was trained for: a hard limit.
    pub n_positions: usize,
    /// Hidden size: elements of a token's embedding and of the residual stream.
    pub n_embd: usize,
    /// Transformer layers (blocks).
    pub n_layer: usize,
    /// Attention heads of a layer; divides `n_embd`.
    pub n_head: usize,
    /// Hidden size of the feed-forward part; 4 · `n_embd` unless the configuration says otherwise.
    pub n_inner: usize,
    /// Epsilon of every `LayerNorm`.
    pub layer_norm_epsilon: f32,
    /// The function between the two feed-forward matrices.
    pub activation_function: Activation,
    /// Whether scores are divided by √`head_size`.
    pub scale_attn_weights: bool,
    /// Whether scores are also divided by the layer's number, counted from 1.
    pub scale_attn_by_inverse_layer_idx: bool,
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
    /// The token that pads the shorter sequences of a batch.
    pub pad: Option<TokenId>,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            vocab_size: 0,
            n_positions: 0,
            n_embd: 0,
            n_layer: 0,
            n_head: 0,
            n_inner: 0,
            layer_norm_epsilon: 1e-5,
            activation_function: Activation::GeluNew,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
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
    /// Whether the model predicts tokens. A bare transformer does with its embedding for a head,
    /// unless its configuration says that they are not tied.
    pub fn predicts_tokens(&self) -> bool {
        self.class.has_language_head() || (self.class == ModelClass::Base && self.tied_head)
    }

    /// Elements of one attention head: `n_embd / n_head`.
    pub fn head_size(&self) -> usize {
        self.n_embd.checked_div(self.n_head).unwrap_or(0)
    }

    /// The factor scores are multiplied by in `layer` (counted from 0):
    /// `[1/√head_size if scaled] · [1/(layer + 1) if scaled by layer]`.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let by_size = if self.scale_attn_weights {
            1.0 / (self.head_size() as f32).sqrt()
        } else {
            1.0
        };
        if self.scale_attn_by_inverse_layer_idx {
            by_size / (layer as f32 + 1.0)
        } else {
            by_size
        }
    }

    /// Checks what no single key can: ranges, and that `n_head` divides `n_embd`. `place` begins
    /// the messages.
    ///
    /// # Errors
    /// [`Error::Format`] saying which value is wrong and what it should be.
    pub fn validate(&self, place: &str) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("n_positions", self.n_positions, MAX_DIMENSION),
            ("n_embd", self.n_embd, MAX_DIMENSION),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_DIMENSION),
            ("n_inner", self.n_inner, MAX_DIMENSION),
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
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(Error::format(
                place,
                format!(
                    "n_embd {} is not a multiple of n_head {}",
                    self.n_embd, self.n_head
                ),
            ));
        }
        if !(self.layer_norm_epsilon.is_finite()
            && self.layer_norm_epsilon > 0.0
            && self.layer_norm_epsilon < 1.0)
        {
            return Err(Error::format(
                place,
                format!(
                    "layer_norm_epsilon: expected a value between 0 and 1, found {}",
                    self.layer_norm_epsilon
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
            vocab_size: 300,
            n_positions: 64,
            n_embd: 64,
            n_layer: 2,
            n_head: 2,
            n_inner: 256,
            ..Hyperparameters::default()
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        assert!(small().validate("test").is_ok());
        let broken = [
            (
                Hyperparameters {
                    vocab_size: 0,
                    ..small()
                },
                "vocab_size",
            ),
            (
                Hyperparameters {
                    n_positions: 0,
                    ..small()
                },
                "n_positions",
            ),
            (
                Hyperparameters {
                    n_layer: 5000,
                    ..small()
                },
                "n_layer",
            ),
            (
                Hyperparameters {
                    n_inner: 1 << 30,
                    ..small()
                },
                "n_inner",
            ),
            (
                Hyperparameters {
                    n_head: 3,
                    ..small()
                },
                "not a multiple",
            ),
            (
                Hyperparameters {
                    layer_norm_epsilon: f32::NAN,
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
            n_embd: 128,
            ..small()
        };
        assert_eq!(plain.attention_scale(3), 0.125);
        let by_layer = Hyperparameters {
            scale_attn_by_inverse_layer_idx: true,
            ..plain.clone()
        };
        assert_eq!(by_layer.attention_scale(3), 0.125 / 4.0);
        let unscaled = Hyperparameters {
            scale_attn_weights: false,
            ..plain
        };
        assert_eq!(unscaled.attention_scale(3), 1.0);
    }
}
