//! The floor of a fan-out: what the first connection says is answered by a loop of `send` of as many
//! frames to every connection. No topics, no queues, no readiness: sockets that take all of it are
//! what the measurement provides. Ends only when its parent kills it, or when one does not.

use std::io;
use std::net::TcpListener;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::fanout::BATCH_LEN;

/// Serves until killed, as soon as so many have connected.
pub(crate) fn serve(
    listener: &TcpListener,
    count: usize,
    message_bytes: usize,
    reply: &[u8],
) -> io::Result<()> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        sockets.push(listener.accept()?.0);
    }
    let replies = reply.repeat(BATCH_LEN);
    let mut received = vec![0; message_bytes * BATCH_LEN];
    loop {
        let (len, _) = recv(&sockets[0], &mut received[..], RecvFlags::empty())?;
        if len == 0 || len % message_bytes != 0 {
            return Err(io::Error::other(format!("{len} bytes are no whole messages")));
        }
        let bytes = &replies[..len / message_bytes * reply.len()];
        // From the last to the first, as longwire does it.
        for socket in sockets.iter().rev() {
            let sent = send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
            if sent < bytes.len() {
                return Err(io::Error::other("a socket is full; the client reads too slowly"));
            }
        }
    }
}
