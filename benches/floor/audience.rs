//! Subscribers as a child process, of which the first publishes.
//!
//! It publishes, waits until every subscriber has what was published, and publishes again: so no
//! message shares a turn of the server with the one before it, and no socket ever fills up. While
//! the server sends, nobody waits in the kernel to be woken by it: a subscriber that is elsewhere
//! would not be woken by the server either. Received bytes are counted to the byte and dropped
//! unread; those of one subscriber in each turn are compared with what must come.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::Socket;

use crate::cell::{Cell, Payload};
use crate::crowd::{Crowd, Manner};
use crate::fanout::{BATCH_LEN, PAYLOAD_BYTES};
use crate::frame;

/// How often it is looked whether the server is through.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// A message that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);
const READY: &str = "ready";

/// The process, seen from the one that measures.
#[derive(Debug)]
pub(crate) struct Audience {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Audience {
    /// Connects so many subscribers.
    pub(crate) fn start(addr: SocketAddr, count: usize, manner: Manner) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["audience", "--connect", &addr.to_string(), "--count", &count.to_string()]);
        if manner == Manner::WebSocket {
            command.arg("--speaks");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(orders), Some(answers)) = (orders, answers) else {
            return Err(io::Error::other("an audience without pipes"));
        };
        let mut audience = Self { child, orders, answers: BufReader::new(answers) };
        let answer = audience.answer()?;
        if answer != READY {
            return Err(io::Error::other(format!("the audience says `{answer}`")));
        }
        Ok(audience)
    }

    /// Publishes and receives for as long as a slice lasts. Returns how many messages each
    /// subscriber has got.
    pub(crate) fn run(&mut self, messages_per_turn: usize, slice: Duration) -> io::Result<usize> {
        writeln!(self.orders, "{messages_per_turn} {}", slice.as_micros())?;
        let answer = self.answer()?;
        answer.parse().map_err(|_| io::Error::other(format!("the audience says `{answer}`")))
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(io::Error::other("the audience has left")),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the child does until it is killed.
pub(crate) fn attend(addr: SocketAddr, count: usize, manner: Manner) -> io::Result<()> {
    let mut seats = Seats {
        sockets: Crowd::open(addr, count, manner)?.into_sockets(),
        published: frame::client_frame(&CELL).repeat(BATCH_LEN),
        expected: frame::server_frame(&CELL).repeat(BATCH_LEN),
        read: vec![0; frame::server_frame(&CELL).len() * BATCH_LEN + 1],
        sample: 0,
    };
    println!("{READY}");
    for line in io::stdin().lines() {
        let line = line?;
        let fields = line.split_once(' ');
        let order = fields.and_then(|(len, us)| Some((len.parse().ok()?, us.parse().ok()?)));
        let (messages_per_turn, micros) =
            order.ok_or_else(|| io::Error::other(format!("`{line}` is no order")))?;
        let end = Instant::now() + Duration::from_micros(micros);
        let mut message_count = 0;
        while Instant::now() < end {
            seats.turn(messages_per_turn)?;
            message_count += messages_per_turn;
        }
        println!("{message_count}");
    }
    Ok(())
}

/// Bytes of one message on the wire: as it is published, and as it is delivered.
pub(crate) fn message_bytes() -> (usize, Vec<u8>) {
    (frame::client_frame(&CELL).len(), frame::server_frame(&CELL))
}

const CELL: Cell = Cell {
    name: "fanout",
    description: "",
    payload: Payload::Binary,
    payload_bytes: PAYLOAD_BYTES,
    conn_count: 0,
    depth: 1,
    bar: 0.0,
};

struct Seats {
    sockets: Vec<Socket>,
    /// Frames of a batch, as they are sent and as they are to come.
    published: Vec<u8>,
    expected: Vec<u8>,
    read: Vec<u8>,
    /// Whose bytes are compared next.
    sample: usize,
}

impl Seats {
    /// Publishes, and waits until all have it.
    fn turn(&mut self, message_count: usize) -> io::Result<()> {
        let published_bytes = self.published.len() / BATCH_LEN * message_count;
        let due_bytes = self.expected.len() / BATCH_LEN * message_count;
        let Self { sockets, published, expected, read, sample } = self;
        (&sockets[0]).write_all(&published[..published_bytes])?;
        let deadline = Instant::now() + PATIENCE;
        // Both servers come to the first one last, so that the others need not be waited for.
        for (index, socket) in sockets.iter().enumerate() {
            let compared = index == *sample;
            let flags = if compared { RecvFlags::empty() } else { RecvFlags::TRUNC };
            let mut received = 0;
            while received < due_bytes {
                // One byte more than is due would show that something came twice.
                let room = &mut read[received..=due_bytes];
                match recv(socket, room, flags | RecvFlags::DONTWAIT) {
                    Ok((_, 0)) => return Err(io::Error::other("the server has hung up")),
                    Ok((_, len)) => received += len,
                    Err(Errno::AGAIN) if Instant::now() < deadline => {
                        std::thread::sleep(LOOK_EVERY);
                    }
                    Err(Errno::AGAIN) => {
                        return Err(io::Error::other(format!(
                            "subscriber {index} has got {received} of {due_bytes} bytes"
                        )));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if received > due_bytes {
                return Err(io::Error::other(format!("subscriber {index} got more than is due")));
            }
            if compared && read[..due_bytes] != expected[..due_bytes] {
                return Err(io::Error::other(format!("subscriber {index} got something else")));
            }
        }
        *sample = (*sample + 1) % sockets.len();
        Ok(())
    }
}
