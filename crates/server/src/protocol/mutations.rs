//! Bodies that nobody would send: whatever they are, they are a plan that the scheduler takes, or
//! refused with a status of 400 to 499.

use std::sync::Arc;

use gpt2::generate::{Scheduler, SchedulerOptions};
use gpt2::{Model, ModelOptions, Session, SessionOptions};
use serde_json::{Value as Json, json};

use super::generation::Generation;
use super::served::Served;
use super::{chat, completions, embeddings, heads, llama, tokenizer};
use crate::error::ApiError;

/// Bodies of which one is mutated, by the endpoint they are for.
fn seeds() -> Vec<(usize, Json)> {
    let completion = json!({
        "model": "austen", "prompt": ["It is", "a truth"], "max_tokens": 3, "temperature": 0.7,
        "top_p": 0.9, "n": 2, "best_of": 3, "stop": ["\n", "é"], "logprobs": 2, "echo": true,
        "seed": 1, "logit_bias": { "1": -100, "2": 5.5 }, "presence_penalty": 0.1,
        "frequency_penalty": -0.1, "stream": false, "stream_options": { "include_usage": true },
        "top_k": 5, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 2, "num_beams": 1, "max_time": 0.5, "ignore_eos": true,
        "return_token_ids": true, "user": "x", "response_format": { "type": "text" },
    });
    let ids = json!({ "prompt": [[1, 2, 3], [4]], "max_tokens": 1, "echo": true, "logprobs": 1 });
    let chat = json!({
        "messages": [
            { "role": "system", "content": "Talk." },
            { "role": "user", "content": [{ "type": "text", "text": "Who is \"she\"?\u{1F642}" }] },
        ],
        "max_completion_tokens": 4, "logprobs": true, "top_logprobs": 3, "n": 1, "tools": [],
        "temperature": 0, "stream": true,
    });
    let llama = json!({
        "prompt": "It is", "n_predict": -1, "n_probs": 2, "stop": "x", "seed": -1, "top_k": 3,
        "repeat_penalty": 1.2, "cache_prompt": true, "t_max_predict_ms": 10,
    });
    vec![
        (0, completion),
        (0, ids),
        (1, chat),
        (
            2,
            json!({ "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256 }),
        ),
        (
            2,
            json!({ "input": [1, 2], "pooling": "last", "normalize": false }),
        ),
        (
            3,
            json!({ "prompt": "a\u{0}b", "add_special_tokens": false }),
        ),
        (4, json!({ "tokens": [1, 2, 3] })),
        (5, llama),
        (
            6,
            json!({ "prompt": "She was", "choices": [" happy", " sad"], "normalize": "bytes" }),
        ),
    ]
}

/// Values that readers stumble over.
fn odd_values() -> Vec<&'static str> {
    vec![
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1",
        "2",
        "-0.0",
        "1.5",
        "1e999",
        "-1e999",
        "1e308",
        "5e-324",
        "NaN",
        "Infinity",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1000000",
        "\"1\"",
        "\"\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0000\"",
        "\"é\"",
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "[null]",
        "[1,\"a\"]",
        "[[1],[2]]",
        "{\"type\":\"text\"}",
        "{\"1\":1}",
        "\"auto\"",
        "[\"\"]",
        "[-1]",
        "[4294967295]",
        "01",
        "+1",
        "0x10",
        "'a'",
        "\"<|endoftext|>\"",
    ]
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// A field gets an odd value, another name, or one more time; or bytes are changed.
fn mutate(body: &Json, odd: &[&str], random: &mut Random) -> Vec<u8> {
    let map = body.as_object().unwrap();
    let mut fields: Vec<(String, String)> = map
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect();
    for _ in 0..=random.below(3) {
        let index = random.below(fields.len());
        match random.below(6) {
            0 | 1 => fields[index].1 = (*random.of(odd)).to_owned(),
            2 => {
                let name = &mut fields[index].0;
                let place = random.below(name.len() + 1);
                name.insert(place, *random.of(&['x', '_', 'e', '"', '\\']));
            }
            3 => fields.push((fields[index].0.clone(), (*random.of(odd)).to_owned())),
            4 => {
                let depth = random.below(70);
                let value = &fields[index].1;
                fields[index].1 = format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth));
            }
            _ => {
                let count = [1, 17, 130, 2000][random.below(4)];
                let value = fields[index].1.clone();
                fields[index].1 = format!("[{}]", vec![value; count].join(","));
            }
        }
    }
    let fields = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"));
    let mut bytes = format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes();
    for _ in 0..random.below(3) * random.below(2) {
        let place = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[place] = random.below(256) as u8,
            1 => bytes.insert(place, *random.of(b"\"\\[]{},:0-e")),
            _ => bytes.truncate(place.max(1)),
        }
    }
    bytes
}

/// What the endpoint makes of a body: the generation, if it is one.
fn read(endpoint: usize, body: &[u8], served: &Served) -> Result<Option<Generation>, ApiError> {
    match endpoint {
        0 => completions::Plan::of(body, served).map(|plan| Some(plan.generation)),
        1 => chat::Plan::of(body, served).map(|plan| Some(plan.generation)),
        2 => embeddings::Plan::of(body, served).map(|_| None),
        3 => tokenizer::tokenize(body, served).map(|_| None),
        4 => tokenizer::detokenize(body, served).map(|_| None),
        5 => llama::Plan::of(body, served).map(|plan| Some(plan.generation)),
        _ => heads::choose(body, served).map(|_| None),
    }
}

#[test]
fn mutated_bodies_are_taken_or_refused() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/austen-gpt2-q8_0.gguf"
    );
    let model = Model::open(path, &ModelOptions::default()).unwrap();
    let mut served = Served::new(&model, "austen", 256);
    served.at_work = 4;
    let options = SessionOptions {
        sequences: 4,
        context: Some(4 * 256),
        ..SessionOptions::default()
    };
    let session = Session::new(Arc::clone(&model), options).unwrap();
    let mut scheduler = Scheduler::new(&session, SchedulerOptions::default()).unwrap();
    let exhaustive = std::env::var_os("GPT2_EXHAUSTIVE").is_some();
    let count = if exhaustive { 1_000_000 } else { 20_000 };
    let (seeds, odd) = (seeds(), odd_values());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused) = (0, 0);
    for (endpoint, body) in &seeds {
        read(*endpoint, body.to_string().as_bytes(), &served).unwrap();
    }
    for _ in 0..count {
        let (endpoint, body) = random.of(&seeds);
        let body = mutate(body, &odd, &mut random);
        match read(*endpoint, &body, &served) {
            Err(error) => {
                let status = error.status.as_u16();
                let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]);
                assert!(
                    (400..500).contains(&status),
                    "{status} {}: {shown}",
                    error.message
                );
                assert!(
                    error.message.chars().count() < 500,
                    "{}: {shown}",
                    error.message
                );
                refused += 1;
            }
            Ok(generation) => {
                for job in generation
                    .into_iter()
                    .flat_map(|it| it.jobs(served.at_work))
                {
                    let Some(request) = job.request() else {
                        continue;
                    };
                    let added = scheduler.add(&session, request);
                    let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]);
                    let id = added.unwrap_or_else(|error| panic!("{error}: {shown}"));
                    scheduler.cancel(id);
                }
                taken += 1;
            }
        }
    }
    // Neither all of them are nonsense, nor do all mutations leave a body as it was.
    assert!(
        taken > count / 100 && refused > count / 5,
        "{taken} taken, {refused} refused"
    );
}
