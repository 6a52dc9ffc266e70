//! Orders from the command line to a running server: `longwire upgrade`.
//!
//! A server listens at an abstract Unix socket that bears its process number, and heeds its own user
//! and root alone; who asks makes sure in turn that it is that process which answers. An order is a line,
//! the answer a line.

use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use longwire::UnixCredentials;
use rustix::net::{Shutdown, shutdown};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::upgrade::START_TIME_MAX;
use super::{Life, locked, spawn};
use crate::EXIT_USAGE;
use crate::args::UpgradeArgs;

/// What the name of the socket begins with; the process number follows.
const NAME: &str = "longwire-control-";
const ORDER_BYTES_MAX: u64 = 64;
/// For an order to be sent, and to be read: nobody else is heeded meanwhile.
const ORDER_TIME_MAX: Duration = Duration::from_secs(1);
/// Longer than a server waits for two new ones: orders are heeded one after another.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2 * START_TIME_MAX.as_secs() + 10);
/// How long accepting rests when it fails.
const REST: Duration = Duration::from_millis(100);

/// The flag of a socket that listens, in `/proc/net/unix`.
const ACCEPTS: u32 = 0x10000;

/// Exit code when the new server did not come to serve.
const EXIT_REFUSED: u8 = 1;

/// Heeds orders from now on, on a thread of its own.
pub(super) fn listen(life: &Arc<Life>) -> io::Result<()> {
    let name = format!("{NAME}{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    *locked(&life.control) = Some(listener.try_clone()?);
    let life = Arc::clone(life);
    spawn("control", move || heed_all(&life, listener))
}

fn heed_all(life: &Life, listener: UnixListener) {
    let mut listener = Some(listener);
    while let Some(accepted) = listener.as_ref().map(UnixListener::accept) {
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(_) if life.plan.stage.is_stopping() => return,
            Err(error) => {
                tracing::debug!(%error, "no orders are taken");
                sleep(REST);
                continue;
            }
        };
        let heeded = heed(life, &stream).and_then(|answer| {
            // Who has the answer may give the next order, and look for whom to give it to.
            listener.take_if(|_| life.plan.stage.is_stopping());
            (&stream).write_all(format!("{answer}\n").as_bytes())
        });
        // Anybody may connect, and shall not keep others from it: no rest.
        if let Err(error) = heeded {
            tracing::debug!(%error, "an order was not heeded");
        }
    }
}

impl Life {
    /// Takes no more orders: what goes by the name of this process does not serve any more.
    pub(super) fn close_control(&self) {
        if let Some(listener) = locked(&self.control).take() {
            // Who waits for orders has a descriptor of its own.
            let _ = shutdown(&listener, Shutdown::Both);
        }
    }
}

/// Reads an order and does it. Returns the answer.
fn heed(life: &Life, stream: &UnixStream) -> io::Result<String> {
    let who = UnixCredentials::of(stream)?.uid;
    if who != 0 && who != geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(ORDER_TIME_MAX))?;
    stream.set_write_timeout(Some(ORDER_TIME_MAX))?;
    let mut order = String::new();
    BufReader::new(stream).take(ORDER_BYTES_MAX).read_line(&mut order)?;
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
    Ok(answer)
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
        [pid] => match program_of(*pid) {
            Some(program) if Some(&program) != program_of(std::process::id()).as_ref() => {
                Err(format!(
                    "process {pid} runs {}, which is another program than this; if that is meant, say \
                 --pid {pid}",
                    program.display()
                ))
            }
            _ => Ok(*pid),
        },
        several => {
            let several: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(format!("several servers run here: choose one by --pid ({})", several.join(", ")))
        }
    }
}

/// What a process runs, or ran before it was replaced. None if that is not to be known.
fn program_of(pid: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.into_os_string().into_string().ok()?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).into())
}

/// The process numbers in the names of listening sockets.
fn pids(sockets: &str) -> Vec<u32> {
    let pid = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // A connection bears the name of the socket that accepted it.
        let is_listening = u32::from_str_radix(columns.get(3)?, 16).ok()? & ACCEPTS != 0;
        let name = columns.get(7).filter(|_| is_listening)?.strip_prefix('@')?;
        name.strip_prefix(NAME)?.parse().ok()
    };
    let mut pids: Vec<u32> = sockets.lines().filter_map(pid).collect();
    pids.sort_unstable();
    pids
}

fn ask(pid: u32, order: &str) -> io::Result<String> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    // The kernel takes it for the connect, too, which waits when others are before it.
    socket.set_write_timeout(Some(ORDER_TIME_MAX))?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    socket.connect(&SockAddr::unix(format!("\0{NAME}{pid}"))?).map_err(|error| {
        let text = match error.kind() {
            ErrorKind::WouldBlock => "it has no time for orders; try again".to_owned(),
            _ => format!("no server answers, or it is stopping already: {error}"),
        };
        io::Error::new(error.kind(), text)
    })?;
    if UnixCredentials::of(&socket)?.pid != Some(pid) {
        return Err(io::Error::other("another process uses the name of its control socket"));
    }
    let mut stream = UnixStream::from(OwnedFd::from(socket));
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(
            error.kind(),
            format!("no answer within {ANSWER_TIME_MAX:?}; its log says what became of the order"),
        ),
        _ => error,
    })?;
    Ok(answer.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_the_names_of_their_sockets() {
        let text = "Num RefCount Protocol Flags Type St Inode Path\n\
                    0: 2 0 10000 0001 01 1 @longwire-control-70\n\
                    0: 3 0 0 0001 03 2 @longwire-control-71\n\
                    0: 2 0 10000 0001 01 3 @longwire-control-8\n\
                    0: 2 0 10000 0001 01 4 /run/longwire-control-9\n\
                    0: 2 0 10000 0001 01 5\n\
                    0: 2 0 10000 0001 01 6 @longwire-control-x\n";
        assert_eq!(pids(text), [8, 70]);
    }

    #[test]
    fn program_of_a_process_is_its_file_also_when_that_was_replaced() {
        let copy = std::env::temp_dir().join(format!("longwire-sleep-{}", std::process::id()));
        fs::copy("/bin/sleep", &copy).unwrap();
        let mut child = std::process::Command::new(&copy).arg("60").spawn().unwrap();
        let seen = program_of(child.id());
        fs::remove_file(&copy).unwrap();
        let seen_later = program_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((seen, seen_later), (Some(copy.clone()), Some(copy)));
        assert_eq!(program_of(std::process::id()), std::env::current_exe().ok());
    }
}
