//! The demo model, inside the program.

use gpt2::gguf::Bytes;

/// What it is, for messages.
pub(crate) const NAME: &str = "austen-gpt2, q8_0";

/// The whole file, so placed that its tensors can be used where they are.
#[cfg(feature = "demo-model")]
pub(crate) fn bytes() -> Option<Bytes> {
    #[repr(C, align(64))]
    struct Aligned<T: ?Sized>(T);
    static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/austen-gpt2-q8_0.gguf"));
    Some(std::sync::Arc::new(&FILE.0))
}

/// This program was built without one.
#[cfg(not(feature = "demo-model"))]
pub(crate) fn bytes() -> Option<Bytes> {
    None
}
