//! The tiny checkpoint in other formats, put together byte by byte. Shares no code with the
//! readers.

use gpt2::gguf::TensorType;
use gpt2::quant::quantize_rows;
use serde_json::{Map, Value as Json, json};

use super::tiny::{TinySafetensors, with_header};

/// Weights by name.
pub(crate) type Weights = Vec<Weight>;

/// A tensor before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) numbers: Vec<f32>,
}

/// An element type under the names the formats have for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element {
    pub(crate) safetensors: &'static str,
    pub(crate) torch: &'static str,
    pub(crate) numpy: &'static str,
    tensor_type: TensorType,
}

/// The types weights come in, f32 first.
pub(crate) const ELEMENTS: [Element; 4] = [
    element("F32", "FloatStorage", "float32", TensorType::F32),
    element("F64", "DoubleStorage", "float64", TensorType::F64),
    element("F16", "HalfStorage", "float16", TensorType::F16),
    element("BF16", "BFloat16Storage", "bfloat16", TensorType::BF16),
];

const fn element(
    safetensors: &'static str,
    torch: &'static str,
    numpy: &'static str,
    tensor_type: TensorType,
) -> Element {
    Element {
        safetensors,
        torch,
        numpy,
        tensor_type,
    }
}

impl Element {
    pub(crate) fn bytes(self, numbers: &[f32]) -> Vec<u8> {
        match self.tensor_type {
            TensorType::F64 => numbers
                .iter()
                // More digits than f32 has, so that reading has something to round.
                .flat_map(|x| (f64::from(*x) * (1.0 + 1e-9)).to_le_bytes())
                .collect(),
            TensorType::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            other => {
                let mut bytes = vec![0; 2 * numbers.len()];
                quantize_rows(other, numbers, numbers.len(), None, &mut bytes).unwrap();
                bytes
            }
        }
    }
}

/// The weights of the tiny checkpoint.
pub(crate) fn weights() -> Weights {
    let tiny = TinySafetensors::tiny();
    let number = |value: &Json| value.as_u64().unwrap();
    tiny.header
        .iter()
        .map(|(name, entry)| {
            let offsets = &entry["data_offsets"];
            let range = number(&offsets[0]) as usize..number(&offsets[1]) as usize;
            Weight {
                name: name.clone(),
                shape: entry["shape"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(number)
                    .collect(),
                numbers: tiny.data[range]
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
            }
        })
        .collect()
}

/// A safetensors file.
pub(crate) fn safetensors(weights: &[Weight], element: Element) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for weight in weights {
        let start = data.len();
        data.extend(element.bytes(&weight.numbers));
        let entry = json!({
            "dtype": element.safetensors, "shape": weight.shape,
            "data_offsets": [start, data.len()],
        });
        header.insert(weight.name.clone(), entry);
    }
    with_header(Json::Object(header).to_string().as_bytes(), &data)
}

/// A pickle in the making.
#[derive(Debug, Clone)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn integer(self, number: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&number.to_le_bytes())
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn tuple(self, numbers: &[u64]) -> Self {
        numbers
            .iter()
            .fold(self.raw(b"("), |pickle, number| {
                pickle.integer(*number as i64)
            })
            .raw(b"t")
    }

    /// The reference to a storage.
    pub(crate) fn storage(self, class: &str, key: &str, elements: u64) -> Self {
        self.raw(b"(")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .integer(elements as i64)
    }

    /// A tensor, given what makes its storage.
    pub(crate) fn tensor(
        self,
        storage: impl FnOnce(Self) -> Self,
        offset: u64,
        shape: &[u64],
        strides: &[u64],
    ) -> Self {
        storage(self.global("torch._utils", "_rebuild_tensor_v2").raw(b"("))
            .integer(offset as i64)
            .tuple(shape)
            .tuple(strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    /// The same tensor wrapped as a parameter; what is on the stack is its function's arguments.
    pub(crate) fn parameter(self, tensor: impl FnOnce(Self) -> Self) -> Self {
        tensor(self.global("torch._utils", "_rebuild_parameter").raw(b"("))
            .raw(b"\x88ccollections\nOrderedDict\n)RtR")
    }
}

/// How a tensor lies in its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A storage for each.
    Own,
    /// All in one, behind one another.
    Shared,
    /// A storage for each, with the axes of matrices the other way round.
    Turned,
}

/// A `pytorch_model.bin` in parts.
#[derive(Debug, Clone)]
pub(crate) struct Bin {
    /// The state dict.
    pub(crate) pickle: Vec<u8>,
    /// Key, elements, bytes.
    pub(crate) storages: Vec<(String, u64, Vec<u8>)>,
}

/// The strides of a tensor whose last axis is fastest.
pub(crate) fn strides(shape: &[u64]) -> Vec<u64> {
    let mut strides: Vec<u64> = shape
        .iter()
        .rev()
        .scan(1, |step, size| {
            let stride = *step;
            *step *= size;
            Some(stride)
        })
        .collect();
    strides.reverse();
    strides
}

impl Bin {
    /// `legacy` is the older stream, whose references have one item more.
    pub(crate) fn new(weights: &[Weight], element: Element, lie: Lie, legacy: bool) -> Self {
        let mut pickle = Pickle::new().raw(b"ccollections\nOrderedDict\n)R(");
        let mut storages: Vec<(String, u64, Vec<u8>)> = Vec::new();
        let total: usize = weights.iter().map(|weight| weight.numbers.len()).sum();
        let mut offset = 0;
        for (number, weight) in weights.iter().enumerate() {
            let (key, elements) = match lie {
                Lie::Shared => ("all".to_owned(), total as u64),
                _ => (number.to_string(), weight.numbers.len() as u64),
            };
            let mut numbers = weight.numbers.clone();
            let mut steps = strides(&weight.shape);
            if let (Lie::Turned, &[rows, columns]) = (lie, &weight.shape[..]) {
                steps = vec![1, rows];
                let at =
                    |index: usize| index % rows as usize * columns as usize + index / rows as usize;
                numbers = (0..numbers.len())
                    .map(|index| weight.numbers[at(index)])
                    .collect();
            }
            let bytes = element.bytes(&numbers);
            match storages.last_mut() {
                Some((_, count, data)) if lie == Lie::Shared => {
                    *count += numbers.len() as u64;
                    data.extend(bytes);
                }
                _ => storages.push((key.clone(), numbers.len() as u64, bytes)),
            }
            let storage = |pickle: Pickle| {
                let pickle = pickle.storage(element.torch, &key, elements);
                let pickle = if legacy { pickle.raw(b"N") } else { pickle };
                pickle.raw(b"tQ")
            };
            let tensor = |pickle: Pickle| pickle.tensor(storage, offset, &weight.shape, &steps);
            pickle = pickle.text(&weight.name);
            pickle = if number % 2 == 0 {
                tensor(pickle)
            } else {
                pickle.parameter(tensor)
            };
            if lie == Lie::Shared {
                offset += numbers.len() as u64;
            }
        }
        // Attributes, as modules leave them.
        let pickle = pickle.raw(b"u}").text("_metadata").raw(b"}sb.").0;
        Self { pickle, storages }
    }

    pub(crate) fn zip(&self, deflated: bool) -> Vec<u8> {
        let mut members = vec![("model/data.pkl".to_owned(), self.pickle.clone())];
        members.push(("model/byteorder".to_owned(), b"little".to_vec()));
        for (key, _, bytes) in &self.storages {
            members.push((format!("model/data/{key}"), bytes.clone()));
        }
        members.push(("model/version".to_owned(), b"3\n".to_vec()));
        zip(&members, deflated)
    }

    pub(crate) fn stream(&self) -> Vec<u8> {
        let keys = self
            .storages
            .iter()
            .fold(Pickle::new().raw(b"]("), |pickle, (key, ..)| {
                pickle.text(key)
            });
        let mut bytes = [&stream_head()[..], &self.pickle, &keys.raw(b"e.").0].concat();
        for (_, elements, data) in &self.storages {
            bytes.extend(elements.to_le_bytes());
            bytes.extend(data);
        }
        bytes
    }
}

/// The magic number, the version, the system.
pub(crate) fn stream_head() -> Vec<u8> {
    let system = Pickle::new()
        .raw(b"}(")
        .text("little_endian")
        .raw(b"\x88u.");
    [
        &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."[..],
        &system.0,
    ]
    .concat()
}

/// A zip archive of these members.
pub(crate) fn zip(members: &[(String, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let packed = if deflated {
            deflate(content)
        } else {
            content.clone()
        };
        // Version, flags, method, time, date, checksum (not looked at), sizes, length of the name.
        let mut about = vec![20, 0, 0, 0, if deflated { 8 } else { 0 }, 0];
        about.extend([0; 8]);
        about.extend((packed.len() as u32).to_le_bytes());
        about.extend((content.len() as u32).to_le_bytes());
        about.extend((name.len() as u16).to_le_bytes());
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        directory.extend([0; 12]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&about);
        bytes.extend([0; 2]);
        bytes.extend(name.as_bytes());
        bytes.extend(&packed);
    }
    let (start, count) = (bytes.len() as u32, members.len() as u16);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A deflated stream of blocks that are not compressed.
fn deflate(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut blocks = content.chunks(60_000).peekable();
    while let Some(block) = blocks.next() {
        bytes.push(u8::from(blocks.peek().is_none()));
        bytes.extend((block.len() as u16).to_le_bytes());
        bytes.extend((!(block.len() as u16)).to_le_bytes());
        bytes.extend(block);
    }
    bytes
}

/// A `flax_model.msgpack`; arrays above `most` bytes are in pieces of `most`.
pub(crate) fn msgpack(weights: &[Weight], element: Element, most: usize) -> Vec<u8> {
    let mut root = Level::default();
    for weight in weights {
        let path: Vec<&str> = weight.name.split('.').collect();
        let (last, levels) = path.split_last().unwrap();
        let is_matrix = weight.shape.len() == 2;
        let leaf = match (*last, is_matrix) {
            ("weight", true) if levels[0].starts_with('w') => "embedding",
            ("weight", true) => "kernel",
            ("weight", false) => "scale",
            (other, _) => other,
        };
        let (mut shape, mut numbers) = (weight.shape.clone(), weight.numbers.clone());
        if leaf == "kernel" {
            let (rows, columns) = (shape[0] as usize, shape[1] as usize);
            let at = |index: usize| index % rows * columns + index / rows;
            numbers = (0..numbers.len())
                .map(|index| weight.numbers[at(index)])
                .collect();
            shape.reverse();
        }
        let bytes = element.bytes(&numbers);
        let level = levels
            .iter()
            .fold(&mut root, |level, name| level.level(name));
        let value = if bytes.len() > most {
            in_pieces(&shape, element.numpy, &bytes, most)
        } else {
            msgpack_array(&shape, element.numpy, &bytes)
        };
        level.values.push((leaf.to_owned(), value));
    }
    root.bytes()
}

#[derive(Default)]
struct Level {
    levels: Vec<(String, Level)>,
    values: Vec<(String, Vec<u8>)>,
}

impl Level {
    fn level(&mut self, name: &str) -> &mut Self {
        let known = self.levels.iter().position(|(known, _)| known == name);
        let place = known.unwrap_or_else(|| {
            self.levels.push((name.to_owned(), Self::default()));
            self.levels.len() - 1
        });
        &mut self.levels[place].1
    }

    fn bytes(&self) -> Vec<u8> {
        let inner = self
            .levels
            .iter()
            .map(|(name, level)| (name.as_str(), level.bytes()));
        let values = self
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        msgpack_map(&inner.chain(values).collect::<Vec<_>>())
    }
}

pub(crate) fn msgpack_map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xde];
    bytes.extend((entries.len() as u16).to_be_bytes());
    for (name, value) in entries {
        bytes.push(0xd9);
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        bytes.extend(value);
    }
    bytes
}

pub(crate) fn msgpack_array(shape: &[u64], numpy: &str, data: &[u8]) -> Vec<u8> {
    let mut inner = vec![0x93, 0x90 | shape.len() as u8];
    for size in shape {
        inner.push(0xcf);
        inner.extend(size.to_be_bytes());
    }
    inner.push(0xa0 | numpy.len() as u8);
    inner.extend(numpy.as_bytes());
    inner.push(0xc6);
    inner.extend((data.len() as u32).to_be_bytes());
    inner.extend(data);
    let mut bytes = vec![0xc9];
    bytes.extend((inner.len() as u32).to_be_bytes());
    bytes.push(1);
    bytes.extend(inner);
    bytes
}

fn in_pieces(shape: &[u64], numpy: &str, data: &[u8], most: usize) -> Vec<u8> {
    let numbered = |values: Vec<Vec<u8>>| {
        let names: Vec<String> = (0..values.len()).map(|number| number.to_string()).collect();
        let mut entries: Vec<(&str, Vec<u8>)> =
            names.iter().map(String::as_str).zip(values).collect();
        // The order of texts, as flax writes them: "10" before "2".
        entries.sort_unstable_by_key(|(name, _)| name.to_owned());
        msgpack_map(&entries)
    };
    let sizes = shape.iter().map(|size| {
        let mut number = vec![0xcf];
        number.extend(size.to_be_bytes());
        number
    });
    let width = data.len() / shape.iter().product::<u64>() as usize;
    let pieces = data
        .chunks(most)
        .map(|piece| msgpack_array(&[(piece.len() / width) as u64], numpy, piece));
    msgpack_map(&[
        ("__msgpack_chunked_array__", vec![0xc3]),
        ("shape", numbered(sizes.collect())),
        ("chunks", numbered(pieces.collect())),
    ])
}
