//! The language-model head alone.

use super::run::Session;
use crate::error::{Error, Result};
use crate::ggml::context::Context;
use crate::ggml::graph::{Allocator, Graph};
use crate::gguf::TensorType;
use crate::model::ops::product;

/// The head, its input and its output.
const TENSORS: usize = 8;

impl Session {
    /// The logits that the language-model head gives for rows of hidden states (row-major `[n,
    /// width]`, as they are: without the final layer norm): row-major `[n, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without such a head, [`Error::Argument`] for rows of
    /// another width, [`Error::Stopped`] when the stop flag is set.
    pub fn project(&mut self, rows: &[f32]) -> Result<Vec<f32>> {
        self.backends.prepare()?;
        let model = self.model().clone();
        let hyperparameters = model.hyperparameters();
        let Some(head) = &model.weights().head else {
            return Err(Error::Unsupported(format!(
                "logits of tokens from a {}, which has no language-model head",
                hyperparameters.class.name()
            )));
        };
        let width = hyperparameters.n_embd;
        if rows.is_empty() || !rows.len().is_multiple_of(width) {
            return Err(Error::Argument(format!(
                "expected rows of {width} numbers, found {} numbers",
                rows.len()
            )));
        }
        let count = rows.len() / width;
        let context = Context::with_pool(TENSORS, self.pool.clone())?;
        let mut graph = Graph::new(&context)?;
        let input = context.tensor("rows", TensorType::F32, &[width, count])?;
        input.mark_input();
        let output = product(&context, head, &input, false)?;
        output.mark_output();
        graph.expand(&output)?;
        graph.end_section(model.devices().head());
        let allocator = Allocator::new(&self.backends, &graph)?;
        let mut graph = graph.allocate(allocator)?;
        graph.write(&input, rows)?;
        graph.compute(&mut self.backends)?;
        let mut logits = vec![0.0; count * hyperparameters.vocab_size];
        graph.read(&output, &mut logits)?;
        Ok(logits)
    }
}
