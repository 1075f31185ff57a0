//! GGUF files that are well formed and no GPT-2 that could run.

use gpt2::gguf::{Array, TensorType};
use gpt2::spec::Hyperparameters;

use super::tiny::{TinyModel, hyperparameters};
use super::vocabulary;

/// The command that must refuse a file: the others may not look at what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refuser {
    Forward,
    Generate,
    Tokenize,
    Requantize,
}

/// A file that must be refused.
#[derive(Debug, Clone)]
pub(crate) struct HostileModel {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// Its contents.
    pub(crate) bytes: Vec<u8>,
    /// By which commands.
    pub(crate) refusers: &'static [Refuser],
    /// A phrase of the error.
    pub(crate) expect: &'static str,
}

use Refuser::{Forward, Generate, Requantize};

/// Whoever needs the whole model.
const ALL: &[Refuser] = &[Forward, Generate, Requantize];
const RUNNING: &[Refuser] = &[Forward, Generate];
/// What is wrong, the bytes, who refuses, a phrase of the error.
pub(super) type Case = (&'static str, Vec<u8>, &'static [Refuser], &'static str);

/// Files that are refused when they are used.
pub(crate) fn model_cases() -> Vec<HostileModel> {
    let tables = [
        keys(),
        tensors(),
        types(),
        numbers(),
        vocabulary::tokenizers(),
    ];
    let hostile = |(name, bytes, refusers, expect)| HostileModel {
        name,
        bytes,
        refusers,
        expect,
    };
    tables.into_iter().flatten().map(hostile).collect()
}

fn tiny() -> TinyModel {
    TinyModel::tiny()
}

fn keys() -> Vec<Case> {
    let number = |key: &str, value: u32| tiny().set(&format!("gpt2.{key}"), value).bytes();
    let without = |key: &str| tiny().without(key).bytes();
    let epsilon = |value: f32| {
        tiny()
            .set("gpt2.attention.layer_norm_epsilon", value)
            .bytes()
    };
    vec![
        (
            "no keys at all",
            {
                let mut model = tiny();
                model.pairs.clear();
                model.bytes()
            },
            ALL,
            "general.architecture",
        ),
        (
            "no architecture",
            without("general.architecture"),
            ALL,
            "general.architecture",
        ),
        (
            "another architecture",
            tiny().set("general.architecture", "llama").bytes(),
            ALL,
            "architecture 'llama'",
        ),
        (
            "architecture as a number",
            tiny().set("general.architecture", 2_u32).bytes(),
            ALL,
            "general.architecture",
        ),
        (
            "no heads given",
            without("gpt2.attention.head_count"),
            ALL,
            "gpt2.attention.head_count",
        ),
        (
            "0 heads",
            number("attention.head_count", 0),
            ALL,
            "head_count: expected 1 to",
        ),
        (
            "3 heads of 32",
            number("attention.head_count", 3),
            ALL,
            "n_embd 32 is not a multiple of n_head 3",
        ),
        (
            "2^32-1 heads",
            number("attention.head_count", u32::MAX),
            ALL,
            "found 4294967295",
        ),
        (
            "heads as an array",
            tiny()
                .set("gpt2.attention.head_count", Array::U32(vec![2, 2]))
                .bytes(),
            ALL,
            "head_count",
        ),
        (
            "heads as a negative number",
            tiny().set("gpt2.attention.head_count", -2_i32).bytes(),
            ALL,
            "head_count",
        ),
        (
            "heads as a fraction",
            tiny().set("gpt2.attention.head_count", 2.0_f32).bytes(),
            ALL,
            "head_count",
        ),
        (
            "0 layers",
            number("block_count", 0),
            ALL,
            "block_count: expected 1 to 4096",
        ),
        (
            "a layer too many",
            number("block_count", 3),
            ALL,
            "blk.2.attn_norm.weight",
        ),
        (
            "4096 layers",
            number("block_count", 4096),
            ALL,
            "blk.2.attn_norm.weight",
        ),
        (
            "2^32-1 layers",
            number("block_count", u32::MAX),
            ALL,
            "found 4294967295",
        ),
        (
            "no positions",
            number("context_length", 0),
            ALL,
            "context_length: expected 1 to",
        ),
        (
            "2^24 positions",
            number("context_length", 1 << 24),
            ALL,
            "position_embd.weight",
        ),
        (
            "2^32-1 positions",
            number("context_length", u32::MAX),
            ALL,
            "found 4294967295",
        ),
        (
            "no width",
            number("embedding_length", 0),
            ALL,
            "embedding_length: expected 1 to",
        ),
        (
            "another width",
            number("embedding_length", 64),
            ALL,
            "token_embd.weight",
        ),
        (
            "a width of 2^24",
            number("embedding_length", 1 << 24),
            ALL,
            "token_embd.weight",
        ),
        (
            "no inner width",
            number("feed_forward_length", 0),
            ALL,
            "feed_forward_length: expected",
        ),
        (
            "another inner width",
            number("feed_forward_length", 65),
            ALL,
            "blk.0.ffn_up.weight",
        ),
        ("an epsilon of 0", epsilon(0.0), ALL, "layer_norm_epsilon"),
        (
            "a NaN epsilon",
            epsilon(f32::NAN),
            ALL,
            "layer_norm_epsilon",
        ),
        (
            "an infinite epsilon",
            epsilon(f32::INFINITY),
            ALL,
            "layer_norm_epsilon",
        ),
        (
            "a strange activation",
            tiny().set("gpt2_edge.activation_function", "geglu").bytes(),
            ALL,
            "geglu",
        ),
        (
            "a strange class",
            tiny().set("gpt2_edge.class", "GPT5").bytes(),
            ALL,
            "model class 'GPT5'",
        ),
        (
            "a switch that is a number",
            tiny().set("gpt2_edge.scale_attn_weights", 1_u32).bytes(),
            ALL,
            "scale_attn_weights",
        ),
        (
            "end tokens as text",
            tiny().set("gpt2_edge.eos_token_ids", "259").bytes(),
            ALL,
            "eos_token_ids",
        ),
    ]
}

fn tensors() -> Vec<Case> {
    let without = |name: &str| tiny().without_tensor(name).bytes();
    let reshaped = |name: &str, shape: &[u64]| tiny().reshape(name, shape).bytes();
    vec![
        (
            "a file without tensors",
            {
                let mut model = tiny();
                model.tensors.clear();
                model.bytes()
            },
            ALL,
            "token_embd.weight: missing",
        ),
        (
            "no token embedding",
            without("token_embd.weight"),
            ALL,
            "token_embd.weight: missing",
        ),
        (
            "no position embedding",
            without("position_embd.weight"),
            ALL,
            "position_embd.weight",
        ),
        (
            "no final norm's bias",
            without("output_norm.bias"),
            ALL,
            "output_norm.bias",
        ),
        (
            "no first layer",
            without("blk.0.attn_qkv.weight"),
            ALL,
            "blk.0.attn_qkv.weight",
        ),
        (
            "a token embedding of one axis",
            reshaped("token_embd.weight", &[8320]),
            ALL,
            "expected two axes",
        ),
        (
            "a token embedding of three axes",
            reshaped("token_embd.weight", &[32, 26, 10]),
            ALL,
            "expected two axes",
        ),
        (
            "a position embedding too short",
            reshaped("position_embd.weight", &[32, 15]),
            ALL,
            "position_embd.weight",
        ),
        (
            "a matrix turned",
            reshaped("blk.0.attn_qkv.weight", &[96, 32]),
            ALL,
            "blk.0.attn_qkv.weight",
        ),
        (
            "a matrix with a row too few",
            reshaped("blk.1.ffn_up.weight", &[32, 63]),
            ALL,
            "blk.1.ffn_up.weight",
        ),
        (
            "a vector too short",
            reshaped("blk.0.attn_qkv.bias", &[95]),
            ALL,
            "blk.0.attn_qkv.bias",
        ),
        (
            "a vector for a matrix",
            reshaped("blk.0.attn_output.weight", &[1024]),
            ALL,
            "blk.0.attn_output.weight",
        ),
        (
            "a matrix for a vector",
            reshaped("output_norm.weight", &[32, 2]),
            ALL,
            "output_norm.weight",
        ),
        (
            "a head of another width",
            {
                let mut model = tiny().reshape("blk.0.ffn_up.weight", &[64, 64]);
                let mut head = model
                    .tensors
                    .iter()
                    .find(|tensor| tensor.shape == [64, 64])
                    .cloned()
                    .unwrap();
                "output.weight".clone_into(&mut head.name);
                model.tensors.push(head);
                model.reshape("blk.0.ffn_up.weight", &[32, 64]).bytes()
            },
            ALL,
            "output.weight",
        ),
    ]
}

/// Types that ggml's CPU device does not compute with.
fn types() -> Vec<Case> {
    let matrix = |tensor_type| tiny().retype("blk.1.ffn_down.weight", tensor_type).bytes();
    let embedding = |tensor_type| tiny().retype("token_embd.weight", tensor_type).bytes();
    let positions = |tensor_type| tiny().retype("position_embd.weight", tensor_type).bytes();
    let vector = |tensor_type| tiny().retype("blk.0.attn_norm.weight", tensor_type).bytes();
    let wide = || {
        let wide = Hyperparameters {
            n_embd: 256,
            n_inner: 256,
            ..hyperparameters()
        };
        TinyModel::new(&wide, TensorType::F16)
    };
    vec![
        (
            "a matrix of bytes",
            matrix(TensorType::I8),
            RUNNING,
            "blk.1.ffn_down.weight is i8",
        ),
        (
            "a matrix of short integers",
            matrix(TensorType::I16),
            RUNNING,
            "blk.1.ffn_down.weight is i16",
        ),
        (
            "a matrix of integers",
            matrix(TensorType::I32),
            RUNNING,
            "blk.1.ffn_down.weight is i32",
        ),
        (
            "a matrix of long integers",
            matrix(TensorType::I64),
            RUNNING,
            "blk.1.ffn_down.weight is i64",
        ),
        (
            "a matrix of doubles",
            matrix(TensorType::F64),
            RUNNING,
            "blk.1.ffn_down.weight is f64",
        ),
        (
            "a matrix of q8_1",
            matrix(TensorType::Q8_1),
            RUNNING,
            "blk.1.ffn_down.weight is q8_1",
        ),
        (
            "a matrix of q8_k",
            wide()
                .retype("blk.1.ffn_down.weight", TensorType::Q8_K)
                .bytes(),
            RUNNING,
            "is q8_k",
        ),
        (
            "an embedding of integers",
            embedding(TensorType::I32),
            RUNNING,
            "token_embd.weight is i32",
        ),
        (
            "an embedding of doubles",
            embedding(TensorType::F64),
            RUNNING,
            "token_embd.weight is f64",
        ),
        (
            "an embedding of q8_1",
            embedding(TensorType::Q8_1),
            RUNNING,
            "token_embd.weight is q8_1",
        ),
        (
            "positions of integers",
            positions(TensorType::I32),
            RUNNING,
            "position_embd.weight is i32",
        ),
        (
            "positions of doubles",
            positions(TensorType::F64),
            RUNNING,
            "position_embd.weight is f64",
        ),
        (
            "positions of q8_1",
            positions(TensorType::Q8_1),
            RUNNING,
            "position_embd.weight is q8_1",
        ),
        (
            "a vector of bytes",
            vector(TensorType::I8),
            RUNNING,
            "blk.0.attn_norm.weight is i8",
        ),
        (
            "a vector of doubles",
            vector(TensorType::F64),
            RUNNING,
            "blk.0.attn_norm.weight is f64",
        ),
        (
            "a vector of q8_1",
            vector(TensorType::Q8_1),
            RUNNING,
            "blk.0.attn_norm.weight is q8_1",
        ),
        (
            "a matrix of integers to requantize",
            matrix(TensorType::I32),
            &[Requantize],
            "i32",
        ),
        (
            "a matrix of q8_1 to requantize",
            matrix(TensorType::Q8_1),
            &[Requantize],
            "q8_1",
        ),
    ]
}

/// Non-finite weights.
fn numbers() -> Vec<Case> {
    /// An f16 that is not a number, and an infinite one.
    const NAN: [u8; 2] = [0x00, 0x7E];
    const INFINITE: [u8; 2] = [0x00, 0x7C];
    const NOT_FINITE: &str = "expected a finite value";
    let scale = |name: &str, scale: [u8; 2]| {
        let model = tiny().change(name, |tensor| tensor.data[..2].copy_from_slice(&scale));
        model.bytes()
    };
    let all = |model: TinyModel, byte: u8| {
        let mut model = model;
        model
            .tensors
            .iter_mut()
            .for_each(|tensor| tensor.data.fill(byte));
        model.bytes()
    };
    let four = |tensor_type| TinyModel::new(&hyperparameters(), tensor_type);
    vec![
        (
            "a NaN scale in a layer",
            scale("blk.0.ffn_up.weight", NAN),
            RUNNING,
            NOT_FINITE,
        ),
        (
            // Of token 0, whose logit alone it spoils.
            "a NaN scale in the embedding",
            scale("token_embd.weight", NAN),
            &[Generate],
            NOT_FINITE,
        ),
        (
            "an infinite scale in a layer",
            scale("blk.0.attn_qkv.weight", INFINITE),
            RUNNING,
            NOT_FINITE,
        ),
        ("all bytes ones", all(tiny(), 0xFF), RUNNING, NOT_FINITE),
        (
            "all bytes ones in q4_0",
            all(four(TensorType::Q4_0), 0xFF),
            RUNNING,
            NOT_FINITE,
        ),
        (
            "all bytes ones in f32",
            all(four(TensorType::F32), 0xFF),
            RUNNING,
            NOT_FINITE,
        ),
        (
            "a NaN scale to requantize",
            scale("blk.0.ffn_up.weight", NAN),
            &[Requantize],
            "the source has NaN",
        ),
        (
            "an infinite scale to requantize",
            scale("token_embd.weight", INFINITE),
            &[Requantize],
            "the checkpoint is damaged",
        ),
    ]
}
