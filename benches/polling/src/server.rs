//! A server as child process: started, waited for until it listens, told when to publish, and killed
//! when dropped.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::serve::{LISTENING, Order, START};

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    what: String,
    input: ChildStdin,
}

impl Server {
    /// This program again, in another role. Its errors go where those of this process go.
    pub(crate) fn start(order: &Order) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", order.way.name()]);
        for (name, value) in [
            ("--core", order.core.to_string()),
            ("--clients", order.client_count.to_string()),
            ("--interval-ns", order.interval_ns.to_string()),
            ("--duration-ns", order.duration_ns.to_string()),
            ("--backend", order.backend.to_string()),
        ] {
            command.args([name, &value]);
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let failed = |what: &str| io::Error::other(format!("the server {what}"));
        let mut child = spawned.map_err(|error| failed(&format!("cannot be started: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no pipes"));
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let Some((addr, what)) = listening(&line) else {
            // It has said why on standard error.
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed("did not start"));
        };
        Ok(Self { child, addr, what, input })
    }

    /// Has it publish by its schedule, from this instant on.
    pub(crate) fn publish_from(&mut self, start_ns: u64) -> io::Result<()> {
        writeln!(self.input, "{START}{start_ns}")?;
        self.input.flush()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it is, in its own words.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Address and description in the first line of a server.
fn listening(line: &str) -> Option<(SocketAddr, String)> {
    let (addr, what) = line.trim().strip_prefix(LISTENING)?.split_once(' ')?;
    Some((addr.parse().ok()?, what.to_owned()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // What is measured is over. Both calls fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
