//! `loadgen conform`: checks an echo server against RFC 6455, case by case.
//!
//! Each case has a connection of its own, and cases run at the same time; that is all they share.
//! The client is our own and small (`peer`, `frame`), because it has to send what the library never
//! would, and because a conformance suite that used the library would share its errors.
//!
//! `case` says what a case is, `cases` holds all of them, `play` and `upgrade` carry them out,
//! `verdict` judges, `report` shows.

mod answer;
mod args;
mod case;
mod cases;
mod corpus;
mod deflate;
mod frame;
mod peer;
mod play;
mod report;
mod request;
mod run;
mod selection;
mod tls;
mod upgrade;
mod verdict;
mod wire;

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use args::ConformArgs;
use case::{Case, Grade};
use request::Target;
use selection::Selection;
use tls::{Secure, Trust};

use crate::url::Url;

/// What to check, and where to write what was found.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// As the user wrote it.
    url: String,
    target: Target,
    threads: usize,
    timeout: Duration,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
}

/// How a run ended, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No case failed.
    Conforms,
    /// At least one case failed, or could not be played although that was required.
    Fails,
}

/// Runs what the command line asks for. The error is one line for the user.
pub(crate) fn run(args: &ConformArgs) -> Result<Outcome, String> {
    let cases = select(&args.cases)?;
    if args.list {
        return print(&report::table::list(&cases)).map(|()| Outcome::Conforms);
    }
    let options = Options::new(args)?;
    let server = run::preflight(&options)?;
    let report = run::all(&options, server, cases);
    // Standard output belongs to the JSON if that was asked for.
    let json_is_printed = options.json.as_deref() == Some(Path::new("-"));
    if !json_is_printed {
        print(&report::table::write(&report))?;
    }
    if let Some(path) = &options.json {
        let text = report::json::write(&report)?;
        if json_is_printed { print(&text) } else { write_file(path, &text) }?;
    }
    if let Some(path) = &options.html {
        write_file(path, &report::html::write(&report))?;
    }
    let lacks = args.require.is_some() && report.count(Grade::Unimplemented) > 0;
    let fails = report.count(Grade::Failed) > 0 || lacks;
    Ok(if fails { Outcome::Fails } else { Outcome::Conforms })
}

impl Options {
    fn new(args: &ConformArgs) -> Result<Self, String> {
        let text = args.url.as_deref().unwrap_or_default();
        let mut url = Url::parse(text).map_err(|error| error.to_string())?;
        if !url.tls && (args.insecure || args.ca.is_some()) {
            return Err("--ca and --insecure are for a wss:// URL".to_owned());
        }
        let trust = match &args.ca {
            Some(path) => Trust::File(path),
            None if args.insecure => Trust::Anybody,
            None => Trust::System,
        };
        let secure = if url.tls { Some(Secure::new(&url.name, trust)?) } else { None };
        url.resolve().map_err(|error| error.to_string())?;
        let addr = reachable(&url.addrs, args.timeout);
        let target = Target { addr, secure, host: url.host, path: url.path };
        Ok(Self {
            url: url.text,
            target,
            threads: usize::from(args.threads),
            timeout: args.timeout,
            json: args.json.clone(),
            html: args.html.clone(),
        })
    }
}

/// The first address where somebody listens; else the first, for the error that it gives.
fn reachable(addrs: &[SocketAddr], timeout: Duration) -> SocketAddr {
    if let [only] = addrs {
        return *only;
    }
    let answers = |addr: &&SocketAddr| std::net::TcpStream::connect_timeout(addr, timeout).is_ok();
    *addrs.iter().find(answers).unwrap_or(&addrs[0])
}

fn select(selection: &Selection) -> Result<Vec<Case>, String> {
    let mut cases = cases::all();
    cases.retain(|case| selection.contains(&case.id));
    if cases.is_empty() {
        return Err("--cases selects no case; see `loadgen conform --list`".to_owned());
    }
    Ok(cases)
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}
