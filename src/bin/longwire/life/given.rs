//! Sockets that this process is given at its start: by a service manager, or by the server that it
//! is to replace.
//!
//! The latter come over the socket that is its standard input, as descriptors in messages:
//!
//! ```text
//! old -> new   "sockets lta"   as many descriptors: to listen, to listen with TLS, for administration
//!              "end flags"     or "end activated": flags name the addresses, or the sockets do
//! new -> old   "ready"         all workers serve; or a line that says why not
//! ```

use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use longwire::{Builder, Error, ListenAddr, listen_fds};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

use crate::args::ServerArgs;

/// Names the version of the messages above in the environment of a process that takes over.
pub(super) const TAKE_OVER: &str = "LONGWIRE_TAKE_OVER";
pub(super) const VERSION: &str = "1";

/// Descriptors in one message; the kernel takes 253.
pub(super) const FDS_PER_MESSAGE: usize = 64;
/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What a socket is for: a letter in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Listen,
    ListenTls,
    Admin,
}

impl Use {
    pub(super) fn letter(self) -> char {
        match self {
            Self::Listen => 'l',
            Self::ListenTls => 't',
            Self::Admin => 'a',
        }
    }

    fn of_letter(letter: char) -> Option<Self> {
        [Self::Listen, Self::ListenTls, Self::Admin].into_iter().find(|one| one.letter() == letter)
    }

    /// By the name of a descriptor in a socket unit.
    fn of_name(name: &str) -> Self {
        match name {
            "tls" => Self::ListenTls,
            "admin" => Self::Admin,
            _ => Self::Listen,
        }
    }
}

/// What this process was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    sockets: Vec<(Use, OwnedFd)>,
    /// The sockets say where to listen, not the flags.
    is_activated: bool,
    /// Who waits to hear that this process serves.
    predecessor: Option<OwnedFd>,
}

impl Given {
    /// Takes what there is.
    pub(crate) fn receive() -> Result<Self, Error> {
        let failed = |error| Error::Misuse(format!("the sockets could not be taken over: {error}"));
        match env::var(TAKE_OVER) {
            Ok(version) if version == VERSION => Self::from_predecessor().map_err(failed),
            Ok(version) => Err(Error::Misuse(format!(
                "the running server hands over by version {version}, not {VERSION}; stop it, and \
                 start this one"
            ))),
            Err(_) => {
                let sockets = listen_fds().map_err(|error| {
                    Error::Misuse(format!(
                        "LISTEN_FDS promises sockets that are not there: {error}"
                    ))
                })?;
                let sockets: Vec<_> =
                    sockets.into_iter().map(|(name, fd)| (Use::of_name(&name), fd)).collect();
                let is_activated = sockets.iter().any(|(of, _)| *of != Use::Admin);
                Ok(Self { sockets, is_activated, predecessor: None })
            }
        }
    }

    fn from_predecessor() -> io::Result<Self> {
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        let mut given = Self::default();
        loop {
            let (text, fds) = receive(channel.as_fd())?;
            if let Some(letters) = text.strip_prefix("sockets ") {
                let uses = letters.chars().map(|c| Use::of_letter(c).ok_or_else(invalid));
                let uses = uses.collect::<io::Result<Vec<_>>>()?;
                if uses.len() != fds.len() {
                    return Err(invalid());
                }
                given.sockets.extend(uses.into_iter().zip(fds));
            } else {
                given.is_activated = match text.as_str() {
                    "end flags" => false,
                    "end activated" => true,
                    _ => return Err(invalid()),
                };
                given.predecessor = Some(channel);
                return Ok(given);
            }
        }
    }

    /// The administration port.
    pub(crate) fn take_admin(&mut self) -> Option<OwnedFd> {
        let index = self.sockets.iter().position(|(of, _)| *of == Use::Admin)?;
        Some(self.sockets.swap_remove(index).1)
    }

    /// Whether the sockets say where to listen.
    pub(crate) fn is_activated(&self) -> bool {
        self.is_activated
    }

    /// Puts the addresses of the sockets in the place of those that flags name.
    pub(crate) fn apply(&self, args: &mut ServerArgs) -> Result<(), Error> {
        if !self.is_activated {
            return Ok(());
        }
        args.listen.clear();
        args.tls.listen_tls.clear();
        for (of, fd) in &self.sockets {
            let addr = ListenAddr::of(fd).map_err(|error| {
                Error::Misuse(format!("a socket that was given cannot be listened on: {error}"))
            })?;
            let list = match of {
                Use::Listen => &mut args.listen,
                Use::ListenTls => &mut args.tls.listen_tls,
                Use::Admin => continue,
            };
            if !list.contains(&addr) {
                list.push(addr);
            }
        }
        Ok(())
    }

    /// Gives the sockets to a server; who waits for it to serve is left.
    pub(crate) fn give(self, builder: Builder) -> (Builder, Predecessor) {
        let fds = self.sockets.into_iter().filter(|(of, _)| *of != Use::Admin);
        let fds: Vec<OwnedFd> = fds.map(|(_, fd)| fd).collect();
        let builder = match fds.is_empty() {
            true => builder,
            false if self.is_activated => builder.inherit(fds),
            false => builder.take_over(fds),
        };
        (builder, Predecessor(self.predecessor))
    }
}

/// The server that this process replaces, if it replaces one.
#[derive(Debug)]
pub(crate) struct Predecessor(Option<OwnedFd>);

impl Predecessor {
    /// All workers serve: it may go.
    pub(crate) fn tell_ready(&self) {
        if let Some(channel) = &self.0 {
            // If it is gone by now, so much the better.
            let _ = send(channel, b"ready", SendFlags::NOSIGNAL);
        }
    }
}

/// A process that was to take over says why it does not.
pub(crate) fn tell_failure(error: &Error) {
    if env::var(TAKE_OVER).is_ok() {
        let text = error.to_string();
        let _ = send(
            io::stdin(),
            &text.as_bytes()[..text.len().min(MESSAGE_BYTES_MAX)],
            SendFlags::NOSIGNAL,
        );
    }
}

/// Sends a message, with descriptors.
pub(super) fn send_with(
    channel: BorrowedFd<'_>,
    text: &str,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(invalid());
    }
    sendmsg(channel, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message, and the descriptors in it. An empty one at the end.
pub(super) fn receive(channel: BorrowedFd<'_>) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(channel, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    Ok((String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), fds))
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the running server speaks another language")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn descriptors_arrive_with_what_they_are_for() {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let listeners: Vec<TcpListener> =
            (0..FDS_PER_MESSAGE).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
        send_with(ours.as_fd(), "sockets", &fds).unwrap();
        send_with(ours.as_fd(), "end", &[]).unwrap();
        let (text, arrived) = receive(theirs.as_fd()).unwrap();
        assert_eq!((text.as_str(), arrived.len()), ("sockets", FDS_PER_MESSAGE));
        for (sent, arrived) in listeners.iter().zip(&arrived) {
            let addr = ListenAddr::of(arrived).unwrap();
            assert_eq!(addr, ListenAddr::Tcp(sent.local_addr().unwrap()));
        }
        assert_eq!(receive(theirs.as_fd()).unwrap().0, "end");
        drop(ours);
        assert_eq!(receive(theirs.as_fd()).unwrap().0, "");
    }

    #[test]
    fn every_use_has_a_letter_of_its_own() {
        for of in [Use::Listen, Use::ListenTls, Use::Admin] {
            assert_eq!(Use::of_letter(of.letter()), Some(of));
        }
        assert_eq!(Use::of_letter('x'), None);
    }
}
