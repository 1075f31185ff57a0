//! Who is begun, and when: in the order of arrival, as long as what each may need fits.

use super::Scheduler;
use super::active::Active;
use super::interface::{SchedulerEvent, Usage};
use crate::Result;
use crate::session::Session;

impl Scheduler {
    /// Positions that requests at work may take.
    pub(super) fn reserved(&self) -> usize {
        self.running.iter().map(Active::reserved).sum()
    }

    /// Lets requests go that were cancelled before they began.
    pub(super) fn drop_cancelled(&mut self, events: &mut Vec<SchedulerEvent>) {
        self.waiting.retain(|waiting| {
            let cancelled = waiting.cancel.is_cancelled();
            if cancelled {
                events.push(SchedulerEvent::Done {
                    request: waiting.id,
                    usage: Usage {
                        prompt_tokens: waiting.request.prompt.len(),
                        ..Usage::default()
                    },
                });
            }
            !cancelled
        });
    }

    /// Begins what fits, in the order of arrival: first more continuations of what is at work.
    pub(super) fn admit(&mut self, session: &mut Session) -> Result<()> {
        for index in 0..self.running.len() {
            while self.running[index].wants_more() {
                let needed = self.running[index].reservation();
                if !self.has_room(needed.sequences, needed.text) {
                    return Ok(());
                }
                let Some(first) = self.places.take(session, needed.sequences, None)? else {
                    return Ok(());
                };
                self.running[index].grow(session, &mut self.places, first);
            }
        }
        while let Some(next) = self.waiting.front() {
            let needed = next.reservation;
            if !self.has_room(needed.sequences, needed.positions(1)) {
                break;
            }
            let shares = next.request.options.shares_prompt() && next.scores.is_none();
            let prompt = shares.then_some(&next.request.prompt[..]);
            let Some(first) = self.places.take(session, needed.sequences, prompt)? else {
                break;
            };
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            let mut active = Active::new(session, &mut self.places, next, first);
            active.reuse(session, &mut self.places)?;
            while active.wants_more() && {
                let all = active.reserved() + needed.text;
                self.has_room(needed.sequences, all)
            } {
                let Some(first) = self.places.take(session, needed.sequences, None)? else {
                    break;
                };
                active.grow(session, &mut self.places, first);
            }
            let wants_more = active.wants_more();
            self.running.push(active);
            if wants_more {
                break;
            }
        }
        Ok(())
    }

    /// Whether this many sequences and positions can be given away.
    fn has_room(&self, sequences: usize, positions: usize) -> bool {
        self.places.at_work() + sequences <= self.options.texts
            && self.reserved() + positions <= self.context
    }
}
