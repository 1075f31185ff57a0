//! A worker's side: it accepts connections, answers heartbeats itself, and hands clients to ggml's
//! server, which serves one at a time.
//!
//! What a client sends is for ggml to understand; here it is only made sure that nobody keeps the
//! worker from others by sending half a message, or makes it allocate what it will never be sent.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::keep_alive;
use super::heartbeat::{self, GREETING, Progress, is_not_now};
use super::protocol::HELLO;

/// Connections that are not clients being served: those that have said nothing yet, and heartbeats.
const MOST_CONNECTIONS: usize = 64;

/// Clients that wait for their turn.
const MOST_WAITING: usize = 8;

/// How long a new connection may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client may stop in the middle of a message, or not read its reply.
const PAUSE: Duration = Duration::from_secs(30);

/// Most bytes of a message: a model's largest matrix in f32 is smaller.
const MOST_MESSAGE: u64 = 1 << 31;

/// Where a worker waits for clients.
pub(super) struct Listener {
    clients: Receiver<TcpStream>,
    progress: Arc<Progress>,
}

impl Listener {
    /// Accepts connections from now on, on a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(listener: TcpListener) -> io::Result<Self> {
        let (waiting, clients) = sync_channel(MOST_WAITING);
        let progress = Arc::new(Progress::default());
        let shown = Arc::clone(&progress);
        std::thread::Builder::new()
            .name("gpt2-worker".to_owned())
            .spawn(move || accept_all(&listener, &waiting, &shown))?;
        Ok(Self { clients, progress })
    }

    /// The next client; `None` when no more can come.
    pub(super) fn accept(&mut self) -> Option<Client> {
        self.progress.set_at_work(false);
        loop {
            let stream = self.clients.recv().ok()?;
            let settings = stream
                .set_read_timeout(Some(PAUSE))
                .and_then(|()| stream.set_write_timeout(Some(PAUSE)));
            if settings.is_err() {
                continue;
            }
            self.progress.begin_client();
            return Some(Client {
                stream,
                progress: Arc::clone(&self.progress),
                unsent: Vec::new(),
                place: Place::Command,
            });
        }
    }
}

/// Goes on until the process ends.
fn accept_all(listener: &TcpListener, waiting: &SyncSender<TcpStream>, progress: &Arc<Progress>) {
    let connections = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Too many open files, for instance: others may end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let place = Counted::new(&connections);
        if connections.load(Ordering::Relaxed) > MOST_CONNECTIONS {
            continue;
        }
        let (waiting, progress) = (waiting.clone(), Arc::clone(progress));
        // Without a thread the connection is closed.
        let _ = std::thread::Builder::new()
            .stack_size(1 << 18)
            .spawn(move || {
                receive_connection(stream, &waiting, &progress);
                drop(place);
            });
    }
}

/// One of the connections, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Finds out what a connection is for; closes it if for nothing.
fn receive_connection(mut stream: TcpStream, waiting: &SyncSender<TcpStream>, progress: &Progress) {
    let settings = stream
        .set_nodelay(true)
        .and_then(|()| keep_alive(&stream))
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let mut first = [0];
    if settings.is_err() || !matches!(stream.peek(&mut first), Ok(1)) {
        return;
    }
    if first[0] == HELLO {
        // Closed when too many wait.
        let _ = waiting.try_send(stream);
        return;
    }
    let mut greeting = [0; GREETING.len()];
    if stream.read_exact(&mut greeting).is_ok()
        && greeting == GREETING
        && stream.set_read_timeout(None).is_ok()
    {
        heartbeat::answer(&stream, progress);
    }
}

/// A client that is served.
pub(super) struct Client {
    stream: TcpStream,
    progress: Arc<Progress>,
    /// Replies that were not sent yet.
    unsent: Vec<u8>,
    place: Place,
}

/// What is received next of a client's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Command,
    Size,
    Payload(u64),
}

impl Client {
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        /// Replies up to this many bytes leave in one piece.
        const SMALL: usize = 1 << 14;
        if self.unsent.len() + bytes.len() <= SMALL {
            self.unsent.extend(bytes);
            return true;
        }
        self.flush() && self.write(bytes).is_ok()
    }

    pub(super) fn flush(&mut self) -> bool {
        let unsent = std::mem::take(&mut self.unsent);
        self.write(&unsent).is_ok()
    }

    /// Whether all of `target` was received, and is as long as a message may be.
    pub(super) fn receive(&mut self, target: &mut [u8]) -> bool {
        let done = self.flush() && self.read(target).is_ok();
        done && self.follow(target)
    }

    /// Notes what was received.
    fn follow(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len() as u64;
        self.place = match self.place {
            Place::Command if count == 1 => Place::Size,
            Place::Size => match bytes.try_into().map(u64::from_ne_bytes) {
                Ok(0) => Place::Command,
                Ok(size @ ..=MOST_MESSAGE) => Place::Payload(size),
                _ => return false,
            },
            Place::Payload(left) if count == left => Place::Command,
            Place::Payload(left) if count < left => Place::Payload(left - count),
            // ggml reads no payload of size 0 in any other place.
            place if count == 0 => place,
            _ => return false,
        };
        true
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<()> {
        // Between messages a client may take its time.
        let pause = (self.place != Place::Command).then_some(PAUSE);
        self.wait(target.len(), pause, |stream, done| {
            match stream.read(&mut target[done..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wait(bytes.len(), Some(PAUSE), |stream, done| {
            stream.write(&bytes[done..])
        })
    }

    /// Repeats `part` until `bytes` are through, as long as it does not pause for longer than
    /// `pause`.
    fn wait(
        &mut self,
        bytes: usize,
        pause: Option<Duration>,
        mut part: impl FnMut(&mut TcpStream, usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.progress.set_at_work(false);
        let mut done = 0;
        let mut moved = Instant::now();
        let outcome = loop {
            match part(&mut self.stream, done) {
                Ok(count) => {
                    done += count;
                    moved = Instant::now();
                    self.progress.exchange(count);
                }
                Err(error) if is_not_now(&error) => {
                    if pause.is_some_and(|pause| moved.elapsed() >= pause) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
            if done == bytes {
                break Ok(());
            }
        };
        self.progress.set_at_work(true);
        outcome
    }
}

/// Listeners that ggml has not taken yet, by the name that it was given of them.
static LISTENERS: Mutex<Vec<(String, Listener)>> = Mutex::new(Vec::new());

/// Keeps a listener until ggml takes it by `endpoint`.
pub(super) fn offer(endpoint: &str, listener: Listener) {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.push((endpoint.to_owned(), listener));
}

/// The listener of an endpoint, once.
pub(super) fn take(endpoint: &str) -> Option<Listener> {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    let index = listeners.iter().position(|(name, _)| name == endpoint)?;
    Some(listeners.swap_remove(index).1)
}
