//! `Handler::upgrade`: what an application decides about a request, at once.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use longwire::{
    Accept, BackendChoice, Builder, Close, Conn, Decision, Deferral, Handler, Message, Request,
    Response,
};

use crate::client::{Client, REQUEST, TEXT, frame};
use crate::server::{Running, builder, on_every_backend};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
const COOKIE: &str = "session=a1b2; Path=/; HttpOnly";

/// Decides by the path.
struct Gate {
    /// Requests that are decided elsewhere.
    deferrals: Sender<Deferral<String>>,
    /// States of connections that ended.
    closed: Sender<String>,
}

impl Handler for Gate {
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<String> {
        match request.path() {
            "/chat" => {
                let protocol = request.select_protocol(&["v2.chat", "v1.chat"]);
                Accept::new("chat".to_owned()).protocol(protocol).into()
            }
            "/cookie" => Accept::new("cookie".to_owned())
                .header("Set-Cookie", COOKIE)
                .header("X-Served-By", "longwire")
                .into(),
            "/forbidden" => Decision::reject(
                Response::new(403).header("X-Why", "no token").body(&b"{\"error\":1}"[..]),
            ),
            "/moved" => Decision::reject(Response::new(307).header("Location", "/chat")),
            "/healthz" => Decision::answer(Response::new(200).text("ok")),
            "/empty" => Decision::answer(Response::new(204)),
            "/defer" => {
                let deferrals = self.deferrals.clone();
                Decision::defer(move |deferral| deferrals.send(deferral).unwrap())
            }
            "/drop" => Decision::defer(drop),
            "/panic" => panic!("the application panics, as it was told to"),
            "/panic-while-deferring" => {
                Decision::defer(|_| panic!("the application panics, as it was told to"))
            }
            path => Decision::accept(path.to_owned()),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, String>, _message: Message<'_>) {
        let state = conn.state().clone();
        conn.send_text(&state).unwrap();
    }

    fn close(&mut self, conn: &mut Conn<'_, String>, _close: &Close) {
        let _ = self.closed.send(conn.state().clone());
    }
}

/// A server with a [`Gate`], and the other ends of what that sends.
pub(crate) struct Gated {
    pub(crate) server: Running,
    pub(crate) deferrals: Receiver<Deferral<String>>,
    pub(crate) closed: Receiver<String>,
}

impl Gated {
    pub(crate) fn start(backend: BackendChoice) -> Self {
        Self::start_with(backend, builder(backend))
    }

    pub(crate) fn start_with(backend: BackendChoice, settings: Builder) -> Self {
        let (deferrals_in, deferrals) = channel();
        let (closed_in, closed) = channel();
        let gate = move |_| Gate { deferrals: deferrals_in.clone(), closed: closed_in.clone() };
        Self { server: Running::serve(backend, settings, gate), deferrals, closed }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// A request that waits for its decision, and the means to decide.
    pub(crate) fn defer(&self) -> (Client, Deferral<String>) {
        let client = ask(self.addr(), &upgrade_of("/defer"));
        (client, self.deferrals.recv_timeout(PATIENCE).unwrap())
    }
}

pub(crate) fn upgrade_of(path: &str) -> String {
    REQUEST.replacen("GET / ", &format!("GET {path} "), 1)
}

/// The upgrade request with more header lines.
pub(crate) fn upgrade_with(path: &str, lines: &str) -> String {
    upgrade_of(path).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"), 1)
}

pub(crate) fn ask(addr: SocketAddr, request: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send_raw(request.as_bytes());
    client
}

/// The whole answer: head and body, and nothing behind it.
pub(crate) fn answer(addr: SocketAddr, request: &str) -> (String, String) {
    split(&ask(addr, request).read_response())
}

pub(crate) fn split(response: &str) -> (String, String) {
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

pub(crate) fn assert_status(answer: &(String, String), status: u16) {
    let (head, body) = answer;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert!(!body.contains("HTTP/1."), "one answer: {body}");
}

#[test]
fn hs14_sub_protocol_is_the_first_of_the_servers_that_the_client_offers() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for (offer, chosen) in [
            ("v1.chat", Some("v1.chat")),
            ("v1.chat, v2.chat", Some("v2.chat")),
            ("other, v1.chat\r\nSec-WebSocket-Protocol: v2.chat", Some("v2.chat")),
            ("other", None),
            ("V1.CHAT", None),
        ] {
            let lines = format!("Sec-WebSocket-Protocol: {offer}");
            let mut client = ask(gated.addr(), &upgrade_with("/chat", &lines));
            let head = client.read_head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let mut said = head.lines().filter_map(|l| l.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!((said.next(), said.next()), (chosen, None), "{offer}");
            client.send_text("who");
            assert_eq!(client.read_text(), "chat");
        }
        let mut client = ask(gated.addr(), &upgrade_of("/chat"));
        let head = client.read_head();
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"), "{head}");
    });
}

#[test]
fn headers_of_the_application_stand_in_the_101() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let mut client = ask(gated.addr(), &upgrade_of("/cookie"));
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let lines: Vec<&str> = head.lines().collect();
        for wanted in [format!("Set-Cookie: {COOKIE}"), "X-Served-By: longwire".to_owned()] {
            assert_eq!(lines.iter().filter(|line| **line == wanted).count(), 1, "{head}");
        }
        client.send_text("who");
        assert_eq!(client.read_text(), "cookie");
        client.close(1000);
        assert_eq!(gated.closed.recv_timeout(PATIENCE).unwrap(), "cookie");
    });
}

#[test]
fn hs17_rejection_has_the_status_headers_and_body_of_the_application() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let forbidden = answer(gated.addr(), &upgrade_of("/forbidden"));
        assert_status(&forbidden, 403);
        assert!(forbidden.0.contains("\r\nX-Why: no token"), "{}", forbidden.0);
        assert_eq!(forbidden.1, "{\"error\":1}");
        let moved = answer(gated.addr(), &upgrade_of("/moved"));
        assert_status(&moved, 307);
        assert!(moved.0.contains("\r\nLocation: /chat"), "{}", moved.0);
        let stats = gated.server.stop();
        assert_eq!((stats.opened, stats.refusals["application"]), (0, 2));
        assert_eq!(gated.closed.try_recv().ok(), None, "nothing was open");
    });
}

#[test]
fn plain_http_is_answered_and_refused_beside_websockets() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let mut open = ask(gated.addr(), &upgrade_of("/chat"));
        open.finish_handshake();
        let healthz = answer(gated.addr(), "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_status(&healthz, 200);
        assert_eq!(healthz.1, "ok");
        let (head, body) = answer(gated.addr(), "GET /empty HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 204 ") && !head.contains("Content-Length"), "{head}");
        assert_eq!(body, "");
        // Accepting is for upgrades alone.
        let no_upgrade = answer(gated.addr(), "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_status(&no_upgrade, 426);
        assert!(no_upgrade.0.contains("\r\nUpgrade: websocket"), "{}", no_upgrade.0);
        // An upgrade may be answered as HTTP, too.
        assert_status(&answer(gated.addr(), &upgrade_of("/healthz")), 200);
        open.send_text("who");
        assert_eq!(open.read_text(), "chat");
        let stats = gated.server.stop();
        assert_eq!(stats.opened, 1);
        assert_eq!(stats.refusals.values().sum::<u64>(), 1, "{:?}", stats.refusals);
    });
}

#[test]
fn hp03_methods_other_than_get_are_answered_as_they_should_be() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let (head, body) = answer(gated.addr(), "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nContent-Length: 2"),
            "{head}"
        );
        assert_eq!(body, "", "a HEAD is answered without body");
        let (head, body) = answer(gated.addr(), "HEAD /chat HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
        assert_eq!(body, "", "{head}");
        for version in ["HTTP/1.0\r\n", "HTTP/1.0\r\nHost: a\r\n"] {
            let old = answer(gated.addr(), &format!("GET /healthz {version}\r\n"));
            assert_status(&old, 200);
            assert_eq!(old.1, "ok");
        }
        for method in ["POST", "OPTIONS", "TRACE", "CONNECT", "PUT", "BREW"] {
            let target = if method == "CONNECT" { "a:80" } else { "/healthz" };
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let refused = answer(gated.addr(), &request);
            assert_status(&refused, 405);
            assert!(refused.0.contains("\r\nAllow: "), "{}", refused.0);
        }
        let long = format!("{} /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "X".repeat(17));
        assert_status(&answer(gated.addr(), &long), 400);
    });
}

#[test]
fn hp01_pipelined_requests_get_one_answer() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let healthz = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        // In one write they are refused together: nobody who waits for answers sends them so.
        let (head, body) = answer(gated.addr(), &healthz.repeat(1000));
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(!body.contains("HTTP/1."), "{body}");
        // Once the first is answered, the second is not.
        for second in [healthz.to_owned(), upgrade_of("/chat")] {
            let mut client = ask(gated.addr(), healthz);
            assert!(client.read_head().starts_with("HTTP/1.1 200 "));
            client.send_raw(second.as_bytes());
            assert_eq!(client.read_response(), "ok");
        }
        assert_eq!(gated.server.stop().opened, 0);
    });
}

#[test]
fn hs10_second_request_after_a_rejection_is_not_answered() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for second in [upgrade_of("/chat"), upgrade_of("/forbidden")] {
            let mut client = ask(gated.addr(), &upgrade_of("/forbidden"));
            assert!(client.read_head().starts_with("HTTP/1.1 403 "));
            client.send_raw(second.as_bytes());
            assert_eq!(client.read_response(), "{\"error\":1}");
        }
        let stats = gated.server.stop();
        assert_eq!((stats.opened, stats.refusals["application"]), (0, 2));
    });
}

#[test]
fn hp04_connection_ends_with_its_answer_and_is_never_idle() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let asked = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..3 {
            let began = Instant::now();
            let (head, body) = answer(gated.addr(), asked);
            assert!(head.contains("\r\nConnection: close"), "{head}");
            assert_eq!(body, "ok");
            assert!(began.elapsed() < PATIENCE / 2, "it is closed by us, at once");
        }
    });
}

#[test]
fn hs20_one_decision_makes_one_answer() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let answers = |text: &str| text.matches("HTTP/1.1 ").count();
        let mut client = ask(gated.addr(), &upgrade_of("/forbidden"));
        let said = client.read_response();
        assert_eq!(answers(&said), 1, "{said}");
        // What was decided takes the ticket with it; what another thread does then says no more.
        let (mut client, deferral) = gated.defer();
        deferral.decide(Decision::reject(Response::new(403).text("no")));
        let said = client.read_response();
        assert!(said.ends_with("no") && answers(&said) == 1, "{said}");
        // Nor does a ticket that is dropped say anything after that.
        let (mut client, deferral) = gated.defer();
        drop(deferral);
        let said = client.read_response();
        assert!(said.starts_with("HTTP/1.1 503 ") && answers(&said) == 1, "{said}");
        assert_eq!(gated.server.stop().opened, 0);
    });
}

#[test]
fn hp02_body_on_an_endpoint_is_refused_and_never_read_as_a_request() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        for body in [
            format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
            "Content-Length: 18446744073709551615\r\n\r\n".to_owned(),
            format!("Transfer-Encoding: chunked\r\n\r\n25\r\n{smuggled}\r\n"),
            "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
        ] {
            let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{body}");
            assert_status(&answer(gated.addr(), &request), 400);
        }
        let none = "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        assert_status(&answer(gated.addr(), none), 200);
    });
}

#[test]
fn hs09_bytes_before_the_decision_are_refused() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for early in [&b"x"[..], &frame(true, TEXT, b"early"), upgrade_of("/chat").as_bytes()] {
            let (mut client, deferral) = gated.defer();
            client.send_raw(early);
            assert_status(&split(&client.read_response()), 400);
            deferral.decide(Decision::accept("too late".to_owned()));
        }
        assert_eq!(gated.server.stop().opened, 0);
    });
}

#[test]
fn r1_panic_in_upgrade_is_answered_with_500() {
    on_every_backend(|backend| {
        let gated = Gated::start(backend);
        for _ in 0..3 {
            assert_status(&answer(gated.addr(), &upgrade_of("/panic")), 500);
        }
        let plain = answer(gated.addr(), "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_status(&plain, 500);
        ask(gated.addr(), &upgrade_of("/chat")).finish_handshake();
        assert_eq!(gated.server.stop().opened, 1);
    });
}

#[test]
fn hs12_scripts_of_other_sites_are_refused() {
    on_every_backend(|backend| {
        let allowed = ["https://good.example", "http://localhost:8080"];
        let gated = Gated::start_with(backend, builder(backend).allowed_origins(&allowed));
        for (origin, status) in [
            ("https://good.example", 101),
            ("https://GOOD.example", 101),
            ("https://good.example:443", 101),
            ("http://localhost:8080", 101),
            ("http://localhost", 403),
            ("http://good.example", 403),
            ("https://good.example.", 403),
            ("https://good.example.evil", 403),
            ("https://evil-good.example", 403),
            ("https://good.example:8443", 403),
            ("https://good.example/", 403),
            ("null", 403),
            ("", 403),
            ("https://good.example, https://evil.example", 403),
            ("https://good.example\r\nOrigin: https://good.example", 403),
        ] {
            let request = upgrade_with("/chat", &format!("Origin: {origin}"));
            let mut client = ask(gated.addr(), &request);
            let head = client.read_head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {head}");
        }
        // Plain HTTP is nothing a script of another site could misuse.
        let request = "GET /healthz HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n";
        assert_status(&answer(gated.addr(), request), 200);
        assert_eq!(gated.server.stop().opened, 4);
    });
}

#[test]
fn hs13_clients_without_origin_are_let_in_unless_one_is_required() {
    on_every_backend(|backend| {
        for (require, status) in [(false, 101), (true, 403)] {
            let settings =
                builder(backend).allowed_origins(&["https://good.example"]).require_origin(require);
            let gated = Gated::start_with(backend, settings);
            let head = ask(gated.addr(), &upgrade_of("/chat")).read_head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            let good = upgrade_with("/chat", "Origin: https://good.example");
            ask(gated.addr(), &good).finish_handshake();
        }
    });
}
