//! Connections that are silent, slow, large or many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Server, Setup, all, completion, eventually, post};

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

/// A server whose one limit is short.
fn server(change: impl FnOnce(&mut gpt2_server::Limits)) -> Server {
    let mut setup = Setup::default();
    let limits = &mut setup.settings.limits;
    for limit in [
        &mut limits.header,
        &mut limits.body,
        &mut limits.idle,
        &mut limits.write,
    ] {
        *limit = LONG;
    }
    change(limits);
    Server::start(setup)
}

/// Closed by the limit: not before it, and long before the others.
fn assert_short(time: Duration) {
    assert!(time >= SHORT * 4 / 5, "closed after {time:?}");
    assert!(time < LONG / 2, "closed after {time:?}");
}

#[test]
fn a_silent_connection_is_closed() {
    let server = server(|limits| limits.header = SHORT);
    assert_short(server.connect().time_to_close());
}

#[test]
fn half_a_head_is_not_waited_for() {
    let server = server(|limits| limits.header = SHORT);
    let mut client = server.connect();
    client.write(b"GET /health HTTP/1.1\r\nHost: loc");
    assert_short(client.time_to_close());
}

#[test]
fn a_head_that_drips_is_not_waited_for() {
    let server = server(|limits| limits.header = SHORT);
    let start = Instant::now();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut byte = [0];
    // Every byte would start the time again, if the limit were one of silence.
    loop {
        if stream.write_all(b"a").is_err() {
            break;
        }
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => panic!("an answer to nothing"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        assert!(start.elapsed() < LONG / 2, "still open");
    }
    assert_short(start.elapsed());
}

#[test]
fn a_connection_may_be_idle_for_a_while() {
    let server = server(|limits| {
        limits.header = SHORT / 2;
        limits.idle = 2 * SHORT;
    });
    let mut client = server.connect();
    for _ in 0..2 {
        client.send("GET /health HTTP/1.1\r\nHost: localhost", "");
        assert_eq!(client.answer().status, 200);
        // Longer than a head may take.
        std::thread::sleep(SHORT);
    }
    client.send("GET /health HTTP/1.1\r\nHost: localhost", "");
    assert_eq!(client.answer().status, 200);
    assert_short(client.time_to_close());
    // The head of a later request has its limit too.
    let mut client = server.connect();
    client.send("GET /health HTTP/1.1\r\nHost: localhost", "");
    assert_eq!(client.answer().status, 200);
    client.write(b"GET /hea");
    assert!(client.time_to_close() < LONG / 2);
}

#[test]
fn a_slow_body_is_not_waited_for() {
    let server = server(|limits| limits.body = SHORT);
    let mut client = server.connect();
    let head = post("/v1/completions", "Content-Type: application/json");
    client.write(format!("{head}\r\nContent-Length: 100\r\n\r\n{{").as_bytes());
    let start = Instant::now();
    client.answer().is_error(408);
    assert_short(start.elapsed());
    assert!(client.time_to_close() < LONG / 2);
}

#[test]
fn a_gigabyte_is_refused_when_it_is_announced() {
    let server = server(|_| {});
    let mut client = server.connect();
    let head = post("/v1/completions", "Content-Type: application/json");
    client.write(format!("{head}\r\nContent-Length: 1073741824\r\n\r\n{{").as_bytes());
    client.answer().is_error(413);
    assert!(client.time_to_close() < LONG / 2);
    // And when it is not: chunks are counted.
    let mut client = server.connect();
    client.write(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..17 {
        client.write(chunk.as_bytes());
    }
    client.answer().is_error(413);
}

#[test]
fn bodies_take_bounded_memory_together() {
    let server = server(|limits| limits.bodies_bytes = 64 << 10);
    let head = post("/v1/completions", "Content-Type: application/json");
    let part = " ".repeat(60 << 10);
    let text = format!("{}{}", " ".repeat(30 << 10), completion("Emma", 1, false));
    let hold = || {
        let mut slow = server.connect();
        slow.write(format!("{head}\r\nContent-Length: 70000\r\n\r\n{part}").as_bytes());
        slow
    };
    let mut slow = hold();
    eventually("memory is counted", || {
        std::thread::sleep(SHORT / 10);
        if server.ask(&head, &text).status == 503 {
            return true;
        }
        // It came second, and was refused itself.
        slow = hold();
        false
    });
    server.ask(&head, &text).is_error(503);
    // Small ones go on.
    assert_eq!(
        server
            .post("/v1/completions", &completion("Emma", 1, false))
            .status,
        200
    );
    drop(slow);
    eventually("memory is free again", || {
        server.ask(&head, &text).status == 200
    });
}

#[test]
fn heads_are_bounded() {
    let server = server(|_| {});
    let many = "a: b\r\n".repeat(101);
    let mut client = server.connect();
    client.write(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").as_bytes());
    assert_eq!(client.answer().status, 431);
    let mut client = server.connect();
    let long = "a".repeat(20 << 10);
    client
        .write(format!("GET /health HTTP/1.1\r\nHost: localhost\r\na: {long}\r\n\r\n").as_bytes());
    assert_eq!(client.answer().status, 431);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let server = server(|limits| limits.write = SHORT);
    let mut client = server.connect();
    let stream = client.stream.get_mut();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let start = Instant::now();
    // Requests whose answers nobody takes, until the server takes no more, and then closes.
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    while stream.write_all(requests.as_bytes()).is_ok() {
        assert!(start.elapsed() < LONG, "still open");
    }
    assert!(
        start.elapsed() < LONG / 2,
        "closed after {:?}",
        start.elapsed()
    );
    eventually("the place is free", || {
        server.metric("gpt2_connections") == 0.0
    });
}

#[test]
fn connections_have_a_limit() {
    let server = server(|limits| limits.connections = 3);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /health HTTP/1.1\r\nHost: localhost", "");
        assert_eq!(client.answer().status, 200);
    }
    let mut next = server.connect();
    next.send("GET /health HTTP/1.1\r\nHost: localhost", "");
    next.stream.get_ref().set_read_timeout(Some(SHORT)).unwrap();
    assert!(next.try_answer().is_none(), "a fourth was answered");
    assert_eq!(server.metric("gpt2_connections"), 3.0);
    clients.pop();
    next.stream.get_ref().set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(next.answer().status, 200);
}

#[test]
fn rude_connections_do_not_disturb_others() {
    let server = server(|limits| {
        limits.header = 2 * SHORT;
        limits.body = 2 * SHORT;
    });
    let address = server.address;
    let head = post("/v1/completions", "Content-Type: application/json");
    let rude: Vec<_> = (0..200)
        .map(|number| {
            let begin = match number % 4 {
                0 => String::new(),
                1 => "GET /health HT".to_owned(),
                2 => format!("{head}\r\nContent-Length: 1000000\r\n\r\n{{"),
                _ => format!("{head}\r\nContent-Length: 1000000000\r\n\r\n{{"),
            };
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(server.get("/health").status, 200);
        let answer = server.post("/v1/completions", &completion("Emma", 4, false));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let read = |mut stream: TcpStream| std::thread::spawn(move || stream.read_to_end(&mut vec![]));
    for closed in all(rude.into_iter().map(read).collect()) {
        if let Err(error) = closed {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open");
        }
    }
    eventually("no connection is left", || {
        server.metric("gpt2_connections") == 0.0
    });
}
