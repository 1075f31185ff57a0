//! Every step from its formula, in double precision and the long way.

use std::collections::BTreeSet;

use gpt2::TokenId;

use crate::scenario::{EOS, FAVOURITE, FAVOURITE_SCORE, Scenario, allowed};

const OUT: f64 = f64::NEG_INFINITY;

/// From scores to scores.
pub(crate) type Step<'a> = Box<dyn Fn(Vec<f64>) -> Vec<f64> + 'a>;

impl Scenario {
    /// The steps in the order of the chain's names.
    pub(crate) fn steps(&self) -> Vec<(&'static str, Step<'_>)> {
        let mut steps = self.biases_and_bans();
        steps.extend(self.ends_and_forced_tokens());
        steps.push((
            "custom",
            Box::new(|mut s| {
                s[FAVOURITE as usize] = f64::from(FAVOURITE_SCORE);
                s
            }),
        ));
        if self.options.do_sample {
            steps.extend(self.warpers());
        }
        if self.options.renormalize_logits {
            steps.push(("renormalize_logits", Box::new(|s| log_softmax(&s))));
        }
        steps
    }

    fn biases_and_bans(&self) -> Vec<(&'static str, Step<'_>)> {
        let o = &self.options;
        let ids = &self.ids;
        // Whether a token makes the last `size` ids a run that `text` has.
        let repeats = move |text: &[TokenId], size: usize, token| {
            let with = [&ids[..], &[token]].concat();
            text.windows(size).any(|run| with.ends_with(run))
        };
        let completes = move |sequence: &[TokenId], token| {
            let with = [&ids[..], &[token]].concat();
            with.ends_with(sequence) && ids.len() >= sequence.len()
        };
        vec![
            (
                "guidance_scale",
                Box::new(|s| {
                    let unconditional: Vec<f64> =
                        self.unconditional.iter().map(|u| f64::from(*u)).collect();
                    log_softmax(&s)
                        .iter()
                        .zip(log_softmax(&unconditional))
                        .map(|(c, u)| u + o.guidance_scale * (c - u))
                        .collect()
                }),
            ),
            (
                "sequence_bias",
                Box::new(move |mut s| {
                    for (sequence, bias) in &o.sequence_bias {
                        for (token, score) in (0..).zip(&mut s) {
                            *score += if completes(sequence, token) {
                                *bias
                            } else {
                                0.0
                            };
                        }
                    }
                    s
                }),
            ),
            (
                "diversity_penalty",
                Box::new(|mut s| {
                    for token in &self.chosen {
                        s[*token as usize] -= o.diversity_penalty;
                    }
                    s
                }),
            ),
            (
                "encoder_repetition_penalty",
                penalize(1.0 / o.encoder_repetition_penalty, &self.prompt),
            ),
            ("repetition_penalty", penalize(o.repetition_penalty, ids)),
            (
                "frequency_penalty",
                Box::new(move |mut s| {
                    for token in &ids[self.prompt.len()..] {
                        s[*token as usize] -= o.frequency_penalty;
                    }
                    s
                }),
            ),
            (
                "presence_penalty",
                Box::new(move |mut s| {
                    for token in ids[self.prompt.len()..].iter().collect::<BTreeSet<_>>() {
                        s[*token as usize] -= o.presence_penalty;
                    }
                    s
                }),
            ),
            (
                "no_repeat_ngram_size",
                ban(move |token| repeats(ids, o.no_repeat_ngram_size, token)),
            ),
            (
                "encoder_no_repeat_ngram_size",
                ban(move |token| repeats(&self.prompt, o.encoder_no_repeat_ngram_size, token)),
            ),
            (
                "bad_words_ids",
                ban(move |token| {
                    let mut words = o.bad_words_ids.iter();
                    words.any(|word| word[..] != [EOS[0]] && completes(word, token))
                }),
            ),
        ]
    }

    fn ends_and_forced_tokens(&self) -> Vec<(&'static str, Step<'_>)> {
        let o = &self.options;
        let ids = &self.ids;
        let new = ids.len() - self.prompt.len();
        let is_eos = |token: TokenId| EOS.contains(&token);
        vec![
            (
                "min_length",
                ban(move |token| is_eos(token) && ids.len() < o.min_length),
            ),
            (
                "min_new_tokens",
                ban(move |token| is_eos(token) && new < o.min_new_tokens),
            ),
            (
                "prefix_allowed_tokens_fn",
                ban(move |token| !allowed(ids).contains(&token)),
            ),
            (
                "forced_bos_token_id",
                force(ids.len() == 1, o.forced_bos_token_id.into_iter().collect()),
            ),
            (
                "forced_eos_token_id",
                force(
                    ids.len() == self.max_length - 1,
                    o.forced_eos_token_id.clone(),
                ),
            ),
            (
                "remove_invalid_values",
                Box::new(|mut s| {
                    for score in &mut s {
                        *score = score.max(f64::from(f32::MIN));
                    }
                    s
                }),
            ),
            (
                "exponential_decay_length_penalty",
                Box::new(move |mut s| {
                    let (start, factor) = o.exponential_decay_length_penalty.unwrap();
                    for token in EOS {
                        let score = &mut s[token as usize];
                        if new > start && *score > OUT {
                            let passed = (new - start) as f64;
                            *score += score.abs() * (libm::pow(factor, passed) - 1.0);
                        }
                    }
                    s
                }),
            ),
            (
                "suppress_tokens",
                ban(|token| o.suppress_tokens.contains(&token)),
            ),
            (
                "begin_suppress_tokens",
                ban(move |token| {
                    let forced = usize::from(self.prompt.len() == 1);
                    new == forced && o.begin_suppress_tokens.contains(&token)
                }),
            ),
        ]
    }

    fn warpers(&self) -> Vec<(&'static str, Step<'_>)> {
        let o = &self.options;
        let keep = if self.beams > 1 { EOS.len() + 1 } else { 1 };
        vec![
            (
                "temperature",
                Box::new(|s| s.iter().map(|score| score / o.temperature).collect()),
            ),
            (
                "top_h",
                Box::new(|s| {
                    let order = by_falling(&s);
                    let best = &order[..order.len().min(100)];
                    let scores: Vec<f64> = best.iter().map(|token| s[*token]).collect();
                    let information = informations(&scores);
                    let limit = o.top_h * information.iter().sum::<f64>();
                    let mut sum = 0.0;
                    let kept = information.iter().take_while(|part| {
                        sum += **part;
                        sum <= limit
                    });
                    let kept = kept.count().max(1);
                    only(&s, &order[..kept])
                }),
            ),
            (
                "top_k",
                Box::new(move |s| {
                    let last = s[by_falling(&s)[o.top_k.max(keep) - 1]];
                    let kept: Vec<usize> = (0..s.len()).filter(|token| s[*token] >= last).collect();
                    only(&s, &kept)
                }),
            ),
            (
                "top_p",
                Box::new(move |s| {
                    let (order, p) = (by_falling(&s), softmax(&s));
                    let lower =
                        |rank: usize| order[rank..].iter().map(|token| p[*token]).sum::<f64>();
                    let kept = (0..order.len())
                        .take_while(|rank| *rank < keep || lower(*rank) > 1.0 - o.top_p)
                        .count();
                    only(&s, &order[..kept])
                }),
            ),
            (
                "min_p",
                Box::new(move |s| {
                    let (order, p) = (by_falling(&s), softmax(&s));
                    let limit = o.min_p * p[order[0]];
                    let kept = order.iter().take_while(|token| p[**token] >= limit);
                    let kept = kept.count().max(keep);
                    only(&s, &order[..kept])
                }),
            ),
            (
                "typical_p",
                Box::new(move |s| {
                    let p = softmax(&s);
                    let entropy: f64 = informations(&s).iter().sum();
                    let mut order = by_falling(&s);
                    let distance = |token: &usize| (-libm::log(p[*token]) - entropy).abs();
                    order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
                    let mut mass = 0.0;
                    let before = order.iter().take_while(|token| {
                        mass += p[**token];
                        mass < o.typical_p
                    });
                    // The one that reaches the mass stays, and what is as near.
                    let last = distance(&order[before.count().min(order.len() - 1)]);
                    let near = order.iter().take_while(|token| distance(token) <= last);
                    let kept = near.count().max(keep);
                    only(&s, &order[..kept])
                }),
            ),
            (
                "epsilon_cutoff",
                Box::new(move |s| cut(&s, o.epsilon_cutoff, keep)),
            ),
            (
                "eta_cutoff",
                Box::new(move |s| {
                    let entropy: f64 = informations(&s).iter().sum();
                    let eta = o.eta_cutoff.sqrt() * libm::exp(-entropy);
                    cut(&s, o.eta_cutoff.min(eta), keep)
                }),
            ),
        ]
    }
}

fn softmax(s: &[f64]) -> Vec<f64> {
    let largest = s.iter().copied().fold(OUT, f64::max);
    let weights: Vec<f64> = s.iter().map(|score| libm::exp(score - largest)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn log_softmax(s: &[f64]) -> Vec<f64> {
    let largest = s.iter().copied().fold(OUT, f64::max);
    let sum: f64 = s.iter().map(|score| libm::exp(score - largest)).sum();
    s.iter()
        .map(|score| score - largest - libm::log(sum))
        .collect()
}

/// −p ln p of every token.
fn informations(s: &[f64]) -> Vec<f64> {
    let part = |p: f64| if p > 0.0 { -p * libm::log(p) } else { 0.0 };
    softmax(s).into_iter().map(part).collect()
}

/// Every token, the best first.
fn by_falling(s: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..s.len()).collect();
    order.sort_by(|a, b| s[*b].total_cmp(&s[*a]));
    order
}

fn only(s: &[f64], kept: &[usize]) -> Vec<f64> {
    let mut result = vec![OUT; s.len()];
    for token in kept {
        result[*token] = s[*token];
    }
    result
}

/// Without what is less probable than `limit`, `keep` best ones excepted.
fn cut(s: &[f64], limit: f64, keep: usize) -> Vec<f64> {
    let (order, p) = (by_falling(s), softmax(s));
    let kept = order.iter().take_while(|token| p[**token] >= limit);
    only(s, &order[..kept.count().max(keep)])
}

/// Rules out the tokens that `banned` names.
fn ban<'a>(banned: impl Fn(TokenId) -> bool + 'a) -> Step<'a> {
    Box::new(move |mut s| {
        for (token, score) in (0..).zip(&mut s) {
            if banned(token) {
                *score = OUT;
            }
        }
        s
    })
}

/// 0 for the tokens of `kept`, where `active`.
fn force(active: bool, kept: Vec<TokenId>) -> Step<'static> {
    Box::new(move |mut s| {
        for (token, score) in (0..).zip(&mut s) {
            if active {
                *score = if kept.contains(&token) { 0.0 } else { OUT };
            }
        }
        s
    })
}

/// Multiplies scores below 0 by the penalty and divides the others, once per token.
fn penalize(penalty: f64, seen: &[TokenId]) -> Step<'_> {
    Box::new(move |mut s| {
        for token in seen.iter().collect::<BTreeSet<_>>() {
            let score = &mut s[*token as usize];
            *score *= if *score < 0.0 { penalty } else { 1.0 / penalty };
        }
        s
    })
}
