//! GPT-2's forward pass as a graph, written once in named steps.
//!
//! A step uses a kernel of this library where there is one, unless ggml's operations are requested;
//! the rest of the pass does not depend on which.

use std::sync::{Arc, RwLock};

use super::device_map::DeviceMap;
use super::kv_cache::KvCache;
use super::ops::{
    AttentionStep, Embedding, InPlaceEpilogue, LayerNorm, OutOfPlaceActivation, Product, RunSights,
    StepEpilogue, product,
};
use super::weights::{LayerWeights, Linear, Matrix, Norm, Weights};
use crate::error::Result;
use crate::ggml::context::{Context, Tensor};
use crate::ggml::gelu::gelu_table;
use crate::ggml::graph::Graph;
use crate::gguf::TensorType;
use crate::spec::{Activation, Hyperparameters};
use gpt2_kernels::attention::MAX_HEAD_WIDTH;
use gpt2_kernels::f16_table;
use gpt2_kernels::linear::{ElementwiseFn, Epilogue};
use gpt2_kernels::pool::Pool;

/// What a graph is built for; a graph of an equal shape is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GraphShape {
    /// Tokens in the batch.
    pub(crate) tokens: usize,
    /// Tokens whose logits (or last hidden states) are output.
    pub(crate) outputs: usize,
    /// How attention is computed.
    pub(crate) attention: AttentionKind,
    /// Whether the steps between products are computed by this library's kernels or by ggml's
    /// operations, which round as other programs on ggml do.
    pub(crate) row_kernels: bool,
    /// Whether GELU is looked up in a table of f16, as in ggml, or computed.
    pub(crate) gelu_by_table: bool,
    /// Whether a second embedding is added to each token's.
    pub(crate) token_types: bool,
    /// Whether logits are output.
    pub(crate) logits: bool,
    /// Whether the output of the final layer norm is.
    pub(crate) last_hidden_state: bool,
    /// Whether the residual stream before each layer is.
    pub(crate) hidden_states: bool,
    /// Whether the attention probabilities are; flash attention has none.
    pub(crate) attentions: bool,
    /// Whether products are batch-invariant: each token gets the bits that it gets alone.
    pub(crate) batch_invariant: bool,
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionKind {
    /// By this library's kernel over the cells of each sequence, however many these are.
    Kernel,
    /// By ggml's operation over the first `keys` cells, of which a mask hides some.
    Flash { keys: usize },
    /// The same with scores in memory, which can be outputs.
    Plain { keys: usize },
}

impl AttentionKind {
    /// Whether the kernel can compute it for such a model, where `pool` computes steps.
    pub(crate) fn has_kernel(hyperparameters: &Hyperparameters, pool: Option<&Arc<Pool>>) -> bool {
        pool.is_some() && hyperparameters.head_size() <= MAX_HEAD_WIDTH
    }

    /// The cells of a mask, where there is one.
    pub(crate) fn mask_keys(self) -> Option<usize> {
        match self {
            Self::Kernel => None,
            Self::Flash { keys } | Self::Plain { keys } => Some(keys),
        }
    }
}

/// A graph with its inputs and outputs.
pub(crate) struct ForwardGraph {
    pub(crate) graph: Graph,
    pub(crate) io: GraphIo,
}

/// The inputs and outputs of a forward graph.
pub(crate) struct GraphIo {
    /// Token ids, i32 `[tokens]`.
    pub(crate) tokens: Tensor,
    /// Positions, i32 `[tokens]`.
    pub(crate) positions: Tensor,
    /// The tokens whose embeddings are added, i32 `[tokens]`.
    pub(crate) token_types: Option<Tensor>,
    /// The cache's cell for each token, i64 `[tokens]`.
    pub(crate) cells: Tensor,
    /// 0 where a token (row) sees a cell (column), otherwise −∞; f16 `[keys, tokens]`. The kernel
    /// has none.
    pub(crate) mask: Option<Tensor>,
    /// When only some tokens are output: which, and the rows of the mask for them.
    pub(crate) selection: Option<Selection>,
    /// Embeddings and the output of each layer but the last, f32 `[n_embd, tokens]`, when
    /// requested.
    pub(crate) hidden_states: Vec<Tensor>,
    /// Attention probabilities of each layer, f32 `[keys, tokens, heads]` (of the last one `[keys,
    /// outputs, heads]`), when requested.
    pub(crate) attentions: Vec<Tensor>,
    /// After the final layer norm, f32 `[n_embd, outputs]`, when requested.
    pub(crate) last_hidden_state: Option<Tensor>,
    /// f32 `[vocab_size, outputs]`, when requested.
    pub(crate) logits: Option<Tensor>,
}

impl GraphIo {
    /// The inputs of a graph of `shape`; the outputs are added as the graph is built.
    fn describe(context: &Arc<Context>, shape: GraphShape) -> Result<Self> {
        let input = |name: &str, tensor_type, shape: &[usize]| -> Result<Tensor> {
            let tensor = context.tensor(name, tensor_type, shape)?;
            tensor.mark_input();
            Ok(tensor)
        };
        let mask = |name: &str, tokens: usize| {
            let keys = shape.attention.mask_keys();
            keys.map(|keys| input(name, TensorType::F16, &[keys, tokens]))
                .transpose()
        };
        let selection = if shape.outputs == 0 || shape.outputs == shape.tokens {
            None
        } else {
            Some(Selection {
                rows: input("selected rows", TensorType::I32, &[shape.outputs])?,
                mask: mask("selected mask", shape.outputs)?,
            })
        };
        Ok(Self {
            tokens: input("tokens", TensorType::I32, &[shape.tokens])?,
            positions: input("positions", TensorType::I32, &[shape.tokens])?,
            token_types: if shape.token_types {
                Some(input("token types", TensorType::I32, &[shape.tokens])?)
            } else {
                None
            },
            cells: input("cells", TensorType::I64, &[shape.tokens])?,
            mask: mask("mask", shape.tokens)?,
            selection,
            hidden_states: Vec::new(),
            attentions: Vec::new(),
            last_hidden_state: None,
            logits: None,
        })
    }
}

/// The inputs that select the tokens which are output.
pub(crate) struct Selection {
    /// Their indices among the tokens, i32 `[outputs]`.
    pub(crate) rows: Tensor,
    /// Their rows of the mask, f16 `[keys, outputs]`.
    pub(crate) mask: Option<Tensor>,
}

/// Tensors that a layer needs at most: views, results and the weights it reads.
const TENSORS_PER_LAYER: usize = 64;
/// Tensors outside the layers.
const TENSORS_OUTSIDE: usize = 64;

/// Describes the forward pass of `shape` over `weights` and `cache`; the threads of `pool` compute
/// this library's own steps, and ggml's where there is none. The attention kernel takes what tokens
/// see from `sights`, whenever the graph is computed.
///
/// # Errors
/// [`crate::Error::Ggml`] when shapes do not fit each other, which checked hyperparameters rule
/// out; [`crate::Error::Memory`] when the description does not fit in memory.
pub(crate) fn build(
    weights: &Weights,
    hyperparameters: &Hyperparameters,
    cache: &KvCache,
    devices: &DeviceMap,
    pool: Option<&Arc<Pool>>,
    sights: &Arc<RwLock<RunSights>>,
    shape: GraphShape,
) -> Result<ForwardGraph> {
    let tensors = TENSORS_OUTSIDE + TENSORS_PER_LAYER * hyperparameters.n_layer;
    let context = Context::with_pool(tensors, pool.cloned())?;
    let mut graph = Graph::new(&context)?;
    let mut io = GraphIo::describe(&context, shape)?;
    let steps_on = |device| Steps {
        context: &context,
        hyperparameters,
        sights,
        shape,
        row_kernels: shape.row_kernels && device == devices.cpu(),
        other_device: device != devices.cpu(),
    };
    let steps = steps_on(devices.cpu());

    let mut x = steps.embedding(weights, &io)?;
    graph.expand(&x)?;
    graph.end_section(devices.cpu());
    for (index, layer) in weights.layers.iter().enumerate() {
        let steps = steps_on(devices.layer(index));
        if shape.hidden_states {
            x.mark_output();
            io.hidden_states.push(x.clone());
            graph.expand(&x)?;
        }
        let normalized = steps.norm(&x, &layer.attn_norm)?;
        let qkv = steps.linear(&normalized, &layer.attn_qkv, Epilogue::NONE)?;
        steps.store(&mut graph, &qkv, cache, index, &io)?;

        // The last layer is computed only for the tokens that are output.
        let last = index + 1 == weights.layers.len();
        let is_selection = last && io.selection.is_some();
        let (queries, mask) = match &io.selection {
            Some(selection) if last => {
                x = context.get_rows(&x, &selection.rows)?;
                let queries = steps.columns(&qkv, 0)?;
                (
                    context.get_rows(&queries, &selection.rows)?,
                    &selection.mask,
                )
            }
            _ if last && shape.outputs == 0 => {
                graph.end_section(devices.layer(index));
                return Ok(ForwardGraph { graph, io });
            }
            // The kernel reads the queries from the joint projection.
            _ if shape.attention == AttentionKind::Kernel => (qkv, &io.mask),
            _ => (steps.columns(&qkv, 0)?, &io.mask),
        };
        let (attended, probabilities) = match (shape.attention, mask) {
            (AttentionKind::Flash { keys } | AttentionKind::Plain { keys }, Some(mask)) => {
                steps.masked_attention(&queries, cache, index, mask, keys)?
            }
            _ => (
                steps.attention_kernel(&queries, cache, index, is_selection)?,
                None,
            ),
        };
        if let (true, Some(probabilities)) = (shape.attentions, probabilities) {
            probabilities.mark_output();
            io.attentions.push(probabilities);
        }
        x = steps.linear(&attended, &layer.attn_output, residual(&x))?;
        x = steps.feed_forward(&x, layer)?;
        graph.expand(&x)?;
        graph.end_section(devices.layer(index));
    }
    let steps = steps_on(devices.head());
    let normalized = steps.norm(&x, &weights.output_norm)?;
    graph.expand(&normalized)?;
    if let (true, Some(head)) = (shape.logits, &weights.head) {
        let logits = product(&context, head, &normalized, shape.batch_invariant)?;
        logits.mark_output();
        graph.expand(&logits)?;
        io.logits = Some(logits);
    }
    if shape.last_hidden_state || shape.hidden_states {
        normalized.mark_output();
        io.last_hidden_state = Some(normalized);
    }
    graph.end_section(devices.head());
    Ok(ForwardGraph { graph, io })
}

/// What follows the product of a linear step.
type TensorEpilogue<'a> = Epilogue<&'a Tensor, Activation>;

/// The epilogue of a step whose result is added to the residual stream.
fn residual(stream: &Tensor) -> TensorEpilogue<'_> {
    Epilogue {
        residual: Some(stream),
        ..Epilogue::NONE
    }
}

struct Steps<'a> {
    context: &'a Arc<Context>,
    hyperparameters: &'a Hyperparameters,
    sights: &'a Arc<RwLock<RunSights>>,
    shape: GraphShape,
    /// Whether this library's kernels compute the steps between products.
    row_kernels: bool,
    /// Whether another device than the CPU computes, for which there are only ggml's operations.
    other_device: bool,
}

impl Steps<'_> {
    /// Token, position and, when requested, token type embeddings: `[n_embd, tokens]`.
    fn embedding(&self, weights: &Weights, io: &GraphIo) -> Result<Tensor> {
        let positions = self
            .context
            .get_rows(&weights.position_embedding, &io.positions)?;
        let sum = self.add_embedding(&weights.token_embedding, &io.tokens, &positions)?;
        match &io.token_types {
            Some(types) => self.add_embedding(&weights.token_embedding, types, &sum),
            None => Ok(sum),
        }
    }

    /// The rows `tokens` of `matrix` plus `others`: `[n_embd, tokens]`.
    fn add_embedding(&self, matrix: &Matrix, tokens: &Tensor, others: &Tensor) -> Result<Tensor> {
        match matrix {
            Matrix::Ggml(matrix) => {
                let rows = self.context.get_rows(matrix, tokens)?;
                self.context.add(&rows, others)
            }
            Matrix::Packed(matrix) => {
                let shape = [matrix.columns(), tokens.elements()];
                let kernel = Box::new(Embedding(Arc::clone(matrix)));
                self.context.step(kernel, shape, &[tokens, others])
            }
        }
    }

    /// Layer normalization of each token: `[n_embd, tokens]`.
    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let (context, epsilon) = (self.context, self.hyperparameters.layer_norm_epsilon);
        if self.row_kernels {
            let kernel = Box::new(LayerNorm { epsilon });
            return context.row_kernel(kernel, x, &[&norm.weight, &norm.bias], false);
        }
        let normalized = context.mul(&context.norm(x, epsilon)?, &norm.weight)?;
        context.add(&normalized, &norm.bias)
    }

    /// `weight · x + bias`, and the rest of the `epilogue`: `[out, tokens]`.
    fn linear(&self, x: &Tensor, linear: &Linear, epilogue: TensorEpilogue<'_>) -> Result<Tensor> {
        let context = self.context;
        let epilogue = Epilogue {
            bias: Some(&linear.bias),
            ..epilogue
        };
        match &linear.weight {
            Matrix::Packed(matrix) => {
                let mut inputs = vec![x];
                let product = Product {
                    matrix: Arc::clone(matrix),
                    epilogue: self.bind(&epilogue, &mut inputs)?,
                    batch_invariant: self.shape.batch_invariant,
                };
                let shape = [matrix.rows(), x.shape()[1]];
                context.step(Box::new(product), shape, &inputs)
            }
            Matrix::Ggml(weight) => {
                let product = context.mul_mat(weight, x)?;
                if !self.row_kernels {
                    return self.ggml_epilogue(product, &epilogue);
                }
                let mut operands = Vec::new();
                let epilogue = self.bind(&epilogue, &mut operands)?;
                context.row_kernel(
                    Box::new(InPlaceEpilogue(epilogue)),
                    &product,
                    &operands,
                    true,
                )
            }
        }
    }

    /// The epilogue of a step of this library's, whose operands are added to its `inputs`.
    fn bind<'t>(
        &self,
        epilogue: &TensorEpilogue<'t>,
        inputs: &mut Vec<&'t Tensor>,
    ) -> Result<StepEpilogue> {
        let mut input = |operand: &'t Tensor| {
            inputs.push(operand);
            inputs.len() - 1
        };
        let activation = epilogue.activation;
        Ok(Epilogue {
            bias: epilogue.bias.map(&mut input),
            activation: activation.map(|it| self.function(it)).transpose()?,
            residual: epilogue.residual.map(input),
        })
    }

    /// The function of an activation.
    fn function(&self, activation: Activation) -> Result<Box<ElementwiseFn>> {
        if activation == Activation::GeluNew && self.shape.gelu_by_table {
            let table = gelu_table()?;
            return Ok(Box::new(move |values| {
                f16_table::gelu_by_table(values, table);
            }));
        }
        Ok(Box::new(activation.kernel()))
    }

    /// The epilogue in ggml's operations, and our own functions where it has none.
    fn ggml_epilogue(&self, x: Tensor, epilogue: &TensorEpilogue<'_>) -> Result<Tensor> {
        let context = self.context;
        let mut x = x;
        if let Some(bias) = epilogue.bias {
            x = context.add(&x, bias)?;
        }
        x = match epilogue.activation {
            None => x,
            Some(Activation::GeluNew) => context.gelu(&x)?,
            Some(activation) if self.other_device => {
                self.activate_on_other_device(&x, activation)?
            }
            // Functions that GPT-2 itself does not use have one implementation.
            Some(activation) => {
                let kernel = InPlaceEpilogue(Epilogue {
                    activation: Some(self.function(activation)?),
                    ..Epilogue::NONE
                });
                context.row_kernel(Box::new(kernel), &x, &[], true)?
            }
        };
        match epilogue.residual {
            None => Ok(x),
            Some(residual) => context.add(&x, residual),
        }
    }

    /// The activation in operations that every device has, or else by our kernel on the CPU. The
    /// kernel is not in place: the input is in another device's memory.
    fn activate_on_other_device(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let Some(chain) = activation.as_ggml() else {
            let kernel = Box::new(OutOfPlaceActivation(activation.kernel()));
            return self.context.row_kernel(kernel, x, &[], false);
        };
        chain.iter().try_fold(x.clone(), |x, &function| {
            self.context.elementwise(function, &x)
        })
    }

    /// Part 0, 1 or 2 (queries, keys, values) of the joint projection: `[n_embd, tokens]`.
    fn columns(&self, qkv: &Tensor, part: usize) -> Result<Tensor> {
        let n_embd = self.hyperparameters.n_embd;
        let strides = qkv.strides();
        let shape = [n_embd, self.shape.tokens, 1];
        self.context.view(
            qkv,
            shape,
            [strides[1], strides[2]],
            part * n_embd * strides[0],
        )
    }

    /// Stores the keys and values of the tokens in their cells.
    fn store(
        &self,
        graph: &mut Graph,
        qkv: &Tensor,
        cache: &KvCache,
        layer: usize,
        io: &GraphIo,
    ) -> Result<()> {
        for (part, table) in [(1, &cache.keys[layer]), (2, &cache.values[layer])] {
            let rows = self.columns(qkv, part)?;
            // Added to the graph now: attention reads the cells through views that do not depend on
            // this step, so only the order of the steps makes it read the new values.
            graph.expand(&self.context.set_rows(table, &rows, &io.cells)?)?;
        }
        Ok(())
    }

    /// Attention over the cells that tokens see, by the kernel: `[n_embd, n]`. The queries are
    /// `[n_embd, n]` or the joint projection, `[3 · n_embd, n]`; `selected` says whether they are
    /// those of the tokens that are output.
    fn attention_kernel(
        &self,
        queries: &Tensor,
        cache: &KvCache,
        layer: usize,
        selected: bool,
    ) -> Result<Tensor> {
        let kernel = Box::new(AttentionStep {
            sights: Arc::clone(self.sights),
            selected,
            heads: self.hyperparameters.n_head,
            head_width: self.hyperparameters.head_size(),
            scale: self.hyperparameters.attention_scale(layer),
        });
        let inputs = [queries, &cache.keys[layer], &cache.values[layer]];
        let shape = [self.hyperparameters.n_embd, queries.shape()[1]];
        self.context.step(kernel, shape, &inputs)
    }

    /// Attention of `queries` (`[n_embd, n]`) over the first `keys` cells of the cache, by ggml's
    /// operations: `[n_embd, n]`, and its probabilities (`[keys, n, heads]`) where they are
    /// computed.
    fn masked_attention(
        &self,
        queries: &Tensor,
        cache: &KvCache,
        layer: usize,
        mask: &Tensor,
        keys: usize,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let context = self.context;
        let (head, heads) = (
            self.hyperparameters.head_size(),
            self.hyperparameters.n_head,
        );
        let count = queries.shape()[1];
        let scale = self.hyperparameters.attention_scale(layer);
        let strides = queries.strides();
        let queries = context.view(
            queries,
            [head, count, heads],
            [strides[1], head * strides[0]],
            0,
        )?;
        let (keys, values) = (
            self.cached(&cache.keys[layer], keys)?,
            self.cached(&cache.values[layer], keys)?,
        );
        let flash = matches!(self.shape.attention, AttentionKind::Flash { .. });
        let (merged, probabilities) = if flash {
            let merged = context.flash_attention(&queries, &keys, &values, mask, scale)?;
            (merged, None)
        } else {
            let scores = context.mul_mat(&keys, &queries)?;
            let probabilities = context.soft_max(&scores, mask, scale)?;
            let values = context.cast(&values, TensorType::F32)?;
            let values = context.contiguous(&context.permute(&values, [1, 0, 2, 3])?)?;
            let weighted = context.mul_mat(&values, &probabilities)?;
            let merged = context.contiguous(&context.permute(&weighted, [0, 2, 1, 3])?)?;
            (merged, Some(probabilities))
        };
        let merged = context.reshape(&merged, [self.hyperparameters.n_embd, count, 1])?;
        Ok((merged, probabilities))
    }

    /// The first `keys` cells, head by head: `[head_size, keys, heads]`.
    fn cached(&self, table: &Tensor, keys: usize) -> Result<Tensor> {
        let (head, heads) = (
            self.hyperparameters.head_size(),
            self.hyperparameters.n_head,
        );
        let head_bytes = table.tensor_type()?.row_bytes(head as u64)? as usize;
        self.context.view(
            table,
            [head, keys, heads],
            [table.strides()[1], head_bytes],
            0,
        )
    }

    /// `x + W_down · activation(W_up · norm(x))`: `[n_embd, tokens]`.
    fn feed_forward(&self, x: &Tensor, layer: &LayerWeights) -> Result<Tensor> {
        let normalized = self.norm(x, &layer.ffn_norm)?;
        let activation = Epilogue {
            activation: Some(self.hyperparameters.activation_function),
            ..Epilogue::NONE
        };
        let up = self.linear(&normalized, &layer.ffn_up, activation)?;
        self.linear(&up, &layer.ffn_down, residual(x))
    }
}
