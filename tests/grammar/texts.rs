//! What a text looks like that keeps to a grammar, and when it ends.

use gpt2::generate::{
    Continuation, Decoder, DolaLayers, Event, FinishReason, Slot, generate_assisted,
};
use gpt2::grammar::TokenTrie;
use gpt2::sampling::log_softmax;
use gpt2::{Error, GenerationOptions, generate};

use crate::common::cores;
use crate::{greedy, lark, model, schema, session, wild, write};

#[test]
fn a_text_of_one_form_is_written_and_ends() {
    let _cores = cores();
    let mut session = session(1);
    for text in [
        " My dear Jane!",
        "é—日本 \u{1F600}",
        "\0\n\t",
        "<|endoftext|>",
    ] {
        let grammar = lark(&format!("start: {}", serde_json::json!(text))).unwrap();
        let continuation = write(&mut session, &greedy(grammar, 60)).unwrap();
        assert_eq!(continuation.text, text);
        assert_eq!(continuation.finish_reason, FinishReason::Eos);
        // Written in tokens of text; none that ends it was needed.
        let tokenizer_gives = model().tokenizer().unwrap().decode(&continuation.ids);
        assert_eq!(tokenizer_gives, text);
    }
}

#[test]
fn the_likeliest_of_what_is_allowed_is_taken() {
    let _cores = cores();
    let mut session = session(1);
    let mut options = greedy(
        lark("start: \" apple\" | \" nothing\" | \" zebra\"").unwrap(),
        20,
    );
    options.output_scores = true;
    let chosen = write(&mut session, &options).unwrap();
    assert_eq!(chosen.text, " nothing");
    // Every score that is left belongs to the beginning of one of the three.
    let tokenizer_of = model();
    let tokenizer = tokenizer_of.tokenizer().unwrap();
    let left = chosen.scores[0].iter().enumerate();
    for (id, _) in left.filter(|(_, score)| **score > f32::NEG_INFINITY) {
        let text = tokenizer.decode(&[id as u32]);
        let begins = [" apple", " nothing", " zebra"]
            .iter()
            .any(|word| word.starts_with(&text));
        assert!(begins, "{text:?}");
    }
}

#[test]
fn a_text_ends_only_where_it_may() {
    let _cores = cores();
    let mut session = session(1);
    for seed in 0..20 {
        let options = wild(lark("start: /[0-9]{3}(,[0-9]{3})*/").unwrap(), 40, seed);
        let text = write(&mut session, &options).unwrap();
        let whole = text
            .text
            .split(',')
            .all(|group| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit()));
        // "12" may be cut, by the limit alone.
        assert!(
            whole || text.finish_reason == FinishReason::Length,
            "{text:?}"
        );
    }
}

#[test]
fn a_text_that_is_cut_says_so() {
    let _cores = cores();
    let mut session = session(1);
    let grammar = lark("start: /[a-z ]{200}/").unwrap();
    let cut = write(&mut session, &greedy(grammar.clone(), 5)).unwrap();
    assert_eq!(
        (cut.ids.len(), cut.finish_reason),
        (5, FinishReason::Length)
    );
    // The last token that fits is the last that may come: whole, not cut.
    let one = lark("start: \" \"").unwrap();
    let options = greedy(one, 1);
    let whole = write(&mut session, &options).unwrap();
    assert_eq!(
        (whole.text.as_str(), whole.finish_reason),
        (" ", FinishReason::Eos)
    );
    // Stop strings count as ever.
    let mut options = greedy(grammar, 60);
    options.stop = vec![" ".to_owned()];
    assert_eq!(
        write(&mut session, &options).unwrap().finish_reason,
        FinishReason::Stop
    );
}

#[test]
fn an_end_that_is_put_off_comes_when_nothing_else_may() {
    let _cores = cores();
    let mut session = session(1);
    let mut options = greedy(lark("start: /[a-z]{1,9}/").unwrap(), 60);
    options.ignore_eos = true;
    let text = write(&mut session, &options).unwrap();
    assert_eq!(
        (text.text.len(), text.finish_reason),
        (9, FinishReason::Eos)
    );
}

/// All events of decoders that take turns in one session.
fn interleaved(options: &[GenerationOptions]) -> Vec<Continuation> {
    let mut session = session(options.len());
    let prompt = model().tokenizer().unwrap().encode("She said").unwrap();
    let mut decoders: Vec<Decoder> = options
        .iter()
        .enumerate()
        .map(|(first, options)| {
            let slot = Slot {
                first,
                capacity: Some(100),
            };
            Decoder::new(&mut session, slot, &prompt, options).unwrap()
        })
        .collect();
    let mut texts: Vec<Option<Continuation>> = vec![None; options.len()];
    while decoders.iter().any(|decoder| !decoder.is_done()) {
        for (decoder, text) in decoders.iter_mut().zip(&mut texts) {
            decoder.advance(&mut session).unwrap();
            while let Some(event) = decoder.next_event().unwrap() {
                if let Event::Finished { continuation, .. } = event {
                    *text = Some(continuation);
                }
            }
        }
    }
    texts.into_iter().flatten().collect()
}

#[test]
fn texts_that_take_turns_have_each_their_own_state() {
    let _cores = cores();
    let shared = schema(r#"{"type": "array", "items": {"type": "boolean"}}"#).unwrap();
    let options = [
        wild(shared.clone(), 30, 1),
        wild(shared.clone(), 30, 2),
        wild(lark("start: /(ab)+/").unwrap(), 30, 3),
        greedy(shared, 30),
        GenerationOptions {
            max_new_tokens: 30,
            ..GenerationOptions::default()
        },
    ];
    let together = interleaved(&options);
    for (options, text) in options.iter().zip(&together) {
        let alone = write(&mut session(1), options).unwrap();
        assert_eq!(
            (&alone.ids, alone.finish_reason),
            (&text.ids, text.finish_reason)
        );
    }
    assert!(together[0].ids != together[1].ids);
}

#[test]
fn continuations_have_each_their_own_state() {
    let _cores = cores();
    let mut options = wild(
        schema(r#"{"enum": ["one", "two", [3, null]]}"#).unwrap(),
        40,
        5,
    );
    options.num_return_sequences = 6;
    let prompt = model().tokenizer().unwrap().encode("She said").unwrap();
    let mut session = session(1);
    let texts = generate(&mut session, &prompt, &options)
        .unwrap()
        .finish()
        .unwrap();
    let expected = [
        serde_json::json!("one"),
        serde_json::json!("two"),
        serde_json::json!([3, null]),
    ];
    for text in &texts.sequences {
        let value: serde_json::Value = serde_json::from_str(&text.text).unwrap();
        assert!(expected.contains(&value), "{value}");
        assert_eq!(text.finish_reason, FinishReason::Eos);
    }
}

#[test]
fn guidance_goes_with_a_grammar() {
    let _cores = cores();
    let mut options = greedy(lark("start: \" yes\" | \" no\"").unwrap(), 10);
    options.sampling.guidance_scale = 2.0;
    let text = write(&mut session(2), &options).unwrap().text;
    assert!([" yes", " no"].contains(&text.as_str()), "{text}");
}

#[test]
fn log_probabilities_are_the_models_own() {
    let _cores = cores();
    let mut options = greedy(lark("start: \" zebra\"").unwrap(), 10);
    (options.logprobs, options.output_logits) = (Some(2), true);
    let text = write(&mut session(1), &options).unwrap();
    for ((id, score), logits) in text.ids.iter().zip(&text.logprobs).zip(&text.logits) {
        let mut expected = Vec::new();
        log_softmax(logits, &mut expected);
        let difference = score.log_probability - f64::from(expected[*id as usize]);
        assert!(difference.abs() < 1e-4, "{score:?}");
        // A zebra is not what the model would have written.
        assert!(score.log_probability < -1.0 || score.top[0].id == *id);
    }
    let total: f64 = text
        .logprobs
        .iter()
        .map(|score| score.log_probability)
        .sum();
    assert!(total < -5.0, "{total}");
}

#[test]
fn methods_that_look_ahead_are_refused() {
    let grammar = || lark("start: \"a\"").unwrap();
    let refused = |change: fn(&mut GenerationOptions)| {
        let mut options = greedy(grammar(), 10);
        change(&mut options);
        let error = options.validate().unwrap_err();
        assert!(matches!(error, Error::Argument(_)), "{error:?}");
        error.to_string()
    };
    for (message, method) in [
        (refused(|o| o.num_beams = 2), "num_beams"),
        (refused(|o| o.penalty_alpha = 0.5), "penalty_alpha"),
        (
            refused(|o| o.prompt_lookup_num_tokens = Some(3)),
            "prompt_lookup_num_tokens",
        ),
        (
            refused(|o| o.dola_layers = Some(DolaLayers::Low)),
            "dola_layers",
        ),
    ] {
        assert!(
            message.contains("grammar") && message.contains(method),
            "{message}"
        );
    }
    let (mut main, mut assistant) = (session(1), session(1));
    let options = greedy(grammar(), 10);
    let error = generate_assisted(&mut main, &mut assistant, &[1], &options)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("not with an assistant model"),
        "{error}"
    );
}

#[test]
fn a_grammar_is_of_one_model() {
    let other = TokenTrie::new(&std::sync::Arc::new(
        gpt2::Tokenizer::from_metadata(model().gguf().metadata()).unwrap(),
    ))
    .unwrap();
    let grammar = gpt2::grammar::Grammar::lark(&other, "start: \"a\"").unwrap();
    let error = write(&mut session(1), &greedy(grammar, 10)).unwrap_err();
    assert!(error.to_string().contains("another model's"), "{error}");
}

/// What is set beside the grammar.
type Change = Box<dyn Fn(&mut GenerationOptions)>;

#[test]
fn other_parameters_never_open_what_the_grammar_closes() {
    let _cores = cores();
    let mut session = session(1);
    let model = model();
    let comma = model.tokenizer().unwrap().encode(",").unwrap()[0];
    let refused: [(&str, Change); 3] = [
        (
            "suppressed",
            Box::new(|o| o.sampling.suppress_tokens = (0..4096).collect()),
        ),
        (
            "forced",
            Box::new(move |o| {
                o.max_new_tokens = 1;
                o.sampling.forced_eos_token_id = vec![comma];
            }),
        ),
        (
            "mended",
            Box::new(|o| {
                o.sampling.suppress_tokens = (0..4096).collect();
                o.sampling.remove_invalid_values = true;
            }),
        ),
    ];
    for (name, change) in refused {
        for sampled in [false, true] {
            let mut options = greedy(lark("start: /[a-z]+/").unwrap(), 5);
            options.sampling.do_sample = sampled;
            change(&mut options);
            match write(&mut session, &options) {
                Ok(text) => {
                    let letters = text.text.bytes().all(|byte| byte.is_ascii_lowercase());
                    assert!(letters, "{name}: {text:?}");
                }
                Err(error) => {
                    let said = matches!(error, Error::Grammar(_) | Error::Format { .. });
                    assert!(said, "{name}: {error:?}");
                }
            }
        }
    }
}
