//! Orders from the command line to a running server: `longwire upgrade`.
//!
//! A server listens at an abstract Unix socket that bears its process number, and heeds its own user
//! and root alone; who asks makes sure in turn that it is that process which answers. An order is a line,
//! the answer a line.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::{Life, spawn};
use crate::EXIT_USAGE;
use crate::args::UpgradeArgs;

/// What the name of the socket begins with; the process number follows.
const NAME: &str = "longwire-control-";
const ORDER_BYTES_MAX: u64 = 64;
const ORDER_TIME_MAX: Duration = Duration::from_secs(5);
/// Longer than a server waits for the new one.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(90);
/// How long accepting rests after an error.
const REST: Duration = Duration::from_millis(100);

/// Exit code when the new server did not come to serve.
const EXIT_REFUSED: u8 = 1;

/// Heeds orders from now on, on a thread of its own.
pub(super) fn listen(life: &Arc<Life>) -> io::Result<()> {
    let name = format!("{NAME}{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    let life = Arc::clone(life);
    spawn("control", move || {
        for stream in listener.incoming() {
            let heeded = stream.and_then(|stream| heed(&life, stream));
            if let Err(error) = heeded {
                tracing::debug!(%error, "an order was not heeded");
                sleep(REST);
            }
        }
    })
}

fn heed(life: &Life, stream: UnixStream) -> io::Result<()> {
    let who = socket_peercred(&stream)?.uid;
    if !who.is_root() && who != geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(ORDER_TIME_MAX))?;
    stream.set_write_timeout(Some(ORDER_TIME_MAX))?;
    let mut order = String::new();
    BufReader::new(&stream).take(ORDER_BYTES_MAX).read_line(&mut order)?;
    let answer = match order.trim_end() {
        "upgrade" => match life.upgrade() {
            Ok(pid) => format!("ok {pid}"),
            Err(why) => format!("no {why}"),
        },
        _ => "no this server knows no such order".to_owned(),
    };
    if let Some(why) = answer.strip_prefix("no ") {
        tracing::warn!("not upgraded: {why}");
    }
    (&stream).write_all(format!("{answer}\n").as_bytes())
}

/// `longwire upgrade`.
pub(crate) fn run(args: &UpgradeArgs) -> ExitCode {
    let pid = match args.pid.map_or_else(the_only_server, Ok) {
        Ok(pid) => pid,
        Err(why) => return fail(EXIT_USAGE, &why),
    };
    let answer = match ask(pid, "upgrade") {
        Ok(answer) => answer,
        Err(error) => return fail(EXIT_USAGE, &format!("process {pid}: {error}")),
    };
    match answer.split_once(' ') {
        Some(("ok", successor)) => {
            println!("process {successor} serves; process {pid} drains");
            ExitCode::SUCCESS
        }
        Some(("no", why)) => fail(EXIT_REFUSED, &format!("process {pid} goes on: {why}")),
        _ => fail(EXIT_REFUSED, &format!("process {pid} ended before it had answered")),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("longwire: {why}");
    ExitCode::from(code)
}

/// The server that runs here, if there is one and no other.
fn the_only_server() -> Result<u32, String> {
    let sockets = fs::read_to_string("/proc/net/unix");
    let sockets = sockets.map_err(|error| format!("/proc/net/unix: {error}; name it by --pid"))?;
    let pids: Vec<u32> = pids(&sockets);
    match pids.as_slice() {
        [] => Err("no server runs here; --pid names one of another network namespace".to_owned()),
        [pid] => Ok(*pid),
        several => {
            let several: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(format!("several servers run here: choose one by --pid ({})", several.join(", ")))
        }
    }
}

/// The process numbers in the names of listening sockets.
fn pids(sockets: &str) -> Vec<u32> {
    let names = sockets.lines().filter_map(|line| line.rsplit_once(' ')?.1.strip_prefix('@'));
    let mut pids: Vec<u32> =
        names.filter_map(|name| name.strip_prefix(NAME)?.parse().ok()).collect();
    // A connection bears the name of the socket that accepted it.
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn ask(pid: u32, order: &str) -> io::Result<String> {
    let addr = SocketAddr::from_abstract_name(format!("{NAME}{pid}"))?;
    let mut stream = UnixStream::connect_addr(&addr)
        .map_err(|error| io::Error::new(error.kind(), format!("no server answers: {error}")))?;
    let who = socket_peercred(&stream)?.pid;
    if who.as_raw_nonzero().get().unsigned_abs() != pid {
        return Err(io::Error::other("another process uses the name of its control socket"));
    }
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_the_names_of_their_sockets() {
        let text = "Num RefCount Protocol Flags Type St Inode Path\n\
                    0: 2 0 10000 0001 01 1 @longwire-control-70\n\
                    0: 3 0 0 0001 03 2 @longwire-control-70\n\
                    0: 2 0 10000 0001 01 3 @longwire-control-8\n\
                    0: 2 0 10000 0001 01 4 /run/longwire-control-9\n\
                    0: 2 0 10000 0001 01 5\n\
                    0: 2 0 10000 0001 01 6 @longwire-control-x\n";
        assert_eq!(pids(text), [8, 70]);
    }
}
