//! Tests of a whole worker: random sessions under faults (`simulation`), single rows of the threat
//! list (`rows`), the same sessions on every driver (`scripts`), and topics on three cores at once
//! (`topics`).
//!
//! All but the last use one application (`app`), which does what the messages tell it, so that a client
//! (`client`) knows from what it sent what it must get back.

mod app;
mod client;
mod payload;
mod rig;
mod rows;
mod scripts;
mod simulation;
mod topics;
