//! Which instruction set's microkernels are used.

#[cfg(target_arch = "aarch64")]
pub(super) use super::aarch64::InstructionSet;
use super::format::Format;
use super::microkernel::KernelSet;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use super::unsupported::InstructionSet;
#[cfg(target_arch = "x86_64")]
pub(super) use super::x86::InstructionSet;

/// The best instruction set of this processor, if it has one with microkernels.
pub(super) fn best() -> Option<InstructionSet> {
    InstructionSet::available().next()
}

impl Format {
    /// Whether this processor has kernels for rows of `columns` elements.
    pub fn is_fast(self, columns: usize) -> bool {
        best().is_some() && columns.is_multiple_of(self.block_elements())
    }

    /// Whether a product with this number of tokens gives each the bits that it has alone, also
    /// when that is not asked for ([`Options::batch_invariant`](super::Options)). Where it is not
    /// so, it can be had for the cost that `docs/performance.md` has.
    pub fn is_batch_invariant(self, tokens: usize) -> bool {
        tokens <= 1 || best().is_some_and(|set| set.is_batch_invariant(self, tokens))
    }

    /// Whether [`Options::batch_invariant`](super::Options) makes a product with this number of
    /// tokens take hardly longer: at most a third, of the types where it changes anything.
    pub fn is_cheaply_batch_invariant(self, tokens: usize) -> bool {
        let can_be_dear = match self {
            Self::Q5_0 | Self::Q8_0 | Self::Q5K | Self::F32 | Self::Bf16 => true,
            // Of unpacked rows a prefill takes three quarters of the time.
            Self::F16 => tokens > 64,
            _ => false,
        };
        !can_be_dear || self.is_batch_invariant(tokens)
    }
}
