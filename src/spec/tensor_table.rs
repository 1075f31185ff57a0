//! The one table of a GPT-2's tensors: what a checkpoint calls each, what a GGUF file calls it, its
//! shape, and how it lies in the checkpoint.
//!
//! The converter, the loader and `info` all read it. It knows no file format and no bytes.

use std::fmt::Write as _;

use crate::spec::{Hyperparameters, ModelClass};

use Dimension::{HeadOutputs, Inner, Positions, ThreeWidths, Vocabulary, Width};

/// One axis of a tensor, in terms of the hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Rows of the token embedding.
    Vocabulary,
    /// Rows of the position embedding.
    Positions,
    /// Width of the residual stream, d.
    Width,
    /// 3d: queries, keys and values side by side.
    ThreeWidths,
    /// Width of the feed-forward part.
    Inner,
    /// What the head of the class gives for a token: labels, or start and end.
    HeadOutputs,
}

/// How a checkpoint's matrix lies relative to GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// Row-major as in GGUF: `[rows, columns]`.
    AsStored,
    /// A `Conv1D` weight, stored `[in, out]`; GGUF wants `[out, in]`.
    Transposed,
}

/// What a tensor is for; the type plan goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// One row per token; when the head is tied it is the head too.
    TokenEmbedding,
    /// One row per position.
    PositionEmbedding,
    /// Scale or shift of a `LayerNorm`, or the bias of a linear layer: a vector.
    Vector,
    /// Queries, keys and values in one matrix.
    AttentionQkv,
    /// The projection after attention.
    AttentionOutput,
    /// The first matrix of the feed-forward part.
    FeedForwardUp,
    /// The second matrix of the feed-forward part.
    FeedForwardDown,
    /// The language-model head, when it is not the token embedding.
    Head,
    /// The head of another class, small and outside the graph.
    TaskHead,
}

/// Which models have a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every class.
    Always,
    /// Language models whose head is a matrix of its own.
    UntiedHead,
    /// Models of a class, when their head has outputs.
    HeadOf(ModelClass),
}

/// One line of the table. `{}` in a name stands for the layer, counted from 0.
#[derive(Debug)]
pub struct TensorEntry {
    /// Paths in a checkpoint, the usual one first, without the prefix `transformer.`.
    pub checkpoint: &'static [&'static str],
    /// Name in a GGUF file, the same as llama.cpp's.
    pub gguf: &'static str,
    /// Axes in GGUF's order: columns (fastest) first.
    pub shape: &'static [Dimension],
    /// How the checkpoint's matrix lies.
    pub orientation: Orientation,
    /// What the tensor is for.
    pub role: Role,
    /// Which models have it.
    pub presence: Presence,
}

/// The prefix that files saved from a class with a head put before the paths of the table.
pub const CHECKPOINT_PREFIX: &str = "transformer.";

const fn entry(
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
    orientation: Orientation,
    role: Role,
    presence: Presence,
) -> TensorEntry {
    TensorEntry {
        checkpoint,
        gguf,
        shape,
        orientation,
        role,
        presence,
    }
}

/// A vector every model has.
const fn vector(
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
) -> TensorEntry {
    entry(
        checkpoint,
        gguf,
        shape,
        Orientation::AsStored,
        Role::Vector,
        Presence::Always,
    )
}

/// A `Conv1D` weight every model has.
const fn conv1d(
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
    role: Role,
) -> TensorEntry {
    entry(
        checkpoint,
        gguf,
        shape,
        Orientation::Transposed,
        role,
        Presence::Always,
    )
}

/// A tensor of the head of a class. One class has one head, so all share their names in GGUF files.
const fn task_head(
    class: ModelClass,
    checkpoint: &'static [&'static str],
    gguf: &'static str,
    shape: &'static [Dimension],
) -> TensorEntry {
    entry(
        checkpoint,
        gguf,
        shape,
        Orientation::AsStored,
        Role::TaskHead,
        Presence::HeadOf(class),
    )
}

/// The names of a head's matrix and vector in GGUF files.
pub const TASK_HEAD_WEIGHT: &str = "cls.output.weight";
/// See [`TASK_HEAD_WEIGHT`].
pub const TASK_HEAD_BIAS: &str = "cls.output.bias";

/// Tensors outside the layers that come before them in a file.
const BEFORE: &[TensorEntry] = &[
    entry(
        &["wte.weight"],
        "token_embd.weight",
        &[Width, Vocabulary],
        Orientation::AsStored,
        Role::TokenEmbedding,
        Presence::Always,
    ),
    entry(
        &["wpe.weight"],
        "position_embd.weight",
        &[Width, Positions],
        Orientation::AsStored,
        Role::PositionEmbedding,
        Presence::Always,
    ),
];

/// Tensors of one layer.
#[rustfmt::skip]
const LAYER: &[TensorEntry] = &[
    vector(&["h.{}.ln_1.weight", "h.{}.ln_1.gamma"], "blk.{}.attn_norm.weight", &[Width]),
    vector(&["h.{}.ln_1.bias", "h.{}.ln_1.beta"], "blk.{}.attn_norm.bias", &[Width]),
    conv1d(&["h.{}.attn.c_attn.weight"], "blk.{}.attn_qkv.weight", &[Width, ThreeWidths], Role::AttentionQkv),
    vector(&["h.{}.attn.c_attn.bias"], "blk.{}.attn_qkv.bias", &[ThreeWidths]),
    conv1d(&["h.{}.attn.c_proj.weight"], "blk.{}.attn_output.weight", &[Width, Width], Role::AttentionOutput),
    vector(&["h.{}.attn.c_proj.bias"], "blk.{}.attn_output.bias", &[Width]),
    vector(&["h.{}.ln_2.weight", "h.{}.ln_2.gamma"], "blk.{}.ffn_norm.weight", &[Width]),
    vector(&["h.{}.ln_2.bias", "h.{}.ln_2.beta"], "blk.{}.ffn_norm.bias", &[Width]),
    conv1d(&["h.{}.mlp.c_fc.weight"], "blk.{}.ffn_up.weight", &[Width, Inner], Role::FeedForwardUp),
    vector(&["h.{}.mlp.c_fc.bias"], "blk.{}.ffn_up.bias", &[Inner]),
    conv1d(&["h.{}.mlp.c_proj.weight"], "blk.{}.ffn_down.weight", &[Inner, Width], Role::FeedForwardDown),
    vector(&["h.{}.mlp.c_proj.bias"], "blk.{}.ffn_down.bias", &[Width]),
];

/// Tensors outside the layers that come after them in a file.
const AFTER: &[TensorEntry] = &[
    vector(
        &["ln_f.weight", "ln_f.gamma"],
        "output_norm.weight",
        &[Width],
    ),
    vector(&["ln_f.bias", "ln_f.beta"], "output_norm.bias", &[Width]),
    entry(
        &["lm_head.weight", "lm_head.decoder.weight"],
        "output.weight",
        &[Width, Vocabulary],
        Orientation::AsStored,
        Role::Head,
        Presence::UntiedHead,
    ),
];

/// Tensors of the heads.
#[rustfmt::skip]
const HEADS: &[TensorEntry] = &[
    task_head(ModelClass::SequenceClassification, &["score.weight"], TASK_HEAD_WEIGHT, &[Width, HeadOutputs]),
    task_head(ModelClass::TokenClassification, &["classifier.weight"], TASK_HEAD_WEIGHT, &[Width, HeadOutputs]),
    task_head(ModelClass::TokenClassification, &["classifier.bias"], TASK_HEAD_BIAS, &[HeadOutputs]),
    task_head(ModelClass::QuestionAnswering, &["qa_outputs.weight"], TASK_HEAD_WEIGHT, &[Width, HeadOutputs]),
    task_head(ModelClass::QuestionAnswering, &["qa_outputs.bias"], TASK_HEAD_BIAS, &[HeadOutputs]),
    task_head(ModelClass::DoubleHeads, &["multiple_choice_head.summary.weight"], TASK_HEAD_WEIGHT, &[Width, HeadOutputs]),
    task_head(ModelClass::DoubleHeads, &["multiple_choice_head.summary.bias"], TASK_HEAD_BIAS, &[HeadOutputs]),
];

/// The class whose head is called `path` (without the prefix) in a checkpoint.
pub fn class_of_head(path: &str) -> Option<ModelClass> {
    let entry = HEADS
        .iter()
        .find(|entry| entry.checkpoint.contains(&path))?;
    match entry.presence {
        Presence::HeadOf(class) => Some(class),
        Presence::Always | Presence::UntiedHead => None,
    }
}

/// The matrix that is the head of `class` in a checkpoint.
pub fn head_matrix_of(class: ModelClass) -> Option<&'static str> {
    let is_matrix =
        |entry: &&TensorEntry| entry.presence == Presence::HeadOf(class) && entry.shape.len() == 2;
    HEADS.iter().find(is_matrix)?.checkpoint.first().copied()
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
    /// The line of the table it comes from.
    pub entry: &'static TensorEntry,
    /// Its layer, for tensors of a layer.
    pub layer: Option<usize>,
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
            entry,
            layer,
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
            .map(|path| fill(path, self.layer))
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
        self.shape.iter().product()
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
            Self::Vocabulary => hyperparameters.vocab_size,
            Self::Positions => hyperparameters.n_positions,
            Self::Width => hyperparameters.n_embd,
            Self::ThreeWidths => 3 * hyperparameters.n_embd,
            Self::Inner => hyperparameters.n_inner,
            Self::HeadOutputs => hyperparameters.head.outputs,
        }
    }
}

/// Every tensor of a model, in the order files keep them.
pub fn tensors(hyperparameters: &Hyperparameters) -> impl Iterator<Item = TensorSpec> + '_ {
    let layers = (0..hyperparameters.n_layer)
        .flat_map(|layer| LAYER.iter().map(move |entry| (entry, Some(layer))));
    BEFORE
        .iter()
        .map(|entry| (entry, None))
        .chain(layers)
        .chain(AFTER.iter().chain(HEADS).map(|entry| (entry, None)))
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
                (TASK_HEAD_WEIGHT, &[768, 9][..]),
                (TASK_HEAD_BIAS, &[9][..])
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
        assert_eq!(spec.layer, Some(11));
        assert_eq!(spec.shape, [3072, 768]);
        // Conv1D keeps [in, out].
        assert_eq!(spec.checkpoint_shape(), [3072, 768]);
        assert_eq!(
            spec.checkpoint_paths().collect::<Vec<_>>(),
            ["h.11.mlp.c_proj.weight"]
        );
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
