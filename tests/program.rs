//! Black-box tests of the `longwire` program: what it says, how it stops, what its flags do, what
//! it does when the system refuses it something, and what it uses of the system.
//!
//! Descriptors, threads, memory and CPU time belong to a process, so what bounds them is tested
//! here, where the server has a process of its own.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

#[path = "program/access.rs"]
mod access;
#[path = "program/admin.rs"]
mod admin;
#[path = "program/audience.rs"]
mod audience;
#[path = "end_to_end/backends.rs"]
mod backends;
#[path = "program/broker.rs"]
mod broker;
#[path = "program/broker_cluster.rs"]
mod broker_cluster;
#[path = "program/broker_faults.rs"]
mod broker_faults;
#[path = "program/brokers.rs"]
mod brokers;
#[path = "end_to_end/certificates.rs"]
#[expect(dead_code, reason = "shared with `end_to_end`, which uses all of it")]
mod certificates;
#[path = "end_to_end/client.rs"]
#[expect(dead_code, reason = "shared with `end_to_end`, which uses all of it")]
mod client;
#[path = "program/closes.rs"]
mod closes;
#[path = "program/config.rs"]
mod config;
#[path = "program/crowd.rs"]
mod crowd;
#[path = "program/doctor.rs"]
mod doctor;
#[path = "program/draining.rs"]
mod draining;
#[path = "program/errors.rs"]
mod errors;
#[path = "program/exhaustion.rs"]
mod exhaustion;
#[path = "program/http.rs"]
mod http;
#[path = "program/listening.rs"]
mod listening;
#[path = "program/process.rs"]
mod process;
#[path = "program/reloading.rs"]
mod reloading;
#[path = "program/resources.rs"]
mod resources;
#[path = "program/secure.rs"]
mod secure;
#[path = "program/serve.rs"]
mod serve;
#[path = "program/signals.rs"]
mod signals;
#[path = "program/succession.rs"]
mod succession;
#[path = "program/systemd.rs"]
mod systemd;
#[path = "program/tap.rs"]
mod tap;
#[path = "program/upgrading.rs"]
mod upgrading;
