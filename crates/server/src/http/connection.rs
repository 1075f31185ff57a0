//! Connections: how many, and what becomes of one.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service;

use super::timed::{Activity, Answering, Timed};
use crate::settings::{AppState, Limits};

/// Bytes of a head at most, and lines in it.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 100;

/// Bytes that a connection buffers at most, each way.
const BUFFER_BYTES: usize = 32 << 10;

/// After an error of accepting, such as no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The address of this machine at which a request arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReachedAt(pub(super) IpAddr);

/// Takes connections for `router` until `closing` is set; then lets them finish what they answer,
/// for as long as the limits allow.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    state: AppState,
    mut closing: watch::Receiver<bool>,
) {
    let limits = Arc::new(state.settings.limits.clone());
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // The last ones are only looked at here, so that their memory is free again.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = closing.changed() => break,
            accepted = next(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let open = Open::new(&state, place);
        let connection = Connection {
            router: router.clone(),
            limits: Arc::clone(&limits),
            closing: closing.clone(),
        };
        connections.spawn(async move {
            connection.run(stream).await;
            drop(open);
        });
    }
    // From here on nobody can connect.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.shutdown, all).await.is_err() {
        tracing::warn!("requests were not done in time; they are cut off");
        connections.shutdown().await;
    }
}

/// The next connection, when there is a place for it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::debug!("no connection: {error}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// A connection among those that are counted.
struct Open {
    state: AppState,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(state: &AppState, place: OwnedSemaphorePermit) -> Self {
        state.metrics.connection(1);
        Self {
            state: state.clone(),
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.metrics.connection(-1);
    }
}

struct Connection {
    router: Router,
    limits: Arc<Limits>,
    closing: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let Ok(local) = stream.local_addr().as_ref().map(SocketAddr::ip) else {
            return;
        };
        // Tokens go out as they come.
        let _ = stream.set_nodelay(true);
        let activity = Activity::new();
        let stream = Timed::new(stream, activity.clone(), &self.limits);
        let router = self.router;
        let service = service_fn(move |request: Request<Incoming>| {
            let answering = activity.answer();
            answer(router.clone(), request, local, answering)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // Ours are sharper; but this one makes hyper read on after an answer.
            .header_read_timeout(self.limits.idle + self.limits.header)
            .max_headers(HEAD_LINES)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(BUFFER_BYTES);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut closing = self.closing;
        let closed = async move { closing.wait_for(|closing| *closing).await.is_ok() };
        let result = tokio::select! {
            result = connection.as_mut() => result,
            _ = closed => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!("a connection ended: {error}");
        }
    }
}

async fn answer(
    mut router: Router,
    mut request: Request<Incoming>,
    local: IpAddr,
    answering: Answering,
) -> Result<Response<Answer>, Infallible> {
    request.extensions_mut().insert(ReachedAt(local));
    let response = router.call(request).await?;
    Ok(response.map(|body| Answer {
        body,
        _answering: answering,
    }))
}

/// A body during which its connection is busy.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
