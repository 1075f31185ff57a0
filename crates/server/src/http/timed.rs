//! A socket with deadlines: for the head of a request, for silence between requests, and for a
//! client that takes nothing of what it is sent.
//!
//! hyper bounds none of the three as needed: its one timer for heads runs while a connection is
//! idle too.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::settings::Limits;

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rest of a head, since its first byte or since the connection was made.
    Head(Instant),
    /// Another request, since the last answer.
    Idle(Instant),
    /// Nothing: a request is being answered, which has limits of its own.
    Busy,
}

/// The phase of one connection, shared by its socket and its service.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Phase>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Head(Instant::now()))))
    }

    /// A request has come; until the guard is dropped it is being answered.
    pub(super) fn answer(&self) -> Answering {
        self.set(Phase::Busy);
        Answering(self.clone())
    }

    fn get(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

/// Held while a request is being answered, until the last byte of its body was taken.
#[derive(Debug)]
pub(super) struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Phase::Idle(Instant::now()));
    }
}

/// A stream whose reads and writes fail when they take too long.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    activity: Activity,
    header: Duration,
    idle: Duration,
    write: Duration,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    /// Whether a write waits for the client, since when `writing` runs.
    stalled: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, activity: Activity, limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            stream,
            activity,
            header: limits.header,
            idle: limits.idle,
            write: limits.write,
            reading: Box::pin(sleep_until(now)),
            writing: Box::pin(sleep_until(now)),
            stalled: false,
        }
    }

    /// Fails when what the connection waits for is overdue.
    fn check_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = match self.activity.get() {
            Phase::Head(since) => since + self.header,
            Phase::Idle(since) => since + self.idle,
            Phase::Busy => return Poll::Pending,
        };
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        self.reading.as_mut().poll(context).map(|()| late())
    }

    /// Passes on what became of a write, or fails when the client has taken nothing for too long.
    fn check_write<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.write);
        }
        match self.writing.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn late() -> io::Result<()> {
    Err(io::ErrorKind::TimedOut.into())
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > before && matches!(self.activity.get(), Phase::Idle(_)) {
                    self.activity.set(Phase::Head(Instant::now()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.check_read(context),
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
