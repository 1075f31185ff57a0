//! The metadata of the output: what the model is, how its file is stored, its tokenizer.

use serde_json::{Map, Value as Json};

use super::class::Claim;
use super::config::{Config, outside_vocabulary, token_ids};
use super::file_types::FileType;
use super::json::{read_json, read_json_if_present};
use super::source::Source;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, GgufHeader};
use crate::spec::Hyperparameters;
use crate::tokenizer::checkpoint::{ConfigTokens, TokenizerFiles};

/// The version of ggml's quantized types (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;
/// Settings for generation, as the JSON object of `generation_config.json`.
const GENERATION_CONFIG: &str = "gpt2_edge.generation_config";
/// Keys of a split model, which the output is not.
const SPLIT_PREFIX: &str = "split.";

/// The description of a model in its source.
pub(super) struct Description {
    /// The model.
    pub hyperparameters: Hyperparameters,
    /// The class that a configuration claims; a GGUF file has the class.
    pub claim: Option<Claim>,
    /// Settings for generation, when there are any.
    generation: Map<String, Json>,
    warnings: Vec<String>,
    /// The vocabulary's size according to the configuration.
    claimed_vocabulary: usize,
}

impl Description {
    /// Reads the configuration beside the weights, or the metadata of a GGUF file.
    ///
    /// # Errors
    /// Those of the configuration.
    pub(super) fn of(source: &Source) -> Result<Self> {
        if let Some(gguf) = source.reader.gguf() {
            let hyperparameters =
                Hyperparameters::from_gguf(gguf).map_err(|error| error.within(&source.name))?;
            return Ok(Self {
                claimed_vocabulary: hyperparameters.vocab_size,
                hyperparameters,
                claim: None,
                generation: Map::new(),
                warnings: Vec::new(),
            });
        }
        let path = source.folder.join("config.json");
        let place = path.display().to_string();
        let mut notes = Vec::new();
        let json = read_json(&path, &mut notes)?;
        let mut config = Config::parse(&place, &object(&place, json)?)?;
        let path = source.folder.join("generation_config.json");
        let place = path.display().to_string();
        let mut generation = config.generation;
        if let Some(json) = read_json_if_present::<Json>(&path, &mut notes)? {
            generation = object(&place, json)?;
            // `generation_config.json` overrides `config.json`.
            let eos = token_ids(&place, &generation, "eos_token_id")?;
            if !eos.is_empty() {
                config.hyperparameters.eos = eos;
            }
        }
        Ok(Self {
            claimed_vocabulary: config.hyperparameters.vocab_size,
            hyperparameters: config.hyperparameters,
            claim: Some(config.claim),
            generation,
            warnings: [notes, config.warnings].concat(),
        })
    }

    /// The header of the output, without tensors, and what the user should know about it.
    ///
    /// # Errors
    /// Those of the tokenizer's files.
    pub(super) fn header(
        &self,
        source: &Source,
        file_type: &FileType,
    ) -> Result<(GgufHeader, Vec<String>)> {
        let mut header = GgufHeader::new();
        let mut warnings = self.warnings.clone();
        if let Some(gguf) = source.reader.gguf() {
            copy_metadata(gguf, &mut header)?;
        } else {
            header.set("general.architecture", "gpt2")?;
            header.set("general.type", "model")?;
            header.set("general.name", source.name.as_str())?;
        }
        header.set("general.file_type", file_type.number)?;
        header.set("general.quantization_version", QUANTIZATION_VERSION)?;
        if source.reader.gguf().is_some() {
            return Ok((header, warnings));
        }
        if self.claimed_vocabulary != self.hyperparameters.vocab_size {
            warnings.push(format!(
                "config.json says vocab_size {}, the embedding has {} rows, which is used",
                self.claimed_vocabulary, self.hyperparameters.vocab_size
            ));
        }
        warnings.extend(self.write_tokenizer(source, &mut header)?);
        self.hyperparameters.write_to(&mut header)?;
        if !self.generation.is_empty() {
            let json = Json::Object(self.generation.clone()).to_string();
            header.set(GENERATION_CONFIG, json)?;
        }
        Ok((header, warnings))
    }

    /// Puts the folder's tokenizer into the header, if it has one.
    fn write_tokenizer(&self, source: &Source, header: &mut GgufHeader) -> Result<Vec<String>> {
        let files = TokenizerFiles::read(&source.folder)?;
        if files.is_empty() {
            let mut warnings = outside_vocabulary(&self.hyperparameters);
            warnings
                .push("the folder has no tokenizer; the file will take token ids only".to_owned());
            return Ok(warnings);
        }
        let model = &self.hyperparameters;
        let tokens = ConfigTokens {
            vocabulary_size: model.vocab_size,
            bos: model.bos.map(u64::from),
            eos: model.eos.first().copied().map(u64::from),
            padding: model.pad.map(u64::from),
        };
        let tokenizer = files
            .to_gguf(&tokens)
            .map_err(|error| error.within(source.folder.display().to_string()))?;
        for (key, value) in tokenizer.entries {
            header.set(key, value)?;
        }
        Ok(tokenizer.warnings)
    }
}

/// Carries every key over, except those of a split model.
fn copy_metadata(gguf: &Gguf, header: &mut GgufHeader) -> Result<()> {
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        if !key.starts_with(SPLIT_PREFIX) {
            header.set(key, metadata.to_value(key)?)?;
        }
    }
    Ok(())
}

/// The object a JSON file must hold.
fn object(place: &str, json: Json) -> Result<Map<String, Json>> {
    match json {
        Json::Object(object) => Ok(object),
        other => Err(Error::format(
            place,
            format!("expected a JSON object, found {}", kind(&other)),
        )),
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
