//! Workers that are lost, stop answering, or are none: one error within seconds, status 1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{command, run_with};

/// An error comes within five seconds; a machine at work for others gets as many more.
const LIMIT: Duration = Duration::from_secs(10);

/// A worker, ended with the test.
struct Worker {
    child: Child,
    device: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let port = address.port().to_string();
        let mut child = command(["worker", "--port", &port, "-t", "1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains(&port));
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            child,
            device: format!("rpc://{address}"),
        }
    }

    fn address(&self) -> &str {
        &self.device["rpc://".len()..]
    }

    fn send(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let done = kill.args([signal, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }
}

/// A generation that never ends in the time of a test, which has begun.
struct Generation {
    child: Child,
}

impl Generation {
    fn on(devices: &[&str]) -> Self {
        let mut arguments = vec![
            "generate",
            "-p",
            "Emma was",
            "-n",
            "1000000",
            "--ignore-eos",
        ];
        arguments.extend(["--on-overflow", "keep=8"]);
        for device in devices {
            arguments.extend(["--device", device]);
        }
        let child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut begun = Self {
            child: child.unwrap(),
        };
        begun.goes_on();
        begun
    }

    /// More is generated.
    fn goes_on(&mut self) {
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut [0; 40]).unwrap();
    }

    /// How it ends because of `device`, and after which time.
    fn fails_for(mut self, device: &str) -> Duration {
        let start = Instant::now();
        // What was generated must not keep it from ending.
        let mut stdout = self.child.stdout.take().unwrap();
        let read = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        let output = self.child.wait_with_output().unwrap();
        let took = start.elapsed();
        read.join().unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{:?}: {stderr}",
            output.status
        );
        let mut lines = stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "));
        let line = lines.next().unwrap();
        println!("after {took:.2?}: {line}");
        let words = format!("{device}: the worker is lost");
        assert!(
            line.starts_with(&words) && line.contains("gpt2 worker"),
            "{line}"
        );
        assert_eq!(lines.next(), None, "{stderr}");
        took
    }
}

#[test]
fn a_worker_lost_in_mid_generation_is_an_error() {
    for signal in ["-KILL", "-STOP", "-TERM"] {
        let worker = Worker::start();
        let generation = Generation::on(&[&worker.device]);
        worker.send(signal);
        let took = generation.fails_for(&worker.device);
        assert!(took < LIMIT, "{signal}: {took:?}");
    }
}

#[test]
fn of_two_workers_the_lost_one_is_named() {
    let workers = [Worker::start(), Worker::start()];
    let devices = workers.each_ref().map(|worker| &worker.device[..]);
    let run = |devices: &[&str]| {
        let mut arguments = vec!["generate", "-p", "It is a truth", "-n", "24"];
        for device in devices {
            arguments.extend(["--device", device]);
        }
        run_with(&arguments).ok()
    };
    let here = run(&[]);
    assert_eq!(run(&devices), here);
    let generation = Generation::on(&devices);
    workers[1].send("-KILL");
    let took = generation.fails_for(devices[1]);
    assert!(took < LIMIT, "{took:?}");
    assert_eq!(run(&devices[..1]), here);
}

/// It may take its time, or be starved of it.
#[test]
fn a_worker_that_pauses_is_not_lost() {
    let worker = Worker::start();
    let mut generation = Generation::on(&[&worker.device]);
    worker.send("-STOP");
    std::thread::sleep(Duration::from_millis(1500));
    worker.send("-CONT");
    for _ in 0..20 {
        generation.goes_on();
    }
    let done = {
        let _ = generation.child.kill();
        generation.child.wait().unwrap()
    };
    assert_ne!(done.code(), Some(1));
}

#[test]
fn a_worker_at_work_for_another_says_so() {
    let worker = Worker::start();
    let mut generation = Generation::on(&[&worker.device]);
    let arguments = ["generate", "-p", "a", "-n", "1", "--device", &worker.device];
    let start = Instant::now();
    let done = run_with(&arguments);
    let line = done.error(1);
    println!("after {:.2?}: {line}", start.elapsed());
    assert!(line.contains("at work for another client"), "{line}");
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    generation.goes_on();
    let _ = generation.child.kill();
    let _ = generation.child.wait();
    run_with(&arguments).ok();
}

/// Whoever answers at the address of a worker.
fn peer(answer: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.extend(answer(stream.unwrap()));
        }
    });
    format!("rpc://{address}")
}

/// The reply to hello.
fn version(major: u8, minor: u8) -> Vec<u8> {
    let mut reply = 28u64.to_le_bytes().to_vec();
    reply.extend([major, minor]);
    reply.resize(8 + 28, 0);
    reply
}

#[test]
fn peers_that_are_no_workers_are_an_error() {
    let replies = |replies: Vec<Vec<u8>>| {
        peer(move |mut stream| {
            for reply in &replies {
                let _ = stream.read(&mut [0; 100]);
                let _ = stream.write_all(reply);
            }
            Some(stream)
        })
    };
    let garbage: Vec<u8> = (0..5000u32)
        .map(|n| (n.wrapping_mul(2_654_435) >> 8) as u8)
        .collect();
    let mut two_devices = 4u64.to_le_bytes().to_vec();
    two_devices.extend(1_000_000u32.to_le_bytes());
    for (device, words) in [
        (peer(Some), "no answer"),
        (peer(|_| None), "closed"),
        (replies(vec![garbage.clone()]), "no ggml RPC server"),
        (
            replies(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]),
            "no ggml RPC server",
        ),
        (
            replies(vec![version(7, 3)]),
            "expected RPC version 8.0, found 7.3",
        ),
        (replies(vec![version(8, 1)]), "found 8.1"),
        (replies(vec![version(8, 0)]), "no sign of life"),
        (replies(vec![version(8, 0), garbage]), "nonsense"),
        (replies(vec![version(8, 0), two_devices]), "nonsense"),
    ] {
        let start = Instant::now();
        let done = run_with(&["generate", "-p", "a", "-n", "1", "--device", &device]);
        let took = start.elapsed();
        let line = done.error(1);
        println!("after {took:.2?}: {line}");
        assert!(
            line.starts_with(&device) && line.contains(words),
            "{words}: {line}"
        );
        assert!(took < LIMIT, "{words}: {took:?}");
    }
}

#[test]
fn a_worker_outlives_clients_that_talk_nonsense() {
    let worker = Worker::start();
    let hello = {
        let mut hello = vec![14];
        hello.extend(24u64.to_le_bytes());
        hello.resize(9 + 24, 0);
        hello
    };
    let after_hello = |rest: &[u8]| [&hello[..], rest].concat();
    let mut kept = Vec::new();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100],
        vec![14; 100],
        // An unknown command, and a message of more bytes than there are.
        after_hello(&[99]),
        after_hello(&[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        after_hello(&[6, 0, 0, 0, 0, 0xff, 0, 0, 0]),
        // Nothing at all, for as long as the test takes.
        Vec::new(),
    ] {
        let mut stream = TcpStream::connect(worker.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        if bytes.is_empty() {
            kept.push(stream);
        }
    }
    let done = run_with(&["generate", "-p", "a", "-n", "2", "--device", &worker.device]);
    done.ok();
}
