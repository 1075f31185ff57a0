//! The events of one request, from the model's thread to its reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use gpt2::generate::{RequestId, SchedulerEvent};

/// Events that a reader may be behind. The scheduler does not wait for readers, so that what is
/// unread is held by as many tokens as the request asked for, and by the time it may stay unread.
pub(super) const UNREAD: usize = 64;

/// The reader's end. Dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    events: mpsc::UnboundedReceiver<SchedulerEvent>,
    unread: Arc<AtomicUsize>,
}

/// The end of the model's thread.
#[derive(Debug)]
pub(super) struct Events {
    sender: mpsc::UnboundedSender<SchedulerEvent>,
    unread: Arc<AtomicUsize>,
    /// Since when the reader is [`UNREAD`] events behind.
    behind: Option<Instant>,
}

/// Both ends.
pub(super) fn channel() -> (Events, Ticket) {
    let (sender, events) = mpsc::unbounded_channel();
    let unread = Arc::new(AtomicUsize::new(0));
    let ends = Events {
        sender,
        unread: Arc::clone(&unread),
        behind: None,
    };
    (ends, Ticket { events, unread })
}

impl Ticket {
    /// The next event; `None` after `Done` and `Failed`, and before them when the request was lost.
    pub async fn next(&mut self) -> Option<SchedulerEvent> {
        let event = self.events.recv().await?;
        self.unread.fetch_sub(1, Ordering::AcqRel);
        Some(event)
    }
}

impl Events {
    /// Hands `event` to the reader, if there is one still.
    pub(super) fn send(&self, event: SchedulerEvent) {
        self.unread.fetch_add(1, Ordering::AcqRel);
        let _ = self.sender.send(event);
    }

    /// Tells the reader that the request was not taken.
    pub(super) fn refuse(&self, error: gpt2::Error) {
        self.send(SchedulerEvent::Failed {
            request: RequestId::default(),
            error,
        });
    }

    /// Whether the reader is gone, or has been behind for `most`.
    pub(super) fn is_abandoned(&mut self, now: Instant, most: Duration) -> bool {
        if self.unread.load(Ordering::Acquire) < UNREAD {
            self.behind = None;
            return self.sender.is_closed();
        }
        let since = *self.behind.get_or_insert(now);
        self.sender.is_closed() || now.duration_since(since) >= most
    }
}
