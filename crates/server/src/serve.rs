//! From the first connection to the last: the loop that a program runs.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::engine::Ended;
use crate::http;
use crate::settings::AppState;

/// For the model's thread to end, once nothing is asked of it any more.
const THREAD_END: Duration = Duration::from_secs(5);

/// Threads that read large bodies and compile grammars, beside the one for all else.
const READERS: usize = 2;

/// What ends the server.
#[derive(Debug)]
pub enum Stop {
    /// SIGTERM or Ctrl-C; the flag is set when one has come.
    Signals(Arc<AtomicBool>),
    /// A message, or the end of its sender.
    Message(oneshot::Receiver<()>),
}

/// Why the server ended early.
#[derive(Debug)]
pub enum ServeError {
    /// The system refused something; the first part says what.
    System(&'static str, io::Error),
    /// The model's thread panicked, with these words: a bug.
    Model(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(what, error) => write!(formatter, "{what}: {error}"),
            Self::Model(words) => {
                write!(
                    formatter,
                    "internal error (a bug): the model's thread ended: {words}"
                )
            }
        }
    }
}

impl std::error::Error for ServeError {}

/// Answers what comes to `listener` until `stop`, then finishes what is being answered; `ready` is
/// called with the address when requests are taken. `ended` is what the engine of `state` gave.
///
/// # Errors
/// [`ServeError::System`] when the system refuses sockets or signals, [`ServeError::Model`] when
/// the model's thread ended by itself.
pub fn serve(
    listener: TcpListener,
    state: AppState,
    ended: oneshot::Receiver<Ended>,
    stop: Stop,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .build();
    let runtime = runtime.map_err(|error| ServeError::System("the HTTP thread", error))?;
    runtime.block_on(run(listener, state, ended, stop, ready))
}

async fn run(
    listener: TcpListener,
    state: AppState,
    mut ended: oneshot::Receiver<Ended>,
    stop: Stop,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let failed = |error| ServeError::System("the server's address", error);
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let stop = stopped(stop)?;
    let (close, closing) = watch::channel(false);
    let engine = state.engine.clone();
    let router = http::router(state.clone());
    let mut connections = tokio::spawn(http::accept(listener, router, state, closing));
    ready(address);
    tokio::select! {
        () = stop => {}
        how = &mut ended => return Err(lost(how)),
    }
    tracing::info!("shutting down");
    // First those who ask are told so, then the connections end as they fall silent.
    engine.close();
    let _ = close.send(true);
    tokio::select! {
        _ = &mut connections => {}
        how = &mut ended => {
            if !matches!(how, Ok(Ended::Closed)) {
                return Err(lost(how));
            }
            let _ = connections.await;
            return Ok(());
        }
    }
    match tokio::time::timeout(THREAD_END, ended).await {
        // A step that takes longer is not waited for.
        Ok(Ok(Ended::Closed)) | Err(_) => Ok(()),
        Ok(how) => Err(lost(how)),
    }
}

fn lost(how: Result<Ended, oneshot::error::RecvError>) -> ServeError {
    ServeError::Model(match how {
        Ok(Ended::Panicked(words)) => words,
        Ok(Ended::Closed) | Err(_) => "before it was told to".to_owned(),
    })
}

/// Starts to listen for what ends the server; the result is done when that has come.
fn stopped(stop: Stop) -> Result<impl Future<Output = ()>, ServeError> {
    let mut signals = Signals::of(&stop)?;
    Ok(async move {
        match stop {
            Stop::Signals(came) => {
                signals.next().await;
                came.store(true, Ordering::Relaxed);
            }
            Stop::Message(message) => {
                let _ = message.await;
            }
        }
    })
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn of(stop: &Stop) -> Result<Self, ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        if !matches!(stop, Stop::Signals(_)) {
            return Ok(Self(Vec::new()));
        }
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        let signals: io::Result<_> = kinds.into_iter().map(signal).collect();
        let signals = signals.map_err(|error| ServeError::System("signals", error))?;
        Ok(Self(signals))
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self
                .0
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn of(_: &Stop) -> Result<Self, ServeError> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without the handler the system's own ends the program.
            std::future::pending().await
        }
    }
}
