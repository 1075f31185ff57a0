//! One token after the other: the best, or drawn; with guidance, and from contrasted layers.

use std::ops::Range;

use super::decoding::{Decoding, Outcome, Room};
use super::dola::Dola;
use super::overflow;
use super::request::Request;
use super::work::{Compute, Edit, Work, last_of_text};
use super::writer::Chosen;
use crate::grammar::State;
use crate::sampling::{Chain, Generator, StepInputs};
use crate::session::OutputRows;
use crate::{Result, TokenId};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The prompt.
    Prompt,
    /// The logits of an earlier layer, after the prompt or the newest token.
    EarlyLayer,
    /// The beginning of what guidance steers away from.
    Negative,
    /// Nothing: the newest token comes next.
    Ready,
    /// The newest token, in what guidance steers away from.
    Unconditional,
    /// The newest token.
    Newest,
    /// The prompt, whose place another text has taken.
    PromptAgain,
}

/// Chooses tokens one by one.
pub(super) struct TokenByToken {
    room: Room,
    stage: Stage,
    /// The prompt, or the window of it that fits.
    prompt: Vec<TokenId>,
    /// Tokens of the text in the cache.
    cached: usize,
    /// Tokens in the cache of what guidance steers away from.
    unconditional_cached: usize,
    /// Whether the cache must be cut back to the prompt.
    cut: bool,
    /// Whether the cache holds a window of the text, and no longer the prompt.
    moved: bool,
    /// Whether the prompt must be computed again, since another text's window has taken its place.
    lost: bool,
    /// Whether a token was chosen after the prompt.
    begun: bool,
    /// Whether the prompt's logits are used more than once.
    several: bool,
    chain: Chain,
    /// Where the text is in its grammar.
    grammar: Option<State>,
    generator: Generator,
    dola: Option<Dola>,
    /// The logits after the prompt, where they are needed later.
    first_logits: Vec<f32>,
    /// The same as the model gave them, where [`Dola`] made others of them.
    first_raw: Vec<f32>,
    /// What guidance steers away from.
    unconditional: Vec<f32>,
}

impl TokenByToken {
    /// For the continuations `numbers` of a request; guidance takes the next sequence too.
    pub(super) fn new(
        room: Room,
        numbers: Range<usize>,
        dola: Option<Dola>,
        request: &Request,
    ) -> Result<Self> {
        if let Some(keep) = request.options.on_overflow {
            overflow::check(keep, room.capacity)?;
        }
        let prompt = match request.options.on_overflow {
            Some(keep) if request.prompt.len() >= room.capacity => {
                overflow::window(&request.prompt, keep, room.capacity)?
            }
            _ => request.prompt.clone(),
        };
        if prompt.len() > room.capacity {
            return Err(room.full(prompt.len()));
        }
        Ok(Self {
            room,
            stage: Stage::Prompt,
            prompt,
            cached: 0,
            unconditional_cached: 0,
            cut: false,
            moved: false,
            lost: false,
            begun: false,
            several: numbers.len() > 1,
            chain: request.chain(1)?,
            grammar: request.grammar()?,
            generator: generator(request, numbers.start),
            dola,
            first_logits: Vec::new(),
            first_raw: Vec::new(),
            unconditional: Vec::new(),
        })
    }

    /// The prompt, or the window of it that fits.
    pub(super) fn prompt(&self) -> &[TokenId] {
        &self.prompt
    }

    /// With the first `cached` tokens of the prompt in the cache.
    pub(super) fn with_cached(mut self, cached: usize) -> Self {
        self.cached = cached;
        self
    }

    /// A run of the text's tokens from `position` on.
    fn run(&self, edits: Vec<Edit>, tokens: &[TokenId], position: usize) -> Result<Work> {
        let mut batch = last_of_text(tokens, position, self.room.first)?;
        batch.hidden_states = self.dola.is_some();
        Ok(Work::run(edits, batch))
    }

    /// The newest token, or what is kept of a text that has outgrown the context.
    fn newest(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        self.stage = Stage::Newest;
        let mut edits = Vec::new();
        if std::mem::take(&mut self.cut) {
            edits.push(Edit::Truncate {
                sequence: self.room.first,
                length: self.cached,
            });
        }
        if self.cached < self.room.capacity {
            return self.run(edits, newest(ids), self.cached);
        }
        let keep = self.keep(request)?;
        let window = overflow::window(ids, keep, self.room.capacity)?;
        (self.cached, self.moved) = (window.len() - 1, true);
        edits.push(Edit::Truncate {
            sequence: self.room.first,
            length: 0,
        });
        self.run(edits, &window, 0)
    }

    /// How much of the beginning stays when the context is full.
    fn keep(&self, request: &Request) -> Result<usize> {
        let keep = request.options.on_overflow;
        keep.ok_or_else(|| self.room.full(self.cached + 1))
    }

    /// Takes the logits after the prompt.
    fn after_prompt(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
    ) -> Result<Outcome> {
        let guided = self.chain.needs_unconditional();
        if guided || self.several {
            logits.clone_into(&mut self.first_logits);
            if let Some(dola) = &self.dola {
                dola.raw().clone_into(&mut self.first_raw);
            }
        }
        if guided && request.max_new_tokens > 0 {
            self.stage = Stage::Negative;
            return Ok(Outcome::More);
        }
        self.begun = true;
        if request.max_new_tokens == 0 {
            return Ok(Outcome::Tokens(Vec::new()));
        }
        self.choose(request, ids, logits)
    }

    /// The first token of a text after the prompt was computed for another, or before guidance was.
    fn first_again(&mut self, request: &Request, ids: &[TokenId]) -> Result<Outcome> {
        self.begun = true;
        let logits = std::mem::take(&mut self.first_logits);
        let raw = std::mem::take(&mut self.first_raw);
        let model_gave = if raw.is_empty() { &logits } else { &raw };
        let outcome = self.choose_by(request, ids, &logits, model_gave);
        (self.first_logits, self.first_raw) = (logits, raw);
        outcome
    }

    /// Chooses the next token by logits that were just computed.
    fn choose(&mut self, request: &Request, ids: &[TokenId], logits: &[f32]) -> Result<Outcome> {
        let Some(dola) = self.dola.take() else {
            return self.choose_by(request, ids, logits, logits);
        };
        let outcome = self.choose_by(request, ids, logits, dola.raw());
        self.dola = Some(dola);
        outcome
    }

    /// Chooses the next token by its logits; `raw` are the model's own.
    fn choose_by(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
        raw: &[f32],
    ) -> Result<Outcome> {
        self.stage = Stage::Ready;
        let options = &request.options;
        let guided = self.chain.needs_unconditional();
        let grammar = self.grammar.as_mut();
        let allowed = grammar
            .map(|state| state.allowed(&request.eos))
            .transpose()?;
        let inputs = StepInputs {
            ids,
            unconditional: guided.then_some(&self.unconditional[..]),
            allowed,
            ..StepInputs::default()
        };
        let scores = self.chain.process_step(logits, &inputs)?;
        let id = self.generator.choose(scores, options.sampling.do_sample)?;
        let mut chosen = Chosen::new(options, id, scores, raw)?;
        if let Some(state) = &mut self.grammar {
            chosen.is_last = state.advance(id, &request.eos)?;
        }
        Ok(Outcome::Tokens(vec![chosen]))
    }

    /// Takes the logits of the text.
    fn take_logits(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
    ) -> Result<Outcome> {
        if self.begun {
            self.choose(request, ids, logits)
        } else {
            self.after_prompt(request, ids, logits)
        }
    }
}

impl Decoding for TokenByToken {
    fn work(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        match self.stage {
            Stage::Prompt => self.run(Vec::new(), &self.prompt[self.cached..], self.cached),
            Stage::EarlyLayer => {
                let state = self.dola.as_mut().map(Dola::next_state);
                Ok(Work {
                    edits: Vec::new(),
                    compute: Some(Compute::Project(state.unwrap_or_default())),
                })
            }
            Stage::Negative => {
                let negative = request.options.negative_prompt.as_deref();
                let tokens = negative.unwrap_or_else(|| newest(&request.prompt));
                let edits = vec![Edit::Truncate {
                    sequence: self.room.first + 1,
                    length: 0,
                }];
                self.unconditional_cached = tokens.len();
                Ok(Work::run(
                    edits,
                    last_of_text(tokens, 0, self.room.first + 1)?,
                ))
            }
            Stage::Ready if self.lost => {
                (self.lost, self.cut) = (false, false);
                self.stage = Stage::PromptAgain;
                let edits = vec![Edit::Truncate {
                    sequence: self.room.first,
                    length: 0,
                }];
                Ok(Work::run(
                    edits,
                    last_of_text(&self.prompt, 0, self.room.first)?,
                ))
            }
            Stage::Ready if self.chain.needs_unconditional() => {
                if self.cached >= self.room.capacity {
                    self.keep(request)?;
                }
                self.stage = Stage::Unconditional;
                let batch =
                    last_of_text(newest(ids), self.unconditional_cached, self.room.first + 1)?;
                Ok(Work::run(Vec::new(), batch))
            }
            Stage::Ready | Stage::Unconditional | Stage::Newest | Stage::PromptAgain => {
                self.newest(request, ids)
            }
        }
    }

    fn accept(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome> {
        let logits = rows.logits(0);
        match self.stage {
            Stage::Prompt | Stage::Newest => {
                self.cached = match self.stage {
                    Stage::Prompt => self.prompt.len(),
                    _ => self.cached + 1,
                };
                match &mut self.dola {
                    None => self.take_logits(request, ids, logits),
                    Some(dola) => {
                        dola.begin(rows);
                        self.stage = Stage::EarlyLayer;
                        Ok(Outcome::More)
                    }
                }
            }
            Stage::EarlyLayer => match self.dola.as_mut().and_then(|dola| dola.compare(logits)) {
                Some(contrasted) => self.take_logits(request, ids, &contrasted),
                None => Ok(Outcome::More),
            },
            Stage::Negative => {
                logits.clone_into(&mut self.unconditional);
                self.first_again(request, ids)
            }
            Stage::Unconditional => {
                self.unconditional_cached += 1;
                logits.clone_into(&mut self.unconditional);
                Ok(Outcome::More)
            }
            Stage::PromptAgain => {
                self.stage = Stage::Ready;
                Ok(Outcome::More)
            }
            Stage::Ready => Ok(Outcome::More),
        }
    }

    fn is_in_prompt(&self) -> bool {
        !self.begun
    }

    fn begin_again(&mut self, request: &Request, number: usize) -> Result<Outcome> {
        self.chain = request.chain(1)?;
        self.grammar = request.grammar()?;
        self.generator = generator(request, number);
        self.cached = self.prompt.len();
        self.cut = true;
        self.lost = std::mem::take(&mut self.moved);
        if self.chain.needs_unconditional() {
            self.stage = Stage::Negative;
            return Ok(Outcome::More);
        }
        self.first_again(request, &request.prompt)
    }
}

/// The newest of the ids, in a list.
fn newest(ids: &[TokenId]) -> &[TokenId] {
    &ids[ids.len().saturating_sub(1)..]
}

/// The draws of continuation `number`.
fn generator(request: &Request, number: usize) -> Generator {
    Generator::new(request.options.seed.wrapping_add(number as u64))
}

#[cfg(test)]
mod tests;
