//! The one table of a GPT-2's tensors: the module and part of each, its names in checkpoints and in
//! GGUF files, its shape, and its orientation in a checkpoint.
//!
//! The converter and the loader read it and use [`TensorId`]s for the rest. It knows no file format
//! and no bytes.

use std::fmt::Write as _;

use crate::spec::{Hyperparameters, ModelClass};

use Dimension::{Embd, HeadOutputs, Inner, Positions, Qkv, VocabSize};
use Module::{
    AttnNorm, AttnOutput, AttnQkv, FfnDown, FfnNorm, FfnUp, OutputNorm, PositionEmbedding,
    TokenEmbedding,
};
use Part::{Bias, Weight};

/// A module of a GPT-2 that has weights: an embedding, a layer normalization or a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// One row per token; the language-model head too when that is tied.
    TokenEmbedding,
    /// One row per position.
    PositionEmbedding,
    /// The normalization before attention.
    AttnNorm,
    /// The joint projection to queries, keys and values.
    AttnQkv,
    /// The projection after attention.
    AttnOutput,
    /// The normalization before the feed-forward part.
    FfnNorm,
    /// The first linear layer of the feed-forward part.
    FfnUp,
    /// The second linear layer of the feed-forward part.
    FfnDown,
    /// The normalization after the last layer.
    OutputNorm,
    /// The language-model head, when it is not the token embedding.
    Output,
    /// The head of another class, small and outside the graph.
    TaskHead,
}

/// Which of a module's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A matrix, or the scale of a normalization.
    Weight,
    /// A vector that is added.
    Bias,
}

/// Identifies a tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId {
    /// Its layer, counted from 0; `None` outside the layers.
    pub layer: Option<usize>,
    /// Its module.
    pub module: Module,
    /// Which of the module's tensors it is.
    pub part: Part,
}

impl TensorId {
    /// The token embedding, `[n_embd, vocab_size]`.
    pub const TOKEN_EMBEDDING: Self = Self::weight(None, Module::TokenEmbedding);
    /// The position embedding, `[n_embd, n_positions]`.
    pub const POSITION_EMBEDDING: Self = Self::weight(None, Module::PositionEmbedding);
    /// The language-model head when it is not tied, `[n_embd, vocab_size]`.
    pub const OUTPUT: Self = Self::weight(None, Module::Output);
    /// The matrix of the head of another class, `[n_embd, outputs]`.
    pub const TASK_HEAD: Self = Self::weight(None, Module::TaskHead);

    /// The weight of a module.
    pub const fn weight(layer: Option<usize>, module: Module) -> Self {
        Self {
            layer,
            module,
            part: Part::Weight,
        }
    }

    /// The bias of a module.
    pub const fn bias(layer: Option<usize>, module: Module) -> Self {
        Self {
            layer,
            module,
            part: Part::Bias,
        }
    }

    /// Its name in a GGUF file; empty for a tensor that no GPT-2 has.
    pub fn gguf_name(self) -> String {
        entry_of(self.module, self.part)
            .map_or_else(String::new, |entry| fill(entry.gguf, self.layer))
    }
}

/// The first line of the table for a tensor of `module`.
fn entry_of(module: Module, part: Part) -> Option<&'static TensorEntry> {
    [BEFORE_LAYERS, LAYER, AFTER_LAYERS, TASK_HEADS]
        .into_iter()
        .flatten()
        .find(|entry| (entry.module, entry.part) == (module, part))
}

/// The paths of the weight of `module` in a checkpoint, the usual one first, without the prefix.
/// For modules outside the layers.
pub fn checkpoint_paths_of(module: Module) -> &'static [&'static str] {
    entry_of(module, Part::Weight).map_or(&[], |entry| entry.checkpoint)
}

/// One axis of a tensor, in terms of the hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// `vocab_size`.
    VocabSize,
    /// `n_positions`.
    Positions,
    /// `n_embd`.
    Embd,
    /// 3 · `n_embd`: queries, keys and values side by side.
    Qkv,
    /// `n_inner`.
    Inner,
    /// Outputs of the head of the class: labels, or start and end.
    HeadOutputs,
}

/// The orientation of a checkpoint's matrix relative to GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// Row-major as in GGUF: `[rows, columns]`.
    AsStored,
    /// A `Conv1D` weight, stored `[in, out]`; GGUF has `[out, in]`.
    Transposed,
}

/// Which models have a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every class.
    Always,
    /// Language models whose head is not the token embedding.
    UntiedHead,
    /// Models of a class, when their head has outputs.
    HeadOf(ModelClass),
}

/// One line of the table. `{}` in a name stands for the layer, counted from 0.
#[derive(Debug)]
pub struct TensorEntry {
    /// The module it is of.
    pub module: Module,
    /// Which of the module's tensors it is.
    pub part: Part,
    /// Paths in a checkpoint, the usual one first, without the prefix `transformer.`.
    pub checkpoint: &'static [&'static str],
    /// Name in a GGUF file, the same as llama.cpp's.
    pub gguf: &'static str,
    /// Axes in GGUF's order: columns (fastest) first.
    pub shape: &'static [Dimension],
    /// The orientation of the checkpoint's matrix.
    pub orientation: Orientation,
    /// Which models have it.
    pub presence: Presence,
}

/// The prefix of the table's paths in files that were saved from a class with a head.
pub const CHECKPOINT_PREFIX: &str = "transformer.";

const fn entry(
    module: Module,
    part: Part,
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
) -> TensorEntry {
    TensorEntry {
        module,
        part,
        checkpoint,
        gguf,
        shape,
        orientation: Orientation::AsStored,
        presence: Presence::Always,
    }
}

/// The weight of a `Conv1D`.
const fn conv1d(
    module: Module,
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
) -> TensorEntry {
    let mut entry = entry(module, Weight, checkpoint, gguf, shape);
    entry.orientation = Orientation::Transposed;
    entry
}

/// A tensor of the head of a class. One class has one head, so all share their names in GGUF files.
const fn task_head(
    class: ModelClass,
    part: Part,
    checkpoint: &'static [&'static str],
) -> TensorEntry {
    let (gguf, shape): (_, &[Dimension]) = match part {
        Weight => ("cls.output.weight", &[Embd, HeadOutputs]),
        Bias => ("cls.output.bias", &[HeadOutputs]),
    };
    let mut entry = entry(Module::TaskHead, part, checkpoint, gguf, shape);
    entry.presence = Presence::HeadOf(class);
    entry
}

/// The language-model head of a model that does not tie it to the token embedding.
const fn untied_head(
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
) -> TensorEntry {
    let mut entry = entry(Module::Output, Weight, checkpoint, gguf, shape);
    entry.presence = Presence::UntiedHead;
    entry
}

/// Tensors outside the layers that come before them in a file.
#[rustfmt::skip]
const BEFORE_LAYERS: &[TensorEntry] = &[
    entry(TokenEmbedding, Weight, &["wte.weight"], "token_embd.weight", &[Embd, VocabSize]),
    entry(PositionEmbedding, Weight, &["wpe.weight"], "position_embd.weight", &[Embd, Positions]),
];

/// Tensors of one layer.
#[rustfmt::skip]
const LAYER: &[TensorEntry] = &[
    entry(AttnNorm, Weight, &["h.{}.ln_1.weight", "h.{}.ln_1.gamma"],
        "blk.{}.attn_norm.weight", &[Embd]),
    entry(AttnNorm, Bias, &["h.{}.ln_1.bias", "h.{}.ln_1.beta"],
        "blk.{}.attn_norm.bias", &[Embd]),
    conv1d(AttnQkv, &["h.{}.attn.c_attn.weight"], "blk.{}.attn_qkv.weight", &[Embd, Qkv]),
    entry(AttnQkv, Bias, &["h.{}.attn.c_attn.bias"], "blk.{}.attn_qkv.bias", &[Qkv]),
    conv1d(AttnOutput, &["h.{}.attn.c_proj.weight"], "blk.{}.attn_output.weight", &[Embd, Embd]),
    entry(AttnOutput, Bias, &["h.{}.attn.c_proj.bias"], "blk.{}.attn_output.bias", &[Embd]),
    entry(FfnNorm, Weight, &["h.{}.ln_2.weight", "h.{}.ln_2.gamma"],
        "blk.{}.ffn_norm.weight", &[Embd]),
    entry(FfnNorm, Bias, &["h.{}.ln_2.bias", "h.{}.ln_2.beta"],
        "blk.{}.ffn_norm.bias", &[Embd]),
    conv1d(FfnUp, &["h.{}.mlp.c_fc.weight"], "blk.{}.ffn_up.weight", &[Embd, Inner]),
    entry(FfnUp, Bias, &["h.{}.mlp.c_fc.bias"], "blk.{}.ffn_up.bias", &[Inner]),
    conv1d(FfnDown, &["h.{}.mlp.c_proj.weight"], "blk.{}.ffn_down.weight", &[Inner, Embd]),
    entry(FfnDown, Bias, &["h.{}.mlp.c_proj.bias"], "blk.{}.ffn_down.bias", &[Embd]),
];

/// Tensors outside the layers that come after them in a file.
#[rustfmt::skip]
const AFTER_LAYERS: &[TensorEntry] = &[
    entry(OutputNorm, Weight, &["ln_f.weight", "ln_f.gamma"], "output_norm.weight", &[Embd]),
    entry(OutputNorm, Bias, &["ln_f.bias", "ln_f.beta"], "output_norm.bias", &[Embd]),
    untied_head(&["lm_head.weight", "lm_head.decoder.weight"], "output.weight", &[Embd, VocabSize]),
];

/// Tensors of the heads of the other classes.
#[rustfmt::skip]
const TASK_HEADS: &[TensorEntry] = &[
    task_head(ModelClass::SequenceClassification, Weight, &["score.weight"]),
    task_head(ModelClass::TokenClassification, Weight, &["classifier.weight"]),
    task_head(ModelClass::TokenClassification, Bias, &["classifier.bias"]),
    task_head(ModelClass::QuestionAnswering, Weight, &["qa_outputs.weight"]),
    task_head(ModelClass::QuestionAnswering, Bias, &["qa_outputs.bias"]),
    task_head(ModelClass::DoubleHeads, Weight, &["multiple_choice_head.summary.weight"]),
    task_head(ModelClass::DoubleHeads, Bias, &["multiple_choice_head.summary.bias"]),
];

/// The class whose head is called `path` (without the prefix) in a checkpoint.
pub fn class_of_head(path: &str) -> Option<ModelClass> {
    let entry = TASK_HEADS
        .iter()
        .find(|entry| entry.checkpoint.contains(&path))?;
    match entry.presence {
        Presence::HeadOf(class) => Some(class),
        Presence::Always | Presence::UntiedHead => None,
    }
}

/// The path of the matrix that is the head of `class` in a checkpoint.
pub fn head_matrix_of(class: ModelClass) -> Option<&'static str> {
    let is_matrix =
        |entry: &&TensorEntry| entry.presence == Presence::HeadOf(class) && entry.part == Weight;
    TASK_HEADS
        .iter()
        .find(is_matrix)?
        .checkpoint
        .first()
        .copied()
}

/// Paths of buffers that are in checkpoints and hold no weights: the causal mask and its constant.
const BUFFERS: &[&str] = &[
    "h.{}.attn.bias",
    "h.{}.attn.masked_bias",
    "h.{}.crossattention.bias",
    "h.{}.crossattention.masked_bias",
];

/// A tensor of a particular model.
#[derive(Debug, Clone)]
pub struct TensorSpec {
    /// Which tensor it is.
    pub id: TensorId,
    /// The line of the table it comes from.
    pub entry: &'static TensorEntry,
    /// Its name in a GGUF file.
    pub name: String,
    /// Its shape in GGUF's order: columns (fastest) first.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    fn new(
        entry: &'static TensorEntry,
        layer: Option<usize>,
        hyperparameters: &Hyperparameters,
    ) -> Self {
        Self {
            id: TensorId {
                layer,
                module: entry.module,
                part: entry.part,
            },
            entry,
            name: fill(entry.gguf, layer),
            shape: entry
                .shape
                .iter()
                .map(|dimension| dimension.size(hyperparameters) as u64)
                .collect(),
        }
    }

    /// The paths a checkpoint may have it under, without the prefix, the usual one first.
    pub fn checkpoint_paths(&self) -> impl Iterator<Item = String> + '_ {
        self.entry
            .checkpoint
            .iter()
            .map(|path| fill(path, self.id.layer))
    }

    /// The shape a checkpoint stores it in: row-major, slowest axis first.
    pub fn checkpoint_shape(&self) -> Vec<u64> {
        match self.entry.orientation {
            Orientation::AsStored => self.shape.iter().rev().copied().collect(),
            Orientation::Transposed => self.shape.clone(),
        }
    }

    /// Elements in it.
    pub fn elements(&self) -> u64 {
        self.shape.iter().copied().fold(1, u64::saturating_mul)
    }

    /// Whether it is a vector: a bias, or the scale of a normalization.
    pub fn is_vector(&self) -> bool {
        self.entry.shape.len() == 1
    }

    /// Elements of one row.
    pub fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }
}

impl Dimension {
    /// The size of the axis in a model.
    pub fn size(self, hyperparameters: &Hyperparameters) -> usize {
        match self {
            Self::VocabSize => hyperparameters.vocab_size,
            Self::Positions => hyperparameters.n_positions,
            Self::Embd => hyperparameters.n_embd,
            Self::Qkv => hyperparameters.n_embd.saturating_mul(3),
            Self::Inner => hyperparameters.n_inner,
            Self::HeadOutputs => hyperparameters.head.outputs,
        }
    }
}

/// Every tensor of a model, in the order files keep them.
pub fn tensors(hyperparameters: &Hyperparameters) -> impl Iterator<Item = TensorSpec> + '_ {
    let layers = (0..hyperparameters.n_layer)
        .flat_map(|layer| LAYER.iter().map(move |entry| (entry, Some(layer))));
    BEFORE_LAYERS
        .iter()
        .map(|entry| (entry, None))
        .chain(layers)
        .chain(
            AFTER_LAYERS
                .iter()
                .chain(TASK_HEADS)
                .map(|entry| (entry, None)),
        )
        .filter(|(entry, _)| match entry.presence {
            Presence::Always => true,
            Presence::UntiedHead => {
                hyperparameters.class.has_language_head() && !hyperparameters.tied_head
            }
            Presence::HeadOf(class) => {
                hyperparameters.class == class && hyperparameters.head.outputs > 0
            }
        })
        .map(|(entry, layer)| TensorSpec::new(entry, layer, hyperparameters))
}

/// Whether `path` (without the prefix) is a buffer of a checkpoint that holds no weights.
///
/// The whole path is compared: `h.0.attn.c_attn.bias` also ends in `attn.bias` and is a weight.
pub fn is_buffer(path: &str) -> bool {
    BUFFERS.iter().any(|pattern| matches_layer(pattern, path))
}

/// `pattern` with its `{}` replaced by the layer.
fn fill(pattern: &str, layer: Option<usize>) -> String {
    match (pattern.split_once("{}"), layer) {
        (Some((before, after)), Some(layer)) => {
            let mut name = String::with_capacity(pattern.len() + 4);
            // Writing to a String cannot fail.
            let _ = write!(name, "{before}{layer}{after}");
            name
        }
        _ => pattern.to_owned(),
    }
}

/// Whether `path` is `pattern` for some layer number.
fn matches_layer(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once("{}") else {
        return pattern == path;
    };
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|layer| !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HeadSettings;

    fn gpt2() -> Hyperparameters {
        Hyperparameters {
            vocab_size: 50257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: 3072,
            ..Hyperparameters::default()
        }
    }

    #[test]
    fn the_table_adds_up_to_gpt2() {
        let elements: u64 = tensors(&gpt2()).map(|spec| spec.elements()).sum();
        assert_eq!(elements, 124_439_808);
        assert_eq!(tensors(&gpt2()).count(), 4 + 12 * 12);
    }

    #[test]
    fn an_untied_head_is_one_more_matrix() {
        let untied = Hyperparameters {
            tied_head: false,
            ..gpt2()
        };
        let last = tensors(&untied).last().unwrap();
        assert_eq!(last.name, "output.weight");
        assert_eq!(last.shape, [768, 50257]);
        assert_eq!(last.checkpoint_shape(), [50257, 768]);
    }

    #[test]
    fn a_class_has_its_head_and_no_other() {
        let tagger = Hyperparameters {
            class: ModelClass::TokenClassification,
            tied_head: false,
            head: HeadSettings {
                outputs: 9,
                ..HeadSettings::default()
            },
            ..gpt2()
        };
        let last: Vec<TensorSpec> = tensors(&tagger).skip(4 + 12 * 12).collect();
        let shapes: Vec<_> = last
            .iter()
            .map(|spec| (&*spec.name, &*spec.shape))
            .collect();
        assert_eq!(
            shapes,
            [
                ("cls.output.weight", &[768, 9][..]),
                ("cls.output.bias", &[9][..])
            ]
        );
        assert_eq!(last[0].checkpoint_shape(), [9, 768]);
        assert_eq!(
            class_of_head("score.weight"),
            Some(ModelClass::SequenceClassification)
        );
        assert_eq!(class_of_head("lm_head.weight"), None);
        assert_eq!(head_matrix_of(ModelClass::LanguageModel), None);
    }

    #[test]
    fn names_shapes_and_orientation_of_a_layer() {
        let spec = tensors(&gpt2())
            .find(|spec| spec.name == "blk.11.ffn_down.weight")
            .unwrap();
        assert_eq!(spec.id, TensorId::weight(Some(11), FfnDown));
        assert_eq!(spec.shape, [3072, 768]);
        // Conv1D keeps [in, out].
        assert_eq!(spec.checkpoint_shape(), [3072, 768]);
        assert_eq!(
            spec.checkpoint_paths().collect::<Vec<_>>(),
            ["h.11.mlp.c_proj.weight"]
        );
    }

    #[test]
    fn an_id_names_the_tensor_of_its_spec() {
        let models = [
            ModelClass::LanguageModel,
            ModelClass::TokenClassification,
            ModelClass::DoubleHeads,
        ]
        .map(|class| Hyperparameters {
            class,
            tied_head: false,
            head: HeadSettings {
                outputs: 2,
                ..HeadSettings::default()
            },
            ..gpt2()
        });
        for model in &models {
            let mut ids = std::collections::HashSet::new();
            for spec in tensors(model) {
                assert_eq!(spec.id.gguf_name(), spec.name);
                assert!(ids.insert(spec.id), "{:?} is there twice", spec.id);
            }
        }
        assert_eq!(TensorId::OUTPUT.gguf_name(), "output.weight");
        assert_eq!(TensorId::bias(Some(0), Module::Output).gguf_name(), "");
    }

    #[test]
    fn buffers_are_told_from_weights_by_their_whole_path() {
        assert!(is_buffer("h.0.attn.bias"));
        assert!(is_buffer("h.11.attn.masked_bias"));
        assert!(!is_buffer("h.0.attn.c_attn.bias"));
        assert!(!is_buffer("h..attn.bias"));
        assert!(!is_buffer("h.x.attn.bias"));
    }
}
