//! The keys under which a GGUF file has the hyperparameters of a GPT-2.
//!
//! Keys are llama.cpp's for the architecture `gpt2`; what llama.cpp has no key for is under
//! `gpt2_edge.` and has GPT-2's own value when it is absent.

use crate::TokenId;
use crate::error::{Error, Result};
use crate::gguf::{Array, Gguf, GgufHeader, Metadata};
use crate::spec::hyperparameters::{MAX_DIMENSION, MAX_LAYERS};
use crate::spec::tensor_table::TensorId;
use crate::spec::{Activation, HeadSettings, Hyperparameters, ModelClass};

/// The architecture's name in `general.architecture`, and the prefix of its keys.
pub const ARCHITECTURE: &str = "gpt2";

/// The keys, so that reading and writing cannot drift apart.
mod key {
    pub(super) const ARCHITECTURE: &str = "general.architecture";
    pub(super) const POSITIONS: &str = "gpt2.context_length";
    pub(super) const EMBD: &str = "gpt2.embedding_length";
    pub(super) const LAYER: &str = "gpt2.block_count";
    pub(super) const INNER: &str = "gpt2.feed_forward_length";
    pub(super) const HEAD: &str = "gpt2.attention.head_count";
    pub(super) const EPSILON: &str = "gpt2.attention.layer_norm_epsilon";
    pub(super) const ACTIVATION: &str = "gpt2_edge.activation_function";
    pub(super) const SCALE_ATTENTION: &str = "gpt2_edge.scale_attn_weights";
    pub(super) const SCALE_BY_LAYER: &str = "gpt2_edge.scale_attn_by_inverse_layer_idx";
    pub(super) const CLASS: &str = "gpt2_edge.class";
    pub(super) const TIED: &str = "gpt2_edge.tie_word_embeddings";
    pub(super) const ALL_EOS: &str = "gpt2_edge.eos_token_ids";
    pub(super) const BOS: &str = "tokenizer.ggml.bos_token_id";
    pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
    pub(super) const PAD: &str = "tokenizer.ggml.padding_token_id";
}

impl Hyperparameters {
    /// Reads them from a GGUF file. `vocab_size` is the number of rows of the token embedding, and
    /// the head is tied when the file has no `output.weight`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another architecture, an unknown activation or class;
    /// [`Error::Format`] for a key that is missing, of the wrong type or out of range.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let metadata = gguf.metadata();
        let architecture = metadata.required_str(key::ARCHITECTURE)?;
        if architecture != ARCHITECTURE {
            return Err(Error::Unsupported(format!(
                "architecture '{architecture}'; this library runs '{ARCHITECTURE}'"
            )));
        }
        let name = TensorId::TOKEN_EMBEDDING.gguf_name();
        let embedding = gguf
            .tensor(&name)
            .ok_or_else(|| Error::format(format!("tensor {name}"), "missing"))?;
        let [_, vocab_size] = embedding.shape[..] else {
            return Err(Error::format(
                format!("tensor {name}"),
                format!("expected two axes, found shape {:?}", embedding.shape),
            ));
        };
        let outputs = gguf
            .tensor(&TensorId::TASK_HEAD.gguf_name())
            .and_then(|head| usize::try_from(head.rows()).ok())
            .unwrap_or(0);
        let defaults = Self::default();
        let hyperparameters = Self {
            vocab_size: usize::try_from(vocab_size).unwrap_or(usize::MAX),
            n_positions: dimension(metadata, key::POSITIONS, MAX_DIMENSION)?,
            n_embd: dimension(metadata, key::EMBD, MAX_DIMENSION)?,
            n_layer: dimension(metadata, key::LAYER, MAX_LAYERS)?,
            n_head: dimension(metadata, key::HEAD, MAX_DIMENSION)?,
            n_inner: dimension(metadata, key::INNER, MAX_DIMENSION)?,
            layer_norm_epsilon: metadata.required_f32(key::EPSILON)?,
            activation_function: metadata
                .str(key::ACTIVATION)?
                .map_or(Ok(defaults.activation_function), Activation::from_name)?,
            scale_attn_weights: metadata
                .bool(key::SCALE_ATTENTION)?
                .unwrap_or(defaults.scale_attn_weights),
            scale_attn_by_inverse_layer_idx: metadata
                .bool(key::SCALE_BY_LAYER)?
                .unwrap_or(defaults.scale_attn_by_inverse_layer_idx),
            tied_head: gguf.tensor(&TensorId::OUTPUT.gguf_name()).is_none()
                && metadata.bool(key::TIED)?.unwrap_or(true),
            class: class(metadata)?,
            head: HeadSettings::from_metadata(metadata, outputs)?,
            bos: metadata.u32(key::BOS)?,
            eos: end_tokens(metadata)?,
            pad: metadata.u32(key::PAD)?,
        };
        hyperparameters.validate("metadata")?;
        Ok(hyperparameters)
    }

    /// Writes them into a header, under the keys [`Hyperparameters::from_gguf`] reads. Token ids
    /// outside the vocabulary are left out.
    ///
    /// # Errors
    /// [`Error::Argument`] when the header refuses a key.
    pub fn write_to(&self, header: &mut GgufHeader) -> Result<()> {
        header.set(key::ARCHITECTURE, ARCHITECTURE)?;
        header.set(key::POSITIONS, self.n_positions as u32)?;
        header.set(key::EMBD, self.n_embd as u32)?;
        header.set(key::LAYER, self.n_layer as u32)?;
        header.set(key::INNER, self.n_inner as u32)?;
        header.set(key::HEAD, self.n_head as u32)?;
        header.set(key::EPSILON, self.layer_norm_epsilon)?;
        header.set(key::ACTIVATION, self.activation_function.name())?;
        header.set(key::SCALE_ATTENTION, self.scale_attn_weights)?;
        header.set(key::SCALE_BY_LAYER, self.scale_attn_by_inverse_layer_idx)?;
        header.set(key::CLASS, self.class.name())?;
        // An untied head is seen from its tensor, except in a class that has none.
        if self.class == ModelClass::Base && !self.tied_head {
            header.set(key::TIED, false)?;
        }
        self.head.write_to(header)?;
        let known = |id: &TokenId| (*id as usize) < self.vocab_size;
        let eos: Vec<TokenId> = self.eos.iter().copied().filter(known).collect();
        if let Some(bos) = self.bos.filter(known) {
            header.set(key::BOS, bos)?;
        }
        if let Some(first) = eos.first() {
            header.set(key::EOS, *first)?;
        }
        if eos.len() > 1 {
            header.set(key::ALL_EOS, Array::U32(eos))?;
        }
        if let Some(pad) = self.pad.filter(known) {
            header.set(key::PAD, pad)?;
        }
        Ok(())
    }
}

/// A size in 1..=`limit`.
fn dimension(metadata: &Metadata, key: &str, limit: u64) -> Result<usize> {
    let size = metadata.required_u64(key)?;
    if size == 0 || size > limit {
        return Err(Error::format(
            format!("key {key}"),
            format!("expected 1 to {limit}, found {size}"),
        ));
    }
    Ok(size as usize)
}

fn class(metadata: &Metadata) -> Result<ModelClass> {
    metadata
        .str(key::CLASS)?
        .map_or(Ok(ModelClass::default()), |name| {
            ModelClass::from_name(name).ok_or_else(|| {
                Error::Unsupported(format!("model class '{name}' (key {})", key::CLASS))
            })
        })
}

/// All end tokens: ours when present, else the one llama.cpp knows.
fn end_tokens(metadata: &Metadata) -> Result<Vec<TokenId>> {
    match metadata.u32s(key::ALL_EOS)? {
        Some(ids) => Ok(ids),
        None => Ok(metadata.u32(key::EOS)?.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;
    use crate::spec::tensor_table::tensors;
    use std::sync::Arc;

    fn small() -> Hyperparameters {
        Hyperparameters {
            vocab_size: 5,
            n_positions: 4,
            n_embd: 6,
            n_layer: 2,
            n_head: 2,
            n_inner: 8,
            layer_norm_epsilon: 1e-6,
            activation_function: Activation::Relu,
            scale_attn_weights: false,
            scale_attn_by_inverse_layer_idx: true,
            tied_head: false,
            bos: Some(1),
            eos: vec![4, 2],
            pad: None,
            ..Hyperparameters::default()
        }
    }

    /// A file of the model with all weights zero.
    fn file_of(hyperparameters: &Hyperparameters, change: impl Fn(&mut GgufHeader)) -> Gguf {
        let mut header = GgufHeader::new();
        hyperparameters.write_to(&mut header).unwrap();
        change(&mut header);
        for spec in tensors(hyperparameters) {
            header
                .tensor(spec.name, &spec.shape, TensorType::F32)
                .unwrap();
        }
        let mut bytes = header.encode();
        bytes.resize(header.total_bytes() as usize, 0);
        Gguf::parse(Arc::new(bytes)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let gguf = file_of(&small(), |_| {});
        let read = Hyperparameters::from_gguf(&gguf).unwrap();
        assert_eq!(read, small());
    }

    #[test]
    fn ids_outside_the_vocabulary_stay_out() {
        let outside = Hyperparameters {
            bos: Some(5),
            eos: vec![50256],
            ..small()
        };
        let read = Hyperparameters::from_gguf(&file_of(&outside, |_| {})).unwrap();
        assert_eq!((read.bos, read.eos), (None, vec![]));
    }

    #[test]
    fn wrong_values_are_refused_with_their_key() {
        let refusal = |change: &dyn Fn(&mut GgufHeader)| {
            Hyperparameters::from_gguf(&file_of(&small(), change))
                .unwrap_err()
                .to_string()
        };
        let heads = refusal(&|header| header.set(key::HEAD, 0_u32).unwrap());
        assert!(heads.contains(key::HEAD), "{heads}");
        let uneven = refusal(&|header| header.set(key::HEAD, 4_u32).unwrap());
        assert!(uneven.contains("n_head 4"), "{uneven}");
        let other = refusal(&|header| header.set(key::ARCHITECTURE, "llama").unwrap());
        assert!(other.contains("'llama'"), "{other}");
        let activation = refusal(&|header| header.set(key::ACTIVATION, "geglu").unwrap());
        assert!(activation.contains("geglu"), "{activation}");
        let class = refusal(&|header| header.set(key::CLASS, "GPT3").unwrap());
        assert!(class.contains("GPT3"), "{class}");
    }
}
