//! Weights that llm.c wrote: a header of 256 integers, then every tensor after the other, the
//! layers of one module side by side. Layout as in llm.c's `train_gpt2.c`.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::element_type::ElementType;
use super::stored_tensor::{FileConfig, Location, MAX_TENSORS, Parsed, StoredTensor};
use crate::error::{Error, Result};

/// Integers of the header, of 4 bytes each.
const HEADER_INTEGERS: usize = 256;
const HEADER_BYTES: usize = 4 * HEADER_INTEGERS;
/// Versions of the format that are read, with the type of their elements. Those before them did not
/// say how far the vocabulary is padded.
const VERSIONS: &[(u32, &str)] = &[(3, "F32"), (5, "BF16")];

/// The sizes in a header.
struct Sizes {
    positions: u64,
    vocabulary: u64,
    layers: u64,
    heads: u64,
    width: u64,
    /// Rows of the token embedding; those behind the vocabulary are zeros that llm.c's softmax
    /// leaves out.
    padded_vocabulary: u64,
}

/// A module's tensor in one layer, or outside the layers.
struct Entry {
    /// Its path; `{}` stands for the layer.
    path: &'static str,
    /// Its shape as stored.
    shape: Vec<u64>,
    /// Whether it is a linear layer's matrix, `[out, in]`.
    linear: bool,
}

/// The tensors of a file.
///
/// # Errors
/// [`Error::Unsupported`] for another version; [`Error::Format`] for sizes that do not fit one
/// another or the file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let broken = |message: String| Error::format("llm.c's header", message);
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| {
        broken(format!(
            "expected {HEADER_BYTES} bytes, found {}; the file is truncated",
            bytes.len()
        ))
    })?;
    let integers: Vec<u32> = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes))
        .collect();
    let integer = |index: usize| integers.get(index).copied().unwrap_or_default();
    let version = integer(1);
    let element = VERSIONS
        .iter()
        .find(|(known, _)| *known == version)
        .and_then(|(_, name)| ElementType::from_name(name))
        .ok_or_else(|| {
            Error::Unsupported(format!(
                "version {version} of llm.c's file; expected 3 (f32) or 5 (bf16): write it again \
                 with today's llm.c"
            ))
        })?;
    let sizes = Sizes {
        positions: integer(2).into(),
        vocabulary: integer(3).into(),
        layers: integer(4).into(),
        heads: integer(5).into(),
        width: integer(6).into(),
        padded_vocabulary: integer(7).into(),
    };
    sizes.check().map_err(broken)?;
    let tensors = sizes.tensors(element, bytes.len())?;
    let mut notes = Vec::new();
    if sizes.padded_vocabulary > sizes.vocabulary {
        notes.push(format!(
            "{} rows of the embedding are llm.c's padding and were left out",
            sizes.padded_vocabulary - sizes.vocabulary
        ));
    }
    Ok(Parsed {
        tensors,
        config: Some(sizes.config()),
        notes,
    })
}

impl Sizes {
    fn check(&self) -> Result<(), String> {
        for (name, size) in [
            ("positions", self.positions),
            ("vocabulary", self.vocabulary),
            ("layers", self.layers),
            ("heads", self.heads),
            ("width", self.width),
        ] {
            // They are signed there.
            if size == 0 || size > i32::MAX as u64 {
                return Err(format!("{name}: expected a positive number, found {size}"));
            }
        }
        if self.padded_vocabulary < self.vocabulary {
            return Err(format!(
                "padded vocabulary: expected at least the vocabulary's {}, found {}",
                self.vocabulary, self.padded_vocabulary
            ));
        }
        // Twelve tensors a layer, and four more.
        if self.layers > MAX_TENSORS as u64 / 16 {
            return Err(format!("{} layers, which no GPT-2 has", self.layers));
        }
        Ok(())
    }

    /// What a `config.json` would say. llm.c has one activation function and one epsilon.
    fn config(&self) -> FileConfig {
        let mut fields = Map::new();
        for (name, size) in [
            ("n_positions", self.positions),
            ("vocab_size", self.vocabulary),
            ("n_layer", self.layers),
            ("n_head", self.heads),
            ("n_embd", self.width),
        ] {
            fields.insert(name.to_owned(), size.into());
        }
        for (name, value) in [("model_type", "gpt2"), ("activation_function", "gelu_new")] {
            fields.insert(name.to_owned(), value.into());
        }
        fields.insert("layer_norm_epsilon".to_owned(), 1e-5.into());
        let architectures = Json::Array(vec!["GPT2LMHeadModel".into()]);
        fields.insert("architectures".to_owned(), architectures);
        FileConfig {
            place: "llm.c's header",
            fields,
        }
    }

    /// Tensors outside the layers before them, of each layer, and after them, in the file's order.
    fn table(&self) -> [Vec<Entry>; 3] {
        let width = self.width;
        let vector = |path, size| Entry {
            path,
            shape: vec![size],
            linear: false,
        };
        let linear = |path, rows, columns| Entry {
            path,
            shape: vec![rows, columns],
            linear: true,
        };
        let table = |path, rows| Entry {
            path,
            shape: vec![rows, width],
            linear: false,
        };
        [
            vec![
                table("wte.weight", self.padded_vocabulary),
                table("wpe.weight", self.positions),
            ],
            vec![
                vector("h.{}.ln_1.weight", width),
                vector("h.{}.ln_1.bias", width),
                linear("h.{}.attn.c_attn.weight", 3 * width, width),
                vector("h.{}.attn.c_attn.bias", 3 * width),
                linear("h.{}.attn.c_proj.weight", width, width),
                vector("h.{}.attn.c_proj.bias", width),
                vector("h.{}.ln_2.weight", width),
                vector("h.{}.ln_2.bias", width),
                linear("h.{}.mlp.c_fc.weight", 4 * width, width),
                vector("h.{}.mlp.c_fc.bias", 4 * width),
                linear("h.{}.mlp.c_proj.weight", width, 4 * width),
                vector("h.{}.mlp.c_proj.bias", width),
            ],
            vec![vector("ln_f.weight", width), vector("ln_f.bias", width)],
        ]
    }

    /// Every tensor and its place, which together are the whole file.
    fn tensors(
        &self,
        element: &'static ElementType,
        file_bytes: usize,
    ) -> Result<Vec<StoredTensor>> {
        let wrong = |expected: Option<u64>| {
            let expected = expected.map_or("more".to_owned(), |bytes| bytes.to_string());
            Error::format(
                "llm.c's file",
                format!(
                    "expected {expected} bytes for the sizes in the header, found {file_bytes}; \
                     it is truncated or broken"
                ),
            )
        };
        let [before, layer, after] = self.table();
        let repeated = before
            .iter()
            .map(|entry| (entry, None))
            .chain(layer.iter().map(|entry| (entry, Some(self.layers))))
            .chain(after.iter().map(|entry| (entry, None)));
        // The whole size first, so that nothing is made for a file that is too short.
        let mut places = Vec::new();
        let mut end = HEADER_BYTES as u64;
        for (entry, layers) in repeated {
            let bytes = element
                .tensor_bytes(&entry.shape)
                .ok_or_else(|| wrong(None))?;
            places.push((entry, layers, end, bytes));
            end = bytes
                .checked_mul(layers.unwrap_or(1))
                .and_then(|all| all.checked_add(end))
                .ok_or_else(|| wrong(None))?;
        }
        if end != file_bytes as u64 {
            return Err(wrong(Some(end)));
        }
        let mut tensors = Vec::new();
        for (entry, layers, start, bytes) in places {
            for layer in 0..layers.unwrap_or(1) {
                // Both are inside the file.
                let first = (start + layer * bytes) as usize;
                tensors.push(self.tensor(entry, layer, element, first..first + bytes as usize));
            }
        }
        Ok(tensors)
    }

    /// One tensor; the token embedding without its padding.
    fn tensor(
        &self,
        entry: &Entry,
        layer: u64,
        element: &'static ElementType,
        range: Range<usize>,
    ) -> StoredTensor {
        let mut shape = entry.shape.clone();
        let mut range = range;
        if entry.path == "wte.weight" {
            shape = vec![self.vocabulary, self.width];
            let kept = range.len() as u64 / self.padded_vocabulary * self.vocabulary;
            range.end = range.start + kept as usize;
        }
        StoredTensor {
            name: entry.path.replace("{}", &layer.to_string()),
            element,
            shape,
            swapped: entry.linear,
            location: Location::Contiguous(range),
        }
    }
}
