//! Echo and broadcast for every crate whose socket is a `Stream` and a `Sink`.

use std::error::Error;
use std::future::poll_fn;
use std::task::Poll;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::broadcast::Sender;

use crate::{Ended, Role};

/// Messages that are answered together, at most, if so many have arrived together.
pub const BATCH_MAX: usize = 32;

/// Does with the messages of a connection what the role says, until it ends.
///
/// `is_data` tells text and binary messages from the rest. The socket is read to its end and not
/// only to the Close, because most crates answer that while they are read.
pub async fn talk<S, M, E>(mut socket: S, role: Role<M>, is_data: fn(&M) -> bool) -> Ended
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: Clone,
    E: Error + Send + Sync + 'static,
{
    match role {
        Role::Echo => echo(&mut socket, is_data).await,
        Role::Broadcast(all) => broadcast(&mut socket, &all, is_data).await,
    }
}

async fn echo<S, M, E>(socket: &mut S, is_data: fn(&M) -> bool) -> Ended
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    E: Error + Send + Sync + 'static,
{
    while let Some(message) = socket.next().await {
        let message = message?;
        if !is_data(&message) {
            continue;
        }
        socket.feed(message).await?;
        for _ in 1..BATCH_MAX {
            let ready = poll_fn(|context| Poll::Ready(socket.poll_next_unpin(context))).await;
            match ready {
                Poll::Ready(Some(message)) => {
                    let message = message?;
                    if is_data(&message) {
                        socket.feed(message).await?;
                    } else {
                        break;
                    }
                }
                // The end is seen again by the outer loop.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        socket.flush().await?;
    }
    Ok(())
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
