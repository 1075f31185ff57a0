//! The memory of sessions of a model that is loaded.

use super::plan::{self, ModelFootprint};
use crate::error::Result;
use crate::session::batch::Memory;
use crate::session::model::Model;
use crate::session::options::SessionOptions;

/// Upper bound of the memory of a session with `options`; [`Session::memory`] has the exact
/// figures.
///
/// [`Session::memory`]: crate::session::Session::memory
///
/// # Errors
/// [`crate::Error::Argument`] when an option is out of its range, [`crate::Error::Unsupported`]
/// when the cache type does not fit the model's heads.
pub fn estimate(model: &Model, options: &SessionOptions) -> Result<Memory> {
    Ok(footprint(model)?.need(options)?.parts)
}

/// Adjusts `options` so that the process stays within `limit` bytes ([`u64::MAX`] for none) and
/// within what bounded its memory when the model was opened: free memory, memory cgroups, `ulimit
/// -v` and `-d`.
///
/// What was left to defaults is reduced: first the batch size, then the context, then the type of
/// the cache.
///
/// # Errors
/// [`crate::Error::Memory`] with the sum when it cannot be done, and what would fit; as
/// [`estimate`].
pub fn fit(model: &Model, options: &SessionOptions, limit: u64) -> Result<SessionOptions> {
    // The memory of other devices is not planned.
    if !model.devices().gpus().is_empty() {
        return Ok(*options);
    }
    plan::choose(&footprint(model)?, options, &model.limits().and(limit))
}

/// What a loaded model takes of memory.
fn footprint(model: &Model) -> Result<ModelFootprint<'_>> {
    let (mapped, own) = model.weight_bytes();
    Ok(ModelFootprint {
        hyperparameters: model.hyperparameters(),
        matrix_type: model.matrix_type()?,
        weights: mapped + own,
        file: model.limits().mapped,
        own_weights: own,
        unmapped_file: plan::unmapped_file(model.gguf(), model.limits().mapped),
    })
}
