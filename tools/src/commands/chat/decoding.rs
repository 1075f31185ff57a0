//! How replies are written, from the command line.

use clap::{ArgAction, Args};
use gpt2::generate::GenerationOptions;
use gpt2::sampling::SamplingOptions;

use crate::arguments::GREEDY;
use crate::stream::note;

/// The defaults are those of llama.cpp's conversations: always the likeliest token makes small
/// models repeat themselves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Choosing tokens (/set changes these and more)")]
pub(super) struct Decoding {
    /// Draw tokens at random by their probability; false takes the most likely one every time
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true"
    )]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    do_sample: bool,
    /// Below 1 prefers likely tokens more, above 1 less; 0 takes the most likely one every time
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f64,
    /// Draw from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,
    /// Draw from the most likely tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f64,
    /// Above 1 makes tokens seen before less likely
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Most tokens of a reply
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
}

impl Decoding {
    pub(super) fn options(&self) -> GenerationOptions {
        let greedy = self.temperature == 0.0;
        if greedy {
            note!("{GREEDY}");
        }
        GenerationOptions {
            sampling: SamplingOptions {
                do_sample: self.do_sample && !greedy,
                temperature: if greedy { 1.0 } else { self.temperature },
                top_k: self.top_k,
                top_p: self.top_p,
                repetition_penalty: self.repetition_penalty,
                ..SamplingOptions::default()
            },
            max_new_tokens: self.max_new_tokens,
            ..GenerationOptions::default()
        }
    }
}
