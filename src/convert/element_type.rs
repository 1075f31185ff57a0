//! The types elements have in checkpoints. Every format maps its own names to these.

use crate::gguf::TensorType;

/// A type of element.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ElementType {
    /// Its name, which is the one safetensors uses.
    pub name: &'static str,
    /// Bytes of one element.
    pub bytes: u64,
    /// The same as one of ggml's types, when weights may have it.
    pub tensor_type: Option<TensorType>,
}

const fn element(name: &'static str, bytes: u64, tensor_type: Option<TensorType>) -> ElementType {
    ElementType {
        name,
        bytes,
        tensor_type,
    }
}

const ELEMENTS: &[ElementType] = &[
    element("F64", 8, Some(TensorType::F64)),
    element("F32", 4, Some(TensorType::F32)),
    element("F16", 2, Some(TensorType::F16)),
    element("BF16", 2, Some(TensorType::BF16)),
    element("I64", 8, None),
    element("U64", 8, None),
    element("I32", 4, None),
    element("U32", 4, None),
    element("I16", 2, None),
    element("U16", 2, None),
    element("I8", 1, None),
    element("U8", 1, None),
    element("BOOL", 1, None),
    element("F8_E4M3", 1, None),
    element("F8_E5M2", 1, None),
];

impl ElementType {
    /// The type of that name.
    pub(super) fn from_name(name: &str) -> Option<&'static Self> {
        ELEMENTS.iter().find(|known| known.name == name)
    }

    /// Bytes of a tensor of `shape`; `None` when they are more than a `u64` counts.
    pub(super) fn tensor_bytes(&self, shape: &[u64]) -> Option<u64> {
        shape
            .iter()
            .try_fold(self.bytes, |bytes, axis| bytes.checked_mul(*axis))
    }
}
