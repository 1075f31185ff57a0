//! `gpt2 score`: log-probabilities of texts, token by token.

use std::fmt::Write;
use std::ops::{ControlFlow, Range};

use clap::Args;
use gpt2::TokenId;
use gpt2::generate::unpadded;
use gpt2::sampling::{ScoreDetails, TokenScore};
use gpt2::session::{Model, SessionOptions};
use gpt2::tasks::{
    Batching, ScoreOptions, ScoreRequest, ScoredText, TextScores, score, scoring_needs, word_scores,
};
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::report::{self, Progress};
use crate::stream::note;
use crate::texts::{self, Reading, TEXTS, TextSource};
use crate::{arguments, interrupt};

/// Score texts: the log-probability of each token.
///
/// A line for each token: its log-probability (ln, from the model's own softmax), what else is
/// asked for, and the token; then the sum, the mean and the perplexity of the text. With --context
/// or --bos all tokens have a score, otherwise all but the first. --batching says whether texts are
/// computed together. One that is longer than the model's context is scored in windows, each token
/// once. With --json also the places of the tokens in the text, and the sums of its words.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 score --context \"She was\" \" happy.\" \" happily.\" --summary"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    /// A text as token ids, such as 1,2,3; may be repeated. The model's padding tokens are left out
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = TEXTS)]
    ids: Vec<Ids>,
    /// What comes before every text and is not scored
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(value_parser = texts::prompt_parser())]
    context: Option<String>,
    /// Begin with the model's beginning of text
    #[arg(long)]
    bos: bool,
    /// List the N likeliest tokens at each place
    #[arg(long, value_name = "N", default_value_t = 0)]
    top: usize,
    /// Give each token's rank among all, 1 for the likeliest
    #[arg(long)]
    ranks: bool,
    /// Give the entropy of the distribution at each place, in nats
    #[arg(long)]
    entropy: bool,
    /// Of a text longer than the context, score N tokens in each window after the first [default:
    /// as many as the context has]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Compute texts together, which moves their scores a little, alone, or as suits the model's
    /// type (auto: together for f32)
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = parse_batching)]
    batching: Batching,
    /// A line for each text: sum, mean, perplexity, tokens scored, the text
    #[arg(long, conflicts_with = "json")]
    summary: bool,
    #[command(flatten)]
    run: RunArguments,
}

fn parse_batching(name: &str) -> Result<Batching, String> {
    Batching::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Batching::names().collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// A text, or ids that stand for one.
struct Input {
    /// The text with the places of its tokens, unless ids were given.
    text: Option<(String, Vec<Range<usize>>)>,
    request: ScoreRequest,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = if arguments.ids.is_empty() {
        arguments.texts.read(Reading {
            may_be_empty: true,
            ..Reading::default()
        })?
    } else {
        Vec::new()
    };
    let model = arguments.run.open_model()?;
    let inputs = arguments.inputs(&model, texts)?;
    let options = arguments.options();
    let (sequences, context) = scoring_needs(&model);
    let session = arguments.run.session_options(Some(context));
    let session = SessionOptions {
        sequences,
        ..session
    };
    let mut session = arguments::start(model.clone(), session)?;
    interrupt::stop_on_interrupt(&session.stop_flag());

    let requests: Vec<ScoreRequest> = inputs.iter().map(|input| input.request.clone()).collect();
    let mut progress = Progress::new();
    let mut rows: Vec<Value> = Vec::new();
    let mut failure = None;
    let mut shown = 0;
    let result = score(&mut session, &requests, &options, &mut |index, scores| {
        let input = &inputs[index];
        shown += 1;
        note_windows(index, input, &scores);
        if arguments.run.json {
            rows.push(row(&model, input, &scores, &options));
            progress.show(format!("{shown} of {} texts", inputs.len()));
            return ControlFlow::Continue(());
        }
        let printed = if arguments.summary {
            report::print(&summary(&model, input, &scores))
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            report::print(&format!("{gap}{}", table(&model, input, &scores)))
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    drop(progress);
    if let Some(failure) = failure {
        return Err(failure);
    }
    let interrupted = match result {
        Err(gpt2::Error::Stopped) if shown > 0 => true,
        Err(error @ gpt2::Error::OutOfRange { name: "stride", .. }) => {
            return Err(Failure::Usage(format!("--{error}")));
        }
        other => {
            other?;
            false
        }
    };
    if interrupted {
        note!("interrupted: {shown} of {} texts are scored", inputs.len());
    }
    if arguments.run.json {
        let mut document = json!({ "rows": rows });
        if interrupted {
            document["interrupted"] = true.into();
        }
        return report::print_json(&document);
    }
    Ok(())
}

impl Arguments {
    fn options(&self) -> ScoreOptions {
        ScoreOptions {
            details: ScoreDetails {
                rank: self.ranks,
                entropy: self.entropy,
                top: self.top,
            },
            stride: self.stride,
            batching: self.batching,
        }
    }

    fn inputs(&self, model: &Model, texts: Vec<String>) -> Result<Vec<Input>, Failure> {
        let context = self.context.as_deref();
        let of_text = |text: String| {
            let scored = ScoredText::new(model, context, self.bos, &text)?;
            Ok(Input {
                text: Some((text, scored.characters)),
                request: scored.request,
            })
        };
        if self.ids.is_empty() {
            return texts.into_iter().map(of_text).collect();
        }
        let before = if context.is_some() || self.bos {
            let context = context.unwrap_or_default();
            ScoredText::new(model, Some(context), self.bos, "")?
                .request
                .context
        } else {
            Vec::new()
        };
        let of_ids = |Ids(ids): &Ids| {
            model.check_tokens(ids)?;
            Ok(Input {
                text: None,
                request: ScoreRequest {
                    context: before.clone(),
                    tokens: unpadded(model, ids),
                },
            })
        };
        self.ids.iter().map(of_ids).collect()
    }
}

/// Says when a text was too long for one window.
fn note_windows(index: usize, input: &Input, scores: &TextScores) {
    if scores.windows > 1 {
        note!(
            "text {index} has {} tokens, context included: more than the model takes, scored in {} \
             windows",
            input.request.context.len() + input.request.tokens.len(),
            scores.windows
        );
    }
}

/// The JSON of a text.
fn row(model: &Model, input: &Input, scores: &TextScores, options: &ScoreOptions) -> Value {
    let ids = &input.request.tokens;
    let tokenizer = model.tokenizer().ok();
    let name = |&id: &TokenId| tokenizer.and_then(|tokenizer| tokenizer.token_text(id));
    let tokens: Vec<Option<String>> = ids.iter().map(name).collect();
    let each = |value: &dyn Fn(&TokenScore) -> Value| -> Vec<Value> {
        let scores = scores.tokens.iter();
        scores
            .map(|score| score.as_ref().map_or(Value::Null, value))
            .collect()
    };
    let mut row = json!({});
    if let Some((text, _)) = &input.text {
        row["text"] = json!(text);
    }
    row["ids"] = json!(ids);
    row["tokens"] = json!(tokens);
    if let Some((_, characters)) = &input.text {
        let offsets = characters.iter().map(|place| [place.start, place.end]);
        row["offsets"] = json!(offsets.collect::<Vec<_>>());
    }
    row["logprobs"] = each(&|score| json!(score.log_probability)).into();
    if options.details.rank {
        row["ranks"] = each(&|score| json!(score.rank)).into();
    }
    if options.details.entropy {
        row["entropies"] = each(&|score| json!(score.entropy)).into();
    }
    if options.details.top > 0 {
        row["top"] = each(&|score| report::alternatives(&score.top, tokenizer)).into();
    }
    if let Some((text, characters)) = &input.text {
        row["words"] = words(text, characters, scores).into();
    }
    row["sum"] = json!(scores.sum());
    row["mean"] = json!(scores.mean());
    row["perplexity"] = json!(scores.perplexity());
    row["windows"] = json!(scores.windows);
    row
}

fn words(text: &str, characters: &[Range<usize>], scores: &TextScores) -> Vec<Value> {
    let all: Vec<char> = text.chars().collect();
    let words = word_scores(text, characters, scores).into_iter();
    let word = words.map(|word| {
        let text: String = all[word.characters.clone()].iter().collect();
        json!({
            "text": text,
            "offsets": [word.characters.start, word.characters.end],
            "tokens": [word.tokens.start, word.tokens.end],
            "logprob": word.log_probability,
        })
    });
    word.collect()
}

/// A token as people read it.
fn quoted(model: &Model, id: TokenId) -> String {
    match model.tokenizer() {
        Ok(tokenizer) => json!(tokenizer.decode(&[id])).to_string(),
        Err(_) => id.to_string(),
    }
}

/// A line for each token, and one for the text.
fn table(model: &Model, input: &Input, scores: &TextScores) -> String {
    let mut table = String::new();
    for (score, &id) in scores.tokens.iter().zip(&input.request.tokens) {
        match score {
            None => table.push('-'),
            Some(score) => {
                let _ = write!(table, "{:.4}", score.log_probability);
                if let Some(rank) = score.rank {
                    let _ = write!(table, "\trank {rank}");
                }
                if let Some(entropy) = score.entropy {
                    let _ = write!(table, "\tentropy {entropy:.4}");
                }
            }
        }
        let _ = write!(table, "\t{}", quoted(model, id));
        for other in score.iter().flat_map(|score| &score.top) {
            let _ = write!(
                table,
                "\t{} {:.4}",
                quoted(model, other.id),
                other.log_probability
            );
        }
        table.push('\n');
    }
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let _ = writeln!(
        table,
        "sum {:.4}, mean {}, perplexity {} ({} tokens)",
        scores.sum(),
        number(scores.mean()),
        number(scores.perplexity()),
        scores.scored()
    );
    table
}

/// One line for the text.
fn summary(model: &Model, input: &Input, scores: &TextScores) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let text = match (&input.text, model.tokenizer()) {
        (Some((text, _)), _) => text.clone(),
        (None, Ok(tokenizer)) => tokenizer.decode(&input.request.tokens),
        (None, Err(_)) => String::new(),
    };
    format!(
        "{:.4}\t{}\t{}\t{}\t{}\n",
        scores.sum(),
        number(scores.mean()),
        number(scores.perplexity()),
        scores.scored(),
        // One line, whatever the text has.
        text.replace(['\n', '\r'], " "),
    )
}
