//! What the servers of this package share: the command line, the runtime, the accept loop, and the
//! two things they do, `echo` and `broadcast`.
//!
//! Each server is what a user of its crate would write after reading that crate's documentation,
//! and no more: no other allocator, no patched crate, no limit set below its default. What each
//! crate can do about batching is used: answers to messages that have arrived together leave
//! together. Text is checked to be UTF-8 by all of them, in the crate where it can do that.

mod arguments;
mod serve;
mod talk;

pub mod hyper_upgrade;
pub mod raw_upgrade;
pub mod tungstenite;

pub use serve::{Role, run, run_listener};
pub use talk::{BATCH_MAX, Order, talk};

/// Largest message and frame that each server takes, in bytes: the largest default among them, so
/// that it lowers none.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a connection may end with. It goes nowhere: a peer that leaves is not worth a line.
pub type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;
