//! The programs in `examples/`, run as they are: what they promise to who tries them.
//!
//! Each is a file here and takes the address to listen on as its argument. `cargo test` builds the
//! examples; before `cargo test --test examples` alone, `cargo build --examples` does.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

#[path = "examples/auth.rs"]
mod auth;
#[path = "examples/bridge.rs"]
mod bridge;
#[path = "examples/chat.rs"]
mod chat;
#[path = "end_to_end/client.rs"]
#[expect(dead_code, reason = "shared with `end_to_end`, which uses all of it")]
mod client;
#[path = "examples/echo.rs"]
mod echo;
#[path = "examples/process.rs"]
mod process;
#[path = "examples/ticker.rs"]
mod ticker;
