//! How many texts can be computed together without one changing another.

use super::model::Model;
use crate::error::Result;
use crate::gguf::TensorType;

impl Model {
    /// The most tokens of different texts that a run may have, such that each has the bits that it
    /// has alone where the model's type allows it: attention has another order of summation for
    /// more than 63, and products with these types for more than 31.
    pub(crate) fn most_in_company(&self) -> Result<usize> {
        Ok(match self.matrix_type()? {
            TensorType::Q8_0 | TensorType::Q5_0 | TensorType::Q4_K => 31,
            _ => 63,
        })
    }
}
