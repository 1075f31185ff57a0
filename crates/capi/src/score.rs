//! Log-probabilities: scores of tokens, words and texts, and perplexity.

use std::ffi::c_char;
use std::ops::ControlFlow;
use std::ptr;

use super::buffers::{list, optional_text, place_of, target_of, text as text_of, texts};
use super::handles::{find, free, handle, open};
use super::session::{choice, gpt2_session, with_session};
use super::status::{Failure, Outcome, gpt2_status, guard};
use super::structs::{read, structure, write};
use gpt2::sampling::{Alternative, ScoreDetails, TokenScore};
use gpt2::session::Session;
use gpt2::tasks::{
    Batching, PerplexityOptions, ScoreOptions, ScoreRequest, ScoredText, TextScores, WordScore,
    perplexity, score, word_scores,
};

/// Together for f32 matrices, else alone.
pub const GPT2_BATCHING_AUTO: i32 = 0;
/// As many texts at a time as there is room for.
pub const GPT2_BATCHING_TOGETHER: i32 = 1;
/// One text at a time.
pub const GPT2_BATCHING_ALONE: i32 = 2;

structure! {
    /// How texts are scored.
    gpt2_score_options, init gpt2_score_options_init {
        /// What comes before every text; NULL for nothing.
        context: *const c_char = ptr::null(),
        /// How many of the likeliest tokens are kept at each place.
        top: usize = 0,
        /// Tokens that each window after the first scores; 0 for the whole context.
        stride: usize = 0,
        /// Not 0: begin with the model's beginning of text.
        bos: i32 = 0,
        /// Not 0: keep ranks.
        ranks: i32 = 0,
        /// Not 0: keep entropies.
        entropies: i32 = 0,
        /// How texts are computed.
        batching: i32 = GPT2_BATCHING_AUTO,
    }
}

structure! {
    /// A text's scores.
    gpt2_text_score {
        /// Its tokens.
        n_tokens: usize = 0,
        /// Those that have a score.
        n_scored: usize = 0,
        /// Its words.
        n_words: usize = 0,
        /// Windows that it was computed in.
        n_windows: usize = 0,
        /// Sum of ln p.
        sum: f64 = 0.0,
        /// The sum by the number of tokens scored.
        mean: f64 = f64::NAN,
        /// exp(-mean).
        perplexity: f64 = f64::NAN,
    }
}

structure! {
    /// A token's score.
    gpt2_token_score {
        /// The token.
        id: u64 = 0,
        /// Its first character in the text.
        start: usize = 0,
        /// One more than its last.
        end: usize = 0,
        /// Its rank, from 1.
        rank: usize = 0,
        /// How many likely tokens are kept for its place.
        n_top: usize = 0,
        /// ln p.
        logprob: f64 = f64::NAN,
        /// The entropy of the distribution.
        entropy: f64 = f64::NAN,
    }
}

structure! {
    /// A word's score.
    gpt2_word_score {
        /// Its first character in the text.
        start: usize = 0,
        /// One more than its last.
        end: usize = 0,
        /// Its first token.
        first_token: usize = 0,
        /// Its tokens.
        n_tokens: usize = 0,
        /// Sum of ln p.
        logprob: f64 = f64::NAN,
    }
}

structure! {
    /// How well a model predicts a text.
    gpt2_perplexity_result {
        /// Sum of -ln p.
        nll_sum: f64 = 0.0,
        /// `exp(nll_sum / tokens)`.
        perplexity: f64 = f64::NAN,
        /// Tokens scored.
        tokens: usize = 0,
        /// Windows.
        windows: usize = 0,
        /// Tokens at the end that fill no window.
        left_out: usize = 0,
    }
}

/// A text as it was scored.
struct Scored {
    text: ScoredText,
    scores: TextScores,
    words: Vec<WordScore>,
}

/// The scores of texts.
pub(super) struct Scores(Vec<Scored>);

handle!(
    /// The scores of texts.
    gpt2_scores = Scores
);

impl gpt2_score_options {
    fn resolve(&self) -> Outcome<ScoreOptions> {
        let batchings = [
            (GPT2_BATCHING_AUTO, Batching::Auto),
            (GPT2_BATCHING_TOGETHER, Batching::Together),
            (GPT2_BATCHING_ALONE, Batching::Alone),
        ];
        Ok(ScoreOptions {
            details: ScoreDetails {
                rank: self.ranks != 0,
                entropy: self.entropies != 0,
                top: self.top,
            },
            stride: (self.stride > 0).then_some(self.stride),
            batching: choice("batching", &batchings, self.batching)?,
        })
    }
}

/// Scores what `prepare` makes, each with its text for the words.
fn report(
    session: *const gpt2_session,
    options: &gpt2_score_options,
    target: *mut *mut gpt2_scores,
    prepare: impl FnOnce(&Session) -> Outcome<Vec<(String, ScoredText)>>,
) -> Outcome {
    let options = options.resolve()?;
    let found = with_session(session, |session| {
        let texts = prepare(session)?;
        let requests: Vec<ScoreRequest> =
            texts.iter().map(|(_, text)| text.request.clone()).collect();
        let mut found = Vec::with_capacity(requests.len());
        score(session, &requests, &options, &mut |_, scores| {
            found.push(scores);
            ControlFlow::Continue(())
        })?;
        let scored = texts.into_iter().zip(found);
        let scored = scored.map(|((text, encoded), scores)| Scored {
            words: word_scores(&text, &encoded.characters, &scores),
            text: encoded,
            scores,
        });
        Ok(scored.collect())
    })?;
    // SAFETY: a place that `place_of` has written to.
    unsafe { target.write(open(Scores(found))) };
    Ok(())
}

/// Scores texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_score(
    session: *mut gpt2_session,
    texts_: *const *const c_char,
    n_texts: usize,
    options: *const gpt2_score_options,
    scores: *mut *mut gpt2_scores,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("scores", scores)? };
        // SAFETY: the caller's pointers are as the header asks.
        let (given, texts) = unsafe { (read(options)?, texts("texts", texts_, n_texts)?) };
        // SAFETY: as above.
        let context = unsafe { optional_text("context", given.context)? };
        report(session, &given, target, |session| {
            let encode = |text: &&str| {
                let scored = ScoredText::new(session.model(), context, given.bos != 0, text)?;
                Ok(((*text).to_owned(), scored))
            };
            texts.iter().map(encode).collect()
        })
    })
}

/// Scores tokens, the first of which are context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_score_tokens(
    session: *mut gpt2_session,
    tokens: *const u32,
    n_tokens: usize,
    n_context: usize,
    options: *const gpt2_score_options,
    scores: *mut *mut gpt2_scores,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's pointer is as the header asks.
        let target = unsafe { place_of("scores", scores)? };
        // SAFETY: the caller's pointers are as the header asks.
        let (given, tokens) = unsafe { (read(options)?, list("tokens", tokens, n_tokens)?) };
        if !given.context.is_null() || given.bos != 0 {
            return Err(Failure::argument(
                "context, bos: expected none, the first tokens being the context",
            ));
        }
        let Some((context, tokens)) = tokens.split_at_checked(n_context) else {
            return Err(Failure::argument(format!(
                "n_context: expected at most n_tokens, {n_tokens}, found {n_context}"
            )));
        };
        report(session, &given, target, |_| {
            let request = ScoreRequest {
                context: context.to_vec(),
                tokens: tokens.to_vec(),
            };
            let characters = vec![0..0; tokens.len()];
            let text = ScoredText {
                request,
                characters,
            };
            Ok(vec![(String::new(), text)])
        })
    })
}

/// How many texts there are; 0 for a handle that is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_scores_count(scores: *const gpt2_scores) -> usize {
    let mut count = 0;
    guard(|| {
        count = find::<Scores>(scores)?.0.len();
        Ok(())
    });
    count
}

/// The element `index` of a list.
fn numbered<'a, T>(name: &str, list: &'a [T], index: usize) -> Outcome<&'a T> {
    list.get(index).ok_or_else(|| {
        Failure::argument(format!(
            "{name}: expected a number below {}, found {index}",
            list.len()
        ))
    })
}

/// A text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_scores_get(
    scores: *const gpt2_scores,
    text: usize,
    score: *mut gpt2_text_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<Scores>(scores)?;
        let found = numbered("text", &handle.0, text)?;
        let found = gpt2_text_score {
            n_tokens: found.scores.tokens.len(),
            n_scored: found.scores.scored(),
            n_words: found.words.len(),
            n_windows: found.scores.windows,
            sum: found.scores.sum(),
            mean: found.scores.mean().unwrap_or(f64::NAN),
            perplexity: found.scores.perplexity().unwrap_or(f64::NAN),
            ..gpt2_text_score::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, found) }
    })
}

/// A token with its score, for C.
pub(super) fn token_score(id: u32, score: Option<&TokenScore>) -> gpt2_token_score {
    let plain = gpt2_token_score {
        id: id.into(),
        ..gpt2_token_score::default()
    };
    score.map_or(plain, |score| gpt2_token_score {
        rank: score.rank.unwrap_or(0),
        n_top: score.top.len(),
        logprob: score.log_probability,
        entropy: score.entropy.unwrap_or(f64::NAN),
        ..plain
    })
}

/// A likely token, for C: its place in the list is its rank.
pub(super) fn likely_token(top: &[Alternative], place: usize) -> Outcome<gpt2_token_score> {
    let other = numbered("place", top, place)?;
    Ok(gpt2_token_score {
        id: other.id.into(),
        rank: place + 1,
        logprob: other.log_probability,
        ..gpt2_token_score::default()
    })
}

/// A token of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_scores_token(
    scores: *const gpt2_scores,
    text: usize,
    token: usize,
    score: *mut gpt2_token_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<Scores>(scores)?;
        let found = numbered("text", &handle.0, text)?;
        let id = *numbered("token", &found.text.request.tokens, token)?;
        let characters = numbered("token", &found.text.characters, token)?;
        let found = gpt2_token_score {
            start: characters.start,
            end: characters.end,
            ..token_score(id, numbered("token", &found.scores.tokens, token)?.as_ref())
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, found) }
    })
}

/// A token that was likely at a place of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_scores_top(
    scores: *const gpt2_scores,
    text: usize,
    token: usize,
    place: usize,
    score: *mut gpt2_token_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<Scores>(scores)?;
        let found = numbered("text", &handle.0, text)?;
        let found = numbered("token", &found.scores.tokens, token)?;
        let top = found.as_ref().map_or(&[][..], |found| &found.top);
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, likely_token(top, place)?) }
    })
}

/// A word of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_scores_word(
    scores: *const gpt2_scores,
    text: usize,
    word: usize,
    score: *mut gpt2_word_score,
) -> gpt2_status {
    guard(|| {
        let handle = find::<Scores>(scores)?;
        let found = numbered("text", &handle.0, text)?;
        let word = numbered("word", &found.words, word)?;
        let found = gpt2_word_score {
            start: word.characters.start,
            end: word.characters.end,
            first_token: word.tokens.start,
            n_tokens: word.tokens.len(),
            logprob: word.log_probability.unwrap_or(f64::NAN),
            ..gpt2_word_score::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(score, found) }
    })
}

/// Frees scores.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_scores_free(scores: *mut gpt2_scores) -> gpt2_status {
    guard(|| free::<Scores>(scores))
}

/// How well a model predicts a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_perplexity(
    session: *mut gpt2_session,
    text: *const c_char,
    text_bytes: usize,
    window: usize,
    stride: usize,
    result: *mut gpt2_perplexity_result,
) -> gpt2_status {
    guard(|| {
        // SAFETY: the caller's text is as the header asks.
        let text = unsafe { text_of("text", text, text_bytes)? };
        target_of("result", result)?;
        let found = with_session(session, |session| {
            let model = session.model().clone();
            let most = session
                .context_size()
                .min(model.hyperparameters().n_positions);
            let options = PerplexityOptions {
                window: if window == 0 { most.min(512) } else { window },
                stride: (stride > 0).then_some(stride),
            };
            let texts = [model.tokenizer()?.encode(text)?];
            let mut go_on = |_: &_| ControlFlow::Continue(());
            let found = perplexity(session, None, &texts, options, &mut go_on)?;
            if found.is_complete() {
                Ok(found)
            } else {
                Err(gpt2::Error::Stopped.into())
            }
        })?;
        let found = gpt2_perplexity_result {
            nll_sum: found.nll_sum,
            perplexity: found.perplexity(),
            tokens: found.tokens,
            windows: found.windows,
            left_out: found.left_out,
            ..gpt2_perplexity_result::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(result, found) }
    })
}
