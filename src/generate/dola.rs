//! `DoLa`: logits are what the last layer says minus what an earlier one would have said (Chuang et
//! al. 2023, <https://arxiv.org/abs/2309.03883>), as transformers' `_dola_decoding` has it.

use super::options::DolaLayers;
use crate::sampling::log_softmax;
use crate::session::{OutputRows, Session};
use crate::spec::Hyperparameters;
use crate::{Error, Result};

/// Tokens below this share of the best one's probability are ruled out.
const RELATIVE_TOP: f32 = 0.1;

/// Logits of the last layer, contrasted with those of the earlier layer that differs most.
#[derive(Debug)]
pub(super) struct Dola {
    /// The hidden states that may be contrasted with, counted from 0, the embedding.
    layers: Vec<usize>,
    /// The last layer's logits.
    raw: Vec<f32>,
    /// Their log-probabilities.
    end: Vec<f32>,
    /// The hidden states of the layers, those from `next` on not compared yet.
    states: Vec<Vec<f32>>,
    next: usize,
    /// The log-probabilities that differ most so far, and by how much.
    furthest: Option<(f64, Vec<f32>)>,
}

impl Dola {
    /// # Errors
    /// [`Error::Argument`] when none of the layers is before the last.
    pub(super) fn new(session: &Session, layers: DolaLayers) -> Result<Self> {
        Ok(Self {
            layers: candidates(session.model().hyperparameters(), layers)?,
            raw: Vec::new(),
            end: Vec::new(),
            states: Vec::new(),
            next: 0,
            furthest: None,
        })
    }

    /// The last layer's logits.
    pub(super) fn raw(&self) -> &[f32] {
        &self.raw
    }

    /// Takes the logits and the hidden states of a token.
    pub(super) fn begin(&mut self, rows: OutputRows<'_>) {
        rows.logits(0).clone_into(&mut self.raw);
        log_softmax(&self.raw, &mut self.end);
        let states = self.layers.iter();
        let states = states.filter_map(|&layer| rows.hidden_state(layer));
        self.states = states.map(<[f32]>::to_vec).collect();
        self.next = 0;
        self.furthest = None;
    }

    /// The next hidden state whose logits are wanted.
    pub(super) fn next_state(&mut self) -> Vec<f32> {
        let state = self.states.get_mut(self.next);
        state.map(std::mem::take).unwrap_or_default()
    }

    /// Takes the logits of that hidden state; after the last one, gives the contrasted logits.
    pub(super) fn compare(&mut self, logits: &[f32]) -> Option<Vec<f32>> {
        let mut early = Vec::new();
        log_softmax(logits, &mut early);
        let divergence = jensen_shannon(&self.end, &early);
        if self
            .furthest
            .as_ref()
            .is_none_or(|(most, _)| divergence > *most)
        {
            self.furthest = Some((divergence, early));
        }
        self.next += 1;
        if self.next < self.states.len() {
            return None;
        }
        let (_, early) = self.furthest.take()?;
        Some(contrast(&self.end, &early))
    }
}

/// The layers to choose from. Where the head is the embedding, the embedding itself says nothing
/// and is left out.
fn candidates(model: &Hyperparameters, layers: DolaLayers) -> Result<Vec<usize>> {
    let last = model.n_layer;
    let first = match (model.tied_head, last) {
        (true, 3..) => 2,
        (true, 2) => 1,
        _ => 0,
    };
    let (low_end, high_start) = if last <= 40 {
        (last / 2, last / 2)
    } else {
        (20, last - 20)
    };
    let layers: Vec<usize> = match layers {
        DolaLayers::Low if first == last / 2 => vec![first],
        DolaLayers::Low => (first..low_end).step_by(2).collect(),
        DolaLayers::High => (high_start..last).step_by(2).collect(),
        DolaLayers::These(layers) => layers.into_iter().filter(|&layer| layer < last).collect(),
    };
    if layers.is_empty() {
        return Err(Error::Argument(format!(
            "dola_layers: expected layers below the last, {last}, found none"
        )));
    }
    Ok(layers)
}

/// The mean over the vocabulary of the Jensen-Shannon divergence of two distributions given as log
/// probabilities.
fn jensen_shannon(a: &[f32], b: &[f32]) -> f64 {
    let term = |(a, b): (&f32, &f32)| {
        let (log_a, log_b) = (f64::from(*a), f64::from(*b));
        let middle = 0.5 * (libm::exp(log_a) + libm::exp(log_b));
        if middle > 0.0 {
            let log_middle = libm::log(middle);
            0.5 * middle * ((log_middle - log_a) + (log_middle - log_b))
        } else {
            0.0
        }
    };
    a.iter().zip(b).map(term).sum::<f64>() / a.len().max(1) as f64
}

/// log p − log q of the tokens that are likely enough in p; −∞ for the others.
fn contrast(end: &[f32], early: &[f32]) -> Vec<f32> {
    let largest = end.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let threshold = largest + libm::logf(RELATIVE_TOP);
    end.iter()
        .zip(early)
        .map(|(&end, &early)| {
            if end < threshold {
                f32::NEG_INFINITY
            } else {
                end - early
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(layers: usize, tied_head: bool) -> Hyperparameters {
        Hyperparameters {
            n_layer: layers,
            tied_head,
            ..Hyperparameters::default()
        }
    }

    #[test]
    fn layers_are_transformers() {
        let of = |layers, tied, choice| candidates(&model(layers, tied), choice).unwrap();
        assert_eq!(of(12, true, DolaLayers::Low), [2, 4]);
        assert_eq!(of(12, false, DolaLayers::Low), [0, 2, 4]);
        assert_eq!(of(12, true, DolaLayers::High), [6, 8, 10]);
        assert_eq!(
            of(48, true, DolaLayers::High),
            [28, 30, 32, 34, 36, 38, 40, 42, 44, 46]
        );
        assert_eq!(of(48, false, DolaLayers::Low).len(), 10);
        assert_eq!(of(2, true, DolaLayers::Low), [1]);
        assert_eq!(of(4, true, DolaLayers::Low), [2]);
        assert_eq!(of(6, true, DolaLayers::These(vec![1, 6, 3])), [1, 3]);
        assert!(candidates(&model(6, true), DolaLayers::These(vec![6])).is_err());
    }

    #[test]
    fn unlikely_tokens_are_ruled_out() {
        let log = |values: [f32; 3]| values.map(libm::logf);
        let found = contrast(&log([0.6, 0.35, 0.05]), &log([0.3, 0.5, 0.2]));
        assert!((found[0] - libm::logf(2.0)).abs() < 1e-6);
        assert!((found[1] - libm::logf(0.7)).abs() < 1e-6);
        // .05 is below a tenth of .6.
        assert_eq!(found[2], f32::NEG_INFINITY);
    }

    #[test]
    fn equal_distributions_do_not_diverge() {
        let a = [0.5f32, 0.25, 0.25].map(libm::logf);
        let b = [0.2f32, 0.4, 0.4].map(libm::logf);
        assert!(jensen_shannon(&a, &a).abs() < 1e-9);
        assert!(jensen_shannon(&a, &b) > 0.01);
        // By the formula: M = (.35 .325 .325); Σ ½M(2 ln M − ln a − ln b) / 3.
        let m = [0.35f64, 0.325, 0.325];
        let (p, q) = ([0.5f64, 0.25, 0.25], [0.2f64, 0.4, 0.4]);
        let by_hand: f64 = (0..3)
            .map(|i| 0.5 * m[i] * (2.0 * m[i].ln() - p[i].ln() - q[i].ln()))
            .sum::<f64>()
            / 3.0;
        assert!((jensen_shannon(&a, &b) - by_hand).abs() < 1e-7);
    }
}
