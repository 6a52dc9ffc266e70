//! A published message on its way, and how its publisher hears what became of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::conn::MessageKind;

use super::Payload;

/// A message for all subscribers of a topic, on whatever core they are.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) topic: Box<str>,
    /// Of the topic, by the hasher that all cores share.
    pub(crate) hash: u64,
    pub(crate) kind: MessageKind,
    pub(crate) payload: Box<[u8]>,
    ledger: Ledger,
}

/// What has become of a publication so far.
#[derive(Debug, Default)]
struct Ledger {
    queued: AtomicUsize,
    refused: AtomicUsize,
    /// Cores that have not served their subscribers yet. Written last.
    cores_left: AtomicUsize,
    /// Who waits for the end, as a task.
    waker: Mutex<Option<Waker>>,
    /// Who waits for the end, as a thread.
    done: Condvar,
}

/// What became of a published message, on all cores. That it was queued does not say that a peer
/// has received it. A worker that has ended has no connections, and counts none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Connections it was queued for, and those that will be given it, or a newer one in its place,
    /// when they have taken what is before it ([`SlowReaders`](crate::SlowReaders)).
    pub queued: usize,
    /// Connections that had no room for it: they are being closed with 1013, or with
    /// [`Overflow::Drop`](crate::Overflow::Drop) have lost it. One that has ended before it was
    /// served is in neither count.
    pub refused: usize,
}

/// Tells what became of a published message, when all cores have served their subscribers: a future,
/// of any runtime, to be awaited by one task; and [`wait`](Self::wait) for threads. Drop it if that is
/// of no interest: the message is sent all the same.
///
/// It tells in any case: a core that ends meanwhile counts those it has served, and no others.
#[derive(Debug)]
#[must_use = "drop it if it is of no interest what becomes of the message"]
pub struct Receipt(Arc<Publication>);

impl Publication {
    /// A message that has not been handed to any core.
    pub(super) fn new(topic: &str, hash: u64, payload: Payload<'_>) -> Self {
        let Payload { kind, bytes } = payload;
        Self { topic: topic.into(), hash, kind, payload: bytes.into(), ledger: Ledger::default() }
    }

    /// So many cores are about to be handed the message.
    pub(super) fn expect_cores(&self, count: usize) {
        self.ledger.cores_left.store(count, Ordering::Release);
    }

    /// Counts connections of a core that have been served.
    pub(super) fn count(&self, queued: usize, refused: usize) {
        self.ledger.queued.fetch_add(queued, Ordering::Relaxed);
        self.ledger.refused.fetch_add(refused, Ordering::Relaxed);
    }

    /// A core has served all of its connections.
    pub(super) fn finish_core(&self) {
        if self.ledger.cores_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let waker = self.ledger.lock().take();
        self.ledger.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn delivery(&self) -> Option<Delivery> {
        (self.ledger.cores_left.load(Ordering::Acquire) == 0).then(|| Delivery {
            queued: self.ledger.queued.load(Ordering::Relaxed),
            refused: self.ledger.refused.load(Ordering::Relaxed),
        })
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    pub(super) fn new(publication: Arc<Publication>) -> Self {
        Self(publication)
    }

    /// What became of the message, if all cores have served their subscribers.
    pub fn delivery(&self) -> Option<Delivery> {
        self.0.delivery()
    }

    /// Waits for that, at most so long; `None` if it has not been told by then. Not for the thread of
    /// a worker, that is for callbacks of a handler: it would wait for itself.
    pub fn wait(&self, timeout: Duration) -> Option<Delivery> {
        let ledger = &self.0.ledger;
        let is_left = |_: &mut Option<Waker>| self.0.delivery().is_none();
        let waited = ledger.done.wait_timeout_while(ledger.lock(), timeout, is_left);
        drop(waited);
        self.0.delivery()
    }
}

impl Future for Receipt {
    type Output = Delivery;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Delivery> {
        let mut waker = self.0.ledger.lock();
        if let Some(delivery) = self.0.delivery() {
            return Poll::Ready(delivery);
        }
        // Whoever finishes takes it under the lock, after the count it has looked at here.
        *waker = Some(context.waker().clone());
        Poll::Pending
    }
}
