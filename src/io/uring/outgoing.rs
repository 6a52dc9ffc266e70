//! Connections that this process opens: polled from the start, for their peers do not speak first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::UringDriver;
use crate::io::{Outgoing, Token, socket};

impl Outgoing for UringDriver {
    fn attach_outgoing(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        // The ring waits for room in the socket by itself, but only if it may.
        socket::set_blocking(socket.as_fd())?;
        if self.slots.is_some() {
            self.insert_slot(token, socket.as_fd())?;
        } else {
            self.table.insert(token, socket);
        }
        self.arm_poll(token);
        Ok(())
    }
}
