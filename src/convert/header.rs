//! The metadata of the output: what the model is, how its file is stored, its tokenizer.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::class::Claim;
use super::config::{Config, outside_vocabulary, token_ids};
use super::json::{read_json, read_json_if_present};
use super::missing::no_weights;
use super::options::ConvertOptions;
use super::source::Source;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, GgufHeader};
use crate::input::is_there;
#[cfg(feature = "pickle")]
use crate::input::read_small;
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
        let mut notes = Vec::new();
        let (place, object_of_model) = fields(source, &mut notes)?;
        let mut config = Config::parse(&place, &object_of_model)?;
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
        options: &ConvertOptions,
    ) -> Result<(GgufHeader, Vec<String>)> {
        let file_type = options.types.file_type;
        let given = options.tokenizer.as_deref();
        let mut header = GgufHeader::new();
        let mut warnings = self.warnings.clone();
        if let Some(gguf) = source.reader.gguf() {
            copy_metadata(gguf, &mut header, given.is_some())?;
        } else {
            header.set("general.architecture", "gpt2")?;
            header.set("general.type", "model")?;
            header.set("general.name", source.name.as_str())?;
        }
        header.set("general.file_type", file_type.number)?;
        header.set("general.quantization_version", QUANTIZATION_VERSION)?;
        if let Some(gguf) = source.reader.gguf() {
            if given.is_some() {
                let has_one = gguf.metadata().keys().any(is_of_tokenizer);
                warnings.extend(self.write_tokenizer(source, given, has_one, &mut header)?);
            }
            return Ok((header, warnings));
        }
        if self.claimed_vocabulary != self.hyperparameters.vocab_size {
            warnings.push(format!(
                "config.json says vocab_size {}, the embedding has {} rows, which is used",
                self.claimed_vocabulary, self.hyperparameters.vocab_size
            ));
        }
        let own = TokenizerFiles::read(&source.folder)?;
        warnings.extend(self.write_tokenizer(source, given, !own.is_empty(), &mut header)?);
        self.hyperparameters.write_to(&mut header)?;
        if !self.generation.is_empty() {
            let json = Json::Object(self.generation.clone()).to_string();
            header.set(GENERATION_CONFIG, json)?;
        }
        Ok((header, warnings))
    }

    /// Puts the tokenizer that was given into the header, else the folder's, if it has one.
    /// `has_own` says whether the source has one.
    fn write_tokenizer(
        &self,
        source: &Source,
        given: Option<&Path>,
        has_own: bool,
        header: &mut GgufHeader,
    ) -> Result<Vec<String>> {
        let place = given.unwrap_or(&source.folder);
        let files = tokenizer_files(place)?;
        if files.is_empty() {
            if given.is_some() {
                return Err(Error::format(
                    place.display().to_string(),
                    "no tokenizer: expected tokenizer.json, or vocab.json with merges.txt",
                ));
            }
            let mut warnings = outside_vocabulary(&self.hyperparameters);
            warnings.push(
                "the source has no tokenizer, and none was given; the file will take token ids only"
                    .to_owned(),
            );
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
            .map_err(|error| error.within(place.display().to_string()))?;
        for (key, value) in tokenizer.entries {
            header.set(key, value)?;
        }
        let mut warnings = tokenizer.warnings;
        if given.is_some() && has_own {
            warnings.push(format!(
                "the tokenizer of {} was used, not the source's own",
                place.display()
            ));
        }
        Ok(warnings)
    }
}

/// The tokenizer at a path: nanoGPT's characters, else what the tokenizer's own room reads.
fn tokenizer_files(path: &Path) -> Result<TokenizerFiles> {
    #[cfg(feature = "pickle")]
    if path.extension().is_some_and(|extension| extension == "pkl") {
        let place = path.display().to_string();
        let characters =
            super::pickle::characters(&read_small(path)?).map_err(|error| error.within(&place))?;
        return TokenizerFiles::of_characters(&characters).map_err(|error| error.within(place));
    }
    TokenizerFiles::read(path)
}

/// The fields of the model's configuration, and where they are: `config.json` beside the weights,
/// or the weights' own file. A `config.json` that says it is a GPT-2's goes before the file, so
/// that what the file does not say can be said.
fn fields(source: &Source, notes: &mut Vec<String>) -> Result<(String, Map<String, Json>)> {
    let path = source.folder.join("config.json");
    let place = path.display().to_string();
    let Some(own) = source.reader.config() else {
        if !is_there(&path)? {
            if source.folder.join("adapter_config.json").is_file() {
                return Err(no_weights(&source.folder));
            }
            return Err(Error::format(
                source.folder.display().to_string(),
                "no config.json beside the weights, which alone do not say how many attention \
                 heads the model has; get it from where the weights are from",
            ));
        }
        let fields = object(&place, read_json(&path, notes)?)?;
        return Ok((place, fields));
    };
    let beside = read_json_if_present::<Json>(&path, notes).ok().flatten();
    match beside {
        Some(Json::Object(fields)) if fields.get("model_type") == Some(&"gpt2".into()) => {
            notes.push(format!(
                "the model is described by {place}, which goes before {}",
                own.place
            ));
            Ok((place, fields))
        }
        _ => Ok((own.place.to_owned(), own.fields.clone())),
    }
}

/// Whether a key of a GGUF file is of the tokenizer in it.
fn is_of_tokenizer(key: &str) -> bool {
    key.starts_with("tokenizer.") || key.starts_with("gpt2_edge.tokenizer.")
}

/// Carries every key over, except those of a split model, and those of the tokenizer when another
/// takes its place.
fn copy_metadata(gguf: &Gguf, header: &mut GgufHeader, other_tokenizer: bool) -> Result<()> {
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        let is_replaced = other_tokenizer && is_of_tokenizer(key);
        if !key.starts_with(SPLIT_PREFIX) && !is_replaced {
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
