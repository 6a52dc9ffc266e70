//! Addresses: where a server listens, and where a peer comes from.
//!
//! Nothing here is looked up: an address says by itself what the kernel is to be asked for.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;

use socket2::{SockRef, Type};

/// Bytes of the path or name of a Unix socket: `sun_path` of Linux, without the NUL at one end.
pub(super) const UNIX_NAME_BYTES_MAX: usize = 107;

/// Where a server listens.
///
/// Read from text as `127.0.0.1:9001`, `[::1]:9001`, `unix:/run/app.sock` or `unix:@name`, and
/// written the same way.
///
/// ```
/// use longwire::ListenAddr;
///
/// let addr: ListenAddr = "unix:/run/app.sock".parse()?;
/// assert_eq!(addr, ListenAddr::Unix("/run/app.sock".into()));
/// assert_eq!(addr.to_string(), "unix:/run/app.sock");
/// # Ok::<(), longwire::InvalidListenAddr>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An IP address and a port; port 0 lets the kernel choose. `[::]` takes IPv6 alone, so that
    /// it and `0.0.0.0` can be listened on side by side.
    Tcp(SocketAddr),
    /// A socket file, by its absolute path of at most 107 bytes. Who may write to the file may
    /// connect; see [`unix_mode`](crate::Builder::unix_mode).
    Unix(PathBuf),
    /// An abstract Unix socket (Linux), by its name of 1 to 107 bytes, without the `@`. There is no
    /// file, and so no permission: whoever shares the network namespace may connect.
    Abstract(String),
}

/// A text that is no [`ListenAddr`]. Its one line says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidListenAddr {
    text: String,
    advice: &'static str,
}

/// Where a peer comes from, as the kernel tells it. What a peer says of itself in its request is
/// never in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// The other end of a TCP connection.
    Tcp(SocketAddr),
    /// The process at the other end of a Unix socket.
    Unix(UnixCredentials),
}

/// Who connected to a Unix socket, at the moment of the connect: the kernel's word, which a peer
/// cannot forge. What it has opened it may have handed to another process since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnixCredentials {
    /// The process; none if it is of a PID namespace that this process does not see.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl UnixCredentials {
    /// Of the process that connected a Unix socket to this one, or that listens where this one has
    /// connected to.
    ///
    /// # Errors
    ///
    /// It is no socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        super::socket::credentials(socket.as_fd())
    }
}

impl PeerAddr {
    /// The peer's IP address; none on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for ListenAddr {
    fn from(addr: (I, u16)) -> Self {
        Self::Tcp(addr.into())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

impl fmt::Display for PeerAddr {
    /// An IP address and a port, or `unix:pid=7,uid=1000,gid=1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(UnixCredentials { pid: Some(pid), uid, gid }) => {
                write!(f, "unix:pid={pid},uid={uid},gid={gid}")
            }
            Self::Unix(UnixCredentials { pid: None, uid, gid }) => {
                write!(f, "unix:uid={uid},gid={gid}")
            }
        }
    }
}

impl FromStr for ListenAddr {
    type Err = InvalidListenAddr;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddr> {
        let addr = match text.strip_prefix("unix:") {
            None => {
                return text.parse().map(Self::Tcp).map_err(|_| invalid(text, tcp_advice(text)));
            }
            Some(rest) => match rest.strip_prefix('@') {
                Some(name) => Self::Abstract(name.to_owned()),
                None => Self::Unix(rest.into()),
            },
        };
        match addr.fault() {
            None => Ok(addr),
            Some(advice) => Err(invalid(text, advice)),
        }
    }
}

impl ListenAddr {
    /// Where a socket listens, such as one of [`listen_fds`](crate::listen_fds).
    ///
    /// # Errors
    ///
    /// It is no stream socket that listens, or has no address that can be written down.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let socket = SockRef::from(&socket);
        let addr = socket.local_addr()?;
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::Error::other("it is no socket that listens"));
        }
        if let Some(addr) = addr.as_socket() {
            return Ok(Self::Tcp(addr));
        }
        if let Some(path) = addr.as_pathname() {
            return Ok(Self::Unix(path.to_owned()));
        }
        let name = addr.as_abstract_namespace().and_then(|name| str::from_utf8(name).ok());
        let name = name.ok_or_else(|| io::Error::other("it has no address to be found by"))?;
        Ok(Self::Abstract(name.to_owned()))
    }

    /// Why the kernel could not be asked for it, and what to give instead.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let name = match self {
            Self::Tcp(_) => return None,
            Self::Abstract(name) if name.is_empty() => {
                return Some("give the name of the abstract socket: unix:@name");
            }
            Self::Abstract(name) => name.as_bytes(),
            Self::Unix(path) if !path.is_absolute() => {
                return Some("give the whole path of the socket file: unix:/run/app.sock");
            }
            Self::Unix(path) => path.as_os_str().as_encoded_bytes(),
        };
        if name.contains(&0) {
            Some("leave out the NUL byte")
        } else if name.len() > UNIX_NAME_BYTES_MAX {
            Some("the kernel takes at most 107 bytes of path or name")
        } else {
            None
        }
    }
}

impl fmt::Display for InvalidListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be listened on: {}", self.text.escape_debug(), self.advice)
    }
}

impl std::error::Error for InvalidListenAddr {}

fn invalid(text: &str, advice: &'static str) -> InvalidListenAddr {
    InvalidListenAddr { text: text.to_owned(), advice }
}

/// What is to be written instead of a text that is no IP address with a port.
fn tcp_advice(text: &str) -> &'static str {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        "put an IPv6 address in brackets, and a port behind it: [::1]:9001"
    } else if text.parse::<IpAddr>().is_ok() || text.ends_with(']') {
        "put a port behind the address: 127.0.0.1:9001, or [::1]:9001"
    } else if text.starts_with('/') || text.starts_with('@') {
        "put unix: in front of the name of a Unix socket: unix:/run/app.sock, unix:@name"
    } else if host.is_empty() || host == "*" {
        "for all addresses of this machine give 0.0.0.0:9001, and [::]:9001 for those of IPv6"
    } else if host.parse::<IpAddr>().is_ok() {
        "a port is a number from 0 to 65535"
    } else {
        "names are not looked up; give an address and a port (127.0.0.1:9001, [::1]:9001) or a \
         Unix socket (unix:/run/app.sock, unix:@name)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(text: &str) -> String {
        text.parse::<ListenAddr>().unwrap_err().to_string()
    }

    #[test]
    fn address_is_read_as_it_is_written() {
        for (text, addr) in [
            ("127.0.0.1:9001", ListenAddr::from(([127, 0, 0, 1], 9001))),
            ("[::1]:0", ListenAddr::from((Ipv6Addr::LOCALHOST, 0))),
            ("unix:/run/a b.sock", ListenAddr::Unix("/run/a b.sock".into())),
            ("unix:@name", ListenAddr::Abstract("name".to_owned())),
            ("unix:@@/n", ListenAddr::Abstract("@/n".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(addr.clone()));
            assert_eq!(addr.to_string(), text);
        }
        assert!("[fe80::1%3]:80".parse::<ListenAddr>().is_ok(), "with the number of an interface");
    }

    #[test]
    fn what_cannot_be_listened_on_is_answered_with_what_can() {
        for (text, word) in [
            ("", "0.0.0.0:9001"),
            (":9001", "0.0.0.0:9001"),
            ("*:9001", "[::]:9001"),
            ("localhost:9001", "not looked up"),
            ("localhost", "not looked up"),
            ("9001", "127.0.0.1:9001"),
            ("127.0.0.1", "a port behind"),
            ("[::1]", "a port behind"),
            ("::1", "in brackets"),
            ("::1:9001", "in brackets"),
            ("fe80::1:90010", "in brackets"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("/run/app.sock", "unix: in front"),
            ("@name", "unix: in front"),
            ("unix:", "whole path"),
            ("unix:app.sock", "whole path"),
            ("unix:./app.sock", "whole path"),
            ("unix:@", "unix:@name"),
            ("unix:/a\0b", "NUL"),
        ] {
            let advice = advice(text);
            assert!(advice.contains(word), "{text}: {advice}");
            assert!(!advice.contains(['\n', '\0']), "{advice:?}");
        }
    }

    #[test]
    fn name_of_a_unix_socket_is_at_most_107_bytes() {
        let name = "n".repeat(107);
        assert!(format!("unix:@{name}").parse::<ListenAddr>().is_ok());
        assert!(advice(&format!("unix:@{name}n")).contains("107"));
        assert!(format!("unix:/{}", &name[1..]).parse::<ListenAddr>().is_ok());
        assert!(advice(&format!("unix:/{name}")).contains("107"));
    }

    #[test]
    fn peer_is_named_in_one_word() {
        let tcp = PeerAddr::Tcp(([192, 0, 2, 7], 443).into());
        assert_eq!((tcp.to_string(), tcp.ip().is_some()), ("192.0.2.7:443".to_owned(), true));
        let credentials = UnixCredentials { pid: Some(7), uid: 1000, gid: 100 };
        let unix = PeerAddr::Unix(credentials);
        assert_eq!(unix.to_string(), "unix:pid=7,uid=1000,gid=100");
        assert_eq!(unix.ip(), None);
        let foreign = PeerAddr::Unix(UnixCredentials { pid: None, ..credentials });
        assert_eq!(foreign.to_string(), "unix:uid=1000,gid=100");
    }
}
