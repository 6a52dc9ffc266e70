//! The opening handshake: the client's half, for sockets that block, and what the bare server
//! answers to a client that insists on it.
//!
//! The key is the one of RFC 6455 §1.3, so the answer to expect is known without any hashing.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::net::SendFlags;
use socket2::Socket;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: localhost\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
const ACCEPT_VALUE: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEAD_BYTES_MAX: usize = 4096;

/// Asks for the upgrade.
pub(crate) fn request(mut socket: &Socket) -> io::Result<()> {
    socket.write_all(REQUEST)
}

/// Reads the answer and holds it to what was asked.
pub(crate) fn read_response(mut socket: &Socket) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES_MAX];
    let mut len = 0;
    while !head[..len].ends_with(b"\r\n\r\n") {
        match socket.read(&mut head[len..])? {
            0 => return Err(refused(&head[..len], "the connection ended")),
            count => len += count,
        }
    }
    let text = String::from_utf8_lossy(&head[..len]);
    if !text.starts_with("HTTP/1.1 101 ") {
        return Err(refused(&head[..len], "not status 101"));
    }
    if !text.contains(ACCEPT_VALUE) {
        return Err(refused(&head[..len], "not the Sec-WebSocket-Accept of our key"));
    }
    Ok(())
}

/// Answers a request that came whole, as every client on loopback sends it.
pub(crate) fn answer(socket: impl AsFd, request: &[u8]) -> io::Result<()> {
    let answer = longwire::bench_internals::handshake_answer(request);
    let answer = answer.ok_or_else(|| refused(request, "not an upgrade request"))?;
    rustix::net::send(socket, &answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

fn refused(head: &[u8], why: &str) -> io::Error {
    io::Error::other(format!("handshake: {why}\n{}", String::from_utf8_lossy(head)))
}
