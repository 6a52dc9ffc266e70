//! A WebSocket server for Linux, made for very many long-lived connections.
//!
//! Every pinned core runs its own event loop over its own connections, on io_uring or, where that
//! is not allowed, on epoll. An idle connection owns no buffer. Implement [`Handler`], hand
//! [`Builder::run`] a function that makes one for each core, and that is a server.
//!
//! # A whole server
//!
//! What somebody says in `/lobby`, all in `/lobby` hear, on whatever core they are; and a thread that
//! is none of the server's tells them all the time.
//!
//! ```no_run
//! use std::thread;
//! use std::time::Duration;
//! use longwire::{CloseCode, Conn, Decision, Handle, Handler, Message, Request, Server};
//!
//! /// One on each core, and called only there: it needs no lock, no `Arc` and no `Send`.
//! struct Rooms;
//!
//! impl Handler for Rooms {
//!     /// Kept for each connection: the topic that it is in.
//!     type State = String;
//!
//!     fn upgrade(&mut self, request: &Request<'_>) -> Decision<String> {
//!         Decision::accept(request.path().trim_start_matches('/').to_owned())
//!     }
//!
//!     fn open(&mut self, conn: &mut Conn<'_, String>) {
//!         let room = conn.state().clone();
//!         if let Err(error) = conn.subscribe(&room) {
//!             conn.close(CloseCode::POLICY_VIOLATION, &error.to_string());
//!         }
//!     }
//!
//!     fn message(&mut self, conn: &mut Conn<'_, String>, message: Message<'_>) {
//!         let room = conn.state().clone();
//!         if let Err(error) = conn.publish(&room, &message) {
//!             eprintln!("{room}: {error}");
//!         }
//!     }
//! }
//!
//! /// A handle can be used from any thread or async runtime.
//! fn tell_uptime(handle: &Handle) {
//!     for seconds in 1.. {
//!         thread::sleep(Duration::from_secs(1));
//!         let text = format!("up for {seconds} s");
//!         match handle.publish("lobby", &text) {
//!             // A receipt tells how many it was queued for, and how many had no room.
//!             Ok(receipt) => println!("{:?}", receipt.wait(Duration::from_secs(1))),
//!             Err(error) => eprintln!("{error}"),
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder().listen("127.0.0.1:9001".parse()?).build()?;
//!     let handle = server.handle();
//!     thread::spawn(move || tell_uptime(&handle));
//!     // Blocks until `Handle::shutdown`, `stop` or `stop_now`.
//!     server.run(|_core| Rooms)?;
//!     Ok(())
//! }
//! ```
//!
//! # What to know
//!
//! - **Callbacks must not block**: all connections of a core wait for them. They come on the thread of
//!   the core; a connection stays where it was accepted. What takes longer runs elsewhere and answers
//!   through [`Handle::send`] with the [`ConnId`], or decides about a handshake by a [`Deferral`].
//! - **Sending never blocks** either. [`Conn::send`] queues, and [`SendStatus`] tells whether the peer
//!   keeps up; one that does not is closed with 1013 above [`Builder::send_bytes_max`], or as
//!   [`Builder::overflow`] says. [`Handler::writable`] tells when a queue has drained.
//! - **Topics** need no set-up: [`Conn::subscribe`], [`Conn::publish`]. What one publisher publishes to one
//!   topic reaches each subscriber in that order and at most once. [`TopicPolicy`] says what slow readers
//!   miss, and what is sent to who comes late.
//! - **Every limit has a default**: [`Builder`] has all of them, with unit and range. [`Stats`] counts what
//!   was refused, dropped and closed.
//! - **Safe by default towards peers, not towards the network**: [`Builder::listen_tls`] adds TLS,
//!   [`Builder::allowed_origins`] says whose scripts may connect, [`Handler::upgrade`] who.
//!
//! # Where to go on
//!
//! - `docs/EMBEDDING.md`: which callback runs where, each call, and what is promised, exactly.
//! - `examples/`: `echo`, `chat`, `ticker` (latest value), `auth` (deferred), `bridge` (asks an async service).
//! - [`Client`]: the same event loops, for very many connections to other servers.
//! - `docs/ARCHITECTURE.md`: how the parts fit together; `docs/RFC6455.md`: which section is where.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!("longwire runs on Linux: it is built on io_uring and epoll");

mod buf;
pub mod client;
mod close_record;
mod compression;
mod config;
mod conn;
mod conn_info;
mod decision;
mod dialer;
mod error;
mod handler;
mod io;
mod legible;
mod metrics;
mod policy;
mod proto;
mod pubsub;
mod server;
mod sync;
mod tap;
mod threads;
mod tls;
mod turn_watch;
mod worker;

pub use client::Client;
pub use close_record::CloseRecord;
pub use compression::Compression;
pub use config::{Builder, Reconfigured};
pub use conn::{
    Close, CloseCause, ClosedBy, ConnectError, Message, MessageKind, SendError, SendStatus, Side,
};
pub use conn_info::{ConnId, ConnInfo, InvalidConnId};
pub use decision::{Accept, Decision, Deferral};
pub use dialer::{ClientHandler, Dialer, Target};
pub use error::Error;
pub use handler::{Conn, Conns, Handler};
pub use io::activation::listen_fds;
pub use io::addr::{InvalidListenAddr, ListenAddr, PeerAddr, UnixCredentials};
pub use io::affinity::parse_cores;
pub use io::backend::{Backend, BackendChoice, UnknownBackend};
pub use io::memory_limit::{GroupLimit, group_limit};
pub use metrics::Stats;
pub use policy::{Overflow, RateMode};
pub use proto::handshake::forwarded::ForwardedHeader;
pub use proto::handshake::{Refusal, Request, Response};
pub use proto::{CloseCode, LimitExceeded, Violation};
pub use pubsub::{
    Delivery, InvalidTopic, Payload, PublishError, Receipt, SlowReaders, SubscribeError,
    TopicPolicy,
};
pub use server::{Handle, Server};
pub use tap::{Tap, TapDirection, TapEvent, TapFrame, TapTarget};
#[cfg(feature = "cli")]
pub use tls::self_signed;
pub use tls::{ClientAuth, ClientTls, Reloaded, Tls, TlsError, TlsWarning, TlsWatcher};
pub use turn_watch::TurnWatch;

#[doc(hidden)]
pub mod bench_internals;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz_internals;

/// The example of the README is compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are the examples of the guide to embedding.
#[cfg(doctest)]
#[doc = include_str!("../docs/EMBEDDING.md")]
struct Embedding;
