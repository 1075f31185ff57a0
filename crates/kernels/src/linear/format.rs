//! The formats that the kernels know.

/// How the elements of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE half precision.
    F16,
    /// Blocks of 32, 4 bits and an f16 scale.
    Q4_0,
    /// Blocks of 32, 8 bits and an f16 scale.
    Q8_0,
    /// Super-blocks of 256, 4 bits, scales and minima of 6 bits.
    Q4K,
    /// Super-blocks of 256, 5 bits, scales and minima of 6 bits.
    Q5K,
    /// Super-blocks of 256, 6 bits, scales of 8 bits.
    Q6K,
}
