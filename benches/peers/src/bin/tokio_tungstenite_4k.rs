//! Echo and broadcast on `tokio-tungstenite` with the buffers of 4 KiB that its documentation
//! gives for very many connections.

use std::process::ExitCode;

use longwire_peers::{run, tungstenite};

const BUFFER_BYTES: usize = 4096;

fn main() -> ExitCode {
    run("tokio-tungstenite-4k", |stream, role| tungstenite::serve(stream, role, Some(BUFFER_BYTES)))
}
