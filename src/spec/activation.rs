//! The activation functions a GPT-2 checkpoint may have, under their transformers names.

use crate::error::{Error, Result};

/// The function between the two matrices of the feed-forward part.
///
/// Definitions as in transformers' `activations.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x · ½(1 + erf(x/√2)).
    Gelu,
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))): GPT-2's own.
    GeluNew,
    /// [`Activation::Gelu`] clipped to [−10, 10].
    Gelu10,
    /// x · σ(1.702x).
    QuickGelu,
    /// max(0, x).
    Relu,
    /// max(0, x)².
    Relu2,
    /// min(6, max(0, x)).
    Relu6,
    /// x for x ≥ 0, else 0.01x.
    LeakyRelu,
    /// x · σ(x).
    Silu,
    /// tanh(x).
    Tanh,
    /// σ(x) = 1/(1 + e^−x).
    Sigmoid,
    /// x.
    Linear,
    /// x · tanh(ln(1 + eˣ)).
    Mish,
    /// ½(1 + erf((x − 0.707107)/(0.282095√2))).
    Laplace,
    /// x · min(6, max(0, x + 3))/6.
    HardSwish,
}

/// Every name a configuration may use; the first name of a function is the one written to files.
///
/// The tanh approximations of GELU differ from one another by rounding alone and are one function
/// here.
const NAMES: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluNew),
    ("gelu_accurate", Activation::GeluNew),
    ("gelu_fast", Activation::GeluNew),
    ("gelu_pytorch_tanh", Activation::GeluNew),
    ("gelu_python_tanh", Activation::GeluNew),
    ("gelu_10", Activation::Gelu10),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("relu2", Activation::Relu2),
    ("relu6", Activation::Relu6),
    ("leaky_relu", Activation::LeakyRelu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
    ("linear", Activation::Linear),
    ("mish", Activation::Mish),
    ("laplace", Activation::Laplace),
    ("hardswish", Activation::HardSwish),
];

impl Activation {
    /// The function transformers calls `name`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a name that is not in the table, listing those that are.
    pub fn from_name(name: &str) -> Result<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, activation)| *activation)
            .ok_or_else(|| {
                let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
                Error::Unsupported(format!(
                    "activation function '{name}'; known are {}",
                    known.join(", ")
                ))
            })
    }

    /// The name under which files carry the function.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, activation)| *activation == self)
            .map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_canonical_names_come_back() {
        for (name, activation) in NAMES {
            assert_eq!(Activation::from_name(name).unwrap(), *activation);
            assert_eq!(
                Activation::from_name(activation.name()).unwrap(),
                *activation
            );
        }
        assert_eq!(Activation::GeluNew.name(), "gelu_new");
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        let message = Activation::from_name("geglu").unwrap_err().to_string();
        assert!(
            message.contains("'geglu'") && message.contains("gelu_new"),
            "{message}"
        );
    }
}
