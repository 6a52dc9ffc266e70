//! The server of both HTTP ways, on `axum` as its documentation shows it: an update waits on a
//! board until its client asks.
//!
//! It runs on a current-thread runtime, because it has one core: a scheduler for several would
//! only cost it. Answers carry no header lines but those that axum and hyper add.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use rustix::net::{AddressFamily, SocketType};
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock;
use crate::schedule::{Publisher, Schedule};
use crate::serve::Order;
use crate::update::Update;

/// How long a request of long polling is kept when there is nothing to answer.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Updates kept for a client that does not fetch them; then the oldest is dropped.
const PENDING_MAX: usize = 16;
/// Waiting peers; the kernel lowers it to `net.core.somaxconn`. As longwire's default.
const BACKLOG: i32 = 4096;

/// What has been published and not yet fetched, for each client.
#[derive(Debug)]
struct Board {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Sequence number and text, oldest first.
    pending: Mutex<VecDeque<(u64, String)>>,
    published: Notify,
}

impl Slot {
    fn publish(&self, seq: u64, text: String) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() == PENDING_MAX {
            pending.pop_front();
        }
        pending.push_back((seq, text));
        drop(pending);
        self.published.notify_one();
    }

    /// The oldest update newer than `after`. A client that says so has what came before.
    fn newer_than(&self, after: u64) -> Option<String> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        while pending.front().is_some_and(|(seq, _)| *seq <= after) {
            pending.pop_front();
        }
        pending.front().map(|(_, text)| text.clone())
    }
}

#[derive(Debug, Deserialize)]
struct Asked {
    after: u64,
}

/// Serves until the process ends.
pub(crate) fn serve(order: &Order) -> io::Result<()> {
    let clients = usize::try_from(order.client_count).map_err(io::Error::other)?;
    let board = Arc::new(Board { slots: (0..clients).map(|_| Slot::default()).collect() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (given, start) = oneshot::channel();
        let addr = {
            let listener = tokio::net::TcpListener::from_std(listen()?)?;
            let addr = listener.local_addr()?;
            tokio::spawn(publish(Arc::clone(&board), order.clone(), start));
            let app = Router::new()
                .route("/poll/{client}", get(poll))
                .route("/wait/{client}", get(wait))
                .with_state(board);
            let listener = listener.tap_io(|stream| {
                // Fails only for a peer that is gone, and then nothing is sent to it.
                let _ = stream.set_nodelay(true);
            });
            tokio::spawn(async { axum::serve(listener, app).await });
            addr
        };
        crate::serve::announce(addr, "axum 0.8, current-thread runtime", move |start_ns| {
            // The receiver lives as long as the process.
            let _ = given.send(start_ns);
        });
        std::future::pending().await
    })
}

/// Answers at once: the next update, or 204.
async fn poll(
    State(board): State<Arc<Board>>,
    Path(client): Path<usize>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(slot) = board.slots.get(client) else { return StatusCode::NOT_FOUND.into_response() };
    answer(slot.newer_than(asked.after))
}

/// Answers when there is an update, or 204 after `WAIT_MAX`.
async fn wait(
    State(board): State<Arc<Board>>,
    Path(client): Path<usize>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(slot) = board.slots.get(client) else { return StatusCode::NOT_FOUND.into_response() };
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(text) = slot.newer_than(asked.after) {
            return answer(Some(text));
        }
        // A notice that nobody waited for is kept, so none is missed between the two.
        if timeout_at(deadline, slot.published.notified()).await.is_err() {
            return answer(None);
        }
    }
}

fn answer(text: Option<String>) -> Response {
    match text {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn publish(board: Arc<Board>, order: Order, start: oneshot::Receiver<u64>) {
    let Ok(start_ns) = start.await else { return };
    let schedule: Schedule = order.schedule(start_ns);
    let mut publisher = Publisher::new(schedule);
    while let Some(due_ns) = publisher.next_due_ns() {
        let now_ns = clock::now_ns();
        if due_ns > now_ns {
            sleep(Duration::from_nanos(due_ns - now_ns)).await;
        }
        while let Some((client, seq)) = publisher.poll_due(clock::now_ns()) {
            let slot = usize::try_from(client).ok().and_then(|client| board.slots.get(client));
            let update = Update { client, seq, at: clock::now_ns() };
            if let Some(slot) = slot {
                slot.publish(seq, update.to_json());
            }
        }
    }
}

/// With a backlog as large as longwire's, which `std` does not offer.
fn listen() -> io::Result<std::net::TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Arc<Board> {
        Arc::new(Board { slots: vec![Slot::default()] })
    }

    async fn waited(board: &Arc<Board>, client: usize, after: u64) -> (StatusCode, Duration) {
        let asked_at = Instant::now();
        let asked = Query(Asked { after });
        let answer = wait(State(Arc::clone(board)), Path(client), asked).await;
        (answer.status(), asked_at.elapsed())
    }

    /// On a clock that jumps to whatever is due next.
    fn in_virtual_time(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap().block_on(test);
    }

    #[test]
    fn waiting_request_is_answered_without_content_when_nothing_comes() {
        in_virtual_time(async {
            let (status, time) = waited(&board(), 0, 0).await;
            assert_eq!(status, StatusCode::NO_CONTENT);
            assert!((WAIT_MAX..WAIT_MAX + Duration::from_millis(5)).contains(&time), "{time:?}");
        });
    }

    #[test]
    fn waiting_request_is_answered_when_something_newer_comes() {
        in_virtual_time(async {
            let board = board();
            board.slots[0].publish(1, "old".to_owned());
            let publishing = Arc::clone(&board);
            tokio::spawn(async move {
                sleep(Duration::from_secs(7)).await;
                publishing.slots[0].publish(2, "new".to_owned());
            });
            let (status, time) = waited(&board, 0, 1).await;
            assert_eq!(status, StatusCode::OK);
            assert!(time >= Duration::from_secs(7) && time < Duration::from_secs(8), "{time:?}");
        });
    }

    #[test]
    fn client_nobody_knows_is_not_found() {
        in_virtual_time(async {
            assert_eq!(waited(&board(), 1, 0).await.0, StatusCode::NOT_FOUND);
        });
    }

    #[test]
    fn updates_are_handed_out_oldest_first_until_the_client_has_them() {
        let slot = Slot::default();
        for seq in 1..=3 {
            slot.publish(seq, seq.to_string());
        }
        assert_eq!(slot.newer_than(0).as_deref(), Some("1"));
        assert_eq!(slot.newer_than(0).as_deref(), Some("1"));
        assert_eq!(slot.newer_than(1).as_deref(), Some("2"));
        assert_eq!(slot.newer_than(3), None);
    }

    #[test]
    fn board_keeps_the_newest_of_too_many() {
        let slot = Slot::default();
        for seq in 1..=20 {
            slot.publish(seq, seq.to_string());
        }
        assert_eq!(slot.newer_than(0).as_deref(), Some("5"));
    }
}
