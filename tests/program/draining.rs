//! How the program lets its connections go, and that none is lost to a stop of the process.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::crowd::Crowd;
use crate::process::{Program, on_every_backend};

/// Connections of the drain, and its time in seconds; tests/run-drain asks for more.
const CONNS: usize = 1_000;
const SECONDS: u64 = 4;
/// A busy machine tells some of its clients late.
const LATE: Duration = Duration::from_secs(2);
const AT_ONCE: Duration = Duration::from_secs(3);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn lc01_drain_tells_every_client_1012_at_an_even_rate() {
    on_every_backend(|backend| {
        let conns = usize::try_from(number("DRAIN_CONNECTIONS", CONNS as u64)).unwrap();
        let time = Duration::from_secs(number("DRAIN_SECONDS", SECONDS));
        // As many as there are descriptors fit neither side; those of the ring are not counted.
        let direct = backend == "io_uring";
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let room = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()) - 1000;
        let conns = if direct { conns } else { conns.min(room) };
        let drain_time = format!("{}s", time.as_secs());
        let mut flags = vec!["--backend", backend, "--drain-time", &drain_time];
        flags.extend(direct.then_some("--direct-descriptors"));
        let program = Program::start(&flags);
        let crowd = Crowd::open(program.addr, conns, direct);
        let began = Instant::now();
        program.signal(Signal::TERM);
        let ends = crowd.all_ends(time + Duration::from_secs(15));
        let mut per_second = vec![0; usize::try_from(time.as_secs()).unwrap() + 16];
        for end in &ends {
            assert_eq!(end.code, Some(1012), "every client is told");
            let after = end.at.duration_since(began);
            assert!(after <= time + LATE, "{after:?}");
            per_second[usize::try_from(after.as_secs()).unwrap()] += 1;
        }
        let mean = conns / usize::try_from(time.as_secs()).unwrap();
        let most = per_second.iter().copied().max().unwrap();
        eprintln!("{backend}: {conns} closed over {time:?}, in each second {per_second:?}");
        assert!(most <= 2 * mean, "{most} in a second, {mean} in the mean: {per_second:?}");
        let (status, stdout, stderr) = program.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
        let line = format!("stopped: {conns} connections, 0 messages");
        assert_eq!(stdout.last(), Some(&line));
    });
}

#[test]
fn lc01_draining_server_takes_no_more_and_serves_those_it_has() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--workers", "1", "--drain-time", "3s"];
        let program = Program::start(&flags);
        let mut clients: Vec<Client> = (0..40).map(|_| Client::open(program.addr)).collect();
        program.signal(Signal::TERM);
        assert_eq!(program.next_line(), "stopping; a second signal stops at once");
        sleep(Duration::from_millis(200));
        assert!(TcpStream::connect(program.addr).is_err(), "nobody listens");
        let mut served = 0;
        for client in &mut clients {
            client.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            if client.stream.peek(&mut [0; 1]).is_err() {
                client.stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
                client.send_text("still here");
                served += usize::from(client.read_frame().opcode == crate::client::TEXT);
            }
        }
        assert!(served >= 20, "{served} of 40 are still served");
        program.signal(Signal::TERM);
        let asked_at = Instant::now();
        program.wait();
        assert!(asked_at.elapsed() < AT_ONCE, "{:?}", asked_at.elapsed());
    });
}

/// The minute of row TM01 is shortened: what counts is that it is longer than the pong timeout, and
/// than the five seconds from which on a gap is taken for a stop.
#[test]
fn tm01_stop_of_the_process_loses_no_live_connection() {
    on_every_backend(|backend| {
        let stop_time = Duration::from_secs(number("STOP_SECONDS", 7));
        let flags = ["--backend", backend, "--ping-interval", "1s", "--pong-timeout", "2s"];
        let program = Program::start(&[&flags[..], &["--handshake-timeout", "3s"]].concat());
        let crowd = Crowd::open(program.addr, 500, false);
        // Some have been asked for a sign of life when the process stops, and answer meanwhile.
        sleep(Duration::from_millis(1500));
        program.signal(Signal::STOP);
        sleep(stop_time);
        program.signal(Signal::CONT);
        sleep(Duration::from_secs(5));
        let lost = crowd.ends();
        assert!(lost.is_empty(), "{} of {} are lost: {:?}", lost.len(), crowd.count, lost[0]);
        program.signal(Signal::TERM);
        for end in crowd.all_ends(Duration::from_secs(10)) {
            assert_eq!(end.code, Some(1012));
        }
    });
}
