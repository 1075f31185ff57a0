//! `gpt2 generate`: continues texts.

mod cache;
mod flags;
mod output;
mod scores;
mod source;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use gpt2::TokenId;
use gpt2::generate::{
    BatchGeneration, Continuation, Generation, GenerationDefaults, GenerationOptions,
    generate_assisted_with, generate_batch, generate_with,
};
use gpt2::session::{Model, Session};

use crate::arguments::RunArguments;
use crate::failure::{self, Failure};
use crate::grammar::GrammarFile;
use crate::interrupt;
use crate::stream::note;
use cache::PromptCache;
use flags::Parameters;
use output::Stream;
use scores::Scores;
use source::{Prompt, Source};
use words::Words;

/// Continue a text.
///
/// Of files and stdin, one newline at the end is dropped. Several prompts are continued together,
/// each with the result it has alone. The continuation alone goes to stdout as it comes, whole
/// words at a time. Parameters have the names and meanings they have in transformers, and over
/// their defaults the values of the model's own generation settings; but without --do-sample the
/// most likely token is taken every time.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 generate -p \"My dear Mr. Bennet,\" -n 40 --do-sample \
        --temperature 0.8 --seed 1"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    cache: PromptCache,
    #[command(flatten)]
    scores: Scores,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    grammar: GrammarFile,
    /// A smaller model of the same vocabulary that drafts tokens: faster, the same result
    #[arg(long, value_name = "MODEL.gguf", help_heading = "Searching")]
    assistant_model: Option<PathBuf>,
    /// Never choose a token that ends the text
    #[arg(long, help_heading = "Ending")]
    ignore_eos: bool,
    /// When the context is full, go on with the first N tokens and the newest half [default: end]
    #[arg(long, value_name = "keep=N", value_parser = parse_keep, help_heading = "Ending")]
    on_overflow: Option<usize>,
}

fn parse_keep(text: &str) -> Result<usize, String> {
    let count = text.strip_prefix("keep=").and_then(|n| n.parse().ok());
    count.ok_or_else(|| format!("expected keep=N with a number of tokens, found {text:?}"))
}

pub(super) fn run(arguments: &Arguments, start: Instant) -> Result<(), Failure> {
    arguments.scores.check()?;
    arguments.cache.check()?;
    let texts = arguments.source.texts()?;
    let model = arguments.run.open_model()?;
    let options = arguments.options(&model)?;
    let prompts = arguments.source.prompts(&model, &texts)?;
    arguments.check_single(&prompts)?;
    let mut session = arguments.start(&model, &options, &prompts)?;
    check_lengths(&session, &options, &prompts)?;
    interrupt::stop_on_interrupt(&session.stop_flag());
    arguments.cache.restore(&mut session)?;
    let mut assistant = arguments.start_assistant()?;
    let load = start.elapsed();

    let others = arguments.scores.are_wanted() || arguments.cache.is_wanted();
    let mut stream = Stream::new(!arguments.run.json, others);
    let result = continue_all(
        &mut session,
        assistant.as_mut(),
        &prompts,
        &options,
        &mut stream,
    );
    if stream.error.is_some() && !others {
        return stream.finish(&[]);
    }
    let generation = result?;
    let all: Vec<&Continuation> = generation.requests.iter().flatten().collect();
    let shown = if arguments.run.json {
        let document = output::document(&prompts, &generation, load, &session);
        crate::report::print_json(&document)
    } else {
        stream.finish(&all)
    };
    let scores = arguments
        .scores
        .write(&all, model.hyperparameters().vocab_size);
    let kept = match &prompts[..] {
        [prompt] => arguments.cache.save(&mut session, &prompt.own),
        _ => Ok(()),
    };
    if !arguments.run.json && shown.is_ok() {
        output::note_full_context(&all, &options, &session);
        output::summarize(&generation, load, &session);
    }
    failure::all([shown, scores, kept])
}

/// Refuses a prompt that does not fit before the others are continued.
fn check_lengths(
    session: &Session,
    options: &GenerationOptions,
    prompts: &[Prompt],
) -> Result<(), Failure> {
    let model_limit = session.model().hyperparameters().n_positions;
    let available = session.context_size().min(model_limit);
    let longest = prompts.iter().map(|prompt| prompt.own.len()).max();
    match longest {
        Some(needed) if needed > available && options.on_overflow.is_none() => {
            Err(gpt2::Error::ContextFull {
                needed,
                available,
                model_limit,
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Continues the prompts, handing the text on as it comes.
fn continue_all(
    session: &mut Session,
    assistant: Option<&mut Session>,
    prompts: &[Prompt],
    options: &GenerationOptions,
    stream: &mut Stream,
) -> gpt2::Result<BatchGeneration> {
    let mut on_token = |step: &gpt2::generate::Step| stream.step(step);
    let one = |generation: Generation| BatchGeneration {
        requests: vec![generation.sequences],
        timings: generation.timings,
    };
    match (prompts, assistant) {
        ([prompt], Some(assistant)) => {
            generate_assisted_with(session, assistant, &prompt.own, options, &mut on_token).map(one)
        }
        ([prompt], None) => generate_with(session, &prompt.own, options, &mut on_token).map(one),
        _ => {
            let prompts: Vec<Vec<TokenId>> =
                prompts.iter().map(|prompt| prompt.own.clone()).collect();
            generate_batch(session, &prompts, options, &mut on_token)
        }
    }
}

impl Arguments {
    /// What is asked for: the library's defaults, what the model's file says, the flags.
    fn options(&self, model: &Model) -> Result<GenerationOptions, Failure> {
        let defaults = GenerationDefaults::of(model)?;
        for warning in &defaults.warnings {
            note!("warning: {warning}");
        }
        let mut options = defaults.options;
        let wants_sampling = options.sampling.do_sample;
        self.parameters.apply(&mut options)?;
        if !options.sampling.do_sample {
            self.warn_of_unused(&mut options, wants_sampling);
        }
        self.words.apply(model, &mut options)?;
        self.grammar.apply(model, &mut options)?;
        self.scores.apply(&mut options);
        options.ignore_eos = self.ignore_eos;
        options.on_overflow = self.on_overflow;
        options
            .validate()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        if options.sampling.do_sample {
            options.seed = self.run.seed_or_new();
        }
        Ok(options)
    }

    /// Says what does nothing without sampling.
    fn warn_of_unused(&self, options: &mut GenerationOptions, wants_sampling: bool) {
        if wants_sampling && !self.parameters.has("do_sample") {
            note!(
                "the model's generation settings ask for sampling, which only --do-sample turns on"
            );
        }
        if options.num_return_sequences > options.num_beams
            && !self.parameters.has("num_return_sequences")
        {
            // The model's wish was for drawn texts.
            options.num_return_sequences = options.num_beams;
        }
        // Contrastive search has a use for it.
        let top_k = (options.penalty_alpha == 0.0).then_some("top_k");
        let warpers = [
            "temperature",
            "top_p",
            "min_p",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "top_h",
        ];
        let unused: Vec<String> = warpers
            .into_iter()
            .chain(top_k)
            .filter(|name| self.parameters.has(name))
            .filter(|&name| name != "temperature" || !self.parameters.are_greedy())
            .map(|name| format!("--{}", name.replace('_', "-")))
            .collect();
        if !unused.is_empty() {
            note!(
                "warning: without sampling (--do-sample) there is no effect of {}",
                unused.join(", ")
            );
        }
    }

    /// Refuses what works for one prompt alone.
    fn check_single(&self, prompts: &[Prompt]) -> Result<(), Failure> {
        let single = [
            ("--assistant-model", self.assistant_model.is_some()),
            ("--prompt-cache", self.cache.file.is_some()),
        ];
        match single.iter().find(|(_, given)| *given) {
            Some((flag, _)) if prompts.len() > 1 => Err(Failure::Usage(format!(
                "{flag} takes one prompt, found {}",
                prompts.len()
            ))),
            _ => Ok(()),
        }
    }

    /// A session for these prompts: as large as the model allows for one text, and otherwise as
    /// they need.
    fn start(
        &self,
        model: &Arc<Model>,
        options: &GenerationOptions,
        prompts: &[Prompt],
    ) -> Result<Session, Failure> {
        let positions = model.hyperparameters().n_positions;
        // Each of several prompts has the context that it would have alone.
        let asked = self.run.ctx_size.filter(|&size| size > 0);
        let most = asked.map_or(positions, |size| size.min(positions));
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.own.len()).collect();
        let (sequences, context) = options.needs(&lengths, most);
        let mut session = self.run.session_options(None);
        session.sequences = sequences;
        // Several prompts have what each asks for; the texts of a search, and continuations of one
        // prompt, share it.
        if sequences > 1 {
            match session.context {
                Some(_) if prompts.len() == 1 || options.sequences() > 1 => {}
                None if prompts.len() == 1 && options.sequences() == 1 => {
                    session.context = Some(context.max(most));
                }
                _ => session.context = Some(context),
            }
        }
        crate::arguments::start(Arc::clone(model), session)
    }

    fn start_assistant(&self) -> Result<Option<Session>, Failure> {
        let Some(path) = &self.assistant_model else {
            return Ok(None);
        };
        let model = self.run.open_model_at(path)?;
        let positions = model.hyperparameters().n_positions;
        let mut options = self.run.session_options(None);
        options.context = options.context.map(|context| context.min(positions));
        let session = Session::new(model, options)?;
        interrupt::stop_on_interrupt(&session.stop_flag());
        Ok(Some(session))
    }
}
