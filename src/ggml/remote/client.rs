//! A client that a worker serves.
//!
//! What it sends is for ggml to understand. Here it is only made sure that a client cannot keep the
//! worker from others by half a message, or by a size of which nothing follows; and it is given
//! signs of life while ggml computes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::signs::{ALIVE, INTERVAL, is_not_now};

/// How long a client may stop in the middle of a message, or not read its reply.
const PAUSE: Duration = Duration::from_secs(30);

/// Most bytes of a message: a model's largest matrix in f32 is smaller.
const MOST_MESSAGE: u64 = 1 << 31;

/// Replies up to this many bytes leave in one piece.
const SMALL: usize = 1 << 14;

/// A client that is served.
pub(super) struct Client {
    line: Arc<Line>,
    /// Replies that were not sent yet.
    unsent: Vec<u8>,
    place: Place,
    signs: Option<JoinHandle<()>>,
}

/// What the thread that gives signs of life sees of a client.
struct Line {
    stream: TcpStream,
    /// Whether there is something to do other than wait for the client.
    at_work: AtomicBool,
    /// Bytes received and sent.
    exchanged: AtomicU64,
    /// Whether a reply is being sent, which a sign must not interrupt.
    in_reply: Mutex<bool>,
    ended: AtomicBool,
}

/// What is received next of a client's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Command,
    Size,
    Payload(u64),
}

impl Drop for Client {
    fn drop(&mut self) {
        self.line.ended.store(true, Ordering::Relaxed);
        let _ = self.line.stream.shutdown(Shutdown::Both);
        if let Some(signs) = self.signs.take() {
            signs.thread().unpark();
            let _ = signs.join();
        }
    }
}

impl Client {
    /// Serves `stream` from now on, `with_signs` of life if it knows them.
    ///
    /// # Errors
    /// When the system refuses settings or a thread.
    pub(super) fn new(stream: TcpStream, with_signs: bool) -> io::Result<Self> {
        stream.set_read_timeout(Some(PAUSE))?;
        stream.set_write_timeout(Some(PAUSE))?;
        let line = Arc::new(Line {
            stream,
            at_work: AtomicBool::new(true),
            exchanged: AtomicU64::new(0),
            in_reply: Mutex::new(false),
            ended: AtomicBool::new(false),
        });
        let mut client = Self {
            line: Arc::clone(&line),
            unsent: Vec::new(),
            place: Place::Command,
            signs: None,
        };
        if with_signs {
            let signs = std::thread::Builder::new().stack_size(1 << 18);
            client.signs = Some(signs.spawn(move || line.give_signs())?);
        }
        Ok(client)
    }

    /// Whether bytes of a reply can be sent.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.line.set_in_reply(true);
        if self.unsent.len() + bytes.len() <= SMALL {
            self.unsent.extend(bytes);
            return true;
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.write(&unsent).is_ok() && self.write(bytes).is_ok()
    }

    /// A reply is complete.
    pub(super) fn flush(&mut self) -> bool {
        let unsent = std::mem::take(&mut self.unsent);
        let done = self.write(&unsent).is_ok();
        self.line.set_in_reply(false);
        done
    }

    /// Whether all of `target` was received, and is as long as a message may be.
    pub(super) fn receive(&mut self, target: &mut [u8]) -> bool {
        self.read(target).is_ok() && self.follow(target)
    }

    /// Notes what was received.
    fn follow(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len() as u64;
        self.place = match self.place {
            Place::Command if count == 1 => Place::Size,
            Place::Size => match bytes.try_into().map(u64::from_le_bytes) {
                Ok(0) => Place::Command,
                Ok(size @ ..=MOST_MESSAGE) => Place::Payload(size),
                _ => return false,
            },
            Place::Payload(left) if count == left => Place::Command,
            Place::Payload(left) if count < left => Place::Payload(left - count),
            // A payload of no bytes.
            place if count == 0 => place,
            _ => return false,
        };
        true
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<()> {
        // Between messages a client may take its time.
        let pause = (self.place != Place::Command).then_some(PAUSE);
        self.line.wait(target.len(), pause, |mut stream, done| {
            match stream.read(&mut target[done..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            }
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.line
            .wait(bytes.len(), Some(PAUSE), |mut stream, done| {
                stream.write(&bytes[done..])
            })
    }
}

impl Line {
    /// Repeats `part` until `bytes` are through, as long as it does not stop for longer than
    /// `pause`.
    fn wait(
        &self,
        bytes: usize,
        pause: Option<Duration>,
        mut part: impl FnMut(&TcpStream, usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.at_work.store(false, Ordering::Relaxed);
        let mut done = 0;
        let mut moved = Instant::now();
        while done < bytes {
            match part(&self.stream, done) {
                Ok(count) => {
                    done += count;
                    moved = Instant::now();
                    self.exchanged.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if is_not_now(&error) => {
                    if pause.is_some_and(|pause| moved.elapsed() >= pause) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.at_work.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn set_in_reply(&self, in_reply: bool) {
        *self.in_reply.lock().unwrap_or_else(PoisonError::into_inner) = in_reply;
    }

    /// Tells the client that the worker lives, until it is served no more.
    fn give_signs(&self) {
        let mut seen = 0;
        while !self.ended.load(Ordering::Relaxed) {
            std::thread::park_timeout(INTERVAL);
            let exchanged = self.exchanged.load(Ordering::Relaxed);
            let moved = exchanged != std::mem::replace(&mut seen, exchanged);
            let in_reply = self.in_reply.lock().unwrap_or_else(PoisonError::into_inner);
            if *in_reply || !(moved || self.at_work.load(Ordering::Relaxed)) {
                continue;
            }
            if (&self.stream).write_all(&ALIVE.to_le_bytes()).is_err() {
                // Half a sign would be taken for a reply.
                let _ = self.stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair(with_signs: bool) -> (TcpStream, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = Client::new(listener.accept().unwrap().0, with_signs).unwrap();
        (there, client)
    }

    #[test]
    fn signs_are_given_while_at_work_and_not_within_a_reply() {
        let (mut there, mut client) = pair(true);
        let mut sign = [0; 8];
        there.read_exact(&mut sign).unwrap();
        assert_eq!(u64::from_le_bytes(sign), ALIVE);
        assert!(client.send(&3u64.to_le_bytes()));
        std::thread::sleep(3 * INTERVAL);
        assert!(client.send(b"abc") && client.flush());
        let mut reply = Vec::new();
        // Signs may have been sent before the reply, and between its parts none.
        while !reply.ends_with(b"abc") {
            let mut byte = [0];
            there.read_exact(&mut byte).unwrap();
            reply.push(byte[0]);
        }
        assert!(reply.ends_with(b"\x03\0\0\0\0\0\0\0abc"), "{reply:?}");
        // While it waits for the client there are none.
        let waiting = std::thread::spawn(move || client.receive(&mut [0]));
        there.set_read_timeout(Some(4 * INTERVAL)).unwrap();
        let mut signs = 0;
        while there.read_exact(&mut sign).is_ok() {
            signs += 1;
        }
        assert!(signs <= 2, "{signs} signs");
        drop(there);
        assert!(!waiting.join().unwrap());
    }

    #[test]
    fn sizes_that_no_message_has_end_a_client() {
        let (mut there, mut client) = pair(false);
        there.write_all(&[6]).unwrap();
        there.write_all(&[0xff; 8]).unwrap();
        assert!(client.receive(&mut [0]));
        assert!(!client.receive(&mut [0; 8]));
    }

    #[test]
    fn messages_of_a_client_are_followed() {
        let (mut there, mut client) = pair(false);
        for payload in [0u64, 3, 0] {
            there.write_all(&[6]).unwrap();
            there.write_all(&payload.to_le_bytes()).unwrap();
            there.write_all(&vec![1; payload as usize]).unwrap();
            assert_eq!(client.place, Place::Command);
            assert!(client.receive(&mut [0]) && client.receive(&mut [0; 8]));
            assert!(client.receive(&mut vec![0; payload as usize]));
        }
        assert_eq!(client.place, Place::Command);
    }
}
