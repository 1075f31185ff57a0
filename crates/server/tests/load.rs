//! Many clients for a while: answers are right or honestly refused, and nothing grows.
//!
//! Alone in its program, whose memory and descriptors it watches.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, Setup, all, completion, eventually, resources};

const PROMPTS: [&str; 5] = [
    "Emma was",
    "It is a truth",
    "She",
    "Mr. Darcy had",
    "There was no",
];

/// How many clients, and for how long.
fn size() -> (usize, Duration) {
    if std::env::var_os("GPT2_EXHAUSTIVE").is_some() {
        (64, Duration::from_secs(60))
    } else {
        (16, Duration::from_secs(3))
    }
}

#[test]
fn many_clients_are_answered_as_one_is() {
    let mut setup = Setup::default();
    // Fewer places than clients.
    setup.engine.queue = 6;
    let server = Arc::new(Server::start(setup));
    let body = |prompt: &str| completion(prompt, 24, false);
    let text = |body: &str| {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        json["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let alone: BTreeMap<&str, String> = PROMPTS
        .iter()
        .map(|prompt| {
            let answer = server.post("/v1/completions", &body(prompt));
            assert_eq!(answer.status, 200, "{answer:?}");
            (*prompt, text(&answer.body))
        })
        .collect();
    let alone = Arc::new(alone);
    let (clients, time) = size();
    let run = |clients: usize, time: Duration| {
        let refused = Arc::new(AtomicUsize::new(0));
        let client = |number: usize| {
            let (server, alone) = (Arc::clone(&server), Arc::clone(&alone));
            let refused = Arc::clone(&refused);
            thread::spawn(move || {
                let start = Instant::now();
                let mut done = 0;
                while start.elapsed() < time {
                    let prompt = PROMPTS[(number + done) % PROMPTS.len()];
                    let answer = server.post("/v1/completions", &body(prompt));
                    match answer.status {
                        200 => assert_eq!(text(&answer.body), alone[prompt], "{prompt}"),
                        429 => {
                            answer.is_error(429);
                            assert!(answer.header("retry-after").is_some(), "{answer:?}");
                            refused.fetch_add(1, Ordering::Relaxed);
                            thread::sleep(Duration::from_millis(20));
                        }
                        other => panic!("{other}: {answer:?}"),
                    }
                    done += 1;
                }
                done
            })
        };
        let done = all((0..clients).map(client).collect());
        let refused = refused.load(Ordering::Relaxed);
        (done.iter().sum::<usize>() - refused, refused)
    };
    let quiet = || {
        eventually("all connections are closed", || {
            server.metric("gpt2_connections") == 0.0
        });
        resources()
    };
    // Once, until buffers have the size that they need.
    run(clients, time / 4);
    let (descriptors, memory) = quiet();
    let (answered, refused) = run(clients, time);
    let after = quiet();
    assert!(answered > clients, "{answered} answers");
    assert!(refused > 0, "{clients} clients had room for all");
    assert_eq!(after.0, descriptors, "descriptors");
    let growth = after.1.saturating_sub(memory);
    assert!(
        growth < memory / 20 + (4 << 20),
        "{memory} bytes grew by {growth}"
    );
    assert_eq!(server.metric("gpt2_requests_waiting"), 0.0);
    assert_eq!(server.metric("gpt2_texts_running"), 0.0);
}
