//! An echo server that counts what it sends back: `cargo run --release --example echo`, with an
//! address behind `--` if it is not to be 127.0.0.1:9001.

use longwire::{Close, Conn, Decision, Handler, ListenAddr, Message, Request, Server};

/// One on each core. Nothing in it is shared, so nothing in it is locked.
#[derive(Default)]
struct Echo {
    open_count: usize,
}

/// Kept inline for each connection.
#[derive(Default)]
struct Visit {
    path: String,
    message_count: u64,
}

impl Handler for Echo {
    type State = Visit;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Visit> {
        Decision::accept(Visit { path: request.path().to_owned(), message_count: 0 })
    }

    fn open(&mut self, conn: &mut Conn<'_, Visit>) {
        self.open_count += 1;
        let (id, count) = (conn.id(), self.open_count);
        println!("{id} asks for {}; {count} open on this core", conn.state().path);
    }

    fn message(&mut self, conn: &mut Conn<'_, Visit>, message: Message<'_>) {
        conn.state().message_count += 1;
        // It fails only when the connection is closing, and then `close` follows.
        let _ = conn.echo(message);
    }

    fn close(&mut self, conn: &mut Conn<'_, Visit>, close: &Close) {
        self.open_count -= 1;
        println!(
            "{} left with {} after {} messages",
            conn.id(),
            close.code(),
            conn.state().message_count
        );
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let server = Server::builder().listen(addr.parse::<ListenAddr>()?).build()?;
    println!("listening on {}, {}", server.local_addrs()[0], server.backend_reason());
    server.run(|_core| Echo::default())?;
    Ok(())
}
