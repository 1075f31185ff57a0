//! GPT-2's forward pass as a graph, written once in named steps.
//!
//! A step that has a kernel of this library's own uses it, unless ggml's operations are asked for; the
//! rest of the pass does not notice which.

use std::sync::Arc;

use super::device_map::DeviceMap;
use super::kv_cache::KvCache;
use super::steps::{
    Apart, AttentionStep, Embedding, InPlaceEpilogue, LayerNorm, Product, StepEpilogue, product,
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

/// What a graph is built for; one with an equal shape can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GraphShape {
    /// Tokens that go in together.
    pub(crate) tokens: usize,
    /// Cells of the cache that attention looks at.
    pub(crate) keys: usize,
    /// Tokens whose logits (or last hidden states) come out.
    pub(crate) outputs: usize,
    /// Attention without the score matrix in memory.
    pub(crate) flash_attention: bool,
    /// Whether the small steps are computed by this library's kernels or by ggml's operations, whose
    /// roundings are those of other programs on ggml.
    pub(crate) row_kernels: bool,
    /// Whether our GELU is looked up as ggml's is, or computed.
    pub(crate) gelu_by_table: bool,
    /// Whether a second embedding is added to each token's.
    pub(crate) token_types: bool,
    /// Whether logits come out.
    pub(crate) logits: bool,
    /// Whether what the final layer norm gives comes out.
    pub(crate) last_hidden_state: bool,
    /// Whether the residual stream before each layer comes out too.
    pub(crate) hidden_states: bool,
    /// Whether the probabilities of attention come out; not with flash attention, which has none.
    pub(crate) attentions: bool,
    /// Whether products are batch-invariant: each token gets the bits that it has when it is computed alone.
    pub(crate) batch_invariant: bool,
}

/// A graph with the tensors that are written before it runs and read after.
pub(crate) struct ForwardGraph {
    pub(crate) graph: Graph,
    pub(crate) ports: Ports,
}

/// The tensors through which a forward graph is used.
pub(crate) struct Ports {
    /// Token ids, i32 `[tokens]`.
    pub(crate) tokens: Tensor,
    /// Positions, i32 `[tokens]`.
    pub(crate) positions: Tensor,
    /// The tokens whose embeddings are added, i32 `[tokens]`.
    pub(crate) token_types: Option<Tensor>,
    /// The cache's cell for each token, i64 `[tokens]`.
    pub(crate) cells: Tensor,
    /// 0 where a token (row) sees a cell (column), −∞ elsewhere; f16 `[keys, tokens]`.
    pub(crate) mask: Tensor,
    /// When only some tokens come out: which, and the mask's rows for them.
    pub(crate) selection: Option<Selection>,
    /// Embeddings and the output of each layer but the last, f32 `[width, tokens]`, when asked for.
    pub(crate) hidden_states: Vec<Tensor>,
    /// Probabilities in each layer, f32 `[keys, tokens, heads]` (in the last one `[keys, outputs, heads]`),
    /// when asked for.
    pub(crate) attentions: Vec<Tensor>,
    /// After the final layer norm, f32 `[width, outputs]`, when asked for.
    pub(crate) last_hidden_state: Option<Tensor>,
    /// f32 `[vocabulary, outputs]`, when asked for.
    pub(crate) logits: Option<Tensor>,
}

impl Ports {
    /// The inputs of a graph of `shape`; its outputs come as they are made.
    fn describe(context: &Arc<Context>, shape: GraphShape) -> Result<Self> {
        let input = |name: &str, tensor_type, shape: &[usize]| -> Result<Tensor> {
            let tensor = context.tensor(name, tensor_type, shape)?;
            tensor.mark_input();
            Ok(tensor)
        };
        let selection = if shape.outputs == 0 || shape.outputs == shape.tokens {
            None
        } else {
            Some(Selection {
                rows: input("selected rows", TensorType::I32, &[shape.outputs])?,
                mask: input(
                    "selected mask",
                    TensorType::F16,
                    &[shape.keys, shape.outputs],
                )?,
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
            mask: input("mask", TensorType::F16, &[shape.keys, shape.tokens])?,
            selection,
            hidden_states: Vec::new(),
            attentions: Vec::new(),
            last_hidden_state: None,
            logits: None,
        })
    }
}

/// The inputs that pick the tokens which come out.
pub(crate) struct Selection {
    /// Their places among the tokens, i32 `[outputs]`.
    pub(crate) rows: Tensor,
    /// Their rows of the mask, f16 `[keys, outputs]`.
    pub(crate) mask: Tensor,
}

/// Descriptions a layer needs at most (views, results and the weights it reads).
const TENSORS_PER_LAYER: usize = 64;
/// Descriptions outside the layers.
const TENSORS_OUTSIDE: usize = 64;

/// Describes the forward pass of `shape` over `weights` and `cache`; the threads of `pool` compute this library's own
/// steps, and ggml's where there is none.
///
/// # Errors
/// [`crate::Error::Ggml`] when shapes do not fit each other, which checked hyperparameters rule out;
/// [`crate::Error::Memory`] when the description does not fit in memory.
pub(crate) fn build(
    weights: &Weights,
    hyperparameters: &Hyperparameters,
    cache: &KvCache,
    devices: &DeviceMap,
    pool: Option<&Arc<Pool>>,
    shape: GraphShape,
) -> Result<ForwardGraph> {
    let tensors = TENSORS_OUTSIDE + TENSORS_PER_LAYER * hyperparameters.n_layer;
    let context = Context::with_pool(tensors, pool.cloned())?;
    let mut graph = Graph::new(&context)?;
    let mut ports = Ports::describe(&context, shape)?;
    let steps_on = |device| Steps {
        context: &context,
        hyperparameters,
        shape,
        row_kernels: shape.row_kernels && device == devices.cpu(),
        elsewhere: device != devices.cpu(),
    };
    let steps = steps_on(devices.cpu());

    let mut x = steps.embedding(weights, &ports)?;
    graph.expand(&x)?;
    graph.end_section(devices.cpu());
    for (index, layer) in weights.layers.iter().enumerate() {
        let steps = steps_on(devices.layer(index));
        if shape.hidden_states {
            x.mark_output();
            ports.hidden_states.push(x.clone());
            graph.expand(&x)?;
        }
        let normalized = steps.norm(&x, &layer.attn_norm)?;
        let qkv = steps.linear(&normalized, &layer.attn_qkv, Epilogue::NONE)?;
        steps.store(&mut graph, &qkv, cache, index, &ports)?;

        // The last layer works only for the tokens that come out.
        let last = index + 1 == weights.layers.len();
        let (queries, mask) = match &ports.selection {
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
                return Ok(ForwardGraph { graph, ports });
            }
            // The kernel finds the queries in the joint projection.
            _ if steps.attends_itself() => (qkv, &ports.mask),
            _ => (steps.columns(&qkv, 0)?, &ports.mask),
        };
        let (attended, probabilities) = steps.attention(&queries, cache, index, mask)?;
        if let (true, Some(probabilities)) = (shape.attentions, probabilities) {
            probabilities.mark_output();
            ports.attentions.push(probabilities);
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
        ports.logits = Some(logits);
    }
    if shape.last_hidden_state || shape.hidden_states {
        normalized.mark_output();
        ports.last_hidden_state = Some(normalized);
    }
    graph.end_section(devices.head());
    Ok(ForwardGraph { graph, ports })
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
    shape: GraphShape,
    /// Whether this library's kernels compute the small steps.
    row_kernels: bool,
    /// Whether another device than the CPU computes, which has ggml's operations alone.
    elsewhere: bool,
}

impl Steps<'_> {
    /// Token, position and, where asked for, token type embeddings: `[width, tokens]`.
    fn embedding(&self, weights: &Weights, ports: &Ports) -> Result<Tensor> {
        let positions = self
            .context
            .get_rows(&weights.position_embedding, &ports.positions)?;
        let sum = self.add_embedding(&weights.token_embedding, &ports.tokens, &positions)?;
        match &ports.token_types {
            Some(types) => self.add_embedding(&weights.token_embedding, types, &sum),
            None => Ok(sum),
        }
    }

    /// The rows of `matrix` that `tokens` names, and `others` added: `[width, tokens]`.
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

    /// Layer normalization of each token: `[width, tokens]`.
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
            Some(activation) if self.elsewhere => self.activate_elsewhere(&x, activation)?,
            // The functions GPT-2 itself does not use have one home.
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

    /// The activation by operations that every device has, or else by our kernel on the CPU. That one gives
    /// a result of its own: it cannot work in place in another device's memory.
    fn activate_elsewhere(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let Some(chain) = activation.as_ggml() else {
            let kernel = Box::new(Apart(activation.kernel()));
            return self.context.row_kernel(kernel, x, &[], false);
        };
        chain.iter().try_fold(x.clone(), |x, &function| {
            self.context.elementwise(function, &x)
        })
    }

    /// Part 0, 1 or 2 (queries, keys, values) of the joint projection: `[width, tokens]`.
    fn columns(&self, qkv: &Tensor, part: usize) -> Result<Tensor> {
        let width = self.hyperparameters.n_embd;
        let strides = qkv.strides();
        let shape = [width, self.shape.tokens, 1];
        self.context.view(
            qkv,
            shape,
            [strides[1], strides[2]],
            part * width * strides[0],
        )
    }

    /// Puts the keys and values of the tokens into their cells.
    fn store(
        &self,
        graph: &mut Graph,
        qkv: &Tensor,
        cache: &KvCache,
        layer: usize,
        ports: &Ports,
    ) -> Result<()> {
        for (part, table) in [(1, &cache.keys[layer]), (2, &cache.values[layer])] {
            let rows = self.columns(qkv, part)?;
            // Added to the graph at once: attention reads the cells through views that do not depend
            // on this step, so its place in the order is what makes them up to date.
            graph.expand(&self.context.set_rows(table, &rows, &ports.cells)?)?;
        }
        Ok(())
    }

    /// Whether attention is a step of this library's.
    fn attends_itself(&self) -> bool {
        self.shape.flash_attention
            && self.context.has_pool()
            && self.hyperparameters.head_size() <= MAX_HEAD_WIDTH
    }

    /// Attention of `queries` (`[width, n]`; a kernel of our own skips what else is in a column) over the cache: `[width, n]`, and its probabilities
    /// (`[keys, n, heads]`) where they are computed.
    fn attention(
        &self,
        queries: &Tensor,
        cache: &KvCache,
        layer: usize,
        mask: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let context = self.context;
        let (head, heads) = (
            self.hyperparameters.head_size(),
            self.hyperparameters.n_head,
        );
        let count = queries.shape()[1];
        let scale = self.hyperparameters.attention_scale(layer);
        if self.attends_itself() {
            let kernel = Box::new(AttentionStep {
                cells: self.shape.keys,
                heads,
                head_width: head,
                scale,
            });
            let inputs = [queries, &cache.keys[layer], &cache.values[layer], mask];
            let merged = context.step(kernel, [self.hyperparameters.n_embd, count], &inputs)?;
            return Ok((merged, None));
        }
        let strides = queries.strides();
        let queries = context.view(
            queries,
            [head, count, heads],
            [strides[1], head * strides[0]],
            0,
        )?;
        let (keys, values) = (
            self.cached(&cache.keys[layer])?,
            self.cached(&cache.values[layer])?,
        );
        let (merged, probabilities) = if self.shape.flash_attention {
            let merged = context.flash_attention(&queries, &keys, &values, mask, scale)?;
            (merged, None)
        } else {
            let scores = context.mul_mat(&keys, &queries)?;
            let probabilities = context.soft_max(&scores, mask, scale)?;
            let values = context.cast(&values, TensorType::F32)?;
            let values = context.contiguous(&context.permute(&values, [1, 0, 2, 3])?)?;
            let mixed = context.mul_mat(&values, &probabilities)?;
            let merged = context.contiguous(&context.permute(&mixed, [0, 2, 1, 3])?)?;
            (merged, Some(probabilities))
        };
        let merged = context.reshape(&merged, [self.hyperparameters.n_embd, count, 1])?;
        Ok((merged, probabilities))
    }

    /// The cells that attention looks at, one head after the other: `[head width, keys, heads]`.
    fn cached(&self, table: &Tensor) -> Result<Tensor> {
        let (head, heads) = (
            self.hyperparameters.head_size(),
            self.hyperparameters.n_head,
        );
        let head_bytes = table.tensor_type()?.row_bytes(head as u64)? as usize;
        self.context.view(
            table,
            [head, self.shape.keys, heads],
            [table.strides()[1], head_bytes],
            0,
        )
    }

    /// `x + W_down · activation(W_up · norm(x))`: `[width, tokens]`.
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
