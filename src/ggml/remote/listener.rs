//! A worker's connections: those of clients are handed to ggml's server, which serves one at a
//! time; all others are closed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::connection::keep_alive;
use super::protocol::HELLO;
use super::signs::{GREETING, WELCOME};

/// Connections that have not said yet what they are.
const MOST_UNKNOWN: usize = 32;

/// Clients that wait for their turn.
const MOST_WAITING: usize = 8;

/// How long a new connection may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client, and whether it knows signs of life.
type Waiting = (TcpStream, bool);

/// Where a worker waits for clients.
pub(super) struct Listener {
    clients: Receiver<Waiting>,
}

impl Listener {
    /// Accepts connections from now on, on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(listener: TcpListener) -> io::Result<Self> {
        let (waiting, clients) = sync_channel(MOST_WAITING);
        std::thread::Builder::new()
            .name("gpt2-worker".to_owned())
            .spawn(move || accept_all(&listener, &waiting))?;
        Ok(Self { clients })
    }

    /// The next client; `None` when no more can come.
    pub(super) fn accept(&mut self) -> Option<Client> {
        loop {
            let (stream, with_signs) = self.clients.recv().ok()?;
            // One that cannot be served is closed.
            if let Ok(client) = Client::new(stream, with_signs) {
                return Some(client);
            }
        }
    }
}

fn accept_all(listener: &TcpListener, waiting: &SyncSender<Waiting>) {
    let unknown = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Too many open files, for instance: others may end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let place = Counted::new(&unknown);
        if unknown.load(Ordering::Relaxed) > MOST_UNKNOWN {
            continue;
        }
        let waiting = waiting.clone();
        // Without a thread the connection is closed.
        let thread = std::thread::Builder::new().stack_size(1 << 18);
        let _ = thread.spawn(move || {
            if let Ok(client) = recognize(stream) {
                // Closed when too many wait.
                let _ = waiting.try_send(client);
            }
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

/// A connection that begins as a client's does.
fn recognize(mut stream: TcpStream) -> io::Result<Waiting> {
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let first = |stream: &TcpStream| {
        let mut first = [0];
        stream.peek(&mut first).map(|_| first[0])
    };
    let with_signs = first(&stream)? == GREETING[0];
    if with_signs {
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting)?;
        if greeting != GREETING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.write_all(&WELCOME.to_le_bytes())?;
    }
    if first(&stream)? != HELLO {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((stream, with_signs))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (std::net::SocketAddr, Listener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (address, Listener::start(listener).unwrap())
    }

    /// Closed, whatever else was sent before.
    fn is_closed(mut stream: TcpStream) -> bool {
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_))
    }

    #[test]
    fn only_clients_come_to_be_served() {
        let (address, mut listener) = listening();
        let connect = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        };
        assert!(is_closed(connect(b"GET / HTTP/1.1\r\n\r\n")));
        assert!(is_closed(connect(b"gpt2-edge rpc 9\n")));
        assert!(is_closed(connect(&[0; 100])));
        let half = connect(&GREETING[..5]);
        let mut both = GREETING.to_vec();
        both.push(HELLO);
        let mut greeting = connect(&both);
        let mut welcome = [0; 8];
        greeting.read_exact(&mut welcome).unwrap();
        assert_eq!(u64::from_le_bytes(welcome), WELCOME);
        assert!(listener.accept().unwrap().receive(&mut [0]));
        let _plain = connect(&[HELLO]);
        assert!(listener.accept().unwrap().receive(&mut [0]));
        assert!(is_closed(half), "after {PATIENCE:?}");
    }

    #[test]
    fn silent_connections_do_not_add_up() {
        let (address, _listener) = listening();
        let silent: Vec<TcpStream> = (0..3 * MOST_UNKNOWN)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for stream in silent {
            assert!(is_closed(stream));
        }
    }
}
