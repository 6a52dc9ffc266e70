//! Many connections to one server, opened in small waves and held.
//!
//! Waves, because more peers at a time than the backlog holds would be dropped and tried again by
//! the kernel a second later. Several source addresses, because one address has about 28,000
//! ports for one server, and recently used ones rest for a minute.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::upgrade;

const WAVE_CONNS: usize = 64;
const CONNS_PER_SOURCE: usize = 5_000;
/// Of those who do not read. What every host must take (RFC 1122 §4.2.2.6).
const STALLED_SEGMENT_BYTES: u32 = 536;
/// The kernel makes it as small as it may be.
const STALLED_RECEIVE_BYTES: usize = 1;
/// Longest wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors left for everything else: pipes, /proc, the other server's sockets.
const DESCRIPTORS_SPARE: usize = 300;

/// Whether connections speak WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Connect, then the opening handshake.
    WebSocket,
    /// Connect only.
    Bare,
    /// As the first, with the least room that the kernel gives, and small segments.
    Stalled,
}

/// Open connections, all idle.
#[derive(Debug)]
pub(crate) struct Crowd {
    sockets: Vec<Socket>,
}

impl Crowd {
    pub(crate) fn open(addr: SocketAddr, count: usize, manner: Manner) -> io::Result<Self> {
        let mut sockets: Vec<Socket> = Vec::with_capacity(count);
        while sockets.len() < count {
            let wave_start = sockets.len();
            for index in wave_start..count.min(wave_start + WAVE_CONNS) {
                let socket =
                    connect(addr, index, manner).map_err(|error| explained(&error, index))?;
                sockets.push(socket);
            }
            if manner != Manner::Bare {
                let wave = &sockets[wave_start..];
                wave.iter().try_for_each(upgrade::request)?;
                wave.iter().try_for_each(upgrade::read_response)?;
            }
        }
        Ok(Self { sockets })
    }

    /// Of sockets that were taken out of one.
    pub(crate) fn of(sockets: Vec<Socket>) -> Self {
        Self { sockets }
    }

    /// The sockets, to talk on.
    pub(crate) fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }

    /// Ends all connections by reset, which leaves no port resting.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| socket.set_linger(Some(Duration::ZERO)))
    }
}

/// How many of `wanted` connections this process and a server of its own can hold.
///
/// Raises the soft limit to the hard one first; servers started afterwards inherit it.
pub(crate) fn affordable_count(wanted: usize) -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let descriptors = limit.maximum.map_or(usize::MAX, |max| max.try_into().unwrap_or(usize::MAX));
    let count = wanted.min(descriptors.saturating_sub(DESCRIPTORS_SPARE));
    if count == 0 {
        return Err(io::Error::other(format!(
            "a limit of {descriptors} descriptors leaves none for connections (see ulimit -Hn)"
        )));
    }
    if count < wanted {
        println!("{count} connections instead of {wanted}: the limit of descriptors (ulimit -Hn)");
    }
    Ok(count)
}

fn connect(addr: SocketAddr, index: usize, manner: Manner) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let source_index = u8::try_from(index / CONNS_PER_SOURCE % 250).unwrap_or(0);
    let source = Ipv4Addr::new(127, 0, 0, 2 + source_index);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    if manner == Manner::Stalled {
        // Before the handshake, which tells the other side: its send buffer grows with the
        // largest segment.
        socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES)?;
        socket.set_tcp_mss(STALLED_SEGMENT_BYTES)?;
    }
    socket.connect_timeout(&addr.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn explained(error: &io::Error, index: usize) -> io::Error {
    let advice = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
            "; descriptors have run out, see ulimit -n"
        }
        Some(rustix::io::Errno::ADDRINUSE | rustix::io::Errno::ADDRNOTAVAIL) => {
            "; ports have run out, wait a minute or widen net.ipv4.ip_local_port_range"
        }
        _ => "",
    };
    io::Error::other(format!("connection {}: {error}{advice}", index + 1))
}
