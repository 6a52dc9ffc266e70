//! Echo and broadcast for every crate whose socket is a `Stream` and a `Sink`.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::task::{Poll, ready};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::broadcast::Sender;

use crate::{Ended, Role};

/// Messages that are answered together, at most, if so many have arrived together.
pub const BATCH_MAX: usize = 32;

/// What is done first when several messages have arrived: what suits the crate better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each is answered before the next is taken, so that its memory can be used again.
    Alternate,
    /// All are taken before the first is answered, because the crate sends what is queued before
    /// it reads.
    ReadFirst,
}

/// Does with the messages of a connection what the role says, until it ends.
///
/// `is_data` tells text and binary messages from the rest. The socket is read to its end and not
/// only to the Close, because most crates answer that while they are read.
pub async fn talk<S, M, E>(
    mut socket: S,
    role: Role<M>,
    order: Order,
    is_data: fn(&M) -> bool,
) -> Ended
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: Clone,
    E: Error + Send + Sync + 'static,
{
    match (role, order) {
        (Role::Echo, Order::Alternate) => Ok(echo(&mut socket, is_data).await?),
        (Role::Echo, Order::ReadFirst) => Ok(echo_after_reading(&mut socket, is_data).await?),
        (Role::Broadcast(all), _) => broadcast(&mut socket, &all, is_data).await,
    }
}

/// Answers each message, and sends all answers when there is no further message.
///
/// Written as polls, as `forward` of `futures` is, because that way the socket is asked once and not
/// twice whether there is more before it sleeps; some crates clear their whole read buffer each time.
async fn echo<S, M, E>(socket: &mut S, is_data: fn(&M) -> bool) -> Result<(), E>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    let mut answer = None;
    poll_fn(|context| {
        loop {
            if answer.is_some() {
                ready!(socket.poll_ready_unpin(context))?;
                if let Some(message) = answer.take() {
                    socket.start_send_unpin(message)?;
                }
            }
            match socket.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => answer = Some(message?).filter(is_data),
                Poll::Ready(None) => return socket.poll_flush_unpin(context),
                Poll::Pending => {
                    ready!(socket.poll_flush_unpin(context))?;
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// Takes what has arrived, then answers all of it and sends the answers.
async fn echo_after_reading<S, M, E>(socket: &mut S, is_data: fn(&M) -> bool) -> Result<(), E>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    let mut answers = VecDeque::new();
    let mut has_ended = false;
    poll_fn(|context| {
        loop {
            // Asked anew each time: whoever woke this may have used up the last registration.
            let mut is_drained = has_ended;
            while !is_drained && answers.len() < BATCH_MAX {
                match socket.poll_next_unpin(context) {
                    Poll::Ready(Some(message)) => answers.extend(Some(message?).filter(is_data)),
                    Poll::Ready(None) => (has_ended, is_drained) = (true, true),
                    Poll::Pending => is_drained = true,
                }
            }
            while !answers.is_empty() {
                ready!(socket.poll_ready_unpin(context))?;
                if let Some(message) = answers.pop_front() {
                    socket.start_send_unpin(message)?;
                }
            }
            ready!(socket.poll_flush_unpin(context))?;
            if has_ended {
                return Poll::Ready(Ok(()));
            }
            if is_drained {
                return Poll::Pending;
            }
        }
    })
    .await
}

async fn broadcast<S, M, E>(socket: &mut S, all: &Sender<M>, is_data: fn(&M) -> bool) -> Ended
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: Clone,
    E: Error + Send + Sync + 'static,
{
    let mut inbox = all.subscribe();
    loop {
        tokio::select! {
            // One that has missed messages is closed by the error: a gap must be seen.
            message = inbox.recv() => {
                let message = message.map_err(|_| "too far behind")?;
                socket.feed(message).await?;
                for _ in 1..BATCH_MAX {
                    let Ok(message) = inbox.try_recv() else { break };
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                let message = message?;
                if is_data(&message) {
                    // It has at least this receiver.
                    let _ = all.send(message);
                }
            }
        }
    }
}
