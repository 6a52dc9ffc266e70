//! What a service manager is told (`sd_notify(3)`): datagrams to the socket that it names in the
//! environment. Without one nothing is said.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Who has started this process and wants to know how it is.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let addr = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let socket = addr.and_then(|addr| Ok((UnixDatagram::unbound()?, addr)));
        let socket = socket.inspect_err(|error| tracing::warn!(?name, %error, "NOTIFY_SOCKET"));
        let value = |name| env::var(name).unwrap_or_default();
        let pid = std::process::id();
        let watchdog = watchdog(&value("WATCHDOG_USEC"), &value("WATCHDOG_PID"), pid);
        Self { socket: socket.ok(), watchdog }
    }

    /// How often it wants a sign of life at the least: twice in the time that it waits.
    pub(super) fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| timeout / 2)
    }

    /// Tells it something, a `NAME=value` in each line.
    pub(super) fn tell(&self, lines: &str) {
        let Some((socket, addr)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(lines.as_bytes(), addr) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }

    /// A reload begins; `READY=1` ends it.
    pub(super) fn tell_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }
}

/// How long a manager waits for a sign of life of the process of this number.
fn watchdog(micros: &str, pid: &str, own_pid: u32) -> Option<Duration> {
    if !pid.is_empty() && pid.parse() != Ok(own_pid) {
        return None;
    }
    micros.parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_of_another_process_is_not_this_ones() {
        assert_eq!(watchdog("2000000", "7", 7), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", "", 7), Some(Duration::from_secs(2)));
        for (micros, pid) in
            [("2000000", "8"), ("2000000", "x"), ("", "7"), ("0", "7"), ("-1", "7")]
        {
            assert_eq!(watchdog(micros, pid, 7), None, "{micros}, {pid}");
        }
    }
}
