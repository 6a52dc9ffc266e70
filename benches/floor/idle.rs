//! Resident bytes per idle connection over TLS, and with compression, beside a plain one.
//!
//! As in `memory`, but the connections are `loadgen`'s, each of which has had one message answered.
//! A few came and went before, so what a server owns once does not count. What compresses belongs
//! to the core and not to connections: an idle one that has compressed must cost as much as one
//! that has not.

use std::io;

use crate::loadgen::Loadgen;
use crate::options::{Backend, Options};
use crate::report::{self, Verdict};
use crate::server::Server;

/// Largest acceptable resident bytes per idle connection over TLS.
const TLS_BAR_BYTES: f64 = 4096.0;
/// Largest acceptable difference between one that has compressed and a plain one.
const DEFLATE_BAR_BYTES: f64 = 32.0;
const WARM_UP_CONNS: usize = 64;
/// More than is opened, so that a server that counts late refuses nobody.
const CONNS_SPARE: usize = 64;

/// One way to speak.
struct Speech {
    name: &'static str,
    scheme: &'static str,
    server_flags: &'static [&'static str],
    client_flags: &'static str,
}

const PLAIN: Speech = Speech { name: "plain", scheme: "ws", server_flags: &[], client_flags: "" };
const TLS: Speech = Speech {
    name: "wss",
    scheme: "wss",
    server_flags: &["--tls-self-signed"],
    client_flags: "--insecure",
};
const DEFLATE: Speech = Speech {
    name: "deflate",
    scheme: "ws",
    server_flags: &["--deflate"],
    client_flags: "--deflate",
};

pub(crate) fn run(options: &Options, count: usize) -> io::Result<Verdict> {
    let loadgen = Loadgen::find()?;
    report::print_idle_head(count);
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        let measured = |speech: &Speech| measure(options, &loadgen, backend, count, speech);
        let plain = measured(&PLAIN)?;
        report::print_idle(PLAIN.name, backend.name(), plain, None);
        let bars = [(TLS, TLS_BAR_BYTES), (DEFLATE, plain + DEFLATE_BAR_BYTES)];
        for (speech, bar) in bars {
            let bytes = measured(&speech)?;
            let judged = report::print_idle(speech.name, backend.name(), bytes, Some(bar));
            verdict = verdict.and(judged);
        }
    }
    Ok(verdict)
}

fn measure(
    options: &Options,
    loadgen: &Loadgen,
    backend: Backend,
    count: usize,
    speech: &Speech,
) -> io::Result<f64> {
    let conns_max = count + CONNS_SPARE;
    let server = Server::longwire_with(options, backend, 1 << 16, conns_max, speech.server_flags)?;
    let run = |conns: usize, hold: &str| {
        let flags = format!(
            "--conns {conns} --hold {hold} --ping none --handshakes 64 {}",
            speech.client_flags
        );
        loadgen.run("idle", speech.scheme, &server, &flags)
    };
    let descriptors_before = server.stat.descriptor_count()?;
    run(count.min(WARM_UP_CONNS), "1ms")?;
    server.stat.wait_for_descriptors(|open| open <= descriptors_before)?;
    run(count, "1s")?.figure("server_rss_bytes_per_conn")
}
