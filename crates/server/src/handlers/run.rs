//! A generation at work: its prompts go to the engine, a few at a time, and pieces come back.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::{Engine, EngineError, Ticket};
use crate::error::ApiError;
use crate::protocol::{Collector, Generation, Job, Outcome, Piece, Served, Tokens, refused};

/// Pieces that may wait for a reader of a stream.
const WAITING: usize = 32;

/// What comes of a generation.
#[derive(Debug)]
pub(super) enum Update {
    /// A piece of a choice of the response, by its number among all.
    Piece(usize, Piece),
    /// All is done.
    Done(Tokens),
    /// It failed; nothing more comes.
    Failed(ApiError),
}

/// A generation that runs beside its reader, which ends it when dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) updates: mpsc::Receiver<Update>,
    /// Dropping it ends the tasks in it, and with them their tickets.
    _driver: JoinSet<()>,
}

/// The texts of each prompt, whole, before some are chosen.
///
/// # Errors
/// [`ApiError`] when the queue is full, or the engine fails.
pub(super) async fn whole(
    engine: &Engine,
    served: &Arc<Served>,
    generation: Generation,
) -> Result<(Vec<Vec<Piece>>, Tokens), ApiError> {
    let generated = generation.counts.generated;
    let mut texts = vec![vec![Piece::default(); generated]; generation.prompts.len()];
    let mut queue = Queue::new(engine, served, generation);
    let mut tokens = Tokens::default();
    loop {
        queue.fill(&None)?;
        let Some(done) = queue.next().await else {
            return Ok((texts, tokens));
        };
        let (job, pieces, more) = done?;
        tokens.add(&more);
        for (sequence, piece) in pieces {
            texts[job.index][job.texts.start + sequence].append(piece);
        }
    }
}

/// Begins a generation whose pieces are read as they come. A full queue is an error here, before
/// anything was sent.
///
/// # Errors
/// As [`whole`].
pub(super) fn begin(
    engine: &Engine,
    served: &Arc<Served>,
    generation: Generation,
) -> Result<Running, ApiError> {
    let (sender, updates) = mpsc::channel(WAITING);
    let mut queue = Queue::new(engine, served, generation);
    let sink = Some(sender);
    queue.fill(&sink)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let Some(sender) = &sink else { return };
        let last = drive(&mut queue, &sink).await;
        // A reader that is gone needs no end.
        let _ = sender
            .send(last.map_or_else(Update::Failed, Update::Done))
            .await;
    });
    Ok(Running {
        updates,
        _driver: driver,
    })
}

async fn drive(queue: &mut Queue, sink: &Sink) -> Result<Tokens, ApiError> {
    let mut tokens = Tokens::default();
    while let Some(done) = queue.next().await {
        let (_, _, more) = done?;
        tokens.add(&more);
        queue.fill(sink)?;
    }
    Ok(tokens)
}

/// Where pieces go at once, if they are streamed.
type Sink = Option<mpsc::Sender<Update>>;
/// A job that is done, with its pieces unless they were streamed.
type Finished = (Job, Vec<(usize, Piece)>, Tokens);

/// The jobs of one request, of which as many are with the engine as it works on at a time: one
/// request of many prompts leaves the queue to others.
struct Queue {
    engine: Engine,
    served: Arc<Served>,
    waiting: VecDeque<Job>,
    running: JoinSet<Result<Finished, ApiError>>,
}

impl Queue {
    fn new(engine: &Engine, served: &Arc<Served>, generation: Generation) -> Self {
        Self {
            engine: engine.clone(),
            served: Arc::clone(served),
            waiting: generation.jobs(engine.texts()).into(),
            running: JoinSet::new(),
        }
    }

    /// Hands jobs to the engine. A full queue is an error only while none of this request's is at
    /// work.
    fn fill(&mut self, sink: &Sink) -> Result<(), ApiError> {
        while self.running.len() <= self.engine.texts() {
            let Some(job) = self.waiting.front() else {
                return Ok(());
            };
            let ticket = match job.request() {
                None => None,
                Some(request) => match self.engine.generate(request) {
                    Ok(ticket) => Some(ticket),
                    Err(EngineError::Busy { .. }) if !self.running.is_empty() => return Ok(()),
                    Err(error) => return Err(error.into()),
                },
            };
            let Some(job) = self.waiting.pop_front() else {
                return Ok(());
            };
            let collector = Collector::new(&self.served, job.clone());
            self.running
                .spawn(follow(job, collector, ticket, sink.clone()));
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Finished, ApiError>> {
        let finished = self.running.join_next().await?;
        Some(finished.unwrap_or_else(|_| Err(EngineError::Lost.into())))
    }
}

/// Follows one job to its end.
async fn follow(
    job: Job,
    mut collector: Collector,
    ticket: Option<Ticket>,
    sink: Sink,
) -> Result<Finished, ApiError> {
    let mut pieces = Vec::new();
    let Some(mut ticket) = ticket else {
        let mut keep = |sequence, piece| pieces.push((sequence, piece));
        let tokens = collector.end_at_once(&mut keep);
        pass_on(&sink, &job, &mut pieces).await?;
        return Ok((job, pieces, tokens));
    };
    while let Some(event) = ticket.next().await {
        let outcome = collector.take(event, &mut |sequence, piece| pieces.push((sequence, piece)));
        pass_on(&sink, &job, &mut pieces).await?;
        match outcome {
            None => {}
            Some(Outcome::Done(tokens)) => return Ok((job, pieces, tokens)),
            Some(Outcome::Failed(error)) => return Err(refused(error)),
        }
    }
    Err(EngineError::Lost.into())
}

/// Sends pieces to the reader of a stream, for each choice that they are of.
async fn pass_on(sink: &Sink, job: &Job, pieces: &mut Vec<(usize, Piece)>) -> Result<(), ApiError> {
    let Some(sink) = sink else {
        return Ok(());
    };
    for (sequence, piece) in pieces.drain(..) {
        for choice in job.choices(sequence) {
            let update = Update::Piece(choice, piece.clone());
            sink.send(update)
                .await
                .map_err(|_| ApiError::from(EngineError::Lost))?;
        }
    }
    Ok(())
}
