//! TLS without a connection around it, against rustls, and against a peer that says what it likes.

mod alerts;
mod keys;
mod peers;
mod rig;
mod vectors;
