//! What a graph gave becomes the output of a run: rows of the tokens that were asked for.

use super::batch::BatchToken;
use super::graphs::ReadyGraph;
use super::run::Session;
use crate::error::Result;

impl Session {
    /// Appends what a graph gave to the output.
    pub(super) fn collect(
        &mut self,
        ready: &ReadyGraph,
        tokens: &[BatchToken],
        selected: &[usize],
    ) -> Result<()> {
        let ReadyGraph { shape, graph, io } = ready;
        let width = self.model().hyperparameters().n_embd;
        let output = &mut self.output;
        if let Some(logits) = &io.logits {
            let count = selected.len() * output.vocabulary;
            graph.append(logits, count, &mut output.logits)?;
        }
        let mut last = vec![0.0; selected.len() * width];
        if let Some(port) = &io.last_hidden_state {
            graph.read(port, &mut last)?;
        }
        if shape.last_hidden_state {
            output.last_hidden_state.extend_from_slice(&last);
        }
        if shape.hidden_states {
            output
                .hidden_states
                .resize(io.hidden_states.len() + 1, Vec::new());
            let mut rows = vec![0.0; tokens.len() * width];
            for (states, to) in io.hidden_states.iter().zip(&mut output.hidden_states) {
                graph.read(states, &mut rows)?;
                for &index in selected {
                    to.extend_from_slice(&rows[index * width..(index + 1) * width]);
                }
            }
            if let Some(to) = output.hidden_states.last_mut() {
                to.extend_from_slice(&last);
            }
        }
        if shape.attentions {
            output.attentions.resize(io.attentions.len(), Vec::new());
        }
        let layers = io.attentions.iter().zip(&mut output.attentions);
        for (number, (probabilities, to)) in layers.enumerate() {
            let [keys, queries, heads, _] = probabilities.shape();
            let mut rows = vec![0.0; probabilities.elements()];
            graph.read(probabilities, &mut rows)?;
            // The last layer works only for the tokens that come out.
            let only_selected = io.selection.is_some() && number + 1 == io.attentions.len();
            for (place, &index) in selected.iter().enumerate() {
                let query = if only_selected { place } else { index };
                for head in 0..heads {
                    let start = to.len();
                    to.resize(start + output.positions, 0.0);
                    let row = &rows[(head * queries + query) * keys..][..keys];
                    for (cell, &probability) in row.iter().enumerate() {
                        let position = self.cells.position(cell);
                        if position < output.positions
                            && self.cells.is_of(cell, tokens[index].sequences)
                        {
                            to[start + position] += probability;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
