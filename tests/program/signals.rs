//! What the program says when it starts, and how it stops.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, PING};
use crate::process::{Program, echo_command, on_every_backend};

/// Row LC04 allows a second; a machine busy with other tests adds to that. In order, it would take
/// the five seconds of the close timeout.
const AT_ONCE: Duration = Duration::from_secs(3);

#[test]
fn program_announces_what_it_runs_on_and_how_to_try_it() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--workers", "1", "--message-bytes-max", "2M"];
        let program = Program::start(&[&flags[..], &["--conns-max", "123"]].concat());
        let lines = &program.announcement;
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert_eq!(lines[0], format!("longwire {}", env!("CARGO_PKG_VERSION")));
        assert!(program.announced("backend").starts_with(&format!("{backend}: ")), "{lines:?}");
        assert!(program.announced("workers").starts_with("1, pinned to core "), "{lines:?}");
        let limits = program.announced("limits");
        assert!(limits.starts_with("123 connections, messages of 2097152 bytes"), "{limits}");
        let url = format!("new WebSocket('ws://{}')", program.addr);
        assert!(lines[5].contains(&url), "{lines:?}");
        Client::open(program.addr).echo("and it is true");
    });
}

/// Both kinds of stop, and what peers and shells see of them.
#[test]
fn lc01_signal_closes_with_its_code_and_exits_with_0() {
    on_every_backend(|backend| {
        for (signal, code) in [(Signal::TERM, 1012), (Signal::INT, 1001)] {
            let program = Program::start(&["--backend", backend]);
            let mut clients: Vec<Client> = (0..10).map(|_| Client::open(program.addr)).collect();
            for client in &mut clients {
                client.echo("hello");
            }
            program.signal(signal);
            for mut client in clients {
                assert_eq!(client.read_close().0, code);
                client.send_close(code);
                client.read_end();
            }
            let (status, stdout, stderr) = program.wait();
            assert_eq!(status.code(), Some(0), "{stderr}");
            assert_eq!(stdout.last().unwrap(), "stopped: 10 connections, 10 messages");
            assert_eq!(stderr, "", "nothing went wrong");
        }
    });
}

#[test]
fn lc04_second_signal_stops_at_once() {
    on_every_backend(|backend| {
        for (first, second, code) in
            [(Signal::TERM, Signal::INT, 1012), (Signal::INT, Signal::INT, 1001)]
        {
            let program = Program::start(&["--backend", backend]);
            let mut client = Client::open(program.addr);
            program.signal(first);
            // It does not answer, so the program has to wait for it.
            assert_eq!(client.read_close().0, code);
            let asked_at = Instant::now();
            program.signal(second);
            let (status, stdout, _) = program.wait();
            assert!(asked_at.elapsed() < AT_ONCE, "{:?}", asked_at.elapsed());
            assert_eq!(status.code(), Some(0));
            assert!(stdout.contains(&"stopping at once".to_owned()), "{stdout:?}");
        }
    });
}

#[test]
fn signal_before_any_peer_stops_the_program() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend]);
        program.signal(Signal::TERM);
        let (status, stdout, _) = program.wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(stdout.last().unwrap(), "stopped: 0 connections, 0 messages");
    });
}

#[test]
fn port_of_a_stopped_program_is_free_at_once() {
    on_every_backend(|backend| {
        let first = Program::start(&["--backend", backend]);
        let addr = first.addr;
        // The server ends the connection first, so that TIME_WAIT is on its side.
        let mut client = Client::open(addr);
        first.signal(Signal::TERM);
        assert_eq!(client.read_close().0, 1012);
        client.send_close(1012);
        client.read_end();
        first.wait();
        let mut command = crate::process::longwire(&["echo", "--backend", backend]);
        command.args(["--listen", &addr.to_string()]);
        let second = Program::start_by(command);
        Client::open(second.addr).echo("again");
    });
}

/// A pager that was left, a collector of logs that restarts: nobody reads what a server says.
#[test]
fn server_to_whom_nobody_listens_serves_and_stops() {
    on_every_backend(|backend| {
        let mut command = echo_command(&["--backend", backend, "--log", "debug"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let place =
            lines.find_map(|line| line.unwrap().strip_prefix("listening on ")?.parse().ok());
        let last = lines.find(|line| line.as_ref().unwrap().starts_with("try it, "));
        assert!(last.is_some(), "it serves");
        drop((lines, child.stderr.take()));
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::HUP).unwrap();
        let mut client = Client::open(place.unwrap());
        // Each end of a connection is a line of the log.
        Client::open(place.unwrap()).close(1000);
        client.echo("as ever");
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(client.read_close().0, 1012);
        client.send_close(1012);
        let end = Instant::now() + Duration::from_secs(15);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{status}");
    });
}

#[test]
fn timeouts_are_taken_from_the_flags() {
    on_every_backend(|backend| {
        let flags = ["--ping-interval", "200ms", "--pong-timeout", "200ms", "--idle-timeout", "1h"];
        let program = Program::start(&[&["--backend", backend][..], &flags].concat());
        let mut client = Client::open(program.addr);
        let began = Instant::now();
        assert_eq!(client.read_frame().opcode, PING);
        assert!(began.elapsed() < Duration::from_secs(5), "not the default of 30 s");
    });
}
