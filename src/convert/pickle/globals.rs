//! The names from Python that a state dict needs, and those that stand beside one in checkpoints
//! of trainings: all there are. Nothing is ever called.

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
    /// A storage with its elements, as a stream inside the pickle.
    Embedded,
    /// Something beside the state dict: settings, counters, devices. What it would make is kept as
    /// an object with attributes, of which nothing is known.
    Beside,
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
    ("torch.storage", "_load_from_bytes", Global::Embedded),
    ("collections", "defaultdict", Global::Dictionary),
    ("collections", "Counter", Global::Beside),
    ("collections", "deque", Global::Beside),
    ("argparse", "Namespace", Global::Beside),
    ("torch", "device", Global::Beside),
    ("torch.torch_version", "TorchVersion", Global::Beside),
    ("torch", "int64", Global::Beside),
    ("torch", "Size", Global::Beside),
    ("torch", "float32", Global::Beside),
    ("torch", "float16", Global::Beside),
    ("torch", "bfloat16", Global::Beside),
    ("_codecs", "encode", Global::Beside),
    ("copy_reg", "_reconstructor", Global::Beside),
    ("copyreg", "_reconstructor", Global::Beside),
];

/// Types of Python itself, under both names of their module.
const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "int",
    "list",
    "object",
    "set",
    "slice",
    "str",
    "tuple",
];

/// Modules whose classes hold settings: those of the script that trained, of trainers, and of what
/// they write down.
const BESIDE: &[&str] = &[
    "__main__",
    "accelerate",
    "config",
    "datetime",
    "deepspeed",
    "gpt",
    "lightning",
    "lightning_fabric",
    "megatron",
    "model",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "train",
    "transformers",
];

impl Global {
    /// What `module.name` refers to; `None` for everything else.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        let known = GLOBALS
            .iter()
            .find(|known| known.0 == module && known.1 == name);
        let root = module.split('.').next().unwrap_or_default();
        let is_beside = BESIDE.contains(&root)
            || (["builtins", "__builtin__"].contains(&module) && BUILTINS.contains(&name));
        known
            .map(|known| known.2)
            .or(is_beside.then_some(Self::Beside))
    }
}
