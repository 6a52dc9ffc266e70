//! Answers that take their time: each message is a question to a service that is asked with `tokio`,
//! and the answer is sent when it comes: `cargo run --release --example bridge`.
//!
//! The event loop waits for nothing. It hands the question over with the name of the connection, and
//! whoever has the answer sends it there through the server's `Handle`. Try it:
//!
//! ```text
//! ws = new WebSocket('ws://127.0.0.1:9001')     in a browser's console
//! ws.onmessage = e => console.log(e.data)
//! ws.send('6 * 7'); ws.send('1 + 1')            42 comes after 2: it is harder
//! ```

use std::time::Duration;

use longwire::{Conn, ConnId, Handle, Handler, ListenAddr, Message, Server};
use tokio::runtime;

/// Questions of one connection that may wait for an answer: a client that asks faster is told so.
const OPEN_QUESTIONS_MAX: usize = 16;

/// One on each core.
struct Bridge {
    runtime: runtime::Handle,
    server: Handle,
}

/// Questions of a connection that wait, counted by the permits that they hold.
struct Asker {
    permits: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Default for Asker {
    fn default() -> Self {
        Self { permits: std::sync::Arc::new(tokio::sync::Semaphore::new(OPEN_QUESTIONS_MAX)) }
    }
}

impl Handler for Bridge {
    type State = Asker;

    fn message(&mut self, conn: &mut Conn<'_, Asker>, message: Message<'_>) {
        let Some(question) = message.text().map(str::to_owned) else {
            let _ = conn.send_text("questions are text");
            return;
        };
        let Ok(permit) = conn.state().permits.clone().try_acquire_owned() else {
            let _ = conn.send_text("one question after the other, please");
            return;
        };
        let (server, id) = (self.server.clone(), conn.id());
        self.runtime.spawn(async move {
            let answer = ask(&question).await;
            drop(permit);
            reply(&server, id, &answer).await;
        });
    }
}

/// Sends an answer. If the connection is gone by now, nothing happens.
async fn reply(server: &Handle, id: ConnId, answer: &str) {
    // False means that the core has more orders waiting than it may have.
    while !server.send(id, answer) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Stands for a database or an HTTP service: it multiplies more slowly than it adds.
async fn ask(question: &str) -> String {
    let mut words = question.split_whitespace();
    let (left, operator, right) = (words.next(), words.next(), words.next());
    let number = |word: Option<&str>| word?.parse::<i64>().ok();
    let (Some(left), Some(operator), Some(right)) = (number(left), operator, number(right)) else {
        return "ask for a sum or a product, such as 6 * 7".to_owned();
    };
    let (millis, result) = match operator {
        "+" => (20, left.checked_add(right)),
        "*" => (200, left.checked_mul(right)),
        _ => return format!("{operator} is beyond me"),
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    result.map_or_else(|| "that is too much".to_owned(), |result| result.to_string())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let server = Server::builder().listen(addr.parse::<ListenAddr>()?).build()?;
    for addr in server.local_addrs() {
        println!("listening on {addr}");
    }
    let handle = server.handle();
    server.run(|_core| Bridge { runtime: runtime.handle().clone(), server: handle.clone() })?;
    Ok(())
}
