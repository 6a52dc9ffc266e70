//! The server when descriptors have run out.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, REQUEST};
use crate::process::{Program, echo_command, on_every_backend};

/// Starts the program, as its own, with 100 descriptors open already, of the 130 it may have.
///
/// The program leaves room for its own descriptors when it decides how many connections it takes,
/// so they only run out if somebody else uses them up: here, whoever has started it. To lower the
/// limit later would not do: an io_uring accept keeps the one it was submitted with.
const CROWDED: &str =
    "ulimit -n 130; for n in $(seq 100); do exec {fd}</dev/null; done; exec \"$@\"";
const FLOOD: usize = 200;
/// Row TC01 allows a second; a machine busy with other tests adds to that.
const SOON: Duration = Duration::from_secs(3);
const FLOOD_TIME: Duration = Duration::from_millis(1_500);

/// A peer that asks to be let in, and whether it was.
fn knock(program: &Program) -> Option<Client> {
    let mut client = Client::connect(program.addr);
    client.send_raw(REQUEST.as_bytes());
    let mut start = [0; 12];
    let mut peeked = 0;
    while peeked < start.len() {
        match client.stream.peek(&mut start) {
            Ok(0) => return None,
            Ok(len) => peeked = len,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "left without an answer");
                return None;
            }
        }
    }
    assert_eq!(&start, b"HTTP/1.1 101", "there are places, only no descriptors");
    client.finish_handshake();
    Some(client)
}

fn crowded(flags: &[&str]) -> Command {
    let program = echo_command(flags);
    let mut command = Command::new("bash");
    command.args(["-c", CROWDED, "bash"]).arg(program.get_program()).args(program.get_args());
    command
}

/// More than there are descriptors for, each with its request.
fn flood(program: &Program) -> Vec<TcpStream> {
    let knocking = |_| {
        let mut client = Client::connect(program.addr);
        client.send_raw(REQUEST.as_bytes());
        client.stream
    };
    (0..FLOOD).map(knocking).collect()
}

/// What is left of a core for those that are connected: accepting may cost a hundredth of one.
#[test]
fn tc01_ten_seconds_without_descriptors_cost_next_to_nothing() {
    const HELD_TIME: Duration = Duration::from_secs(10);
    on_every_backend(|backend| {
        let program = Program::start_by(crowded(&["--backend", backend, "--workers", "1"]));
        let mut held = Vec::new();
        while let Some(client) = knock(&program) {
            held.push(client);
        }
        let crowd = flood(&program);
        let (began, cpu_before) = (Instant::now(), program.cpu_time());
        let mut slowest = Duration::ZERO;
        let mut latecomers = Vec::new();
        while began.elapsed() < HELD_TIME {
            // New ones keep coming, ten in a second.
            latecomers.push(TcpStream::connect(program.addr));
            let asked_at = Instant::now();
            held[0].echo("still served");
            slowest = slowest.max(asked_at.elapsed());
            thread::sleep(Duration::from_millis(100));
        }
        let busy = program.cpu_time() - cpu_before;
        // One of them that waits would be given what becomes free.
        drop((crowd, latecomers));
        held.pop().unwrap().close(1000);
        let freed_at = Instant::now();
        while knock(&program).is_none() {
            assert!(freed_at.elapsed() < SOON, "no recovery");
        }
        let recovery = freed_at.elapsed();
        eprintln!(
            "{backend}: {busy:?} of CPU in {HELD_TIME:?}, {slowest:?} to echo, {recovery:?} to recover"
        );
        assert!(busy <= HELD_TIME / 100, "{busy:?} in {HELD_TIME:?}");
        assert!(slowest < SOON, "{slowest:?}");
        assert!(recovery < Duration::from_secs(1), "{recovery:?}");
    });
}

#[test]
fn tc01_server_without_descriptors_sheds_new_peers_and_serves_the_others() {
    on_every_backend(|backend| {
        let program = Program::start_by(crowded(&["--backend", backend, "--workers", "1"]));
        let mut held = Vec::new();
        while let Some(client) = knock(&program) {
            held.push(client);
            assert!(held.len() < 30, "descriptors never run out");
        }
        assert!(held.len() > 5, "they have not run out from the start");

        let (began, cpu_before) = (Instant::now(), program.cpu_time());
        let crowd = flood(&program);
        while began.elapsed() < FLOOD_TIME {
            for client in &mut held {
                let asked_at = Instant::now();
                client.echo("still served");
                assert!(asked_at.elapsed() < SOON, "{:?}", asked_at.elapsed());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let busy = program.cpu_time() - cpu_before;
        assert!(busy < FLOOD_TIME / 10, "no spinning: {busy:?} in {FLOOD_TIME:?}");
        for mut stream in crowd {
            match stream.read(&mut [0; 1]) {
                Ok(len) => assert_eq!(len, 0, "shed without an answer"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "left hanging");
                }
            }
        }

        held.pop().unwrap().close(1000);
        let freed_at = Instant::now();
        let mut newcomer = loop {
            if let Some(client) = knock(&program) {
                break client;
            }
            assert!(freed_at.elapsed() < SOON, "no recovery");
        };
        newcomer.echo("let in again");

        program.signal(rustix::process::Signal::TERM);
        drop((held, newcomer));
        let (status, _, stderr) = program.wait();
        assert_eq!(status.code(), Some(0));
        assert!(stderr.lines().count() <= 4, "at most a line a second: {stderr}");
    });
}
