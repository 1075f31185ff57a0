//! Words that are forbidden or favoured, given as text.

use clap::Args;
use gpt2::TokenId;
use gpt2::generate::GenerationOptions;
use gpt2::session::Model;

use crate::failure::Failure;
use crate::texts;

/// Words whose scores are changed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Changing scores")]
pub(super) struct Words {
    /// A text that may not be written, at the start or after a space; may be repeated
    #[arg(long = "bad-words", id = "bad_words", value_name = "TEXT")]
    forbidden: Vec<String>,
    /// Add BIAS to the score of a text's last token after the others, at the start or after a
    /// space; may be repeated
    #[arg(long, value_name = "TEXT=BIAS", value_parser = parse_bias)]
    word_bias: Vec<(String, f64)>,
    /// Steer away from what follows this text, with --guidance-scale
    #[arg(long, value_name = "TEXT", conflicts_with = "negative_prompt_ids")]
    #[arg(allow_hyphen_values = true, value_parser = texts::prompt_parser())]
    negative_prompt: Option<String>,
}

fn parse_bias(text: &str) -> Result<(String, f64), String> {
    let expected = || format!("expected a text and a bias such as word=-0.5, found {text:?}");
    let (word, bias) = text.rsplit_once('=').ok_or_else(expected)?;
    match bias.trim().parse() {
        Ok(bias) if !word.is_empty() => Ok((word.to_owned(), bias)),
        _ => Err(expected()),
    }
}

impl Words {
    /// Adds them to what the options have.
    pub(super) fn apply(
        &self,
        model: &Model,
        options: &mut GenerationOptions,
    ) -> Result<(), Failure> {
        for text in &self.forbidden {
            let spelled = spellings(model, text, "--bad-words")?;
            options.sampling.bad_words_ids.extend(spelled);
        }
        for (text, bias) in &self.word_bias {
            let spelled = spellings(model, text, "--word-bias")?;
            let biased = spelled.into_iter().map(|ids| (ids, *bias));
            options.sampling.sequence_bias.extend(biased);
        }
        if let Some(text) = &self.negative_prompt {
            options.negative_prompt = Some(crate::prompt::encode(model, text)?);
        }
        Ok(())
    }
}

/// The tokens of a text as it stands and after a space, where a vocabulary has others.
fn spellings(model: &Model, text: &str, flag: &str) -> Result<Vec<Vec<TokenId>>, Failure> {
    let tokenizer = model.tokenizer()?;
    let mut spelled = vec![tokenizer.encode(text)?];
    if !text.starts_with(' ') {
        spelled.push(tokenizer.encode(&format!(" {text}"))?);
    }
    spelled.dedup();
    if spelled.iter().any(Vec::is_empty) {
        return Err(Failure::Usage(format!(
            "{flag}: expected a text that has tokens, found {text:?}"
        )));
    }
    Ok(spelled)
}
