//! A client's connection to a worker, which never fails as far as ggml can see.
//!
//! ggml ends the process when an exchange fails. So a connection that breaks, a worker that gives
//! no sign of life and a reply that is nonsense only mark the worker as lost ([`Worker::lose`]);
//! from then on requests go nowhere and are answered by stand-ins, until whoever computes asks
//! whether its workers are still there, throws the result away and reports why.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heartbeat::{Heartbeat, is_not_now};
use super::protocol::{self, Expected, HELLO_REPLY, Requests, VERSION};
use super::worker::Worker;

/// How long a worker may take until it has answered a new client.
const OPENING: Duration = Duration::from_secs(4);

/// How long it may take to be reached.
const REACHING: Duration = Duration::from_millis(2500);

/// How long the answer to a heartbeat's greeting may take after that of the worker itself.
const GREETING: Duration = Duration::from_millis(700);

/// How long a worker may give no sign of life while something is expected of it.
const SILENCE: Duration = Duration::from_millis(3500);

/// How long one without heartbeats may take for what it computes.
const SILENCE_AT_WORK: Duration = Duration::from_secs(300);

/// How often signs of life are looked for while waiting.
const BEAT: Duration = Duration::from_millis(250);

/// Requests up to this many bytes leave in one piece.
const SMALL: usize = 1 << 14;

/// A connection, or what is left of it.
pub(super) struct Connection {
    worker: Arc<Worker>,
    /// `None` when the worker is lost.
    line: Option<Line>,
    requests: Requests,
    /// Requests that were not sent yet.
    unsent: Vec<u8>,
    /// Whether the size of the expected reply was received.
    in_reply: bool,
}

/// The streams of a connection.
struct Line {
    stream: TcpStream,
    heartbeat: Option<Heartbeat>,
    /// When the last sign of life was seen, or waiting began.
    sign: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.end_connection();
    }
}

impl Connection {
    /// Connects to `worker` and is greeted by it.
    ///
    /// # Errors
    /// Says what was found instead of a worker; the worker does not count as lost for that.
    pub(super) fn open(worker: &Arc<Worker>) -> Result<Self, String> {
        let deadline = Instant::now() + OPENING;
        let mut line = Err("it has no address".to_owned());
        for &place in worker.places() {
            line = Line::open(place, worker, deadline);
            if line.is_ok() {
                break;
            }
        }
        Ok(Self::over(worker, Some(line?)))
    }

    /// What ggml gets when no connection can be had.
    pub(super) fn lost(worker: &Arc<Worker>) -> Self {
        Self::over(worker, None)
    }

    fn over(worker: &Arc<Worker>, line: Option<Line>) -> Self {
        worker.begin_connection();
        Self {
            worker: Arc::clone(worker),
            line,
            requests: Requests::default(),
            unsent: Vec::new(),
            in_reply: false,
        }
    }

    /// Sends bytes of requests.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.requests.follow(bytes);
        if self.unsent.len() + bytes.len() <= SMALL {
            self.unsent.extend(bytes);
            return;
        }
        self.flush();
        self.write(bytes);
    }

    /// A request is complete.
    pub(super) fn flush(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        // Hello was said when the connection was opened.
        let hello = self
            .requests
            .expected()
            .is_some_and(|reply| reply.is_hello());
        if !hello {
            self.write(&unsent);
        }
        unsent.clear();
        self.unsent = unsent;
    }

    /// Receives bytes of the reply to the last request: its size, then all of its payload.
    pub(super) fn receive(&mut self, target: &mut [u8]) {
        self.flush();
        let Some(expected) = self.requests.expected() else {
            self.lose("a reply to a request that is not known".to_owned());
            target.fill(0);
            return;
        };
        if !self.in_reply {
            self.receive_size(&expected, target);
            self.in_reply = true;
            return;
        }
        let there =
            !expected.is_hello() && self.read(target) && self.approve(expected.check(target));
        if !there {
            expected.stand_in(target);
        }
        self.requests.replied();
        self.in_reply = false;
    }

    fn receive_size(&mut self, expected: &Expected, target: &mut [u8]) {
        let mut size = [0; 8];
        if !expected.is_hello() && self.read(&mut size) {
            let found = u64::from_le_bytes(size);
            let bytes = expected.bytes;
            let right = (found == bytes).then_some(());
            self.approve(
                right.ok_or_else(|| {
                    format!("its reply is nonsense: {found} bytes, expected {bytes}")
                }),
            );
        }
        let size = expected.bytes.to_le_bytes();
        let length = target.len().min(size.len());
        target[..length].copy_from_slice(&size[..length]);
    }

    fn approve(&mut self, outcome: Result<(), String>) -> bool {
        match outcome {
            Ok(()) => true,
            Err(problem) => {
                self.lose(problem);
                false
            }
        }
    }

    fn lose(&mut self, problem: String) {
        self.worker.lose(problem);
        self.line = None;
    }

    /// Whether all of `target` was received.
    fn read(&mut self, target: &mut [u8]) -> bool {
        let patience = self.patience();
        let Some(line) = &mut self.line else {
            return false;
        };
        let outcome = line.read(target, patience);
        self.approve(outcome)
    }

    fn write(&mut self, bytes: &[u8]) {
        let patience = self.patience();
        if let Some(line) = &mut self.line {
            let outcome = line.write(bytes, patience);
            self.approve(outcome);
        }
    }

    /// How long a worker without heartbeats may be silent.
    fn patience(&self) -> Duration {
        if self.requests.may_take_long() {
            SILENCE_AT_WORK
        } else {
            SILENCE
        }
    }
}

impl Line {
    /// Connects and says hello.
    fn open(place: SocketAddr, worker: &Worker, deadline: Instant) -> Result<Self, String> {
        let remaining = || {
            let left = deadline.saturating_duration_since(Instant::now());
            // 0 would mean to wait for ever.
            left.max(Duration::from_millis(1))
        };
        let unreachable = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                format!("the machine did not answer within {}", seconds(REACHING))
            }
            _ => format!("nobody can be reached there: {error}"),
        };
        let mut stream =
            TcpStream::connect_timeout(&place, REACHING.min(remaining())).map_err(unreachable)?;
        let settings = stream
            .set_nodelay(true)
            .and_then(|()| keep_alive(&stream))
            .and_then(|()| stream.set_write_timeout(Some(BEAT)));
        settings.map_err(|error| format!("the connection has no settings: {error}"))?;
        stream
            .write_all(&protocol::hello())
            .map_err(|error| format!("the connection broke: {error}"))?;
        let mut heartbeat = worker
            .may_have_heartbeat()
            .then(|| Heartbeat::begin(place, REACHING.min(remaining())).ok())
            .flatten();
        let greeted = greet(&mut stream, deadline);
        if let Err(Refusal::Silent) = greeted {
            let busy = heartbeat.is_some_and(|mut it| it.is_answered(Instant::now()));
            return Err(if busy {
                "the worker is there, and at work for another client".to_owned()
            } else {
                let limit = seconds(OPENING);
                format!("no answer within {limit}; it may be at work for another client")
            });
        }
        greeted.map_err(|refusal| refusal.to_string())?;
        let limit = deadline.min(Instant::now() + GREETING);
        heartbeat = heartbeat.and_then(|mut it| it.is_answered(limit).then_some(it));
        if let Some(heartbeat) = &mut heartbeat {
            heartbeat.begin_turn();
        }
        worker.set_has_heartbeat(heartbeat.is_some());
        stream
            .set_read_timeout(Some(BEAT))
            .map_err(|error| format!("the connection has no settings: {error}"))?;
        Ok(Self {
            stream,
            heartbeat,
            sign: Instant::now(),
        })
    }

    fn read(&mut self, target: &mut [u8], patience: Duration) -> Result<(), String> {
        self.sign = Instant::now();
        let mut done = 0;
        while done < target.len() {
            match self.stream.read(&mut target[done..]) {
                Ok(0) => return Err(CLOSED.to_owned()),
                Ok(count) => {
                    done += count;
                    self.sign = Instant::now();
                }
                Err(error) if is_not_now(&error) => self.look_for_sign(patience)?,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], patience: Duration) -> Result<(), String> {
        self.sign = Instant::now();
        let mut done = 0;
        while done < bytes.len() {
            match self.stream.write(&bytes[done..]) {
                Ok(0) => return Err(CLOSED.to_owned()),
                Ok(count) => {
                    done += count;
                    self.sign = Instant::now();
                }
                Err(error) if is_not_now(&error) => self.look_for_sign(patience)?,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// Called every [`BEAT`] while nothing moves.
    fn look_for_sign(&mut self, patience: Duration) -> Result<(), String> {
        let limit = match &mut self.heartbeat {
            Some(heartbeat) => {
                if heartbeat.beat()? {
                    self.sign = Instant::now();
                }
                SILENCE
            }
            None => patience,
        };
        if self.sign.elapsed() < limit {
            return Ok(());
        }
        let limit = seconds(limit);
        Err(format!("it gave no sign of life for {limit}"))
    }
}

const CLOSED: &str = "the connection was closed: the worker was ended, or refused a request (its \
                      own messages say which)";

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}

fn seconds(duration: Duration) -> String {
    format!("{} seconds", duration.as_secs_f32())
}

/// Why a hello was not answered as a worker does.
enum Refusal {
    Silent,
    Closed(io::Error),
    Foreign,
    Version(u8, u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(formatter, "no answer"),
            Self::Closed(error) => write!(
                formatter,
                "the connection was closed ({error}) before a worker answered: another program or \
                 another version of ggml listens there, or nobody at the other end of a tunnel"
            ),
            Self::Foreign => write!(formatter, "what answers there is no ggml RPC server"),
            Self::Version(major, minor) => write!(
                formatter,
                "expected RPC version {}.{}, found {major}.{minor}; both machines need the same \
                 ggml",
                VERSION.0, VERSION.1
            ),
        }
    }
}

/// Reads the answer to hello.
fn greet(stream: &mut TcpStream, deadline: Instant) -> Result<(), Refusal> {
    let mut read = |target: &mut [u8]| {
        read_until(stream, target, deadline).map_err(|error| {
            if is_not_now(&error) {
                Refusal::Silent
            } else {
                Refusal::Closed(error)
            }
        })
    };
    let mut size = [0; 8];
    read(&mut size)?;
    let size = u64::from_le_bytes(size);
    // Every version begins with its number, and none has said more than this one.
    if !(3..=HELLO_REPLY as u64).contains(&size) {
        return Err(Refusal::Foreign);
    }
    let mut reply = [0; HELLO_REPLY];
    read(&mut reply[..size as usize])?;
    let (major, minor) = (reply[0], reply[1]);
    if major != VERSION.0 || minor > VERSION.1 {
        return Err(Refusal::Version(major, minor));
    }
    if size == HELLO_REPLY as u64 {
        Ok(())
    } else {
        Err(Refusal::Foreign)
    }
}

/// Reads all of `target` until `deadline`.
fn read_until(stream: &mut TcpStream, target: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut done = 0;
    while done < target.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut target[done..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if is_not_now(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the system find out that the other machine is gone, within seconds.
///
/// There is no limit on what stays unacknowledged (`TCP_USER_TIMEOUT`): it also ends connections
/// to a worker that is at work and has no room for more.
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let second = Duration::from_secs(1);
    let settings = socket2::TcpKeepalive::new().with_time(second);
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let settings = settings.with_interval(second).with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&settings)
}
