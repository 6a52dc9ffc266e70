//! A room for each path: whatever one says in `/lobby`, all in `/lobby` hear, on whatever core they
//! are: `cargo run --release --example chat`.
//!
//! ```text
//! ws = new WebSocket('ws://127.0.0.1:9001/lobby')     in a browser's console
//! ws.onmessage = e => console.log(e.data)
//! ws.send('hello')
//! ```

use longwire::{
    Close, CloseCode, Conn, Decision, Handler, ListenAddr, Message, Payload, Request, Server,
};

/// One on each core. It has nothing to keep: who is in a room is what topics are for.
struct Chat;

/// The room that a connection is in.
#[derive(Default)]
struct Guest {
    room: String,
}

impl Handler for Chat {
    type State = Guest;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Guest> {
        Decision::accept(Guest { room: request.path().trim_start_matches('/').to_owned() })
    }

    fn open(&mut self, conn: &mut Conn<'_, Guest>) {
        let room = conn.state().room.clone();
        if let Err(error) = conn.subscribe(&room) {
            // Not every path is the name of a topic.
            conn.close(CloseCode::POLICY_VIOLATION, &error.to_string());
            return;
        }
        say(conn, "somebody came in");
    }

    fn message(&mut self, conn: &mut Conn<'_, Guest>, message: Message<'_>) {
        say(conn, &message);
    }

    fn close(&mut self, conn: &mut Conn<'_, Guest>, _close: &Close) {
        say(conn, "somebody left");
    }
}

/// Says something to all in the room, the one who says it included.
fn say<'p>(conn: &mut Conn<'_, Guest>, what: impl Into<Payload<'p>>) {
    let room = conn.state().room.clone();
    match conn.publish(&room, what) {
        // Whoever wants to know how many have heard it keeps the receipt.
        Ok(receipt) => drop(receipt),
        Err(error) => eprintln!("{room}: {error}"),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let server = Server::builder().listen(addr.parse::<ListenAddr>()?).build()?;
    for addr in server.local_addrs() {
        println!("listening on {addr}");
    }
    server.run(|_core| Chat)?;
    Ok(())
}
