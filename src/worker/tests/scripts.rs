//! The same sessions, without faults, on the simulated driver and on both real ones: the
//! application must see the same events, and the peer the same bytes (row R7).

mod wire;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conn::{MessageKind, Side};
use crate::io::Driver;
use crate::io::backend::{DriverSetup, RING_ENTRIES};
use crate::io::epoll::EpollDriver;
use crate::io::sim::{FaultConfig, SimDriver};
use crate::io::socket;
use crate::io::uring::{UringDriver, probe};
use crate::io::wake::Wake;
use crate::metrics::{Metrics, Stats};
use crate::policy::Limits;
use crate::proto::{CloseCode, Opcode, close};
use crate::worker::{Post, Served, Worker};

use super::app::{App, Log};
use super::client::{Client, Opening};
use super::payload::Command::{Burst, Close, Copy, Echo, Keep, Note, Panic, Twice};
use super::rig::{memory, shared};
use wire::{RealWire, SimWire, Wire};

use MessageKind::{Binary, Text};

/// How long a session may take on a real socket.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session: what the client says once it is in, and all that must come of it.
struct Script {
    name: &'static str,
    say: fn(&mut Client),
    /// The client sends FIN behind it.
    hangs_up: bool,
    /// The answer to the handshake, then the frames: `T` text, `B` binary, `P` pong with their
    /// lengths, `C` close with its code.
    wire: &'static str,
    messages: usize,
    /// What the application hears of the end.
    close: Option<(u16, Side)>,
}

/// What came of a session.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    wire: String,
    messages: usize,
    close: Option<(u16, Side)>,
    /// All that the peer received, to the byte.
    frames: Vec<(Opcode, Vec<u8>)>,
}

const fn script(
    name: &'static str,
    say: fn(&mut Client),
    wire: &'static str,
    messages: usize,
    close: (u16, Side),
) -> Script {
    Script { name, say, hangs_up: false, wire, messages, close: Some(close) }
}

const SCRIPTS: [Script; 18] = [
    script(
        "a short text comes back",
        |c| {
            c.say(Text, Echo, 20, 1);
            c.close(CloseCode::NORMAL, "bye");
        },
        "101 T20 C1000",
        1,
        (1000, Side::Peer),
    ),
    script(
        "lengths at the edges of the header",
        |c| {
            for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
                c.say(Binary, Echo, len, 1);
            }
            c.close(CloseCode::new(3000), "");
        },
        "101 B0 B1 B125 B126 B127 B65535 B65536 C3000",
        7,
        (3000, Side::Peer),
    ),
    script(
        "a message of many blocks",
        |c| {
            c.say(Binary, Twice, 250_000, 1);
            c.close(CloseCode::NORMAL, "");
        },
        "101 B250000 B250000 C1000",
        1,
        (1000, Side::Peer),
    ),
    script(
        "a text of many blocks in fragments",
        |c| {
            c.say(Text, Copy, 200_000, 7);
            c.close(CloseCode::NORMAL, "");
        },
        "101 T200000 C1000",
        1,
        (1000, Side::Peer),
    ),
    script(
        "a hundred messages in one write",
        |c| {
            for _ in 0..25 {
                c.say(Text, Note, 40, 1);
                c.say(Binary, Keep, 50, 1);
            }
            c.close(CloseCode::NORMAL, "");
        },
        "101 (B10 T40)x25 C1000",
        50,
        (1000, Side::Peer),
    ),
    script(
        "pings around and between messages",
        |c| {
            c.ping(b"");
            c.say(Text, Echo, 30, 1);
            c.frame(Opcode::Binary, false, b"A");
            c.ping(&[7; 125]);
            c.frame(Opcode::Continuation, true, b"");
            c.expect_raw(Binary, 1);
            c.close(CloseCode::NORMAL, "");
        },
        "101 P0 T30 P125 B1 C1000",
        2,
        (1000, Side::Peer),
    ),
    script(
        "a pong that nobody asked for",
        |c| {
            c.frame(Opcode::Pong, true, b"hello");
            c.close(CloseCode::NORMAL, "");
        },
        "101 C1000",
        0,
        (1000, Side::Peer),
    ),
    script(
        "a Close without a code",
        |c| {
            c.frame(Opcode::Close, true, b"");
            c.said_close = true;
        },
        "101 C1005",
        0,
        (1005, Side::Peer),
    ),
    script(
        "frames behind a Close",
        |c| {
            c.close(CloseCode::NORMAL, "");
            c.say(Text, Echo, 30, 1);
            c.close(CloseCode::GOING_AWAY, "");
        },
        "101 C1000",
        0,
        (1000, Side::Peer),
    ),
    script(
        "the application closes",
        |c| {
            c.say(Text, Close, 30, 1);
            c.say(Text, Keep, 30, 1);
        },
        "101 T30 C4000",
        1,
        (4000, Side::Local),
    ),
    script(
        "the application panics",
        |c| {
            c.say(Text, Echo, 30, 1);
            c.say(Text, Panic, 30, 1);
        },
        "101 T30 C1011",
        2,
        (1011, Side::Local),
    ),
    script(
        "a full queue",
        |c| c.say(Binary, Burst, 100_000, 1),
        "101 B100000x11 C1013",
        1,
        (1013, Side::Local),
    ),
    script(
        "a frame that is not masked",
        |c| {
            c.say(Text, Echo, 30, 1);
            c.out.extend(*b"\x81\x01x");
        },
        "101 T30 C1002",
        1,
        (1002, Side::Local),
    ),
    script(
        "a text that is not UTF-8",
        |c| c.frame(Opcode::Text, true, b"\xFF"),
        "101 C1007",
        0,
        (1007, Side::Local),
    ),
    script(
        "a message that is announced too big",
        |c| {
            c.out.extend(*b"\x82\xFF\0\0\0\0\0\x10\0\0abcd");
        },
        "101 C1009",
        0,
        (1009, Side::Local),
    ),
    Script {
        name: "FIN without a Close",
        say: |c| c.say(Text, Twice, 70_000, 3),
        hangs_up: true,
        wire: "101 T70000 T70000",
        messages: 1,
        close: Some((1006, Side::Peer)),
    },
    Script {
        name: "frames before the handshake is answered",
        say: |c| c.frame(Opcode::Text, true, b"too early"),
        hangs_up: false,
        wire: "400",
        messages: 0,
        close: None,
    },
    Script {
        name: "FIN in the middle of the handshake",
        say: |c| c.out.truncate(30),
        hangs_up: true,
        wire: "nothing",
        messages: 0,
        close: None,
    },
];

#[test]
fn scripted_sessions_give_the_same_events_on_every_driver() {
    let uring = probe::probe(false);
    for script in &SCRIPTS {
        let expected = (script.wire.to_owned(), script.messages, script.close);
        let simulated = on_sim(script, false);
        assert_eq!(
            (simulated.wire.clone(), simulated.messages, simulated.close),
            expected,
            "{}",
            script.name
        );
        assert_eq!(on_sim(script, true), simulated, "{}: simulated, sending at once", script.name);
        assert_eq!(on_real(script, EpollDriver::new), simulated, "{}: epoll", script.name);
        if uring.is_ok() {
            assert_eq!(on_real(script, UringDriver::new), simulated, "{}: io_uring", script.name);
        }
    }
    if let Err(why) = uring {
        println!("not run on io_uring, which does not work here: {why}");
    }
}

fn on_sim(script: &Script, at_once: bool) -> Outcome {
    let driver = SimDriver::new(0, FaultConfig::none());
    let net = driver.net();
    let wire = SimWire::connect(net);
    if at_once { play(driver.sending_at_once(), wire, script) } else { play(driver, wire, script) }
}

fn on_real<D: Driver>(script: &Script, make: fn(DriverSetup) -> std::io::Result<D>) -> Outcome {
    let listener = socket::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let addr = listener.local_addr().unwrap();
    let wake = Wake::new().unwrap();
    let setup = DriverSetup {
        listeners: vec![listener],
        wake: wake.clone(),
        conns_max: 16,
        direct_descriptors: false,
        ring_entries: RING_ENTRIES,
    };
    let driver = make(setup).unwrap();
    play(driver, RealWire::connect(addr, wake), script)
}

fn play<D: Driver>(driver: D, mut wire: impl Wire, script: &Script) -> Outcome {
    let app = App::default();
    let log = Rc::clone(&app.log);
    let shared = shared();
    let metrics = Arc::new(Metrics::default());
    let limits = Limits {
        conns_max: 16,
        message_bytes_max: 256 << 10,
        frame_bytes_max: 256 << 10,
        ..Limits::default()
    };
    let mut worker = Worker::new(
        driver,
        Served(app),
        limits,
        memory(),
        Post { number: 0, metrics: Arc::clone(&metrics), doors: Vec::new() },
        shared,
    );
    let mut client = Client::knocking(0, 5);
    client.frames = Some(Vec::new());
    let speaks_early = script.close.is_none();
    if speaks_early {
        (script.say)(&mut client);
    }
    let mut has_spoken = speaks_early;
    let was_accepted = || {
        let mut stats = Stats::default();
        stats.add(&metrics);
        stats.accepted > 0
    };
    let started_at = Instant::now();
    // Over when the server has let go of a connection it once had.
    while !(was_accepted() && worker.table.is_empty()) {
        assert!(started_at.elapsed() < PATIENCE, "{}: {client:?}", script.name);
        let mut bytes = Vec::new();
        wire.receive(&mut bytes);
        client.handle_received(&bytes).unwrap_or_else(|error| panic!("{}: {error}", script.name));
        if client.opening == Opening::Open && !has_spoken {
            has_spoken = true;
            (script.say)(&mut client);
        }
        wire.send(&mut client.out);
        let is_through = has_spoken && client.out.is_empty();
        if wire.has_ended() || (script.hangs_up && is_through) {
            wire.hang_up();
        }
        wire.wake();
        worker.turn().unwrap();
    }
    let mut bytes = Vec::new();
    wire.receive(&mut bytes);
    client.handle_received(&bytes).unwrap();
    assert_eq!(worker.core.pool.lent_count(), 0, "{}: every block is back", script.name);
    outcome(client, &log)
}

fn outcome(mut client: Client, log: &RefCell<Log>) -> Outcome {
    let log = log.borrow();
    assert!(log.faults.is_empty(), "{:?}", log.faults);
    let seen = log.peers.get(&0).cloned().unwrap_or_default();
    assert_eq!(seen.opens, seen.closes.len());
    let frames = client.frames.take().unwrap_or_default();
    Outcome {
        wire: describe(client.opening, &frames),
        messages: seen.messages,
        close: seen.closes.first().map(|(code, side)| (code.as_u16(), *side)),
        frames,
    }
}

/// The answer and the frames in a line; repetitions are counted.
fn describe(opening: Opening, frames: &[(Opcode, Vec<u8>)]) -> String {
    let mut line = match opening {
        Opening::Waiting => return "nothing".to_owned(),
        Opening::Open => "101".to_owned(),
        Opening::Refused(status) => status.to_string(),
    };
    let words: Vec<String> =
        frames.iter().map(|(opcode, payload)| word(*opcode, payload)).collect();
    let mut rest = &words[..];
    while let Some(first) = rest.first() {
        let run = |size: usize| {
            let group = rest.get(..size).unwrap_or_default();
            if group.is_empty() {
                0
            } else {
                rest.chunks(size).take_while(|chunk| *chunk == group).count()
            }
        };
        let (single, double) = (run(1), run(2));
        let taken = if double > 2 && single < 3 {
            let _ = write!(line, " ({first} {})x{double}", rest[1]);
            2 * double
        } else if single > 2 {
            let _ = write!(line, " {first}x{single}");
            single
        } else {
            let _ = write!(line, " {first}");
            1
        };
        rest = &rest[taken..];
    }
    line
}

fn word(opcode: Opcode, payload: &[u8]) -> String {
    let len = payload.len();
    match opcode {
        Opcode::Text => format!("T{len}"),
        Opcode::Binary => format!("B{len}"),
        Opcode::Ping => format!("Q{len}"),
        Opcode::Pong => format!("P{len}"),
        Opcode::Continuation => "-".to_owned(),
        Opcode::Close => {
            let code = close::decode(payload).ok().flatten();
            format!("C{}", code.map_or(CloseCode::NO_STATUS, |(code, _)| code))
        }
    }
}
