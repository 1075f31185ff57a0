//! What it takes to compute texts together without one changing another.

use super::model::Model;
use crate::error::Result;
use crate::gguf::TensorType;
use crate::model::kv_cache::MAX_SEQUENCES;

impl Model {
    /// The most tokens of different texts that a run may have, such that each has the bits that it
    /// has alone where that costs little: products with these types have another order of summation
    /// for more than 31 tokens, and are dear without it.
    pub(crate) fn most_in_company(&self) -> Result<usize> {
        Ok(match self.matrix_type()? {
            TensorType::Q8_0 | TensorType::Q5_0 => 31,
            _ => MAX_SEQUENCES,
        })
    }
}
