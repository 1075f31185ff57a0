//! Texts at work: given up, refused, finished.

use std::time::{Duration, Instant};

use gpt2::GenerationOptions;
use gpt2::generate::{ScheduledRequest, SchedulerEvent};
use gpt2_server::engine::{EngineError, Ticket};
use tokio::runtime::{Builder, Runtime};

use crate::common::{Server, Setup, all, completion, eventually, model, post};

const CANCELLED: &str = "gpt2_requests_cancelled_total";

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A request for as many tokens as fit.
fn long() -> ScheduledRequest {
    let positions = model().hyperparameters().n_positions;
    ScheduledRequest {
        prompt: model().tokenizer().unwrap().encode("Emma was").unwrap(),
        options: GenerationOptions {
            max_new_tokens: positions - 8,
            ignore_eos: true,
            ..GenerationOptions::default()
        },
        prompt_scores: None,
    }
}

/// A server with places for one text and `queue` more.
fn narrow(queue: usize) -> Server {
    let mut setup = Setup {
        texts: 1,
        ..Setup::default()
    };
    setup.engine.queue = queue;
    Server::start(setup)
}

/// Tokens that came, and whether the end did.
fn read(ticket: &mut Ticket) -> (usize, bool) {
    runtime().block_on(async {
        let mut tokens = 0;
        while let Some(event) = ticket.next().await {
            match event {
                SchedulerEvent::Token { .. } => tokens += 1,
                SchedulerEvent::Done { .. } => return (tokens, true),
                SchedulerEvent::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        (tokens, false)
    })
}

fn is_free(server: &Server) -> bool {
    server.metric("gpt2_requests ") == 0.0
}

#[test]
fn what_nobody_waits_for_is_cancelled() {
    let server = narrow(8);
    let engine = &server.state.engine;
    // One at work, given up after its first token; it may be done before that is seen.
    let mut tries = 0.0;
    eventually("a text at work was cancelled", || {
        let mut ticket = engine.generate(long()).unwrap();
        runtime().block_on(ticket.next()).unwrap();
        drop(ticket);
        tries += 1.0;
        eventually("the place is free", || is_free(&server));
        server.metric(CANCELLED) > 0.0
    });
    let cut = server.metric("gpt2_generated_tokens_total");
    let whole = (long().options.max_new_tokens as f64) * tries;
    assert!(
        cut < whole,
        "{cut} of {whole} tokens were made all the same"
    );
    // In the queue: one that waits behind another is never begun.
    let before = server.metric(CANCELLED);
    let mut first = engine.generate(long()).unwrap();
    let waiting: Vec<Ticket> = (0..8).map(|_| engine.generate(long()).unwrap()).collect();
    drop(waiting);
    let made = server.metric("gpt2_generated_tokens_total");
    assert!(read(&mut first).1);
    eventually("all places are free", || is_free(&server));
    assert_eq!(server.metric(CANCELLED), before + 8.0);
    let made = server.metric("gpt2_generated_tokens_total") - made;
    assert!(made <= long().options.max_new_tokens as f64, "{made}");
}

#[test]
fn a_client_that_leaves_gives_its_text_up() {
    let server = narrow(8);
    eventually("a text was cancelled", || {
        let mut client = server.connect();
        let head = post("/v1/completions", "Content-Type: application/json");
        client.send(&head, &completion("Emma was", 480, true));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut client.stream, &mut line).unwrap();
        assert!(line.contains("200"), "{line}");
        drop(client);
        eventually("the place is free", || is_free(&server));
        server.metric(CANCELLED) > 0.0
    });
    // Without a stream as well: nothing was sent when the client leaves.
    let before = server.metric(CANCELLED);
    eventually("an unstreamed text was cancelled", || {
        let mut client = server.connect();
        let head = post("/v1/completions", "Content-Type: application/json");
        client.send(&head, &completion("Emma was", 480, false));
        eventually("it is at work", || !is_free(&server));
        drop(client);
        eventually("the place is free", || is_free(&server));
        server.metric(CANCELLED) > before
    });
}

#[test]
fn who_does_not_read_loses_the_text() {
    let mut setup = Setup {
        texts: 1,
        ..Setup::default()
    };
    setup.engine.unread = Duration::from_millis(1);
    let server = Server::start(setup);
    let mut ticket = server.state.engine.generate(long()).unwrap();
    eventually("the text was given up", || server.metric(CANCELLED) == 1.0);
    eventually("the place is free", || is_free(&server));
    let (tokens, done) = read(&mut ticket);
    assert!(
        !done && tokens >= 64 && tokens < long().options.max_new_tokens,
        "{tokens}"
    );
    // One that reads is not.
    let mut setup = Setup::default();
    setup.engine.unread = Duration::from_secs(60);
    let server = Server::start(setup);
    let mut ticket = server.state.engine.generate(long()).unwrap();
    assert_eq!(read(&mut ticket), (long().options.max_new_tokens, true));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = narrow(2);
    let engine = &server.state.engine;
    let mut tickets: Vec<Ticket> = (0..3).map(|_| engine.generate(long()).unwrap()).collect();
    let Err(EngineError::Busy { retry_after }) = engine.generate(long()) else {
        panic!("a fourth was taken");
    };
    assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(60));
    let answer = server.post("/v1/completions", &completion("Emma", 1, false));
    // The places may be free already; if not, it is said so.
    if answer.status != 200 {
        let error = answer.is_error(429);
        assert_eq!(error["code"], "rate_limit_exceeded");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds));
    }
    for ticket in &mut tickets {
        assert!(read(ticket).1);
    }
    assert_eq!(
        server
            .post("/v1/completions", &completion("Emma", 1, false))
            .status,
        200
    );
}

#[test]
fn health_answers_while_the_model_works() {
    let server = Server::start(Setup::default());
    let prompt = "It is a truth universally acknowledged. ".repeat(40);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (address, stopped) = (server.address, std::sync::Arc::clone(&stop));
    let busy = std::thread::spawn(move || {
        let mut statuses = Vec::new();
        let mut number = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            // Each begins in a way that is not in the cache.
            number += 1;
            let body = completion(&format!("{number} {prompt}"), 1, false);
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let head = post("/v1/completions", "Content-Type: application/json");
            let text = format!(
                "{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            statuses.push(answer.contains("200 OK"));
        }
        statuses
    });
    eventually("the model is at work", || {
        server.metric("gpt2_prompt_tokens_total") > 0.0
    });
    let mut times: Vec<Duration> = (0..40)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(server.get("/health").status, 200);
            start.elapsed()
        })
        .collect();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let statuses = busy.join().unwrap();
    assert!(statuses.iter().all(|ok| *ok), "{statuses:?}");
    times.sort_unstable();
    // The tests beside this one want the processor too: not the worst is looked at.
    assert!(times[20] < Duration::from_millis(50), "{times:?}");
}

#[test]
fn calls_with_a_session_come_between_steps() {
    let server = narrow(2);
    let engine = &server.state.engine;
    let mut text = engine.generate(long()).unwrap();
    let ids = model()
        .tokenizer()
        .unwrap()
        .encode("Emma was happy")
        .unwrap();
    let embed =
        move |session: &mut gpt2::Session| session.embed(&ids, gpt2::tasks::Pooling::Mean, true);
    let vector = runtime().block_on(engine.with_session(embed)).unwrap();
    assert_eq!(vector.len(), model().hyperparameters().n_embd);
    let refused = |_: &mut gpt2::Session| Err::<(), _>(gpt2::Error::Argument("no".to_owned()));
    let refused = runtime().block_on(engine.with_session(refused));
    assert!(
        matches!(refused, Err(EngineError::Refused(_))),
        "{refused:?}"
    );
    assert!(read(&mut text).1);
}

#[test]
fn what_the_scheduler_refuses_fails() {
    let server = narrow(2);
    let mut request = long();
    request.prompt = vec![u32::MAX];
    let mut ticket = server.state.engine.generate(request).unwrap();
    let event = runtime().block_on(ticket.next()).unwrap();
    assert!(matches!(event, SchedulerEvent::Failed { .. }), "{event:?}");
    assert!(runtime().block_on(ticket.next()).is_none());
    eventually("the place is free", || is_free(&server));
}

#[test]
fn a_panic_of_the_models_thread_ends_the_server() {
    let server = Server::start(Setup::default());
    let engine = server.state.engine.clone();
    let job = |_: &mut gpt2::Session| -> gpt2::Result<()> { panic!("a test") };
    let lost = runtime().block_on(engine.with_session(job));
    assert!(matches!(lost, Err(EngineError::Lost)), "{lost:?}");
    let thread = server.ended();
    let error = thread.unwrap_err().to_string();
    assert!(error.contains("a test"), "{error}");
    assert!(engine.generate(long()).is_err());
}

#[test]
fn running_texts_are_finished_at_shutdown() {
    let mut server = Server::start(Setup::default());
    let address = server.address;
    let ask = move |_| {
        std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let body = completion("Emma was", 400, true);
            let head = post("/v1/completions", "Content-Type: application/json");
            let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            answer
        })
    };
    let running: Vec<_> = (0..6).map(ask).collect();
    eventually("texts are at work", || {
        server.metric("gpt2_generated_tokens_total") > 0.0
    });
    server.stop();
    let engine = server.state.engine.clone();
    eventually("no more are taken", || !engine.is_open());
    assert!(matches!(engine.generate(long()), Err(EngineError::Closing)));
    for answer in all(running) {
        assert!(answer.contains("200 OK"), "{answer}");
        assert!(
            answer.contains("data: [DONE]"),
            "{}",
            &answer[answer.len().saturating_sub(300)..]
        );
    }
    server.end().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn what_takes_too_long_at_shutdown_is_cut_off() {
    let mut setup = Setup {
        texts: 1,
        ..Setup::default()
    };
    setup.settings.limits.shutdown = Duration::from_millis(50);
    setup.engine.queue = 200;
    let server = Server::start(setup);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        let head = post("/v1/completions", "Content-Type: application/json");
        client.send(&head, &completion("Emma was", 480, false));
    }
    eventually("texts are at work", || {
        server.metric("gpt2_texts_running") > 0.0
    });
    let start = Instant::now();
    server.end().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}
