//! What a session will need, known before it starts.

use super::{CacheType, Memory, Model, SessionOptions};
use crate::model::Hyperparameters;
use crate::{Error, Result};

/// Contexts are shortened to a multiple of this, and to no less.
const CONTEXT_STEP: usize = 32;

/// Bytes of the KV cache for `positions`: keys and values of every layer, a row of the model's width
/// each. `None` when the model's heads are no whole blocks of the type.
pub fn kv_bytes(
    hyperparameters: &Hyperparameters,
    positions: usize,
    cache_type: CacheType,
) -> Option<u64> {
    let tensor_type = cache_type.tensor_type();
    if !hyperparameters
        .head_width()
        .is_multiple_of(tensor_type.block_size())
    {
        return None;
    }
    let row = tensor_type.row_bytes(hyperparameters.width as u64).ok()?;
    row.checked_mul(positions as u64)?
        .checked_mul(2 * hyperparameters.layers as u64)
}

/// Most bytes of intermediate results for `tokens` computed together over a context of `positions`.
///
/// The widest place of a layer holds the residual stream, the normalized input and the queries, keys
/// and values, or the two feed-forward widths, all f32; attention adds its mask (f16) and, unless
/// it is flash attention, its scores (f32).
fn compute_bytes(
    hyperparameters: &Hyperparameters,
    tokens: usize,
    positions: usize,
    flash_attention: bool,
) -> Option<usize> {
    let (width, inner) = (hyperparameters.width, hyperparameters.inner);
    let values = width
        .checked_mul(7)?
        .max(width.checked_mul(3)?.checked_add(inner)?);
    let scores = if flash_attention {
        0
    } else {
        positions.checked_mul(hyperparameters.heads)?
    };
    let a_token = values
        .checked_add(scores)?
        .checked_mul(4)?
        .checked_add(2 * positions)?;
    a_token
        .checked_mul(tokens)?
        .checked_add(hyperparameters.vocabulary.checked_mul(4)?)
}

/// What a session with `options` occupies at most; the true figures are [`Session::memory`]'s.
///
/// [`Session::memory`]: super::Session::memory
///
/// # Errors
/// [`Error::Argument`] when an option is out of its range, [`Error::Unsupported`] when the cache
/// type does not fit the model's heads.
pub fn estimate(model: &Model, options: &SessionOptions) -> Result<Memory> {
    let hyperparameters = model.hyperparameters();
    let settled = options.settle(hyperparameters, model.matrix_type()?)?;
    let (mapped, own) = model.weight_bytes();
    let kv = kv_bytes(hyperparameters, settled.context, settled.cache_type).ok_or_else(|| {
        Error::Unsupported(format!(
            "a {} cache does not fit this model's heads of {}",
            settled.cache_type.name(),
            hyperparameters.head_width()
        ))
    })?;
    let tokens = settled.batch_size.min(settled.context);
    let flash = settled.flash_attention;
    let compute = compute_bytes(hyperparameters, tokens, settled.context, flash);
    let too_large = || Error::Memory("the computation's size is out of range".to_owned());
    Ok(Memory {
        weights: mapped + own,
        kv: usize::try_from(kv).map_err(|_| too_large())?,
        compute: compute.ok_or_else(too_large)?,
    })
}

/// Makes `options` such that the session stays within `limit` bytes: a context that was not asked for
/// is shortened as needed.
///
/// # Errors
/// [`Error::Memory`] with the sum when it cannot be done; as [`estimate`].
pub fn fit(model: &Model, options: &SessionOptions, limit: u64) -> Result<SessionOptions> {
    let with = |context: usize| SessionOptions {
        context: Some(context),
        ..*options
    };
    let fits = |options: &SessionOptions| -> Result<bool> {
        Ok(total(estimate(model, options)?) <= limit)
    };
    if fits(options)? {
        return Ok(*options);
    }
    if options.context.is_some() {
        return Err(refusal(
            estimate(model, options)?,
            limit,
            "shorten the context",
        ));
    }
    let hyperparameters = model.hyperparameters();
    let longest = hyperparameters.positions * options.sequences;
    let shortest = CONTEXT_STEP.min(longest);
    if !fits(&with(shortest))? {
        let memory = estimate(model, &with(shortest))?;
        return Err(refusal(
            memory,
            limit,
            &format!("that is a context of {shortest} already"),
        ));
    }
    // Memory grows with the context: halve the range between one that fits and one that does not.
    let (mut fitting, mut steps) = (1, longest.div_ceil(CONTEXT_STEP));
    while fitting + 1 < steps {
        let middle = usize::midpoint(fitting, steps);
        if fits(&with(middle * CONTEXT_STEP))? {
            fitting = middle;
        } else {
            steps = middle;
        }
    }
    Ok(with((fitting * CONTEXT_STEP).min(longest)))
}

fn total(memory: Memory) -> u64 {
    let parts = [memory.weights, memory.kv, memory.compute];
    parts
        .iter()
        .fold(0, |sum: u64, &part| sum.saturating_add(part as u64))
}

fn refusal(memory: Memory, limit: u64, advice: &str) -> Error {
    Error::Memory(format!(
        "weights {} + cache {} + computation {} = {} bytes, and the limit is {limit}; {advice}",
        memory.weights,
        memory.kv,
        memory.compute,
        total(memory)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_of_the_smallest_gpt2() {
        let mut gpt2 = Hyperparameters {
            width: 768,
            heads: 12,
            layers: 12,
            ..Hyperparameters::default()
        };
        // 2 × 12 layers × 1024 positions × 768 × 2 bytes.
        assert_eq!(kv_bytes(&gpt2, 1024, CacheType::F16), Some(37_748_736));
        assert_eq!(
            kv_bytes(&gpt2, 1024, CacheType::Q8_0),
            Some(37_748_736 / 64 * 34)
        );
        // Heads of 24 elements are no whole blocks of 32.
        gpt2.heads = 32;
        assert_eq!(kv_bytes(&gpt2, 1024, CacheType::Q4_0), None);
    }

    #[test]
    fn computation_is_bounded_by_what_was_measured() {
        let model = Hyperparameters {
            width: 256,
            inner: 1024,
            heads: 4,
            layers: 6,
            vocabulary: 4096,
            ..Hyperparameters::default()
        };
        // Tokens, flash attention, bytes of the allocated graphs.
        for (tokens, flash, measured) in [
            (1, true, 18_432),
            (64, true, 468_128),
            (512, true, 4_203_552),
            (64, false, 468_128),
            (512, false, 7_873_568),
        ] {
            let bound = compute_bytes(&model, tokens, 512, flash).unwrap();
            assert!(bound >= measured, "{tokens} tokens: {bound} < {measured}");
            assert!(
                tokens < 512 || bound < measured / 4 * 5,
                "{bound} is far above {measured}"
            );
        }
        let endless = Hyperparameters {
            width: usize::MAX / 4,
            ..model
        };
        assert_eq!(compute_bytes(&endless, 1, 1, true), None);
    }
}
