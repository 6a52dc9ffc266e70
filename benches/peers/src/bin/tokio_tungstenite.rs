//! Echo and broadcast on `tokio-tungstenite` as it comes: a read buffer of 128 KiB.

use std::process::ExitCode;

use longwire_peers::{run, tungstenite};

fn main() -> ExitCode {
    run("tokio-tungstenite", |stream, role| tungstenite::serve(stream, role, None))
}
