//! How the memory is divided: the session of the texts, that of embeddings and task heads, and what
//! the server itself takes.

use gpt2::session::{self, Memory, SessionOptions};
use gpt2::{Model, Result};

/// Texts at work at a time, unless memory is short.
const TEXTS: usize = 4;

/// Positions for each text, with which as many as wanted are at work; with fewer, fewer are.
const COMFORTABLE: usize = 256;

/// What connections, bodies and answers take at most, of a memory that was stated.
const SERVER_BYTES: u64 = 20 << 20;

/// Prompt tokens computed at a time by each session, and as few as are worth having more positions.
const BATCH: usize = 256;
const SMALL_BATCH: usize = 64;

/// What the plan is made for.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// Texts at work at a time; by default 4, fewer when memory is short.
    pub texts: Option<usize>,
    /// How sessions compute; `context` is of one text, `sequences` is not looked at.
    pub session: SessionOptions,
    /// Most bytes of memory of the whole process, when stated.
    pub memory: Option<u64>,
}

/// Sessions that fit into memory together.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Texts at work at a time.
    pub texts: usize,
    /// Most positions of one text.
    pub context: usize,
    /// The session of the texts: their positions are shared.
    pub session: SessionOptions,
    /// The session of embeddings and task heads.
    pub second: SessionOptions,
    /// Bytes of both sessions and the weights.
    pub memory: Memory,
}

impl Plan {
    /// Divides what memory there is for `model`.
    ///
    /// # Errors
    /// Those of [`session::fit`] when not even one text fits; [`gpt2::Error::OutOfRange`] for
    /// options that no session takes.
    pub fn new(model: &Model, options: &PlanOptions) -> Result<Self> {
        let mut texts = options.texts.unwrap_or(TEXTS);
        loop {
            let plan = Self::of_texts(model, options, texts)?;
            let comfortable = COMFORTABLE.min(model.hyperparameters().n_positions);
            let enough = plan.session.context >= Some(texts * comfortable);
            if enough || options.texts.is_some() || texts == 1 {
                return Ok(plan);
            }
            texts -= 1;
        }
    }

    fn of_texts(model: &Model, options: &PlanOptions, texts: usize) -> Result<Self> {
        let positions = model.hyperparameters().n_positions;
        let most = session::MAX_SEQUENCES;
        if !(1..=most).contains(&texts) {
            let expected = format!("from 1 to {most}");
            return Err(gpt2::Error::OutOfRange {
                name: "texts at work",
                expected,
                found: texts.to_string(),
            });
        }
        let one = options.session.context.unwrap_or(positions).min(positions);
        // Both sessions as one, with one sequence more and a batch twice as large.
        let shares = texts + 1;
        let both = SessionOptions {
            context: options.session.context.map(|_| one * shares),
            sequences: shares.min(most),
            batch_size: 2 * BATCH,
            ..options.session
        };
        let limit = options.memory.unwrap_or(u64::MAX);
        let limit = limit.saturating_sub(options.memory.map_or(0, |_| SERVER_BYTES));
        let whole = positions * shares.min(most);
        let both = fit_both(model, &both, limit, whole)?;
        let total = both.context.unwrap_or(whole);
        let second = SessionOptions {
            context: Some((total / shares).clamp(1, one)),
            sequences: 1,
            batch_size: (both.batch_size / 2).max(1),
            ..both
        };
        let rest = total - second.context.unwrap_or(0);
        let session = SessionOptions {
            context: Some(rest.max(1)),
            // More than are at work: finished texts stay in the cache for prompts that begin alike.
            sequences: (2 * texts).max(8).min(most),
            ..second
        };
        let first = session::estimate(model, &session)?;
        let other = session::estimate(model, &second)?;
        Ok(Self {
            texts,
            context: one.min(rest),
            session,
            second,
            memory: Memory {
                kv: first.kv + other.kv,
                compute: first.compute + other.compute,
                ..first
            },
        })
    }
}

/// The options nearest to `both` that fit into `limit` bytes, where a prompt is not computed a few
/// tokens at a time for the sake of the last positions of `whole`.
fn fit_both(
    model: &Model,
    both: &SessionOptions,
    limit: u64,
    whole: usize,
) -> Result<SessionOptions> {
    let fitting = session::fit(model, both, limit)?;
    if fitting.batch_size >= 2 * SMALL_BATCH || both.context.is_some() {
        return Ok(fitting);
    }
    let context = fitting.context.unwrap_or(whole);
    let fewer = (4..8).rev().map(|eighths| SessionOptions {
        context: Some((context * eighths / 8).max(1)),
        ..*both
    });
    for options in fewer {
        let found = session::fit(model, &options, limit)?;
        if found.batch_size >= 2 * SMALL_BATCH {
            return Ok(found);
        }
    }
    Ok(fitting)
}
