//! Perplexity, answers, labels, rows of tokens and conversations.

use std::ops::ControlFlow;

use gpt2::chat::{ChatFormat, Conversation, Room};
use gpt2::sampling::ScoreDetails;
use gpt2::spec::HeadSettings;
use gpt2::tasks::{
    Aggregation, AnswerOptions, Batching, PerplexityOptions, Pooling, ScoreFunction, ScoreOptions,
    ScoreRequest, TextScores, TokenTag, best_spans, entities, label_scores, perplexity, score,
    scoring_needs, words,
};
use gpt2::tokenizer::{
    EncodeOptions, Padding, PaddingLength, Side, Truncation, TruncationStrategy,
};

use crate::{COUNTS, check, model, session};

#[test]
fn a_small_window_has_a_perplexity() {
    for positions in [1, 2, 3, 5, 8, 16, 40] {
        let model = model(|sizes| sizes.n_positions = positions);
        let mut session = session(&model, 1);
        let mut reference = crate::session(&model, 1);
        let windows = (0..=positions + 1).chain([usize::MAX - 1, usize::MAX]);
        for (window, length) in windows.flat_map(|window| [0, 1, 2, 41].map(|n| (window, n))) {
            let strides = [0, 1, 2, window, usize::MAX].map(Some);
            for stride in strides.into_iter().chain([None]) {
                let texts = [(0..length).collect::<Vec<u32>>(), vec![1]];
                let options = PerplexityOptions { window, stride };
                let what = format!("{positions} positions, {options:?}, {length} ids");
                let mut proceed = |_: &_| ControlFlow::Continue(());
                let found = check(&what, || {
                    let reference = Some(&mut reference);
                    perplexity(&mut session, reference, &texts, options, &mut proceed)
                });
                let holds = stride.is_none_or(|stride| (1..=window).contains(&stride));
                let possible = (2..=positions).contains(&window) && holds && length > 1;
                assert_eq!(found.is_some(), possible, "{what}");
                if let Some(found) = found {
                    assert!(found.perplexity() > 1.0 && found.is_complete(), "{what}");
                }
            }
        }
    }
}

#[test]
fn scores_of_any_details_and_stride() {
    let model = model(|_| ());
    let (sequences, _) = scoring_needs(&model);
    let mut session = session(&model, sequences);
    let request = |context: usize, tokens: usize| ScoreRequest {
        context: vec![7; context],
        tokens: vec![9; tokens],
    };
    for &top in COUNTS {
        for stride in COUNTS.iter().map(|&count| Some(count)).chain([None]) {
            for (context, tokens) in [(0, 0), (0, 1), (1, 0), (15, 15), (40, 3), (3, 40)] {
                let options = ScoreOptions {
                    details: ScoreDetails {
                        rank: true,
                        entropy: true,
                        top,
                    },
                    stride,
                    batching: match top % 3 {
                        0 => Batching::Auto,
                        1 => Batching::Together,
                        _ => Batching::Alone,
                    },
                };
                let what = format!("{options:?}, {context} and {tokens} tokens");
                let mut proceed = |_, _: TextScores| ControlFlow::Continue(());
                let requests = [request(context, tokens), request(0, 2)];
                check(&what, || {
                    score(&mut session, &requests, &options, &mut proceed)
                });
            }
        }
    }
}

#[test]
fn answers_and_labels_of_any_number() {
    let logits: Vec<f32> = (0..40).map(|index| (index * 7 % 11) as f32).collect();
    for &count in COUNTS {
        for &max_length in COUNTS {
            let options = AnswerOptions {
                max_length,
                count,
                align_to_words: false,
            };
            let found = check("spans", || Ok(best_spans(&logits, &logits[3..], options))).unwrap();
            assert_eq!(found.is_empty(), count == 0 || max_length == 0);
            assert!(found.len() <= count);
            best_spans(&logits, &[], options);
        }
    }
    let extremes = [
        f32::MAX,
        f32::MIN,
        f32::NEG_INFINITY,
        f32::INFINITY,
        f32::NAN,
    ];
    for function in [
        ScoreFunction::Softmax,
        ScoreFunction::Sigmoid,
        ScoreFunction::None,
    ] {
        label_scores(&HeadSettings::default(), &extremes, function);
        label_scores(&HeadSettings::default(), &[], function);
    }
    for &start in COUNTS {
        for &end in COUNTS {
            let tag = TokenTag {
                id: 0,
                characters: start..end,
                label: "B-X".to_owned(),
                score: f32::NAN,
                scores: vec![0.0, 1.0],
            };
            let found = check("words", || {
                let head = HeadSettings::default();
                Ok(words(&head, "two  words", &[tag], Aggregation::Average))
            });
            entities("two", &found.unwrap());
        }
    }
}

#[test]
fn vectors_of_any_text() {
    let model = model(|_| ());
    let mut session = session(&model, 1);
    for length in [0, 1, 15, 16, 17, 1000] {
        for pooling in [Pooling::Last, Pooling::Mean] {
            let ids = vec![5; length];
            let found = check("embed", || session.embed(&ids, pooling, true));
            assert_eq!(found.is_some(), (1..=16).contains(&length), "{length}");
        }
    }
}

#[test]
fn rows_are_cut_and_filled_to_any_length() {
    let model = model(|_| ());
    let tokenizer = model.tokenizer().unwrap();
    for &length in COUNTS {
        for strategy in [
            TruncationStrategy::LongestFirst,
            TruncationStrategy::OnlyFirst,
            TruncationStrategy::OnlySecond,
        ] {
            for second in [None, Some(""), Some("the end")] {
                let side = Side::Left;
                let cut = Truncation {
                    max_length: length,
                    side,
                    strategy,
                };
                let row = check("cut", || {
                    let options = EncodeOptions::default();
                    tokenizer.encode_pair("the text", second, options, Some(cut))
                });
                assert!(row.is_none_or(|row| row.len() <= length), "{length}");
            }
        }
        for multiple_of in COUNTS.iter().map(|&count| Some(count)).chain([None]) {
            let padding = Padding {
                length: PaddingLength::Tokens(length),
                multiple_of,
                side: Side::Right,
                token: Some(0),
            };
            let options = EncodeOptions::default();
            let row = tokenizer
                .encode_pair("the text", None, options, None)
                .unwrap();
            let what = format!("pad to {length}, a multiple of {multiple_of:?}");
            let mut rows = [row];
            if check(&what, || tokenizer.pad(&mut rows, padding)).is_some() {
                assert!(rows[0].len() >= length, "{what}");
            }
        }
    }
}

#[test]
fn conversations_in_rooms_of_any_size() {
    let model = model(|_| ());
    let tokenizer = model.tokenizer().unwrap();
    let format = ChatFormat::transcript();
    for &context in COUNTS {
        for &reply in COUNTS {
            for turns in [0, 1, 2, 5] {
                let what = format!("{context} {reply} {turns}");
                let mut conversation = Conversation::new(None);
                for _ in 0..turns {
                    conversation.ask("a").unwrap();
                    conversation.answer("b").unwrap();
                }
                conversation.ask("c").unwrap();
                let room = Room {
                    context,
                    model_limit: context,
                    reply,
                };
                let prompt = check(&what, || {
                    format.prompt(tokenizer, &mut conversation, &[1, 2], room)
                });
                if let Some(prompt) = prompt {
                    assert!(prompt.ids.len() < context, "{what}");
                    assert!(conversation.hidden() <= 2 * turns, "{what}");
                }
            }
        }
    }
}
