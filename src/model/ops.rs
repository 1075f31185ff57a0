//! The operations of the forward pass that this library's kernels compute, as nodes of a ggml
//! graph.

use std::sync::{Arc, PoisonError, RwLock};

use super::weights::{Matrix, type_of};
use crate::error::Result;
use crate::ggml::context::{Context, Tensor};
use crate::ggml::custom::{Elements, MAX_INPUTS, RowKernel, Rows, StepKernel};
use crate::gguf::TensorType;
use crate::quant::dequantize_rows;
use gpt2_kernels::activation::Elementwise;
use gpt2_kernels::attention::{Attention, KvTensor, Queries, Sights, attend};
use gpt2_kernels::linear::{self, ElementwiseFn, Epilogue};
use gpt2_kernels::pool::Pool;
use gpt2_kernels::rows;
use gpt2_kernels::shared::in_chunks;

/// `weight · x` without an epilogue: `[out, tokens]`. See [`linear::Options`] for
/// `batch_invariant`.
///
/// # Errors
/// [`crate::Error::Ggml`] when the shapes do not match, or the matrix is packed and the context has
/// no pool.
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

/// The product of activations (input 0, f32 `[columns, tokens]`) with a packed matrix.
pub(super) struct Product {
    pub(super) matrix: Arc<linear::Matrix>,
    pub(super) epilogue: StepEpilogue,
    /// See [`linear::Options`].
    pub(super) batch_invariant: bool,
}

/// What follows a product. The operands are indices of the step's inputs.
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

/// What the tokens of a run see: set before a graph is computed, read by its attention steps.
#[derive(Debug, Default)]
pub(crate) struct RunSights {
    /// Of all tokens.
    pub(crate) all: Sights,
    /// Of those that are output, which are the only ones in the last layer.
    pub(crate) selected: Sights,
}

/// Attention over the cache. The inputs are the queries (f32 `[n, tokens]`, of which the first
/// `heads · head_width` are read), the keys and the values (`[heads · head_width, context]` each).
pub(super) struct AttentionStep {
    pub(super) sights: Arc<RwLock<RunSights>>,
    /// Whether the tokens are those that are output.
    pub(super) selected: bool,
    pub(super) heads: usize,
    pub(super) head_width: usize,
    pub(super) scale: f32,
}

impl StepKernel for AttentionStep {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn compute(&self, inputs: [Elements<'_>; MAX_INPUTS], output: &mut [f32], pool: &Pool) {
        let [queries, keys, values, ..] = inputs;
        let data = queries.f32();
        let tokens = output.len() / (self.heads * self.head_width);
        let sights = self.sights.read().unwrap_or_else(PoisonError::into_inner);
        let sights = if self.selected {
            &sights.selected
        } else {
            &sights.all
        };
        assert_eq!(sights.tokens(), tokens, "attention: sights of another run");
        let attention = Attention {
            queries: Queries {
                data,
                stride: data.len() / tokens,
            },
            keys: table(keys),
            values: table(values),
            sights,
            heads: self.heads,
            head_width: self.head_width,
            scale: self.scale,
        };
        attend(&attention, pool, output);
    }
}

/// Rows of a packed matrix (input 0, i32 `[tokens]`, has their indices) plus those of input 1 (f32
/// `[columns, tokens]`).
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
            TOKENS_PER_CHUNK * columns,
            &|start, output| {
                let first = start / columns;
                let others = others[start..].chunks_exact(columns);
                let outputs = output.chunks_exact_mut(columns);
                let mut row = vec![0; matrix.row_bytes()];
                for ((output, &token), other) in outputs.zip(&tokens[first..]).zip(others) {
                    // The session has checked the tokens, and every packed type can be
                    // dequantized.
                    let index = usize::try_from(token).expect("token ids are not negative");
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

/// Tokens that one task of the pool embeds.
const TOKENS_PER_CHUNK: usize = 16;

/// A tensor of the cache as the attention kernel reads it.
fn table(elements: Elements<'_>) -> KvTensor<'_> {
    match elements {
        Elements::F32(values) => KvTensor::F32(values),
        Elements::F16(values) => KvTensor::F16(values),
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

/// An activation of input 0 that is not in place.
pub(super) struct OutOfPlaceActivation(pub(super) Elementwise);

impl RowKernel for OutOfPlaceActivation {
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
