//! The memory a session will need, computed before it starts.

use super::compute::compute_bytes;
use super::limits::{self, Limits, Need};
use crate::gguf::{Gguf, TensorType};
use crate::model::weights::all_can_be_packed;
use crate::session::batch::Memory;
use crate::session::options::{CacheType, ModelOptions, SessionOptions};
use crate::spec::tensor_table::{Module, TensorId};
use crate::spec::{Hyperparameters, ModelTensors};
use crate::{Error, MemoryShortage, MemorySuggestion, Result};

/// Contexts are shortened to a multiple of this, and to no less.
const CONTEXT_STEP: usize = 32;

/// Bytes of the KV cache for `positions`: keys and values of every layer, a row of `n_embd`
/// elements each. `None` when `head_size` is not a multiple of the type's block size.
pub fn kv_bytes(
    hyperparameters: &Hyperparameters,
    positions: usize,
    cache_type: CacheType,
) -> Option<u64> {
    let tensor_type = cache_type.tensor_type();
    if !hyperparameters
        .head_size()
        .is_multiple_of(tensor_type.block_size())
    {
        return None;
    }
    let row = tensor_type.row_bytes(hyperparameters.n_embd as u64).ok()?;
    row.checked_mul(positions as u64)?
        .checked_mul((hyperparameters.n_layer as u64).checked_mul(2)?)
}

/// What a model takes of memory, whether or not its weights are loaded.
pub(in crate::session) struct ModelFootprint<'a> {
    pub(in crate::session) hyperparameters: &'a Hyperparameters,
    /// The type that most of the model's work is done in.
    pub(in crate::session) matrix_type: TensorType,
    /// Bytes of all weights.
    pub(in crate::session) weights: usize,
    /// Bytes of the file, when it is mapped.
    pub(in crate::session) file: usize,
    /// Bytes of the weights that are copied or packed.
    pub(in crate::session) own_weights: usize,
    /// Bytes of a file that is in memory and not mapped: it stays there beside the copies.
    pub(in crate::session) unmapped_file: usize,
}

impl ModelFootprint<'_> {
    /// Of a file whose matrices are packed (`repack`) or not, and whose other tensors are used in
    /// place (`map`) or copied.
    pub(in crate::session) fn of_file<'a>(
        gguf: &Gguf,
        tensors: &ModelTensors<'_>,
        hyperparameters: &'a Hyperparameters,
        file: usize,
        map: bool,
        repack: bool,
    ) -> ModelFootprint<'a> {
        let mut footprint = ModelFootprint {
            hyperparameters,
            matrix_type: TensorType::F32,
            weights: 0,
            file,
            own_weights: 0,
            unmapped_file: unmapped_file(gguf, file),
        };
        let tied = hyperparameters.predicts_tokens() && hyperparameters.tied_head;
        // The packed copy of a tied head serves as the embedding too.
        let head_is_packed = repack && tied && all_can_be_packed(tensors, hyperparameters);
        for tensor in tensors.all() {
            let in_place = match tensor.spec.id.module {
                Module::TokenEmbedding => map && !head_is_packed,
                Module::PositionEmbedding => map,
                Module::TaskHead => map && !repack,
                _ if tensor.spec.is_vector() => map,
                _ => map && !repack,
            };
            let bytes = tensor.info.bytes as usize;
            footprint.weights = footprint.weights.saturating_add(bytes);
            if !in_place {
                footprint.own_weights = footprint.own_weights.saturating_add(bytes);
            }
        }
        if let Some(first) = tensors.get(TensorId::weight(Some(0), Module::AttnQkv)) {
            footprint.matrix_type = first.info.tensor_type;
        }
        footprint
    }

    /// What a session with `options` takes at most.
    pub(super) fn need(&self, options: &SessionOptions) -> Result<Need> {
        let hyperparameters = self.hyperparameters;
        let resolved = options.resolve(hyperparameters, self.matrix_type)?;
        let kv = kv_bytes(hyperparameters, resolved.context, resolved.cache_type);
        let kv = kv.ok_or_else(|| {
            Error::Unsupported(format!(
                "a {} cache does not fit this model's heads of {}",
                resolved.cache_type.name(),
                hyperparameters.head_size()
            ))
        })?;
        let tokens = resolved.batch_size.min(resolved.context);
        let compute = compute_bytes(hyperparameters, &resolved);
        let too_large = || Error::Memory("the computation's size is out of range".to_owned());
        let parts = Memory {
            weights: self.weights,
            kv: usize::try_from(kv).map_err(|_| too_large())?,
            compute: compute.ok_or_else(too_large)?,
        };
        Ok(Need {
            parts,
            file: self.file,
            own_weights: self.own_weights,
            other: limits::other(hyperparameters, tokens, resolved.sequences)
                .saturating_add(self.unmapped_file),
            stacks: limits::stacks(resolved.threads),
        })
    }
}

/// Bytes of a file that is not mapped.
pub(super) fn unmapped_file(gguf: &Gguf, mapped: usize) -> usize {
    if mapped == 0 {
        (**gguf.file_bytes()).as_ref().len()
    } else {
        0
    }
}

/// Checks that a file that was just mapped fits with a session of `options`; returns whether its
/// matrices may be packed. Where the address space is bounded, the copy counts beside the file.
///
/// # Errors
/// [`Error::Memory`] when it does not fit, before anything is allocated.
pub(in crate::session) fn admit(
    gguf: &Gguf,
    tensors: &ModelTensors<'_>,
    hyperparameters: &Hyperparameters,
    options: &ModelOptions,
    limits: &Limits,
) -> Result<bool> {
    let planned = &options.session;
    let plan = |repack: bool| {
        let (file, map) = (limits.mapped, options.map);
        let footprint = ModelFootprint::of_file(gguf, tensors, hyperparameters, file, map, repack);
        choose(&footprint, planned, limits)
    };
    let packed = plan(options.repack);
    if !options.repack || !limits.bound_addresses() {
        return packed.map(|_| options.repack);
    }
    let wish = |found: &SessionOptions| (found.context, found.cache_type);
    if packed
        .as_ref()
        .is_ok_and(|found| wish(found) == wish(planned))
    {
        return Ok(true);
    }
    plan(false).map(|_| false)
}

/// The options nearest to `options` that fit.
///
/// # Errors
/// [`Error::Memory`] when there are none.
pub(in crate::session) fn choose(
    footprint: &ModelFootprint<'_>,
    options: &SessionOptions,
    limits: &Limits,
) -> Result<SessionOptions> {
    if fits(footprint, options, limits)? {
        return Ok(*options);
    }
    // A smaller batch costs little time and changes nothing else.
    for batch_size in BATCH_SIZES
        .into_iter()
        .filter(|&size| size < options.batch_size)
    {
        let smaller = SessionOptions {
            batch_size,
            ..*options
        };
        if fits(footprint, &smaller, limits)? {
            return Ok(smaller);
        }
    }
    let smallest = SessionOptions {
        batch_size: options.batch_size.min(BATCH_SIZES[BATCH_SIZES.len() - 1]),
        ..*options
    };
    let mut candidates = vec![longest(footprint, &smallest, limits)?];
    if options.cache_type.is_none() {
        let quantized = SessionOptions {
            cache_type: Some(CacheType::Q8_0),
            ..smallest
        };
        let comfortable = |found: &SessionOptions| found.context >= Some(COMFORTABLE_CONTEXT);
        let enough = candidates[0].as_ref().is_some_and(comfortable);
        if !enough && allows(footprint, CacheType::Q8_0) {
            candidates.insert(0, longest(footprint, &quantized, limits)?);
        }
    }
    let Some(found) = candidates.into_iter().flatten().next() else {
        return Err(refusal(footprint, options, limits)?);
    };
    // The rest goes to the batch.
    let sizes = [options.batch_size].into_iter().chain(BATCH_SIZES);
    for batch_size in sizes.filter(|&size| size <= options.batch_size) {
        let larger = SessionOptions {
            batch_size,
            ..found
        };
        if fits(footprint, &larger, limits)? {
            return Ok(larger);
        }
    }
    Ok(found)
}

/// Batch sizes to try when memory is short.
const BATCH_SIZES: [usize; 2] = [128, 32];

/// From this context on, the type of the cache is kept.
const COMFORTABLE_CONTEXT: usize = 256;

fn fits(footprint: &ModelFootprint<'_>, options: &SessionOptions, limits: &Limits) -> Result<bool> {
    Ok(limits.exceeded(&footprint.need(options)?).is_none())
}

/// Whether `head_size` is a multiple of the type's block size.
fn allows(footprint: &ModelFootprint<'_>, cache_type: CacheType) -> bool {
    kv_bytes(footprint.hyperparameters, 1, cache_type).is_some()
}

/// `options` with the longest context that fits; a context that was given is not changed.
fn longest(
    footprint: &ModelFootprint<'_>,
    options: &SessionOptions,
    limits: &Limits,
) -> Result<Option<SessionOptions>> {
    let with = |context: usize| SessionOptions {
        context: Some(context),
        ..*options
    };
    if options.context.is_some() {
        return Ok(fits(footprint, options, limits)?.then_some(*options));
    }
    let positions = footprint.hyperparameters.n_positions;
    let most = positions.saturating_mul(options.sequences);
    let shortest = CONTEXT_STEP.min(most);
    if !fits(footprint, &with(shortest), limits)? {
        return Ok(None);
    }
    if fits(footprint, &with(most), limits)? {
        return Ok(Some(with(most)));
    }
    // Memory grows with the context: halve the range between one that fits and one that does not.
    let (mut fitting, mut steps) = (1, most.div_ceil(CONTEXT_STEP));
    while fitting + 1 < steps {
        let middle = usize::midpoint(fitting, steps);
        if fits(footprint, &with(middle * CONTEXT_STEP), limits)? {
            fitting = middle;
        } else {
            steps = middle;
        }
    }
    Ok(Some(with(fitting * CONTEXT_STEP)))
}

/// Why `options` do not fit, and what would.
pub(in crate::session) fn refusal(
    footprint: &ModelFootprint<'_>,
    options: &SessionOptions,
    limits: &Limits,
) -> Result<Error> {
    // What was requested, or the least that would have been chosen.
    let positions = footprint.hyperparameters.n_positions;
    let shortest = CONTEXT_STEP.min(positions.saturating_mul(options.sequences));
    let wanted = SessionOptions {
        context: Some(options.context.unwrap_or(shortest)),
        batch_size: options.batch_size.min(BATCH_SIZES[BATCH_SIZES.len() - 1]),
        ..*options
    };
    let need = footprint.need(&wanted)?;
    let Some(limit) = limits.exceeded(&need) else {
        return Ok(Error::Memory("the cache's type does not fit".to_owned()));
    };
    let Memory { kv, compute, .. } = need.parts;
    let weights = need.of_weights(limit);
    Ok(Error::TooLittleMemory(Box::new(MemoryShortage {
        weights: weights as u64,
        cache: kv as u64,
        computation: compute as u64,
        other: need
            .of(limit)
            .saturating_sub((weights + kv + compute) as u64),
        available: limit.available,
        total: limit.total,
        limit: limit.source,
        suggestion: suggestion(footprint, &wanted, &limits.with_margin())?,
    })))
}

/// What would fit instead of `wanted`: another context or cache, a larger limit, a smaller model.
fn suggestion(
    footprint: &ModelFootprint<'_>,
    wanted: &SessionOptions,
    limits: &Limits,
) -> Result<Option<MemorySuggestion>> {
    let own_type = wanted.cache_type_for(footprint.matrix_type);
    let types = [own_type, CacheType::Q8_0, CacheType::Q4_0];
    let context = wanted.context.unwrap_or(CONTEXT_STEP);
    for cache_type in types
        .into_iter()
        .filter(|&cache_type| allows(footprint, cache_type))
    {
        let free = SessionOptions {
            context: None,
            cache_type: Some(cache_type),
            ..*wanted
        };
        if let Some(SessionOptions {
            context: Some(found),
            ..
        }) = longest(footprint, &free, limits)?
        {
            return Ok(Some(MemorySuggestion {
                // The requested context may fit with this type of cache.
                context: found.min(context),
                cache_type: cache_type.name(),
                limit: None,
                model_type: None,
            }));
        }
    }
    let smallest_type = types
        .into_iter()
        .rfind(|&cache_type| allows(footprint, cache_type));
    let least = SessionOptions {
        context: Some(CONTEXT_STEP.min(footprint.hyperparameters.n_positions * wanted.sequences)),
        cache_type: smallest_type.or(wanted.cache_type),
        ..*wanted
    };
    let need = footprint.need(&least)?;
    let Some(limit) = limits.exceeded(&need) else {
        return Ok(None);
    };
    let short = need.of(limit).saturating_sub(limit.available);
    Ok(Some(MemorySuggestion {
        context: least.context.unwrap_or_default(),
        cache_type: least.cache_type_for(footprint.matrix_type).name(),
        limit: Some(limit.total.saturating_add(short)),
        model_type: smaller_model(footprint, &least, limits)?,
    }))
}

/// The best type that the model could be converted to in order to fit; empty when there is none.
fn smaller_model(
    footprint: &ModelFootprint<'_>,
    least: &SessionOptions,
    limits: &Limits,
) -> Result<Option<&'static str>> {
    let bits = |tensor_type: TensorType| {
        tensor_type.block_bytes() as f64 * 8.0 / tensor_type.block_size() as f64
    };
    let own = bits(footprint.matrix_type);
    for tensor_type in SMALLER_TYPES.into_iter().filter(|&other| bits(other) < own) {
        let scaled = |bytes: usize| (bytes as f64 * bits(tensor_type) / own) as usize;
        let smaller = ModelFootprint {
            weights: scaled(footprint.weights),
            file: scaled(footprint.file),
            own_weights: scaled(footprint.own_weights),
            matrix_type: tensor_type,
            ..*footprint
        };
        if fits(&smaller, least, limits)? {
            return Ok(Some(tensor_type.name()));
        }
    }
    Ok(None)
}

/// Types to recommend, the largest first.
const SMALLER_TYPES: [TensorType; 6] = [
    TensorType::Q8_0,
    TensorType::Q6_K,
    TensorType::Q5_K,
    TensorType::Q4_K,
    TensorType::Q3_K,
    TensorType::Q2_K,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_of_the_smallest_gpt2() {
        let mut gpt2 = Hyperparameters {
            n_embd: 768,
            n_head: 12,
            n_layer: 12,
            ..Hyperparameters::default()
        };
        // 2 × 12 layers × 1024 positions × 768 × 2 bytes.
        assert_eq!(kv_bytes(&gpt2, 1024, CacheType::F16), Some(37_748_736));
        assert_eq!(
            kv_bytes(&gpt2, 1024, CacheType::Q8_0),
            Some(37_748_736 / 64 * 34)
        );
        // 24 is not a multiple of the block size, 32.
        gpt2.n_head = 32;
        assert_eq!(kv_bytes(&gpt2, 1024, CacheType::Q4_0), None);
    }
}
