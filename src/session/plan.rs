//! What a session will need, known before anything is loaded.

use super::CacheType;
use crate::model::Hyperparameters;

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
}
