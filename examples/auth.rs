//! Lets in who shows a token, which another service has to check:
//! `cargo run --release --example auth`.
//!
//! The check is asynchronous and takes its time, so the handshake is deferred: the event loop goes
//! on with all other connections, and the one that waits holds no buffer. Try it:
//!
//! ```text
//! curl -i http://127.0.0.1:9001/healthz                          200, answered as plain HTTP
//! websocat ws://127.0.0.1:9001                                   401
//! websocat -H 'Authorization: Bearer ada' ws://127.0.0.1:9001    says "hello, ada"
//! new WebSocket('ws://127.0.0.1:9001')                           with the cookie session=ada
//! ```

use std::time::Duration;

use longwire::{Accept, Conn, Decision, Handler, ListenAddr, Message, Request, Response, Server};
use tokio::runtime;

/// One on each core. What it starts runs on the threads of `tokio`.
struct Guarded {
    runtime: runtime::Handle,
}

/// Who is on a connection. `Default` is for handlers without `upgrade`; nobody is let in by it.
#[derive(Default)]
struct Session {
    user: String,
}

impl Handler for Guarded {
    type State = Session;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Session> {
        if request.path() == "/healthz" {
            return Decision::answer(Response::new(200).text("ok\n"));
        }
        let Some(token) = token(request) else {
            let challenge = Response::new(401).header("WWW-Authenticate", "Bearer");
            return Decision::reject(challenge.text("a token is needed\n"));
        };
        let runtime = self.runtime.clone();
        Decision::defer(move |deferral| {
            // If the task ends without a decision, by a panic say, the client is answered with 503.
            runtime.spawn(async move {
                deferral.decide(match user_of(&token).await {
                    Some(user) => {
                        let cookie = format!("session={token}; HttpOnly; SameSite=Strict");
                        Accept::new(Session { user }).header("Set-Cookie", &cookie).into()
                    }
                    None => Decision::reject(Response::new(403).text("unknown token\n")),
                });
            });
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Session>) {
        let greeting = format!("hello, {}", conn.state().user);
        let _ = conn.send_text(&greeting);
    }

    fn message(&mut self, conn: &mut Conn<'_, Session>, message: Message<'_>) {
        let _ = conn.echo(message);
    }
}

/// The token of a request: in `Authorization`, as programs send it, or in a cookie, as browsers do,
/// whose scripts cannot set headers of a WebSocket.
fn token(request: &Request<'_>) -> Option<String> {
    let text = |name| std::str::from_utf8(request.header(name)?).ok();
    let bearer = text("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    let cookies = text("Cookie").unwrap_or_default().split("; ");
    let session = cookies.filter_map(|cookie| cookie.strip_prefix("session=")).next();
    let token = bearer.or(session)?;
    // It goes into a header of ours: only what a token is made of.
    token.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| token.to_owned())
}

/// Stands for a query to a database or another service. A real one compares in constant time.
async fn user_of(token: &str) -> Option<String> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    ["ada", "grace"].contains(&token).then(|| token.to_owned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let server = Server::builder().listen(addr.parse::<ListenAddr>()?).build()?;
    for addr in server.local_addrs() {
        println!("listening on {addr}");
    }
    server.run(|_core| Guarded { runtime: runtime.handle().clone() })?;
    Ok(())
}
