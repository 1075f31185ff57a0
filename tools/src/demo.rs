//! The demo model, inside the program.

/// What it is, for messages.
pub(crate) const NAME: &str = "austen-gpt2, q8_0";

/// What it is, for programs.
#[cfg(feature = "serve")]
pub(crate) const ID: &str = "austen-gpt2-q8_0";

/// The whole file, where a program is built with it.
#[cfg(feature = "demo-model")]
pub(crate) static FILE: Option<&[u8]> = {
    /// Tensors begin at multiples of 32 in the file: so placed, they can be used where they are.
    #[repr(C, align(64))]
    struct Aligned<T: ?Sized>(T);
    const FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../models/austen-gpt2-q8_0.gguf"));
    Some(&FILE.0)
};

/// This program is built without it.
#[cfg(not(feature = "demo-model"))]
pub(crate) static FILE: Option<&[u8]> = None;
