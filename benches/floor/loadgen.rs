//! `loadgen` as client, where the small one of this program does not do: it speaks TLS and
//! compresses, and its report holds what the server has cost.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::core;
use crate::server::Server;

/// How it ends when something was lost or wrong.
const WRONG: i32 = 1;

/// The program, built beside this one.
#[derive(Debug)]
pub(crate) struct Loadgen {
    path: PathBuf,
}

/// What it has found out.
#[derive(Debug)]
pub(crate) struct Findings(serde_json::Value);

impl Loadgen {
    pub(crate) fn find() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let path = own.parent().and_then(|deps| deps.parent()).map(|dir| dir.join("loadgen"));
        let path = path.filter(|path| path.exists()).ok_or_else(|| {
            io::Error::other("loadgen is not built; `cargo build --release -p loadgen` does that")
        })?;
        Ok(Self { path })
    }

    /// Runs a scenario against a server, which it observes, on the client's core. `flags` are
    /// separated by spaces.
    pub(crate) fn run(
        &self,
        scenario: &str,
        scheme: &str,
        server: &Server,
        flags: &str,
    ) -> io::Result<Findings> {
        self.run_ending_with(&[0], scenario, scheme, server, flags)
    }

    /// The same, where it is for the caller to judge what was lost or wrong.
    pub(crate) fn try_run(
        &self,
        scenario: &str,
        server: &Server,
        flags: &str,
    ) -> io::Result<Findings> {
        self.run_ending_with(&[0, WRONG], scenario, "ws", server, flags)
    }

    fn run_ending_with(
        &self,
        codes: &[i32],
        scenario: &str,
        scheme: &str,
        server: &Server,
        flags: &str,
    ) -> io::Result<Findings> {
        let output = Command::new(&self.path)
            .args([scenario, &format!("{scheme}://{}/", server.addr()), "--quiet"])
            .args(["--threads", "1", "--cores", &core::CLIENT.to_string()])
            .args(["--pid", &server.pid().to_string(), "--json", "-"])
            .args(flags.split_whitespace())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            return Err(io::Error::other(format!("loadgen: {}", output.status)));
        }
        let findings = Findings(serde_json::from_slice(&output.stdout)?);
        if findings.declined() {
            return Err(io::Error::other("the server does not compress, though it was asked to"));
        }
        Ok(findings)
    }
}

impl Findings {
    /// A figure of the report.
    pub(crate) fn figure(&self, name: &str) -> io::Result<f64> {
        let figures = self.0["figures"].as_array().into_iter().flatten();
        figures
            .filter(|figure| figure["name"] == name)
            .find_map(|figure| figure["value"].as_f64())
            .ok_or_else(|| io::Error::other(format!("loadgen's report lacks {name}")))
    }

    /// Whether compression was offered and not agreed on everywhere.
    fn declined(&self) -> bool {
        let compression = &self.0["compression"];
        compression["agreed_conns"] != compression["opened_conns"]
    }
}
