//! What a file to be written will contain: its metadata and tensors, without the tensors' data.

use std::collections::HashMap;

use super::value::encode_string;
use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS, MAX_KEY_BYTES, MAX_NAME_BYTES,
    TensorType, VERSION, Value, check_alignment, check_name, quoted,
};
use crate::error::{Error, Result};

/// The most bytes of tensor data a header plans, padding included; sums of offsets stay far from
/// overflow.
const MAX_DATA_BYTES: u64 = 1 << 62;

/// The header of a file to be written, valid at every moment: what cannot be written is refused
/// when it is added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufHeader {
    pairs: Vec<(String, Value)>,
    /// Where each key is in `pairs`.
    places: HashMap<String, usize>,
    tensors: Vec<PlannedTensor>,
}

/// A tensor of a file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// The name, at most 63 bytes.
    pub name: String,
    /// One to four extents, columns first.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub tensor_type: TensorType,
    /// Bytes of the data, without padding.
    pub bytes: u64,
}

impl GgufHeader {
    /// A header without keys and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `key` a value; one it had is replaced where it is. `general.alignment` takes effect.
    ///
    /// # Errors
    /// [`Error::Argument`] if the key is empty, longer than 65,535 bytes or contains NUL, or
    /// `general.alignment` is not a `u32` that is a power of two from 8 to 2^20.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        let refused = |message| Error::Argument(format!("key {}: {message}", quoted(&key)));
        check_name(&key, MAX_KEY_BYTES)
            .map_err(|message| Error::Argument(format!("the key {} {message}", quoted(&key))))?;
        if key == ALIGNMENT_KEY {
            match &value {
                Value::U32(alignment) => check_alignment((*alignment).into()).map_err(refused)?,
                other => {
                    return Err(refused(format!(
                        "expected u32, found {}",
                        other.value_type()
                    )));
                }
            }
        }
        let place = self.places.get(&key);
        if let Some((_, known)) = place.and_then(|&place| self.pairs.get_mut(place)) {
            *known = value;
        } else {
            self.places.insert(key.clone(), self.pairs.len());
            self.pairs.push((key, value));
        }
        Ok(())
    }

    /// Adds a tensor behind those already there. `shape` has the columns first.
    ///
    /// # Errors
    /// [`Error::Argument`] if the name is empty, longer than 63 bytes, contains NUL or is taken,
    /// the shape has not one to four dimensions or a dimension of 0, the columns are not a multiple
    /// of the type's block size, or the data's size is beyond 2^62 bytes.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        shape: &[u64],
        tensor_type: TensorType,
    ) -> Result<()> {
        let name = name.into();
        let refused =
            |message: String| Error::Argument(format!("tensor {}: {message}", quoted(&name)));
        check_name(&name, MAX_NAME_BYTES).map_err(|message| {
            Error::Argument(format!("the tensor name {} {message}", quoted(&name)))
        })?;
        if self.tensors.iter().any(|known| known.name == name) {
            return Err(refused("there is one of this name".to_owned()));
        }
        if shape.is_empty() || shape.len() > MAX_DIMENSIONS as usize || shape.contains(&0) {
            return Err(refused(format!(
                "expected 1 to {MAX_DIMENSIONS} dimensions, none of them 0, found {shape:?}"
            )));
        }
        let bytes = tensor_type.layout_bytes(shape).map_err(refused)?;
        // With the largest alignment, since it may still change.
        let most_padded = |bytes: u64| bytes.saturating_add(*super::ALIGNMENTS.end());
        let planned: u64 = self
            .tensors
            .iter()
            .map(|known| most_padded(known.bytes))
            .sum();
        if planned.saturating_add(most_padded(bytes)) > MAX_DATA_BYTES {
            return Err(refused("the file would be beyond 2^62 bytes".to_owned()));
        }
        self.tensors.push(PlannedTensor {
            name,
            shape: shape.to_vec(),
            tensor_type,
            bytes,
        });
        Ok(())
    }

    /// The keys and values in file order.
    pub fn pairs(&self) -> &[(String, Value)] {
        &self.pairs
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// What the tensors' offsets are multiples of, in bytes.
    pub fn alignment(&self) -> u64 {
        self.pairs
            .iter()
            .find(|(key, _)| key == ALIGNMENT_KEY)
            .and_then(|(_, value)| match value {
                Value::U32(alignment) => Some((*alignment).into()),
                _ => None,
            })
            .unwrap_or(DEFAULT_ALIGNMENT)
    }

    /// The exact size of the file in bytes: header, data and padding.
    pub fn total_bytes(&self) -> u64 {
        self.encode().len() as u64 + self.data_bytes()
    }

    /// The bytes of the file up to the tensors' data, padding included.
    pub fn encode(&self) -> Vec<u8> {
        let alignment = self.alignment();
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            encode_string(key, &mut out);
            out.extend_from_slice(&value.value_type().id().to_le_bytes());
            value.encode(&mut out);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            encode_string(&tensor.name, &mut out);
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for extent in &tensor.shape {
                out.extend_from_slice(&extent.to_le_bytes());
            }
            out.extend_from_slice(&tensor.tensor_type.id().to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            offset += tensor.bytes.next_multiple_of(alignment);
        }
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
        out
    }

    /// Bytes of the data with the padding behind each tensor.
    fn data_bytes(&self) -> u64 {
        let alignment = self.alignment();
        let padded = |tensor: &PlannedTensor| tensor.bytes.next_multiple_of(alignment);
        self.tensors.iter().map(padded).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_set_once_and_replaced_in_place() {
        let mut header = GgufHeader::new();
        header.set("a", 1u32).unwrap();
        header.set("b", 2u32).unwrap();
        header.set("a", "text").unwrap();
        let pairs = [
            ("a".to_owned(), "text".into()),
            ("b".to_owned(), 2u32.into()),
        ];
        assert_eq!(header.pairs(), pairs);
    }

    #[test]
    fn alignment_is_taken_from_its_key() {
        let mut header = GgufHeader::new();
        header.tensor("t", &[1], TensorType::F32).unwrap();
        assert_eq!(header.alignment(), 32);
        assert_eq!(header.total_bytes() % 32, 0);
        header.set(ALIGNMENT_KEY, 4096u32).unwrap();
        assert_eq!(header.total_bytes(), 2 * 4096);
        for wrong in [0u32, 4, 48, 1 << 21] {
            assert!(refusal(header.set(ALIGNMENT_KEY, wrong)).contains("power of two"));
        }
        assert!(refusal(header.set(ALIGNMENT_KEY, 64u64)).contains("expected u32, found u64"));
        assert_eq!(header.alignment(), 4096);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut header = GgufHeader::new();
        assert!(refusal(header.set("", 1u32)).contains("empty"));
        assert!(refusal(header.set("a\0b", 1u32)).contains("NUL"));
        assert!(refusal(header.set("k".repeat(65_536), 1u32)).contains("65536 bytes long"));
        let f32 = TensorType::F32;
        header.tensor("n".repeat(63), &[1], f32).unwrap();
        assert!(refusal(header.tensor("n".repeat(64), &[1], f32)).contains("64 bytes long"));
        assert!(refusal(header.tensor("n".repeat(63), &[1], f32)).contains("of this name"));
        assert!(refusal(header.tensor("t", &[], f32)).contains("1 to 4 dimensions"));
        assert!(refusal(header.tensor("t", &[1; 5], f32)).contains("1 to 4 dimensions"));
        assert!(refusal(header.tensor("t", &[4, 0], f32)).contains("none of them 0"));
        assert!(refusal(header.tensor("t", &[33], TensorType::Q4_0)).contains("blocks of 32"));
        assert!(refusal(header.tensor("t", &[1 << 61], TensorType::I16)).contains("2^62 bytes"));
        assert_eq!(header.tensors().len(), 1);
    }
}
