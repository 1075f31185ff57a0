//! The names from Python a state dict needs: all there are.

/// What a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// A dictionary.
    Dictionary,
    /// A part of a storage, by offset, sizes and strides.
    Tensor,
    /// A tensor, wrapped.
    Parameter,
    /// The class of a storage, by its element type.
    Storage(&'static str),
}

/// Module, name, meaning.
const GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::Dictionary),
    ("torch._utils", "_rebuild_tensor", Global::Tensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::Tensor),
    ("torch._utils", "_rebuild_parameter", Global::Parameter),
    (
        "torch._utils",
        "_rebuild_parameter_with_state",
        Global::Parameter,
    ),
    ("torch", "DoubleStorage", Global::Storage("F64")),
    ("torch", "FloatStorage", Global::Storage("F32")),
    ("torch", "HalfStorage", Global::Storage("F16")),
    ("torch", "BFloat16Storage", Global::Storage("BF16")),
    // The types of masks and other buffers.
    ("torch", "LongStorage", Global::Storage("I64")),
    ("torch", "IntStorage", Global::Storage("I32")),
    ("torch", "ShortStorage", Global::Storage("I16")),
    ("torch", "CharStorage", Global::Storage("I8")),
    ("torch", "ByteStorage", Global::Storage("U8")),
    ("torch", "BoolStorage", Global::Storage("BOOL")),
];

impl Global {
    /// What `module.name` refers to; `None` for everything a state dict does not need.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        GLOBALS
            .iter()
            .find(|known| known.0 == module && known.1 == name)
            .map(|known| known.2)
    }
}
