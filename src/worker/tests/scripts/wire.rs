//! The client's end of a connection, in the simulated network and on a real socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::io::sim::{Net, PeerId};
use crate::io::wake::Wake;

/// A client's end of a connection. Nothing in here waits.
pub(super) trait Wire {
    /// Sends what the connection takes.
    fn send(&mut self, bytes: &mut VecDeque<u8>);
    /// Appends what has come.
    fn receive(&mut self, bytes: &mut Vec<u8>);
    /// Whether the server's stream has ended.
    fn has_ended(&self) -> bool;
    /// Sends FIN, once.
    fn hang_up(&mut self);
    /// Lets the server's next wait end at once.
    fn wake(&self);
}

/// A peer of the simulated network.
#[derive(Debug)]
pub(super) struct SimWire {
    net: Net,
    id: PeerId,
    hung_up: bool,
}

impl SimWire {
    pub(super) fn connect(net: Net) -> Self {
        let id = net.connect();
        Self { net, id, hung_up: false }
    }
}

impl Wire for SimWire {
    fn send(&mut self, bytes: &mut VecDeque<u8>) {
        if !self.hung_up && !bytes.is_empty() {
            self.net.peer_write(self.id, bytes.make_contiguous());
            bytes.clear();
        }
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) {
        self.net.peer_read_into(self.id, bytes);
    }

    fn has_ended(&self) -> bool {
        self.net.peer_sees_fin(self.id) || self.net.peer_sees_reset(self.id)
    }

    fn hang_up(&mut self) {
        if !self.hung_up {
            self.hung_up = true;
            self.net.peer_shutdown(self.id);
        }
    }

    fn wake(&self) {
        self.net.wake();
    }
}

/// A TCP connection over loopback.
#[derive(Debug)]
pub(super) struct RealWire {
    stream: TcpStream,
    wake: Wake,
    ended: bool,
    hung_up: bool,
}

impl RealWire {
    pub(super) fn connect(addr: SocketAddr, wake: Wake) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, wake, ended: false, hung_up: false }
    }
}

impl Wire for RealWire {
    fn send(&mut self, bytes: &mut VecDeque<u8>) {
        while !self.hung_up && !bytes.is_empty() {
            match self.stream.write(bytes.make_contiguous()) {
                Ok(len) => drop(bytes.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server is gone already; what it said can still be read.
                Err(_) => bytes.clear(),
            }
        }
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) {
        match self.stream.read_to_end(bytes) {
            Ok(_) => self.ended = true,
            Err(error) => self.ended |= error.kind() != ErrorKind::WouldBlock,
        }
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn hang_up(&mut self) {
        if !self.hung_up {
            self.hung_up = true;
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn wake(&self) {
        self.wake.wake();
    }
}
