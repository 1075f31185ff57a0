//! How an activation function is computed: by a kernel on the CPU, by ggml's operations on other
//! devices.

use crate::ggml::ops::ElementFunction;
use crate::spec::Activation;
use gpt2_kernels::activation::{self as kernels, Elementwise};

impl Activation {
    /// The function as a chain of ggml's operations, which every device has; `None` where ggml has
    /// none. (ggml's GELU, which is [`Activation::GeluNew`], is a separate operation.)
    pub(crate) fn as_ggml(self) -> Option<&'static [ElementFunction]> {
        use ElementFunction as F;
        match self {
            Self::Gelu => Some(&[F::GeluErf]),
            Self::Gelu10 => Some(&[F::GeluErf, F::Clamp(-10.0, 10.0)]),
            Self::QuickGelu => Some(&[F::GeluQuick]),
            Self::Relu => Some(&[F::Relu]),
            Self::Relu2 => Some(&[F::Relu, F::Square]),
            Self::Relu6 => Some(&[F::Clamp(0.0, 6.0)]),
            Self::LeakyRelu => Some(&[F::LeakyRelu(0.01)]),
            Self::Silu => Some(&[F::Silu]),
            Self::Tanh => Some(&[F::Tanh]),
            Self::Sigmoid => Some(&[F::Sigmoid]),
            Self::HardSwish => Some(&[F::HardSwish]),
            Self::Linear => Some(&[]),
            Self::GeluNew | Self::Mish | Self::Laplace => None,
        }
    }

    /// The kernel that computes the function in place.
    pub(crate) fn kernel(self) -> Elementwise {
        match self {
            Self::Gelu => kernels::gelu,
            Self::GeluNew => kernels::gelu_tanh,
            Self::Gelu10 => kernels::gelu_10,
            Self::QuickGelu => kernels::quick_gelu,
            Self::Relu => kernels::relu,
            Self::Relu2 => kernels::relu_squared,
            Self::Relu6 => kernels::relu_6,
            Self::LeakyRelu => kernels::leaky_relu,
            Self::Silu => kernels::silu,
            Self::Tanh => kernels::hyperbolic_tangent,
            Self::Sigmoid => kernels::logistic,
            Self::Linear => kernels::identity,
            Self::Mish => kernels::mish,
            Self::Laplace => kernels::laplace,
            Self::HardSwish => kernels::hard_swish,
        }
    }
}
