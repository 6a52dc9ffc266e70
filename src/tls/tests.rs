//! The configuration, seen from the outside: a server and a client of the library shake hands in
//! memory, and what they agree on is looked at.

mod client_certificates;
mod errors;
mod handshake;
mod names;
mod reloading;
mod rig;
