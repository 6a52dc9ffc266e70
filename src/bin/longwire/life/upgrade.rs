//! The old side of an upgrade: starts the new program, hands it the listening sockets, and drains
//! when that serves.
//!
//! The sockets are passed on, not opened again: to close one resets the peers that wait there. If
//! the new program does not come to serve, nothing has happened to this one.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longwire::ListenAddr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};

use super::given::{FDS_PER_MESSAGE, TAKE_OVER, Use, VERSION, receive, send_with};
use super::{Life, locked};
use crate::say::say;

/// From the start of the new program to its word that it serves.
pub(super) const START_TIME_MAX: Duration = Duration::from_secs(60);

impl Life {
    /// Replaces this process by a new one of the program as it is now. Returns its number, or why
    /// this one goes on.
    pub(super) fn upgrade(&self) -> Result<u32, String> {
        if !self.plan.stage.is_serving() {
            return Err("this server is stopping already, or has not begun to serve".to_owned());
        }
        let begun = self.start_successor();
        let (mut child, channel) = begun.map_err(|error| format!("it could not start: {error}"))?;
        *locked(&self.successor) = Some(Pid::from_child(&child));
        // A signal may have come before there was anybody to give up.
        if self.plan.stage.is_stopping() {
            self.give_up_successor();
        }
        let heard = await_ready(&channel);
        *locked(&self.successor) = None;
        let pid = child.id();
        match heard {
            // Who has been stopped meanwhile does not go on in another process.
            Ok(()) if self.plan.stage.stop() => {
                say(format_args!("process {pid} takes over; draining"));
                self.leave(pid);
                Ok(pid)
            }
            heard => {
                let why = heard.err().flatten();
                if why.is_some() || self.plan.stage.is_stopping() {
                    let _ = child.kill();
                }
                let ended = how_it_ended(&mut child);
                if self.plan.stage.is_stopping() {
                    return Err("this server was stopped meanwhile".to_owned());
                }
                Err(why.unwrap_or(ended))
            }
        }
    }

    /// Ends a new process that does not serve yet: this server stops.
    pub(super) fn give_up_successor(&self) {
        // It is waited for only after this was emptied, so that the number is its own.
        if let Some(pid) = locked(&self.successor).take() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn start_successor(&self) -> io::Result<(Child, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(&self.program);
        command.args(env::args_os().skip(1)).env(TAKE_OVER, VERSION).stdin(Stdio::from(theirs));
        // They are for this process.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        // The child has its end; with ours still open one that dies would not be noticed.
        drop(command);
        match self.hand_sockets(ours.as_fd()) {
            // One that is gone already is noticed by who waits for its word.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
            _ => Ok((child, ours)),
        }
    }

    fn hand_sockets(&self, channel: BorrowedFd<'_>) -> io::Result<()> {
        let listening = self.plan.handle.listening_sockets()?;
        let mut sockets: Vec<(Use, BorrowedFd<'_>)> = Vec::new();
        for fd in &listening {
            let is_tls = self.plan.tls_places.contains(&ListenAddr::of(fd)?);
            sockets.push((if is_tls { Use::ListenTls } else { Use::Listen }, fd.as_fd()));
        }
        sockets.extend(self.plan.admin.iter().map(|fd| (Use::Admin, fd.as_fd())));
        for some in sockets.chunks(FDS_PER_MESSAGE) {
            let letters: String = some.iter().map(|(of, _)| of.letter()).collect();
            let fds: Vec<BorrowedFd<'_>> = some.iter().map(|(_, fd)| *fd).collect();
            send_with(channel, &format!("sockets {letters}"), &fds)?;
        }
        let source = if self.plan.is_activated { "end activated" } else { "end flags" };
        send_with(channel, source, &[])
    }
}

/// Waits for its word. What it says instead, or what is wrong; nothing if it ends without a word.
fn await_ready(channel: &OwnedFd) -> Result<(), Option<String>> {
    let _ = set_socket_timeout(channel, Timeout::Recv, Some(START_TIME_MAX));
    loop {
        return match receive(channel.as_fd()) {
            Ok((text, _)) if text == "ready" => Ok(()),
            Ok((text, _)) => Err(Some(text).filter(|text| !text.is_empty())),
            Err(error) => match error.kind() {
                // The wait begins anew after a signal, such as the one that ends a stop.
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::ConnectionReset => Err(None),
                io::ErrorKind::WouldBlock => {
                    Err(Some(format!("it did not serve within {START_TIME_MAX:?}")))
                }
                _ => Err(Some(error.to_string())),
            },
        };
    }
}

fn how_it_ended(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => format!("it ended before it served ({status}); its log says why"),
        Err(error) => error.to_string(),
    }
}
