//! The application of the tests: does what a message tells it to, and reports each call it gets.

use std::sync::mpsc::Sender;

use longwire::{
    Close, CloseCode, Conn, ConnId, Decision, Handler, Message, PeerAddr, Request, Side,
};

/// A call of the server, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) worker: usize,
    pub(crate) conn: ConnId,
    pub(crate) event: Event,
}

/// What a call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Open { path: String, query: Option<String>, headers: Vec<(String, String)> },
    Message { bytes: usize },
    Close { code: u16, reason: String, side: Side },
}

/// One on each worker.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) worker: usize,
    pub(crate) calls: Sender<Call>,
}

/// Kept for each connection.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    /// What is reported once the connection is open.
    opening: Option<Event>,
    message_count: u64,
    panics_at_close: bool,
}

impl App {
    fn report(&self, conn: ConnId, event: Event) {
        // A test that does not ask for calls drops the other end.
        let _ = self.calls.send(Call { worker: self.worker, conn, event });
    }
}

impl Handler for App {
    type State = Visit;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Visit> {
        let headers = request
            .headers()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let event = Event::Open {
            path: request.path().to_owned(),
            query: request.query().map(str::to_owned),
            headers,
        };
        Decision::accept(Visit { opening: Some(event), ..Visit::default() })
    }

    fn open(&mut self, conn: &mut Conn<'_, Visit>) {
        let event = conn.state().opening.take().expect("a connection opens once");
        let Event::Open { path, .. } = &event else { unreachable!("that is how it was made") };
        let path = path.clone();
        self.report(conn.id(), event);
        match path.as_str() {
            "/panic-at-open" => panic!("the application panics, as it was told to"),
            "/panic-at-close" => conn.state().panics_at_close = true,
            "/greet" => {
                conn.send_text("welcome").unwrap();
            }
            _ => {}
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Visit>, message: Message<'_>) {
        conn.state().message_count += 1;
        self.report(conn.id(), Event::Message { bytes: message.payload().len() });
        let order = message.text().and_then(|text| text.strip_prefix('/')).map(str::to_owned);
        let Some(order) = order else {
            // It fails only when the connection is closing.
            let _ = conn.echo(message);
            return;
        };
        let words: Vec<&str> = order.splitn(3, ' ').collect();
        match words[..] {
            ["count"] => {
                let count = conn.state().message_count;
                conn.send_text(&count.to_string()).unwrap();
            }
            ["addr"] => {
                conn.send_text(&describe(conn.peer_addr())).unwrap();
            }
            ["block", millis] => {
                std::thread::sleep(std::time::Duration::from_millis(millis.parse().unwrap()));
                conn.send_text("at last").unwrap();
            }
            ["panic"] => panic!("the application panics, as it was told to"),
            ["ping", payload] => conn.ping(payload.as_bytes()).unwrap(),
            ["close", code, reason] => conn.close(CloseCode::new(code.parse().unwrap()), reason),
            ["flood", count, bytes] => flood(conn, count.parse().unwrap(), bytes.parse().unwrap()),
            _ => panic!("not an order: {order}"),
        }
    }

    fn close(&mut self, conn: &mut Conn<'_, Visit>, close: &Close) {
        let event = Event::Close {
            code: close.code().as_u16(),
            reason: close.reason().to_owned(),
            side: close.side(),
        };
        self.report(conn.id(), event);
        assert!(!conn.state().panics_at_close, "the application panics, as it was told to");
    }
}

/// What the n-th of a flood of messages is.
pub(crate) fn flood_payload(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at * 7 + number * 13) % 251).unwrap()).collect()
}

fn flood(conn: &mut Conn<'_, Visit>, count: usize, bytes: usize) {
    for number in 0..count {
        conn.send_binary(&flood_payload(number, bytes)).unwrap();
    }
}

fn describe(addr: std::io::Result<PeerAddr>) -> String {
    match addr {
        Ok(addr) => addr.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
