//! What a decoder wants of a session, as data: changes of the cache, then a computation.

use crate::session::{Batch, SequenceId, SequenceSet, Session};
use crate::{Result, TokenId};

/// What must be done before a decoder can go on.
#[derive(Debug, Default)]
pub struct Work {
    /// Changes of the cache, to be made first and in this order.
    pub edits: Vec<Edit>,
    /// What to compute after them; with nothing to compute, nothing is to be accepted.
    pub compute: Option<Compute>,
}

/// A change of the cache; it concerns sequences of the decoder alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// [`Session::truncate`].
    Truncate {
        /// The sequence to cut back.
        sequence: SequenceId,
        /// The positions that stay.
        length: usize,
    },
    /// [`Session::reorder_from`].
    Reorder {
        /// The first of the sequences.
        first: SequenceId,
        /// What each of them continues, counted from the first.
        parents: Vec<SequenceId>,
    },
}

/// A computation.
#[derive(Debug)]
pub enum Compute {
    /// [`Session::run`]. Batches of several decoders that ask for the same outputs can be run as
    /// one.
    Run(Batch),
    /// [`Session::project`] of rows of hidden states; the result is accepted as logits.
    Project(Vec<f32>),
}

impl Work {
    /// A run after edits.
    pub(super) fn run(edits: Vec<Edit>, batch: Batch) -> Self {
        Self {
            edits,
            compute: Some(Compute::Run(batch)),
        }
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// As [`Session::truncate`].
    pub fn edit(&self, session: &mut Session) -> Result<()> {
        for edit in &self.edits {
            match edit {
                Edit::Truncate { sequence, length } => session.truncate(*sequence, *length)?,
                Edit::Reorder { first, parents } => session.reorder_from(*first, parents)?,
            }
        }
        Ok(())
    }
}

/// The tokens of one sequence from `position` on; an output comes out of the last.
pub(super) fn last_of_text(
    tokens: &[TokenId],
    position: usize,
    sequence: SequenceId,
) -> Result<Batch> {
    let last = tokens.len().saturating_sub(1);
    let sequences = SequenceSet::of(sequence)?;
    Ok(Batch::of_text(tokens, position, sequences, |index| {
        index == last
    }))
}
