//! Workers that are lost while a session computes with them: an error, and the process goes on.
//!
//! The workers are threads of this process; a link between them and the session fails.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{austen, cores};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};
use gpt2::{Error, ErrorKind};

const PROMPT: [u32; 6] = [5, 6, 7, 8, 9, 10];

/// An error comes within five seconds; a machine at work for others gets as many more.
const LIMIT: Duration = Duration::from_secs(10);

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It arrives.
    Open,
    /// Nothing arrives any more, in either direction, and nobody is told.
    Cut,
    /// The connection is closed.
    Closed,
    /// Something else arrives.
    Garbled,
}

/// A worker of the CPU; serves until the test program ends.
fn worker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    std::thread::spawn(move || gpt2::worker::serve(address, "cpu", 1).unwrap_err());
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    address
}

/// A link to a worker.
struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    fate: Mutex<Fate>,
    /// Counts repairs: connections of before them end.
    age: AtomicU32,
}

impl Link {
    fn to(worker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            fate: Mutex::new(Fate::Open),
            age: AtomicU32::new(0),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let (here, there) = (here.unwrap(), TcpStream::connect(worker).unwrap());
                for (from, to, answers) in [(&here, &there, false), (&there, &here, true)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&shared);
                    std::thread::spawn(move || pass_on(from, to, answers, &state));
                }
            }
        });
        Self { address, state }
    }

    fn device(&self) -> String {
        format!("rpc://{}", self.address)
    }

    fn suffer(&self, fate: Fate) {
        *self.state.fate.lock().unwrap() = fate;
    }

    fn repair(&self) {
        self.state.age.fetch_add(1, Ordering::SeqCst);
        self.suffer(Fate::Open);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, answers: bool, state: &State) {
    let age = state.age.load(Ordering::SeqCst);
    let mut bytes = vec![0; 1 << 16];
    from.set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    to.set_nodelay(true).unwrap();
    loop {
        let fate = *state.fate.lock().unwrap();
        if fate == Fate::Closed || state.age.load(Ordering::SeqCst) != age {
            break;
        }
        if fate == Fate::Cut {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                let garbled = *state.fate.lock().unwrap() == Fate::Garbled;
                if garbled && answers {
                    bytes[..count].fill(0x5a);
                }
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn open(devices: &[String]) -> Result<Arc<Model>, Error> {
    let options = ModelOptions {
        devices: devices.to_vec(),
        ..ModelOptions::default()
    };
    Model::open(austen("q8_0"), &options)
}

fn session(model: &Arc<Model>) -> Session {
    let options = SessionOptions {
        threads: Some(1),
        context: Some(64),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn logits(session: &mut Session) -> Vec<f32> {
    session.clear();
    session.prefill(&PROMPT).unwrap();
    session.decode(11).unwrap().to_vec()
}

/// The error says which worker is lost.
fn is_lost(error: &Error, link: &Link) {
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    let message = error.to_string();
    let words = format!("{}: the worker is lost", link.device());
    assert!(message.starts_with(&words), "{message}");
}

#[test]
fn a_lost_worker_is_an_error_and_the_process_goes_on() {
    let _cores = cores();
    let link = Link::to(worker());
    let mut local = session(&open(&[]).unwrap());
    let local_logits = logits(&mut local);
    let mut expected = None;
    for fate in [Fate::Cut, Fate::Closed, Fate::Garbled] {
        let model = open(&[link.device()]).unwrap();
        let mut remote = session(&model);
        let found = logits(&mut remote);
        assert_eq!(expected.get_or_insert_with(|| found.clone()), &found);
        link.suffer(fate);
        let start = Instant::now();
        let error = remote.decode(12).unwrap_err();
        let took = start.elapsed();
        println!("{fate:?}: after {took:.2?}: {error}");
        is_lost(&error, &link);
        assert!(took < LIMIT, "{fate:?}: {took:?}");
        // It stays lost, and nobody waits for it any more.
        let start = Instant::now();
        is_lost(&remote.prefill(&PROMPT).unwrap_err(), &link);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lost-worker.cache");
        is_lost(&remote.save(0, &file, true).unwrap_err(), &link);
        let options = SessionOptions::default();
        is_lost(
            &Session::new(Arc::clone(&model), options).unwrap_err(),
            &link,
        );
        assert_eq!(logits(&mut local), local_logits, "{fate:?}");
        drop((remote, model));
        assert!(start.elapsed() < LIMIT, "{fate:?}: {:?}", start.elapsed());
        link.repair();
    }
    let mut again = session(&open(&[link.device()]).unwrap());
    assert_eq!(Some(logits(&mut again)), expected);
}

#[test]
fn of_two_workers_the_lost_one_is_named() {
    let _cores = cores();
    let links = [Link::to(worker()), Link::to(worker())];
    let devices = links.each_ref().map(Link::device);
    let mut local = session(&open(&[]).unwrap());
    let expected = logits(&mut local);
    for lost in [0, 1] {
        let mut remote = session(&open(&devices).unwrap());
        for (found, expected) in logits(&mut remote).iter().zip(&expected) {
            assert!((found - expected).abs() < 0.5, "{found} for {expected}");
        }
        links[lost].suffer(Fate::Cut);
        let start = Instant::now();
        let error = remote.decode(12).unwrap_err();
        println!("worker {lost}: after {:.2?}: {error}", start.elapsed());
        is_lost(&error, &links[lost]);
        assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
        drop(remote);
        // The other one serves whoever wants it.
        let other = session(&open(&devices[1 - lost..2 - lost]).unwrap())
            .decode(11)
            .is_ok();
        assert!(other, "the other worker");
        links[lost].repair();
    }
}
