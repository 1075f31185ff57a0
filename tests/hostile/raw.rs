//! GGUF bytes put together field by field, with no check of anything: the reader's opponent. It
//! shares no code with the library's writer.

/// Numbers of value types.
pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

/// Bytes in the making, and where in them the integers are that a reader trusts or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawGguf {
    pub(crate) bytes: Vec<u8>,
    /// Place and width in bytes of every count, length, type, dimension and offset.
    pub(crate) fields: Vec<(usize, usize)>,
}

impl RawGguf {
    /// A version 3 file that announces this number of tensors and keys.
    pub(crate) fn new(tensors: u64, keys: u64) -> Self {
        Self::with_version(3, tensors, keys)
    }

    pub(crate) fn with_version(version: u32, tensors: u64, keys: u64) -> Self {
        Self::default()
            .raw(b"GGUF")
            .u32(version)
            .u64(tensors)
            .u64(keys)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.fields.push((self.bytes.len(), 4));
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.fields.push((self.bytes.len(), 8));
        self.raw(&value.to_le_bytes())
    }

    /// A length and the bytes.
    pub(crate) fn string(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).raw(bytes)
    }

    /// A key and the number of its value's type; the value follows.
    pub(crate) fn key(self, key: &[u8], value_type: u32) -> Self {
        self.string(key).u32(value_type)
    }

    /// A key with an array of `count` elements; the elements follow.
    pub(crate) fn array(self, key: &[u8], element_type: u32, count: u64) -> Self {
        self.key(key, ARRAY).u32(element_type).u64(count)
    }

    /// The description of a tensor.
    pub(crate) fn tensor(self, name: &[u8], shape: &[u64], tensor_type: u32, offset: u64) -> Self {
        let described = self.string(name).u32(shape.len() as u32);
        shape
            .iter()
            .fold(described, |described, &extent| described.u64(extent))
            .u32(tensor_type)
            .u64(offset)
    }

    /// Zeros up to a multiple of 32, then `bytes` zeros of data.
    pub(crate) fn data(mut self, bytes: usize) -> Self {
        let start = self.bytes.len().next_multiple_of(32);
        self.bytes.resize(start + bytes, 0);
        self
    }
}

/// A valid file with every type of value and several tensors.
pub(crate) fn valid() -> RawGguf {
    RawGguf::new(4, 15)
        .key(b"general.architecture", STRING)
        .string(b"gpt2")
        .key(b"general.alignment", U32)
        .u32(32)
        .key(b"value.u8", U8)
        .raw(&[200])
        .key(b"value.i8", 1)
        .raw(&[0x80])
        .key(b"value.u16", 2)
        .raw(&[1, 2])
        .key(b"value.i16", 3)
        .raw(&[1, 0x82])
        .key(b"value.i32", I32)
        .raw(&(-5i32).to_le_bytes())
        .key(b"value.f32", F32)
        .raw(&0.5f32.to_le_bytes())
        .key(b"value.bool", BOOL)
        .raw(&[1])
        .key(b"value.u64", U64)
        .raw(&(1u64 << 40).to_le_bytes())
        .key(b"value.i64", 11)
        .raw(&(-1i64).to_le_bytes())
        .key(b"value.f64", 12)
        .raw(&0.25f64.to_le_bytes())
        .array(b"tokenizer.ggml.tokens", STRING, 4)
        .string(b"!")
        .string("Ġthe".as_bytes())
        .string(b"")
        .string(b"<|endoftext|>")
        .array(b"tokenizer.ggml.token_type", I32, 4)
        .raw(&[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0])
        .array(b"flags", BOOL, 3)
        .raw(&[0, 1, 0])
        .tensor(b"token_embd.weight", &[64, 4], 0, 0)
        .tensor(b"blk.0.attn_qkv.weight", &[64, 3], 2, 1024)
        .tensor(b"output_norm.bias", &[5], 1, 1152)
        .tensor(b"cube", &[2, 3, 2, 1], 24, 1184)
        .data(1184 + 12)
}
