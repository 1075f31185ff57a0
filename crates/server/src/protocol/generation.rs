//! What is generated for a request, whichever protocol it came by: its prompts, how many texts of
//! each, and the requests that the scheduler gets for them.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use gpt2::generate::GenerationOptions;
use gpt2::sampling::ScoreDetails;

use super::choices::Counts;
use super::input::Prompt;
use super::text::Piece;
use gpt2::generate::ScheduledRequest;

/// Prompts and what becomes of them.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) options: GenerationOptions,
    /// Starts the draws of each prompt; by default at random.
    pub(crate) seed: Option<u64>,
    pub(crate) counts: Counts,
    /// Begin each text with its prompt.
    pub(crate) echo: bool,
    /// Score the tokens of the prompts.
    pub(crate) prompt_scores: Option<ScoreDetails>,
}

/// Some of the texts of one prompt: a request of the scheduler.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Which prompt.
    pub(crate) index: usize,
    pub(crate) prompt: Arc<Prompt>,
    /// Which of its texts.
    pub(crate) texts: Range<usize>,
    pub(crate) counts: Counts,
    pub(crate) echo: bool,
    options: Arc<GenerationOptions>,
    seed: u64,
    prompt_scores: Option<ScoreDetails>,
}

impl Generation {
    /// The scheduler's requests, in the order of the prompts: one for each prompt, or several where
    /// it has more texts than are at work at a time.
    pub(crate) fn jobs(self, at_work: usize) -> Vec<Job> {
        let options = Arc::new(self.options);
        let whole = options.num_beams > 1;
        let mut jobs = Vec::new();
        for (index, prompt) in self.prompts.into_iter().enumerate() {
            let prompt = Arc::new(prompt);
            let seed = self.seed.unwrap_or_else(random);
            let generated = self.counts.generated;
            let most = if whole { generated } else { at_work.max(1) };
            for first in (0..generated).step_by(most.max(1)) {
                jobs.push(Job {
                    index,
                    prompt: Arc::clone(&prompt),
                    texts: first..generated.min(first + most),
                    counts: self.counts,
                    echo: self.echo,
                    options: Arc::clone(&options),
                    seed,
                    prompt_scores: self.prompt_scores,
                });
            }
        }
        jobs
    }
}

impl Job {
    /// What the scheduler is asked for; nothing where the response has only the prompt's text.
    pub(crate) fn request(&self) -> Option<ScheduledRequest> {
        if self.options.max_new_tokens == 0 && self.prompt_scores.is_none() {
            return None;
        }
        let mut options = GenerationOptions::clone(&self.options);
        options.seed = self.seed.wrapping_add(self.texts.start as u64);
        options.num_return_sequences = self.texts.len();
        Some(ScheduledRequest {
            prompt: self.prompt.ids.clone(),
            options,
            prompt_scores: self.prompt_scores,
        })
    }

    /// Whether texts have only their prompt.
    pub(crate) fn generates_nothing(&self) -> bool {
        self.options.max_new_tokens == 0
    }

    /// How often each text is in the response.
    pub(crate) fn copies(&self) -> usize {
        match self.counts.generated {
            1 => self.counts.returned,
            _ => 1,
        }
    }

    /// The choices of the response, all prompts counted, that text `sequence` is.
    pub(crate) fn choices(&self, sequence: usize) -> Range<usize> {
        let first = self.index * self.counts.returned + self.texts.start + sequence;
        first..first + self.copies()
    }
}

/// The texts of a prompt that are returned: all of them, the best, or the one as often as it is
/// wanted.
pub(crate) fn returned(mut texts: Vec<Piece>, counts: Counts) -> Vec<Piece> {
    if counts.generated == 1 {
        let text = texts.pop().unwrap_or_default();
        return vec![text; counts.returned];
    }
    if counts.returned < texts.len() {
        let worse = |piece: &Piece| -mean_log_probability(piece);
        // Stable: of equals the first.
        texts.sort_by(|a, b| worse(a).total_cmp(&worse(b)));
        texts.truncate(counts.returned);
    }
    texts
}

/// The mean of ln p of a text's tokens, those of an echoed prompt included: they are the same in
/// all.
fn mean_log_probability(piece: &Piece) -> f64 {
    let scores = piece.tokens.iter().filter_map(|token| token.score.as_ref());
    let (sum, count) = scores.fold((0.0, 0), |(sum, count), score| {
        (sum + score.log_probability, count + 1)
    });
    match count {
        0 => 0.0,
        count => sum / f64::from(count),
    }
}

/// A number that nobody can tell beforehand.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use gpt2::sampling::TokenScore;

    use super::super::text::TextToken;
    use super::*;

    fn generation(prompts: usize, generated: usize, returned: usize) -> Generation {
        let prompt = Prompt {
            text: None,
            ids: vec![1],
        };
        Generation {
            prompts: vec![prompt; prompts],
            options: GenerationOptions::default(),
            seed: Some(u64::MAX),
            counts: Counts {
                generated,
                returned,
            },
            echo: false,
            prompt_scores: None,
        }
    }

    #[test]
    fn texts_beyond_those_at_work_are_requests_of_their_own() {
        let jobs = generation(2, 5, 5).jobs(2);
        let shape: Vec<_> = jobs
            .iter()
            .map(|job| (job.index, job.texts.clone()))
            .collect();
        assert_eq!(
            shape,
            [
                (0, 0..2),
                (0, 2..4),
                (0, 4..5),
                (1, 0..2),
                (1, 2..4),
                (1, 4..5)
            ]
        );
        let choices: Vec<_> = jobs.iter().map(|job| job.choices(0)).collect();
        assert_eq!(choices, [0..1, 2..3, 4..5, 5..6, 7..8, 9..10]);
        // Seeds go on where the request before ended, around the largest number.
        let seeds = jobs.iter().map(|job| job.request().unwrap().options.seed);
        assert_eq!(seeds.collect::<Vec<_>>()[..3], [u64::MAX, 1, 3]);
    }

    #[test]
    fn one_greedy_text_is_as_many_choices_as_are_wanted() {
        let jobs = generation(2, 1, 3).jobs(4);
        assert_eq!((jobs.len(), jobs[1].choices(0)), (2, 3..6));
        let texts = returned(vec![Piece::default()], jobs[0].counts);
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn the_best_by_the_mean_are_returned() {
        let piece = |text: &str, scores: &[f64]| Piece {
            text: text.to_owned(),
            tokens: scores
                .iter()
                .map(|&log_probability| TextToken {
                    id: 0,
                    offset: 0,
                    score: Some(TokenScore {
                        log_probability,
                        rank: None,
                        entropy: None,
                        top: Vec::new(),
                    }),
                })
                .collect(),
            finish: None,
        };
        let texts = vec![
            piece("a", &[-3.0]),
            piece("b", &[-1.0, -2.0]),
            piece("c", &[-2.0; 5]),
        ];
        let counts = Counts {
            generated: 3,
            returned: 2,
        };
        let best = returned(texts, counts);
        let best: Vec<&str> = best.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(best, ["b", "c"]);
    }
}
