//! Beam search: several texts at a time, the best of which is the result; with draws, or in groups that avoid
//! each other (Vijayakumar et al. 2016, <https://arxiv.org/abs/1610.02424>).
//!
//! As transformers' `_beam_search` does it: log-probabilities go through the processors, are added up, and the
//! best continuations of all texts go on. A text's score is its sum over its length to the power of
//! `length_penalty`.

use std::rc::Rc;
use std::time::Instant;

use super::candidates::{Best, Candidate};
use super::options::{
    Continuation, EarlyStopping, FinishReason, Generation, GenerationOptions, GenerationTimings,
};
use super::writer::Writer;
use super::{OnToken, Request};
use crate::model::kv_cache::SequenceSet;
use crate::sampling::{Chain, Generator, StepInputs, greedy, log_softmax};
use crate::session::Session;
use crate::session::{Batch, BatchToken};
use crate::{Error, Result, TokenId};

/// The score of a text that is not one: beams that have not parted yet, candidates that ended.
const NO_TEXT: f32 = -1e9;

/// A text in progress.
#[derive(Debug, Clone)]
struct Beam {
    /// Prompt and continuation.
    ids: Vec<TokenId>,
    /// Σ log p.
    score: f32,
    /// On request, what each token was chosen by; beams that part share what came before.
    steps: Vec<Rc<StepScores>>,
}

/// The numbers of a beam's step, each only if it was asked for.
#[derive(Debug, Default)]
struct StepScores {
    /// Log-probabilities after all processors.
    scores: Vec<f32>,
    /// The model's logits.
    logits: Vec<f32>,
}

/// A text that ended.
#[derive(Debug, Clone)]
struct Finished {
    /// The continuation.
    ids: Vec<TokenId>,
    /// Σ log p / length^`length_penalty`.
    score: f32,
    reason: FinishReason,
    steps: Vec<Rc<StepScores>>,
}

/// Beams that search together. Groups are searched in turn, each on its own.
struct Group {
    /// As many as the group is wide.
    running: Vec<Beam>,
    /// The best, descending, at most as many as the group is wide.
    finished: Vec<Finished>,
    /// Whether a text in progress may still become a result.
    may_improve: bool,
    /// Whether there is nothing more to do.
    done: bool,
}

/// The choice of one step for a group.
struct Selected {
    /// The beams that go on, with the places of the beams they come from.
    running: Vec<(usize, Beam)>,
    /// Whether every candidate ended.
    all_ended: bool,
}

pub(super) fn search(
    session: &mut Session,
    request: &Request<'_>,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    let mut generation = Generation {
        sequences: Vec::new(),
        timings: GenerationTimings::default(),
    };
    let start = Instant::now();
    let first = match prefill(session, request, &mut generation.timings) {
        Ok(logits) => logits,
        Err(Error::Stopped) => return Ok(generation),
        Err(error) => return Err(error),
    };
    generation.timings.prefill = start.elapsed();
    let start = Instant::now();
    let mut search = Search::new(request)?;
    let reason = search.run(session, first, &mut generation.timings)?;
    generation.sequences = search.results(reason, on_token)?;
    generation.timings.decode = start.elapsed();
    Ok(generation)
}

/// Computes the prompt once, in sequence 0, and shares it with the others; gives the logits after it.
fn prefill(
    session: &mut Session,
    request: &Request<'_>,
    timings: &mut GenerationTimings,
) -> Result<Vec<f32>> {
    let prompt = request.prompt;
    let held = session.tokens(0);
    let common = held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    let common = common.min(prompt.len().saturating_sub(1));
    session.truncate(0, common)?;
    // The others hold nothing that is wanted, and would take its place.
    let beams = request.options.num_beams;
    session.truncate(beams - 1, 0)?;
    for sequence in 1..beams {
        session.truncate(sequence, 0)?;
    }
    let logits = session.prefill(&prompt[common..])?.to_vec();
    timings.prefill_tokens = prompt.len() - common;
    session.reorder(&vec![0; beams])?;
    Ok(logits)
}

struct Search<'a, 'r> {
    request: &'r Request<'a>,
    groups: Vec<Group>,
    chain: Chain,
    generator: Generator,
}

impl<'a, 'r> Search<'a, 'r> {
    fn new(request: &'r Request<'a>) -> Result<Self> {
        let options = request.options;
        let width = options.num_beams / options.num_beam_groups;
        let beam = |index: usize| Beam {
            ids: request.prompt.to_vec(),
            // All begin alike: one of them is enough to part from.
            score: if index == 0 { 0.0 } else { NO_TEXT },
            steps: Vec::new(),
        };
        let group = || Group {
            running: (0..width).map(beam).collect(),
            finished: Vec::new(),
            may_improve: true,
            done: false,
        };
        Ok(Self {
            request,
            groups: (0..options.num_beam_groups).map(|_| group()).collect(),
            chain: request.chain(options.num_beams)?,
            generator: Generator::new(options.seed),
        })
    }

    /// Searches until every group is done; gives why texts that are still in progress ended.
    fn run(
        &mut self,
        session: &mut Session,
        first: Vec<f32>,
        timings: &mut GenerationTimings,
    ) -> Result<FinishReason> {
        let options = self.request.options;
        let mut rows = vec![first; options.num_beams];
        for step in 0..self.request.max_new_tokens {
            let parents = self.step(&rows, step)?;
            if self.groups.iter().all(|group| group.done) || step + 1 == self.request.max_new_tokens
            {
                break;
            }
            session.reorder(&parents)?;
            match self.compute(session) {
                Ok(next) => rows = next,
                Err(Error::Stopped) => return Ok(FinishReason::Stopped),
                Err(Error::ContextFull { .. }) => return Ok(FinishReason::ContextFull),
                Err(error) => return Err(error),
            }
            timings.decode_tokens += options.num_beams;
        }
        Ok(FinishReason::Length)
    }

    /// Computes the newest token of every beam; gives the logits after each.
    fn compute(&self, session: &mut Session) -> Result<Vec<Vec<f32>>> {
        let mut batch = Batch::default();
        for (sequence, beam) in self.groups.iter().flat_map(|g| &g.running).enumerate() {
            let Some(&token) = beam.ids.last() else {
                continue;
            };
            batch.tokens.push(BatchToken {
                token,
                position: beam.ids.len() - 1,
                sequences: SequenceSet::of(sequence)?,
                output: true,
                ..BatchToken::default()
            });
        }
        let output = session.run(&batch)?;
        Ok((0..output.rows())
            .map(|row| output.row(row).to_vec())
            .collect())
    }

    /// Chooses the next tokens of all groups; gives the beam that each new one comes from.
    fn step(&mut self, rows: &[Vec<f32>], step: usize) -> Result<Vec<usize>> {
        let options = self.request.options;
        let width = options.num_beams / options.num_beam_groups;
        let mut chosen = Vec::new();
        let mut parents: Vec<usize> = (0..options.num_beams).collect();
        for group in 0..self.groups.len() {
            let first = group * width;
            if self.groups[group].done {
                continue;
            }
            let (candidates, steps) =
                self.candidates(group, &rows[first..first + width], &chosen)?;
            let selected = self.select(group, &candidates, &steps, step);
            let group = &mut self.groups[group];
            for (place, (parent, beam)) in selected.running.into_iter().enumerate() {
                chosen.extend(beam.ids.last());
                parents[first + place] = first + parent;
                group.running[place] = beam;
            }
            group.settle(self.request, step + 1, selected.all_ended);
        }
        Ok(parents)
    }

    /// The best continuations of a group's beams, enough that as many as there are beams do not end; and on
    /// request what each beam's were chosen by.
    fn candidates(
        &mut self,
        group: usize,
        rows: &[Vec<f32>],
        chosen: &[TokenId],
    ) -> Result<(Vec<Candidate>, Vec<Rc<StepScores>>)> {
        let options = self.request.options;
        let recorded = options.output_scores || options.output_logits;
        let mut steps = Vec::new();
        let width = rows.len();
        let count = width * (1 + self.request.eos.len()).max(2);
        let mut best = Best::new(count);
        let mut all = Vec::new();
        let mut log_probabilities = Vec::new();
        for (place, (beam, logits)) in self.groups[group].running.iter().zip(rows).enumerate() {
            // Finds logits that are no numbers.
            greedy(logits)?;
            log_softmax(logits, &mut log_probabilities);
            let inputs = StepInputs {
                ids: &beam.ids,
                chosen,
                ..StepInputs::default()
            };
            let scores = self.chain.process_step(&log_probabilities, &inputs)?;
            if recorded {
                let on_request = |wanted: bool, values: &[f32]| {
                    if wanted { values.to_vec() } else { Vec::new() }
                };
                steps.push(Rc::new(StepScores {
                    scores: on_request(options.output_scores, scores),
                    logits: on_request(options.output_logits, logits),
                }));
            }
            let scores = scores.iter().map(|score| score + beam.score);
            if options.sampling.do_sample {
                all.extend(scores);
            } else {
                best.offer(place, scores);
            }
        }
        if !options.sampling.do_sample {
            return Ok((best.finish(), steps));
        }
        let vocabulary = all.len() / width;
        let drawn = self.generator.draw_without_replacement(&all, count)?;
        let mut drawn: Vec<Candidate> = drawn
            .into_iter()
            .map(|place| Candidate {
                beam: place / vocabulary,
                token: (place % vocabulary) as TokenId,
                score: all[place],
            })
            .collect();
        drawn.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok((drawn, steps))
    }

    /// Sorts a group's candidates into texts that ended, which are kept when they are good enough, and beams
    /// that go on.
    fn select(
        &mut self,
        group: usize,
        candidates: &[Candidate],
        steps: &[Rc<StepScores>],
        step: usize,
    ) -> Selected {
        let out_of_time = self.request.is_over_time();
        let options = self.request.options;
        let group = &mut self.groups[group];
        let width = group.running.len();
        let full = group.finished.len() == width;
        let closed =
            (full && options.early_stopping == EarlyStopping::WhenFull) || !group.may_improve;
        let mut running: Vec<(usize, Beam)> = Vec::with_capacity(2 * width);
        let mut ended: Vec<(usize, Beam)> = Vec::new();
        for (rank, candidate) in candidates.iter().enumerate() {
            let parent = &group.running[candidate.beam];
            let mut ids = parent.ids.clone();
            ids.push(candidate.token);
            let reason = ends(self.request, &ids, step, out_of_time);
            let mut beam = Beam {
                ids,
                score: candidate.score,
                steps: parent.steps.clone(),
            };
            beam.steps.extend(steps.get(candidate.beam).cloned());
            let Some(reason) = reason else {
                running.push((candidate.beam, beam));
                continue;
            };
            if rank < width && !closed {
                group.finished.push(Finished {
                    ids: beam.ids[self.request.prompt.len()..].to_vec(),
                    score: normalized(candidate.score, step + 1, options),
                    reason,
                    steps: beam.steps.clone(),
                });
            }
            beam.score += NO_TEXT;
            ended.push((candidate.beam, beam));
        }
        group.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        group.finished.truncate(width);
        let all_ended = running.is_empty();
        // Too few go on: what ended fills the places and can no longer win.
        running.extend(ended);
        running.truncate(width);
        Selected { running, all_ended }
    }

    /// The best texts, best first, handed on token by token.
    fn results(
        self,
        unfinished: FinishReason,
        on_token: &mut OnToken<'_>,
    ) -> Result<Vec<Continuation>> {
        let options = self.request.options;
        let skipped = self.request.prompt.len();
        let mut texts: Vec<Finished> = Vec::new();
        for group in self.groups {
            if !group.finished.is_empty() {
                texts.extend(group.finished);
                continue;
            }
            // The search was ended from outside.
            texts.extend(
                group
                    .running
                    .into_iter()
                    .filter(|beam| beam.score > NO_TEXT / 2.0)
                    .map(|beam| Finished {
                        score: normalized(beam.score, beam.ids.len() - skipped, options),
                        ids: beam.ids[skipped..].to_vec(),
                        reason: unfinished,
                        steps: beam.steps,
                    }),
            );
        }
        texts.sort_by(|a, b| b.score.total_cmp(&a.score));
        texts.truncate(options.num_return_sequences);
        let mut continuations = Vec::new();
        for (sequence, text) in texts.into_iter().enumerate() {
            let mut writer = Writer::new(self.request, sequence)?;
            let mut reason = text.reason;
            for id in text.ids {
                if let Some(ended) = writer.push(id, on_token) {
                    reason = ended;
                    break;
                }
            }
            let mut continuation = writer.finish(reason);
            continuation.score = Some(f64::from(text.score));
            for step in text.steps.iter().take(continuation.ids.len()) {
                if options.output_scores {
                    continuation.scores.push(step.scores.clone());
                }
                if options.output_logits {
                    continuation.logits.push(step.logits.clone());
                }
            }
            continuations.push(continuation);
        }
        Ok(continuations)
    }
}

impl Group {
    /// Decides whether the group goes on, after texts of `length` tokens were looked at.
    fn settle(&mut self, request: &Request<'_>, length: usize, all_ended: bool) {
        let options = request.options;
        let full = self.finished.len() == self.running.len();
        let longest = match options.early_stopping {
            EarlyStopping::WhenImpossible if options.length_penalty > 0.0 => request.max_new_tokens,
            _ => length,
        };
        let best = self.running.first().map_or(NO_TEXT, |beam| beam.score);
        let possible = normalized(best, longest, options);
        let worst = match self.finished.last() {
            Some(worst) if full => worst.score,
            _ => NO_TEXT,
        };
        self.may_improve &= possible > worst;
        let enough = full && options.early_stopping == EarlyStopping::WhenFull;
        self.done = !self.may_improve || enough || all_ended;
    }
}

/// Why a text of a step's candidates ends, if it does.
fn ends(
    request: &Request<'_>,
    ids: &[TokenId],
    step: usize,
    out_of_time: bool,
) -> Option<FinishReason> {
    let last = ids.last()?;
    if request.eos.contains(last) {
        return Some(FinishReason::Eos);
    }
    if let (Some(tokenizer), false) = (request.tokenizer, request.options.stop.is_empty()) {
        let text = tokenizer.decode(&ids[request.prompt.len()..]);
        if request.options.stop.iter().any(|stop| text.contains(stop)) {
            return Some(FinishReason::Stop);
        }
    }
    if out_of_time {
        return Some(FinishReason::Time);
    }
    (step + 1 == request.max_new_tokens).then_some(FinishReason::Length)
}

/// Σ log p / length^`length_penalty`.
fn normalized(score: f32, length: usize, options: &GenerationOptions) -> f32 {
    score / libm::pow(length.max(1) as f64, options.length_penalty) as f32
}
