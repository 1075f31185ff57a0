//! Signs of life of a worker, on a connection of their own.
//!
//! A worker computes for as long as a graph takes, and reads nothing meanwhile, so that silence
//! says nothing about it. `gpt2 worker` therefore also answers connections that begin with
//! [`GREETING`]: each byte received is answered by its [`State`], whatever it is computing. A
//! worker that waits for bytes which its client has sent long ago is as lost as one that is gone.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a client sends first. Its first byte is no command with which a client of ggml's RPC
/// begins; a server that knows nothing of heartbeats closes the connection.
pub(super) const GREETING: [u8; 16] = *b"gpt2-heartbeat1\n";

/// Bytes of a state on the wire: whether at work, the client's number, bytes exchanged with it.
const STATE: usize = 1 + 8 + 8;

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Whether it has something to do other than wait for its client.
    at_work: bool,
    /// The number of the client that is served, counted from 1.
    client: u64,
    /// Bytes received from this client and sent to it.
    exchanged: u64,
}

impl State {
    fn to_bytes(self) -> [u8; STATE] {
        let mut bytes = [0; STATE];
        bytes[0] = self.at_work.into();
        bytes[1..9].copy_from_slice(&self.client.to_le_bytes());
        bytes[9..].copy_from_slice(&self.exchanged.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; STATE]) -> Self {
        let number = |start: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[start..start + 8]);
            u64::from_le_bytes(number)
        };
        Self {
            at_work: bytes[0] != 0,
            client: number(1),
            exchanged: number(9),
        }
    }
}

/// What a worker is at, as it goes on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    at_work: AtomicBool,
    client: AtomicU64,
    exchanged: AtomicU64,
}

impl Progress {
    /// Another client is served.
    pub(super) fn begin_client(&self) {
        self.exchanged.store(0, Ordering::Relaxed);
        self.client.fetch_add(1, Ordering::Relaxed);
        self.set_at_work(true);
    }

    /// Whether there is something to do other than wait for the client.
    pub(super) fn set_at_work(&self, at_work: bool) {
        self.at_work.store(at_work, Ordering::Relaxed);
    }

    /// Bytes were received or sent.
    pub(super) fn exchange(&self, bytes: usize) {
        self.exchanged.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn state(&self) -> State {
        State {
            at_work: self.at_work.load(Ordering::Relaxed),
            client: self.client.load(Ordering::Relaxed),
            exchanged: self.exchanged.load(Ordering::Relaxed),
        }
    }
}

/// Answers a connection whose greeting was read, until it ends.
pub(super) fn answer(mut stream: &TcpStream, progress: &Progress) {
    let mut byte = [0];
    loop {
        if stream.write_all(&progress.state().to_bytes()).is_err() {
            return;
        }
        match stream.read(&mut byte) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(1..) => {}
            _ => return,
        }
    }
}

/// The client's side.
pub(super) struct Heartbeat {
    stream: TcpStream,
    /// As much of a state as has arrived.
    arrived: Vec<u8>,
    /// Beats without an answer.
    unanswered: usize,
    last: Option<State>,
}

impl Heartbeat {
    /// Sends a greeting to a worker that may know nothing of heartbeats.
    pub(super) fn begin(place: SocketAddr, patience: Duration) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&place, patience)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        stream.write_all(&GREETING)?;
        Ok(Self {
            stream,
            arrived: Vec::new(),
            unanswered: 1,
            last: None,
        })
    }

    /// Whether the greeting is answered until `deadline`.
    pub(super) fn is_answered(&mut self, deadline: Instant) -> bool {
        loop {
            match self.listen() {
                Err(_) => return false,
                Ok(_) if self.unanswered == 0 => return true,
                Ok(_) if Instant::now() >= deadline => return false,
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// What was answered so far counts no more: the client's turn begins now.
    pub(super) fn begin_turn(&mut self) {
        self.last = None;
    }

    /// Sends a beat when the last one was answered. Says whether the worker gave a sign of life
    /// since: it is at work, or exchanged bytes.
    ///
    /// # Errors
    /// Says why the worker is lost.
    pub(super) fn beat(&mut self) -> Result<bool, String> {
        let sign = self.listen()?;
        if self.unanswered == 0 {
            match self.stream.write(&[0]) {
                Ok(_) => self.unanswered += 1,
                Err(error) if is_not_now(&error) => {}
                Err(error) => return Err(format!("its heartbeat broke: {error}")),
            }
        }
        Ok(sign)
    }

    /// Reads what has arrived.
    fn listen(&mut self) -> Result<bool, String> {
        let mut sign = false;
        loop {
            let mut bytes = [0; STATE];
            let wanted = STATE - self.arrived.len();
            match self.stream.read(&mut bytes[..wanted]) {
                Ok(0) => return Err("its heartbeat ended".to_owned()),
                Ok(count) => self.arrived.extend(&bytes[..count]),
                Err(error) if is_not_now(&error) => return Ok(sign),
                Err(error) => return Err(format!("its heartbeat broke: {error}")),
            }
            if self.arrived.len() == STATE {
                bytes.copy_from_slice(&self.arrived);
                self.arrived.clear();
                sign |= self.hear(State::from_bytes(bytes))?;
            }
        }
    }

    fn hear(&mut self, state: State) -> Result<bool, String> {
        if self.unanswered == 0 {
            return Err("its heartbeat is nonsense".to_owned());
        }
        self.unanswered -= 1;
        let last = self.last.replace(state);
        if last.is_some_and(|last| last.client != state.client) {
            return Err("it serves another client by now".to_owned());
        }
        Ok(state.at_work || last.is_none_or(|last| last.exchanged != state.exchanged))
    }
}

/// Whether there is nothing to read or no room to write at the moment.
pub(super) fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;

    fn pair() -> (Heartbeat, Arc<Progress>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let progress = Arc::new(Progress::default());
        let shown = Arc::clone(&progress);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut greeting = [0; GREETING.len()];
            stream.read_exact(&mut greeting).unwrap();
            assert_eq!(greeting, GREETING);
            answer(&stream, &shown);
        });
        let mut heartbeat = Heartbeat::begin(place, Duration::from_secs(5)).unwrap();
        assert!(heartbeat.is_answered(Instant::now() + Duration::from_secs(20)));
        (heartbeat, progress)
    }

    /// Beats until each of `beats` is answered; the last answer.
    fn beat(heartbeat: &mut Heartbeat) -> Result<bool, String> {
        while heartbeat.unanswered == 0 {
            heartbeat.beat()?;
        }
        loop {
            let sign = heartbeat.listen()?;
            if heartbeat.unanswered == 0 {
                return Ok(sign);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_worker_lives_while_it_works_or_bytes_flow() {
        let (mut heartbeat, progress) = pair();
        heartbeat.begin_turn();
        progress.begin_client();
        assert_eq!(beat(&mut heartbeat), Ok(true));
        assert_eq!(beat(&mut heartbeat), Ok(true), "at work");
        progress.set_at_work(false);
        assert_eq!(beat(&mut heartbeat), Ok(false), "waits for bytes");
        progress.exchange(10);
        assert_eq!(beat(&mut heartbeat), Ok(true), "received some");
        assert_eq!(beat(&mut heartbeat), Ok(false));
        progress.begin_client();
        assert!(beat(&mut heartbeat).unwrap_err().contains("another client"));
    }

    #[test]
    fn what_nobody_requested_is_nonsense() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[0; 5 * STATE]).unwrap();
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.read(&mut [0; 100]);
        });
        let mut heartbeat = Heartbeat::begin(place, Duration::from_secs(5)).unwrap();
        assert!(!heartbeat.is_answered(Instant::now() + Duration::from_secs(20)));
    }
}
