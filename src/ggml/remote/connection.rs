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

use super::protocol::{self, Expected, HELLO_REPLY, Requests, VERSION};
use super::signs::{ALIVE, GREETING, WELCOME, is_not_now};
use super::worker::Worker;

/// How long a worker may take until it has answered a new client.
const OPENING: Duration = Duration::from_secs(4);

/// How long it may take to be reached.
const REACHING: Duration = Duration::from_millis(2500);

/// How long a worker may give no sign of life while something is expected of it.
const SILENCE: Duration = Duration::from_millis(3500);

/// How long one that gives no signs may take for what it computes.
const SILENCE_AT_WORK: Duration = Duration::from_secs(300);

/// How often waiting is interrupted to see whether it has been too long.
const BEAT: Duration = Duration::from_millis(250);

/// Bytes of a reply that count as a sign of life.
const STEP: usize = 1 << 12;

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

/// The stream of a connection.
struct Line {
    stream: TcpStream,
    /// Whether the worker gives signs of life.
    signs: bool,
    /// What has arrived of a reply's size, or of a sign that stands in its place.
    size: [u8; 8],
    arrived: usize,
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

    /// Whom it leads to.
    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
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
        let patience = self.patience();
        let line = self.line.as_mut().filter(|_| !expected.is_hello());
        if let Some(line) = line {
            let bytes = expected.bytes;
            let outcome = match line.read_size(patience) {
                Ok(found) if found != bytes => Err(format!(
                    "its reply is nonsense: {found} bytes, expected {bytes}"
                )),
                other => other.map(|_| ()),
            };
            self.approve(outcome);
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

    /// How long a worker that gives no signs of life may be silent.
    fn patience(&self) -> Duration {
        if self.requests.may_take_long() {
            SILENCE_AT_WORK
        } else {
            SILENCE
        }
    }
}

impl Line {
    /// Connects and says hello. Servers that do not know the greeting close the connection, and are
    /// spoken to without one.
    fn open(place: SocketAddr, worker: &Worker, deadline: Instant) -> Result<Self, String> {
        if worker.may_give_signs() {
            match Self::open_with(place, true, deadline) {
                Err(Refusal::Closed(_)) => worker.gives_no_signs(),
                other => return other.map_err(|refusal| refusal.to_string()),
            }
        }
        Self::open_with(place, false, deadline).map_err(|refusal| refusal.to_string())
    }

    fn open_with(place: SocketAddr, signs: bool, deadline: Instant) -> Result<Self, Refusal> {
        let left = deadline.saturating_duration_since(Instant::now());
        // 0 would mean to wait for ever.
        let reaching = REACHING.min(left).max(Duration::from_millis(1));
        let stream = TcpStream::connect_timeout(&place, reaching).map_err(Refusal::Unreachable)?;
        let mut line = Self {
            stream,
            signs,
            size: [0; 8],
            arrived: 0,
            sign: Instant::now(),
        };
        line.set_up().map_err(Refusal::Unreachable)?;
        let mut hello = Vec::new();
        if signs {
            hello.extend(GREETING);
        }
        hello.extend(protocol::hello());
        line.stream.write_all(&hello).map_err(Refusal::Closed)?;
        line.be_greeted(deadline)?;
        let timeout = line.stream.set_read_timeout(Some(BEAT));
        timeout.map_err(Refusal::Unreachable)?;
        Ok(line)
    }

    fn set_up(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(BEAT))?;
        keep_alive(&self.stream)
    }

    /// Reads the answer to hello.
    fn be_greeted(&mut self, deadline: Instant) -> Result<(), Refusal> {
        let mut welcome = false;
        let mut read = |target: &mut [u8], welcome| {
            read_until(&mut self.stream, target, deadline).map_err(|error| {
                match is_not_now(&error) {
                    true if welcome => Refusal::Busy,
                    true => Refusal::Silent,
                    false => Refusal::Closed(error),
                }
            })
        };
        let size = loop {
            let mut size = [0; 8];
            read(&mut size, welcome)?;
            match u64::from_le_bytes(size) {
                WELCOME if self.signs => welcome = true,
                ALIVE if welcome => {}
                size => break size,
            }
        };
        // Every version begins with its number, and none has said more than this one.
        if !(3..=HELLO_REPLY as u64).contains(&size) {
            return Err(Refusal::Foreign);
        }
        let mut reply = [0; HELLO_REPLY];
        read(&mut reply[..size as usize], welcome)?;
        let (major, minor) = (reply[0], reply[1]);
        if major != VERSION.0 || minor > VERSION.1 {
            return Err(Refusal::Version(major, minor));
        }
        if size != HELLO_REPLY as u64 {
            return Err(Refusal::Foreign);
        }
        self.signs = welcome;
        Ok(())
    }

    /// The size of a reply; signs of life may come before it.
    fn read_size(&mut self, patience: Duration) -> Result<u64, String> {
        loop {
            let (mut size, arrived) = (self.size, self.arrived);
            self.read(&mut size[arrived..], patience)?;
            self.arrived = 0;
            let size = u64::from_le_bytes(size);
            if !(self.signs && size == ALIVE) {
                return Ok(size);
            }
        }
    }

    /// Reads the signs of life that are there, while no reply is expected.
    fn hear(&mut self) -> Result<(), String> {
        self.stream
            .set_nonblocking(true)
            .map_err(|error| broken(&error))?;
        let outcome = loop {
            match self.stream.read(&mut self.size[self.arrived..]) {
                Ok(0) => break Err(CLOSED.to_owned()),
                Ok(count) => self.arrived += count,
                Err(error) if is_not_now(&error) => break Ok(()),
                Err(error) => break Err(broken(&error)),
            }
            if self.arrived == self.size.len() {
                if !self.signs || u64::from_le_bytes(self.size) != ALIVE {
                    break Err("it replies before anything was requested".to_owned());
                }
                self.arrived = 0;
                self.sign = Instant::now();
            }
        };
        self.stream
            .set_nonblocking(false)
            .map_err(|error| broken(&error))?;
        outcome
    }

    fn read(&mut self, target: &mut [u8], patience: Duration) -> Result<(), String> {
        self.sign = Instant::now();
        let mut done = 0;
        // Where the next sign of life is.
        let mut step = STEP;
        while done < target.len() {
            match self.stream.read(&mut target[done..]) {
                Ok(0) => return Err(CLOSED.to_owned()),
                Ok(count) => {
                    done += count;
                    if done >= step {
                        self.sign = Instant::now();
                        step = done + STEP;
                    }
                }
                Err(error) if is_not_now(&error) => {}
                Err(error) => return Err(broken(&error)),
            }
            self.wait(patience)?;
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
                Err(error) if is_not_now(&error) => self.hear()?,
                Err(error) => return Err(broken(&error)),
            }
            self.wait(patience)?;
        }
        Ok(())
    }

    /// Whether to go on waiting.
    fn wait(&self, patience: Duration) -> Result<(), String> {
        let limit = if self.signs { SILENCE } else { patience };
        if self.sign.elapsed() < limit {
            return Ok(());
        }
        let limit = seconds(limit);
        Err(format!("it gave no sign of life for {limit}"))
    }
}

const CLOSED: &str = "it was ended, or refused a request (then its own messages say which)";

fn broken(error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset => CLOSED.to_owned(),
        _ => format!("the connection broke: {error}"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} seconds", duration.as_secs_f32())
}

/// Why there is no connection.
enum Refusal {
    Unreachable(io::Error),
    Silent,
    Busy,
    Closed(io::Error),
    Foreign,
    Version(u8, u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) if is_not_now(error) => {
                let limit = seconds(REACHING);
                write!(formatter, "the machine did not answer within {limit}")
            }
            Self::Unreachable(error) => {
                write!(formatter, "nobody can be reached there: {error}")
            }
            Self::Silent => {
                let limit = seconds(OPENING);
                write!(
                    formatter,
                    "no answer within {limit}; it may be at work for another client"
                )
            }
            Self::Busy => write!(
                formatter,
                "the worker is there, and at work for another client"
            ),
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::listener::Listener;
    use super::*;

    /// A request for the number of devices.
    const COUNT_DEVICES: [u8; 9] = [15, 0, 0, 0, 0, 0, 0, 0, 0];

    fn worker_at(listener: &TcpListener) -> Arc<Worker> {
        let place = listener.local_addr().unwrap();
        Worker::new(&place.to_string(), vec![place])
    }

    /// What a server of ggml's says to hello.
    fn welcome() -> Vec<u8> {
        let mut reply = (HELLO_REPLY as u64).to_le_bytes().to_vec();
        reply.extend([VERSION.0, VERSION.1]);
        reply.resize(8 + HELLO_REPLY, 0);
        reply
    }

    fn count_devices(connection: &mut Connection) -> u32 {
        let mut count = [0; 4];
        connection.send(&COUNT_DEVICES);
        connection.flush();
        connection.receive(&mut [0; 8]);
        connection.receive(&mut count);
        u32::from_le_bytes(count)
    }

    #[test]
    fn a_slow_worker_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = worker_at(&listener);
        let served = std::thread::spawn(move || {
            let mut client = Listener::start(listener).unwrap().accept().unwrap();
            for bytes in [1, 8, 24] {
                assert!(client.receive(&mut vec![0; bytes]));
            }
            assert!(client.send(&welcome()) && client.flush());
            assert!(client.receive(&mut [0]) && client.receive(&mut [0; 8]));
            // It computes.
            std::thread::sleep(SILENCE + 4 * BEAT);
            assert!(client.send(&4u64.to_le_bytes()) && client.send(&[2, 0, 0, 0]));
            assert!(client.flush() && !client.receive(&mut [0]));
        });
        let mut connection = Connection::open(&worker).unwrap();
        assert_eq!(count_devices(&mut connection), 2);
        assert_eq!(worker.loss(), None);
        drop(connection);
        served.join().unwrap();
    }

    #[test]
    fn another_server_is_spoken_to_in_its_own_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = worker_at(&listener);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut hello = [0; 33];
                stream.read_exact(&mut hello[..1]).unwrap();
                if hello[0] != protocol::HELLO {
                    continue;
                }
                stream.read_exact(&mut hello[1..]).unwrap();
                stream.write_all(&welcome()).unwrap();
                stream.read_exact(&mut [0; 9]).unwrap();
                stream.write_all(&4u64.to_le_bytes()).unwrap();
                stream.write_all(&[3, 0, 0, 0]).unwrap();
                // And no more.
                let _ = stream.read(&mut [0; 9]);
                std::thread::sleep(10 * SILENCE);
            }
        });
        let mut connection = Connection::open(&worker).unwrap();
        assert!(!worker.may_give_signs());
        assert_eq!(count_devices(&mut connection), 3);
        let start = Instant::now();
        assert_eq!(count_devices(&mut connection), 0);
        println!("silent for {:?}", start.elapsed());
        assert!(worker.loss().unwrap().contains("no sign of life"));
    }
}
