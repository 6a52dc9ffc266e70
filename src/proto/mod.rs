//! RFC 6455 over byte slices: frames, messages, close codes and the opening handshake, for the
//! server and the client role. RFC 7692: compressed messages.
//!
//! Sans-I/O: no socket, no clock, no buffer of its own. Everything is a function of bytes, and
//! errors name what the peer did ([`Violation`], [`LimitExceeded`], `handshake::Refusal`).

pub(crate) mod close;
pub(crate) mod deflate;
pub(crate) mod encoder;
pub(crate) mod handshake;
pub(crate) mod header;
mod kernels;
pub(crate) mod mask;
pub(crate) mod proxy_header;
pub(crate) mod sequence;
pub(crate) mod text;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod utf8_wide;
pub(crate) mod violation;

pub use close::CloseCode;
pub use violation::{LimitExceeded, Violation};

pub(crate) use header::{Header, Opcode, Role};
