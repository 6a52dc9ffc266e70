//! The client role before the Autobahn TestSuite: connects to its fuzzing server once for each
//! case, sends back what it gets, and has the report written at the end.
//!
//! `cargo run --release --example autobahn_client -- 127.0.0.1:9001 longwire --deflate`
//!
//! The server grades what it sees; status 0 here says only that every case was run.
//! `tests/autobahn/run-client` starts both and judges the report.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use longwire::{
    Client, ClientHandler, Close, Compression, Conn, ConnectError, Dialer, Message, Target,
};

const USAGE: &str = "usage: autobahn_client ADDR:PORT AGENT [--backend auto|io_uring|epoll] \
                     [--deflate | --deflate-takeover]";

/// The suite's largest messages have 16 MiB.
const MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;

/// What a connection is for. The cases have numbers from 1, for the server counts so.
#[derive(Clone, Copy)]
enum Errand {
    CountCases,
    RunCase(u32),
    UpdateReports,
}

/// Runs one errand after the other: the server writes a case down when its connection has ended.
struct Testee {
    server: SocketAddr,
    agent: String,
    next: Option<Errand>,
    /// None until the server has told it.
    case_count: Option<u32>,
    failures: Sender<String>,
}

impl Testee {
    fn path(&self, errand: Errand) -> String {
        let agent = &self.agent;
        match errand {
            Errand::CountCases => "/getCaseCount".to_owned(),
            Errand::RunCase(case) => format!("/runCase?case={case}&agent={agent}"),
            Errand::UpdateReports => format!("/updateReports?agent={agent}"),
        }
    }

    /// What comes after an errand, if that was done.
    fn after(&self, errand: Errand) -> Option<Errand> {
        let case_count = self.case_count?;
        match errand {
            Errand::CountCases if case_count > 0 => Some(Errand::RunCase(1)),
            Errand::RunCase(case) if case < case_count => Some(Errand::RunCase(case + 1)),
            Errand::CountCases | Errand::RunCase(_) => Some(Errand::UpdateReports),
            Errand::UpdateReports => None,
        }
    }

    fn give_up(&mut self, failure: String) {
        self.next = None;
        self.failures.send(failure).expect("main receives until the client has ended");
    }
}

impl ClientHandler for Testee {
    type State = Errand;

    fn turn(&mut self, dialer: &mut Dialer<'_, Errand>) -> Option<Instant> {
        if dialer.conn_count() > 0 {
            return None;
        }
        let Some(errand) = self.next else {
            dialer.stop();
            return None;
        };
        let target = Target::new(self.server, &self.server.to_string(), &self.path(errand));
        if let Err((errand, error)) = dialer.connect(&target, None, errand) {
            self.fail(errand, &ConnectError::Connect(error));
            dialer.stop();
        }
        None
    }

    fn message(&mut self, conn: &mut Conn<'_, Errand>, message: Message<'_>) {
        match conn.state() {
            Errand::CountCases => {
                self.case_count = message.text().and_then(|text| text.parse().ok());
            }
            // It fails only when the connection is closing, which is some cases' purpose.
            Errand::RunCase(_) => drop(conn.echo(message)),
            Errand::UpdateReports => {}
        }
    }

    fn close(&mut self, conn: &mut Conn<'_, Errand>, _close: &Close) {
        let errand = *conn.state();
        self.next = self.after(errand);
        if self.case_count.is_none() {
            self.give_up("the server did not say how many cases it has".to_owned());
        }
    }

    fn fail(&mut self, errand: Errand, error: &ConnectError) {
        self.give_up(format!("cannot connect for {}: {error}", self.path(errand)));
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(server), Some(agent)) = (args.next(), args.next()) else { return Err(USAGE.into()) };
    let server: SocketAddr = server.parse().map_err(|_| USAGE)?;
    // One worker, for the cases run one after the other.
    let mut builder = Client::builder().workers(1).message_bytes_max(MESSAGE_BYTES_MAX);
    // Small messages too, for most of the suite's are.
    let compression = Compression::new().message_bytes_min(0);
    while let Some(arg) = args.next() {
        builder = match arg.as_str() {
            "--backend" => builder.backend(args.next().ok_or(USAGE)?.parse()?),
            "--deflate" => builder.compression(Some(compression)),
            "--deflate-takeover" => builder.compression(Some(compression.context_takeover(true))),
            _ => return Err(USAGE.into()),
        };
    }
    let (failures, failed) = channel();
    let testee = |_worker| Testee {
        server,
        agent: agent.clone(),
        next: Some(Errand::CountCases),
        case_count: None,
        failures: failures.clone(),
    };
    builder.build()?.run(testee)?;
    failed.try_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
}
