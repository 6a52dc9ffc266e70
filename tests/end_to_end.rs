//! Black-box tests of the library: its public API on one side, real sockets on the other, on every
//! backend.
//!
//! `client` is a peer written from RFC 6455 alone; it shares no code with the server. What takes a
//! process of its own (descriptors, threads, memory, signals) is tested in `program`.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

#[path = "end_to_end/app.rs"]
mod app;
#[path = "end_to_end/application.rs"]
mod application;
#[path = "end_to_end/backends.rs"]
mod backends;
#[path = "end_to_end/certificates.rs"]
mod certificates;
#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/compressed.rs"]
mod compressed;
#[path = "end_to_end/deferring.rs"]
mod deferring;
#[path = "end_to_end/dialing.rs"]
mod dialing;
#[path = "end_to_end/endings.rs"]
mod endings;
#[path = "end_to_end/flow.rs"]
mod flow;
#[path = "end_to_end/hostile.rs"]
mod hostile;
#[path = "end_to_end/listening.rs"]
mod listening;
#[path = "end_to_end/messages.rs"]
mod messages;
#[path = "end_to_end/proxied.rs"]
mod proxied;
#[path = "end_to_end/refusals.rs"]
mod refusals;
#[path = "end_to_end/secure.rs"]
mod secure;
#[path = "end_to_end/secure_hostile.rs"]
mod secure_hostile;
#[path = "end_to_end/server.rs"]
mod server;
#[path = "end_to_end/slow_subscribers.rs"]
mod slow_subscribers;
#[path = "end_to_end/stopping.rs"]
mod stopping;
#[path = "end_to_end/topics.rs"]
mod topics;
#[path = "end_to_end/upgrading.rs"]
mod upgrading;
