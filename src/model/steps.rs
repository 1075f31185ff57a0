//! The steps of the forward pass that this library computes itself, as a graph binds them to its kernels.

use std::sync::Arc;

use super::weights::{Matrix, type_of};
use crate::error::Result;
use crate::ggml::context::{Context, Tensor};
use crate::ggml::custom::{Elements, MAX_INPUTS, RowKernel, Rows, StepKernel};
use crate::gguf::TensorType;
use crate::quant::dequantize_rows;
use gpt2_kernels::activation::Elementwise;
use gpt2_kernels::attention::{Attention, KvTensor, Queries, attend};
use gpt2_kernels::linear::{self, ElementwiseFn, Epilogue};
use gpt2_kernels::pool::Pool;
use gpt2_kernels::rows;
use gpt2_kernels::shared::in_chunks;

/// `weight · x`, without a bias: `[out, tokens]`; `batch_invariant` as in a batch.
///
/// # Errors
/// [`crate::Error::Ggml`] when the shapes do not fit, or a matrix of this library's kernels meets a context without
/// their threads.
pub(crate) fn product(
    context: &Arc<Context>,
    weight: &Matrix,
    x: &Tensor,
    batch_invariant: bool,
) -> Result<Tensor> {
    match weight {
        Matrix::Ggml(weight) => context.mul_mat(weight, x),
        Matrix::Packed(matrix) => {
            let product = Product {
                matrix: Arc::clone(matrix),
                epilogue: Epilogue::NONE,
                batch_invariant,
            };
            context.step(Box::new(product), [matrix.rows(), x.shape()[1]], &[x])
        }
    }
}

/// A product of activations (the first input, f32 `[columns, tokens]`) with a matrix of this library's kernels.
pub(super) struct Product {
    pub(super) matrix: Arc<linear::Matrix>,
    pub(super) epilogue: StepEpilogue,
    /// See [`linear::Options`].
    pub(super) batch_invariant: bool,
}

/// What follows a product; an operand is the index of the step's input that it is.
pub(super) type StepEpilogue = Epilogue<usize, Box<ElementwiseFn>>;

impl StepKernel for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn compute(&self, inputs: [Elements<'_>; MAX_INPUTS], output: &mut [f32], pool: &Pool) {
        let inputs = inputs.map(Elements::f32);
        let options = linear::Options {
            epilogue: self
                .epilogue
                .map(|&input| inputs[input], |function| &**function),
            batch_invariant: self.batch_invariant,
        };
        linear::multiply(&self.matrix, inputs[0], &options, pool, output);
    }
}

/// Attention over the first `cells` cells of the cache; the inputs are the queries (f32 `[at least heads · head_width,
/// tokens]`), the keys and the values (`[heads · head_width, context]` each) and the mask (f16 `[cells, tokens]`).
pub(super) struct AttentionStep {
    pub(super) cells: usize,
    pub(super) heads: usize,
    pub(super) head_width: usize,
    pub(super) scale: f32,
}

impl StepKernel for AttentionStep {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn compute(&self, inputs: [Elements<'_>; MAX_INPUTS], output: &mut [f32], pool: &Pool) {
        let [queries, keys, values, mask] = inputs;
        let data = queries.f32();
        let tokens = output.len() / (self.heads * self.head_width);
        let attention = Attention {
            queries: Queries {
                data,
                stride: data.len() / tokens,
            },
            keys: table(keys),
            values: table(values),
            mask: mask.f16(),
            tokens,
            cells: self.cells,
            heads: self.heads,
            head_width: self.head_width,
            scale: self.scale,
        };
        attend(&attention, pool, output);
    }
}

/// Rows of a matrix of this library's kernels (the first input, i32 `[tokens]`, says which), to which those of the second
/// (f32 `[columns, tokens]`) are added.
pub(super) struct Embedding(pub(super) Arc<linear::Matrix>);

impl StepKernel for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn compute(&self, inputs: [Elements<'_>; MAX_INPUTS], output: &mut [f32], pool: &Pool) {
        let [tokens, others, ..] = inputs;
        let (tokens, others) = (tokens.i32(), others.f32());
        let matrix = &self.0;
        let columns = matrix.columns();
        let tensor_type = type_of(matrix.format());
        in_chunks(
            pool,
            output,
            EMBEDDED_TOGETHER * columns,
            &|start, output| {
                let first = start / columns;
                let others = others[start..].chunks_exact(columns);
                let outputs = output.chunks_exact_mut(columns);
                let mut row = vec![0; matrix.row_bytes()];
                for ((output, &token), other) in outputs.zip(&tokens[first..]).zip(others) {
                    // A session checks tokens before it computes, and every type of the kernels can be expanded: a mistake
                    // there must not go unnoticed.
                    let index = usize::try_from(token).expect("a token is no negative number");
                    matrix.copy_row(index, &mut row);
                    dequantize_rows(tensor_type, &row, columns, output).expect("a whole row");
                    for (sum, &other) in output.iter_mut().zip(other) {
                        *sum += other;
                    }
                }
            },
        );
    }
}

/// Tokens whose embeddings are worth a chunk of their own.
const EMBEDDED_TOGETHER: usize = 16;

/// A table of the cache as the kernels read it.
fn table(elements: Elements<'_>) -> KvTensor<'_> {
    match elements {
        Elements::F32(numbers) => KvTensor::F32(numbers),
        Elements::F16(numbers) => KvTensor::F16(numbers),
        Elements::Blocks(TensorType::Q4_0, bytes) => KvTensor::Q4_0(bytes),
        Elements::Blocks(_, bytes) => KvTensor::Q8_0(bytes),
        // The cache has no other type.
        Elements::I32(_) => KvTensor::Q8_0(&[]),
    }
}

pub(super) struct LayerNorm {
    pub(super) epsilon: f32,
}

impl RowKernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn compute(&self, rows: Rows<'_>) {
        let [x, weight, bias, ..] = rows.inputs;
        let first = rows.first * rows.columns;
        let x = &x[first..first + rows.output.len()];
        rows::layer_norm(
            &rows::LayerNorm {
                x,
                weight,
                bias,
                epsilon: self.epsilon,
            },
            rows.output,
        );
    }
}

/// What follows a product of ggml's, in place.
pub(super) struct InPlaceEpilogue(pub(super) StepEpilogue);

impl RowKernel for InPlaceEpilogue {
    fn name(&self) -> &'static str {
        "epilogue"
    }

    fn compute(&self, rows: Rows<'_>) {
        let inputs = rows.inputs;
        let epilogue = self.0.map(|&input| inputs[input], |function| &**function);
        for (row, values) in rows.output.chunks_exact_mut(rows.columns).enumerate() {
            epilogue.apply(values, 0, (rows.first + row) * rows.columns);
        }
    }
}

pub(super) struct Apart(pub(super) Elementwise);

impl RowKernel for Apart {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn compute(&self, rows: Rows<'_>) {
        let first = rows.first * rows.columns;
        let [x, ..] = rows.inputs;
        rows.output
            .copy_from_slice(&x[first..first + rows.output.len()]);
        self.0(rows.output);
    }
}
