//! A WebSocket server for Linux, made for very many long-lived connections.
//!
//! Every pinned core runs its own event loop over its own connections, on io_uring or, where that
//! is not allowed, on epoll. Implement [`Handler`], hand [`Server::builder`] a function that makes
//! one for each core, and run:
//!
//! ```no_run
//! use longwire::{Conn, Handler, Message, Server};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!     fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
//!         let _ = conn.echo(message);
//!     }
//! }
//!
//! Server::builder().listen("127.0.0.1:9001".parse().unwrap()).run(|_core| Echo)?;
//! # Ok::<(), longwire::Error>(())
//! ```
//!
//! What the protocol code does where is listed in `docs/RFC6455.md`, how the parts fit together in
//! `docs/ARCHITECTURE.md`.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!("longwire runs on Linux: it is built on io_uring and epoll");

mod buf;
pub mod client;
mod compression;
mod config;
mod conn;
mod decision;
mod dialer;
mod error;
mod handler;
mod io;
mod metrics;
mod policy;
mod proto;
mod pubsub;
mod server;
mod sync;
mod threads;
mod tls;
mod worker;

pub use client::Client;
pub use compression::Compression;
pub use config::Builder;
pub use conn::{Close, ConnectError, Message, MessageKind, SendError, SendStatus, Side};
pub use decision::{Accept, Decision, Deferral};
pub use dialer::{ClientHandler, Dialer, Target};
pub use error::Error;
pub use handler::{Conn, ConnId, ConnInfo, Conns, Handler};
pub use io::addr::{InvalidListenAddr, ListenAddr, PeerAddr, UnixCredentials};
pub use io::affinity::parse_cores;
pub use io::backend::{Backend, BackendChoice, UnknownBackend};
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
#[cfg(feature = "cli")]
pub use tls::self_signed;
pub use tls::{ClientAuth, ClientTls, Reloaded, Tls, TlsError, TlsWarning, TlsWatcher};

#[doc(hidden)]
pub mod bench_internals;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz_internals;

/// The example of the README is compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
