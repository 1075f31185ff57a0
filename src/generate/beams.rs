//! Beam search: several texts at a time, the best of which is the result; with draws, or in groups
//! that avoid each other (Vijayakumar et al. 2016, <https://arxiv.org/abs/1610.02424>).
//!
//! As transformers' `_beam_search` does it: log-probabilities go through the processors, are added
//! up, and the best continuations of all texts go on. A text's score is its sum over its length to
//! the power of `length_penalty`.

use std::rc::Rc;

use super::candidates::{Best, Candidate};
use super::decoding::{Decoding, Found, Outcome};
use super::options::{EarlyStopping, GenerationOptions};
use super::output::FinishReason;
use super::request::Request;
use super::work::{Edit, Work, last_of_text};
use super::writer::Chosen;
use crate::sampling::{Chain, Generator, StepInputs, greedy, log_softmax};
use crate::session::{Batch, BatchToken, OutputRows, SequenceId, SequenceSet, Session};
use crate::{Result, TokenId};

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

/// A beam search. Each beam has a sequence.
pub(super) struct Beams {
    first: SequenceId,
    /// Tokens of the prompt that the first sequence has in the cache.
    cached: usize,
    groups: Vec<Group>,
    chain: Chain,
    generator: Generator,
    /// The steps done; none before the prompt was computed.
    steps: Option<usize>,
    /// How the beams change places before the next step.
    edits: Vec<Edit>,
    computed: usize,
}

impl Beams {
    /// A search in as many sequences from `first` on as there are beams. The first has `cached`
    /// tokens of the prompt in the cache; the others are emptied: their tokens are of no use, and
    /// take cells.
    pub(super) fn new(
        session: &mut Session,
        first: SequenceId,
        cached: usize,
        request: &Request,
    ) -> Result<Self> {
        let options = &request.options;
        for sequence in first + 1..first + options.num_beams {
            session.truncate(sequence, 0)?;
        }
        let width = options.num_beams / options.num_beam_groups;
        let beam = |index: usize| Beam {
            ids: request.prompt.clone(),
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
            first,
            cached,
            groups: (0..options.num_beam_groups).map(|_| group()).collect(),
            chain: request.chain(options.num_beams)?,
            generator: Generator::new(options.seed),
            steps: None,
            edits: Vec::new(),
            computed: 0,
        })
    }

    /// The beams of the groups that are not done, each with its number.
    fn running(&self) -> impl Iterator<Item = (usize, &Beam)> {
        let beams = self.groups.iter().flat_map(|group| {
            let running = group.running.iter();
            running.map(|beam| (group.done, beam))
        });
        let numbered = beams.enumerate();
        numbered.filter_map(|(number, (done, beam))| (!done).then_some((number, beam)))
    }

    /// Chooses the next tokens of all groups by the logits after each beam; gives the beam that
    /// each new one comes from.
    fn step(&mut self, request: &Request, rows: &[&[f32]], step: usize) -> Result<Vec<usize>> {
        let options = &request.options;
        let width = options.num_beams / options.num_beam_groups;
        let mut chosen = Vec::new();
        let mut parents: Vec<usize> = (0..options.num_beams).collect();
        for group in 0..self.groups.len() {
            let first = group * width;
            if self.groups[group].done {
                continue;
            }
            let (candidates, steps) =
                self.candidates(request, group, &rows[first..first + width], &chosen)?;
            let selected = self.groups[group].select(request, &candidates, &steps, step);
            let group = &mut self.groups[group];
            for (place, (parent, beam)) in selected.running.into_iter().enumerate() {
                chosen.extend(beam.ids.last());
                parents[first + place] = first + parent;
                group.running[place] = beam;
            }
            group.decide(request, step + 1, selected.all_ended);
        }
        Ok(parents)
    }

    /// The best continuations of a group's beams, enough that as many as there are beams do not
    /// end; and on request what each beam's were chosen by.
    fn candidates(
        &mut self,
        request: &Request,
        group: usize,
        rows: &[&[f32]],
        chosen: &[TokenId],
    ) -> Result<(Vec<Candidate>, Vec<Rc<StepScores>>)> {
        let options = &request.options;
        let keeps_logits = options.output_logits || options.logprobs.is_some();
        let recorded = options.output_scores || keeps_logits;
        let mut steps = Vec::new();
        let width = rows.len();
        let count = width * (1 + request.eos.len()).max(2);
        let mut best = Best::new(count);
        let mut all = Vec::new();
        let mut log_probabilities = Vec::new();
        for (place, (beam, logits)) in self.groups[group].running.iter().zip(rows).enumerate() {
            // Refuses NaN.
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
                    logits: on_request(keeps_logits, logits),
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

    /// The best texts, best first; those still in progress, where no other was found, end for the
    /// reason `unfinished`.
    fn results(&mut self, request: &Request, unfinished: FinishReason) -> Result<Vec<Found>> {
        let options = &request.options;
        let skipped = request.prompt.len();
        let mut texts: Vec<Finished> = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            if !group.finished.is_empty() {
                texts.extend(group.finished);
                continue;
            }
            // The search was ended from outside.
            let running = group.running.into_iter();
            let running = running.filter(|beam| beam.score > NO_TEXT / 2.0);
            texts.extend(running.map(|beam| Finished {
                score: normalized(beam.score, beam.ids.len() - skipped, options),
                ids: beam.ids[skipped..].to_vec(),
                reason: unfinished,
                steps: beam.steps,
            }));
        }
        texts.sort_by(|a, b| b.score.total_cmp(&a.score));
        texts.truncate(options.num_return_sequences);
        texts.into_iter().map(|text| text.found(options)).collect()
    }
}

impl Decoding for Beams {
    fn work(&mut self, request: &Request, _ids: &[TokenId]) -> Result<Work> {
        let edits = std::mem::take(&mut self.edits);
        if self.steps.is_none() {
            let tokens = &request.prompt[self.cached..];
            return Ok(Work::run(
                edits,
                last_of_text(tokens, self.cached, self.first)?,
            ));
        }
        let mut batch = Batch::default();
        for (place, beam) in self.running() {
            let Some(&token) = beam.ids.last() else {
                continue;
            };
            batch.tokens.push(BatchToken {
                token,
                position: beam.ids.len() - 1,
                sequences: SequenceSet::of(self.first + place)?,
                output: true,
                ..BatchToken::default()
            });
        }
        Ok(Work::run(edits, batch))
    }

    fn accept(
        &mut self,
        request: &Request,
        _ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome> {
        let beams = request.options.num_beams;
        let reorder = |parents| Edit::Reorder {
            first: self.first,
            parents,
        };
        let (step, rows): (usize, Vec<&[f32]>) = match self.steps {
            // The prompt, computed once for all.
            None => {
                self.edits.push(reorder(vec![0; beams]));
                (0, vec![rows.logits(0); beams])
            }
            Some(step) => {
                // Groups that are done have no row; none is looked at.
                let mut of_beams = vec![&[][..]; beams];
                for (row, (beam, _)) in self.running().enumerate() {
                    of_beams[beam] = rows.logits(row);
                }
                self.computed += self.running().count();
                (step, of_beams)
            }
        };
        self.steps = Some(step + 1);
        if request.max_new_tokens == 0 {
            return Ok(Outcome::Texts(self.results(request, FinishReason::Length)?));
        }
        let parents = self.step(request, &rows, step)?;
        if self.groups.iter().all(|group| group.done) || step + 1 == request.max_new_tokens {
            return Ok(Outcome::Texts(self.results(request, FinishReason::Length)?));
        }
        self.edits.push(Edit::Reorder {
            first: self.first,
            parents,
        });
        Ok(Outcome::More)
    }

    fn is_in_prompt(&self) -> bool {
        self.steps.is_none()
    }

    fn interrupt(&mut self, request: &Request, reason: FinishReason) -> Option<Result<Vec<Found>>> {
        Some(self.results(request, reason))
    }

    fn computed(&self) -> Option<usize> {
        Some(self.computed)
    }
}

impl Finished {
    /// As the decoder emits it.
    fn found(self, options: &GenerationOptions) -> Result<Found> {
        let mut steps = self.steps.iter();
        let tokens = self.ids.into_iter().map(|id| match steps.next() {
            Some(step) => Chosen::new(options, id, &step.scores, &step.logits),
            // Nothing was recorded.
            None => Ok(Chosen::plain(id)),
        });
        Ok(Found {
            tokens: tokens.collect::<Result<_>>()?,
            score: f64::from(self.score),
            reason: self.reason,
        })
    }
}

impl Group {
    /// Sorts the candidates into texts that ended, which are kept when they are good enough, and
    /// beams that go on.
    fn select(
        &mut self,
        request: &Request,
        candidates: &[Candidate],
        steps: &[Rc<StepScores>],
        step: usize,
    ) -> Selected {
        let out_of_time = request.is_over_time();
        let options = &request.options;
        let width = self.running.len();
        let full = self.finished.len() == width;
        let closed =
            (full && options.early_stopping == EarlyStopping::WhenFull) || !self.may_improve;
        let mut running: Vec<(usize, Beam)> = Vec::with_capacity(2 * width);
        let mut ended: Vec<(usize, Beam)> = Vec::new();
        for (rank, candidate) in candidates.iter().enumerate() {
            let parent = &self.running[candidate.beam];
            let mut ids = parent.ids.clone();
            ids.push(candidate.token);
            let reason = ends(request, &ids, step, out_of_time);
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
                self.finished.push(Finished {
                    ids: beam.ids[request.prompt.len()..].to_vec(),
                    score: normalized(candidate.score, step + 1, options),
                    reason,
                    steps: beam.steps.clone(),
                });
            }
            beam.score += NO_TEXT;
            ended.push((candidate.beam, beam));
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(width);
        let all_ended = running.is_empty();
        // Too few go on: what ended fills the places and can no longer win.
        running.extend(ended);
        running.truncate(width);
        Selected { running, all_ended }
    }

    /// Decides whether the group goes on, after texts of `length` tokens were looked at.
    fn decide(&mut self, request: &Request, length: usize, all_ended: bool) {
        let options = &request.options;
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
    request: &Request,
    ids: &[TokenId],
    step: usize,
    out_of_time: bool,
) -> Option<FinishReason> {
    let last = ids.last()?;
    if request.eos.contains(last) {
        return Some(FinishReason::Eos);
    }
    if let (Some(tokenizer), false) = (&request.tokenizer, request.options.stop.is_empty()) {
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

/// Σ log p / length^`length_penalty`; of a penalty so large that this is NaN or infinite, the
/// largest or smallest finite number.
fn normalized(score: f32, length: usize, options: &GenerationOptions) -> f32 {
    let divisor = libm::pow(length.max(1) as f64, options.length_penalty) as f32;
    let divisor = divisor.clamp(f32::MIN_POSITIVE, f32::MAX);
    (score / divisor).clamp(f32::MIN, f32::MAX)
}
