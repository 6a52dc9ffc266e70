//! Upgrades of the running program: no connect is refused or reset, and a new program that does not
//! start changes nothing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::client::{Client, REQUEST, frame};
use crate::process::{Program, echo_command, longwire, on_every_backend, run, serve_command};

/// Of the short test; tests/run-upgrades asks for 20 under 2,000 connects a second.
const UPGRADES: u64 = 3;
const CONNECTS_PER_SECOND: u64 = 200;
const CONNECTORS: u64 = 8;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// What row LC02 allows a server beyond its drain time.
const EXIT_TIME_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(15);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Sessions that are opened and closed all the time.
struct Connects {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Connects {
    fn begin(addr: SocketAddr, per_second: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let connector = |number: u64| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            let source = Ipv4Addr::new(127, 0, 3, u8::try_from(number + 1).unwrap());
            let pace = Duration::from_secs(CONNECTORS) / u32::try_from(per_second).unwrap();
            thread::spawn(move || {
                let (mut faults, mut next) = (Vec::new(), Instant::now());
                while !over.load(Ordering::Acquire) {
                    match session(addr, source) {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(fault) => faults.push(fault),
                    }
                    next += pace;
                    sleep(next.saturating_duration_since(Instant::now()));
                }
                faults
            })
        };
        let threads = (0..CONNECTORS).map(connector).collect();
        Self { over, served, threads }
    }

    /// How many sessions were served, and what went wrong with the others.
    fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Release);
        let faults = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.served.load(Ordering::Relaxed), faults)
    }
}

/// Connects, is let in, says goodbye, and hears that of the server. Whatever else happens is a fault.
fn session(addr: SocketAddr, source: Ipv4Addr) -> Result<(), String> {
    let fault = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).map_err(fault("bind"))?;
    socket.connect_timeout(&addr.into(), PATIENCE).map_err(fault("connect"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(REQUEST.as_bytes()).map_err(fault("request"))?;
    let mut answer = Vec::new();
    let head_end = loop {
        if let Some(at) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        let mut some = [0; 512];
        match stream.read(&mut some).map_err(fault("answer"))? {
            0 => return Err("the server closed before it answered".to_owned()),
            len => answer.extend_from_slice(&some[..len]),
        }
    };
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        return Err(String::from_utf8_lossy(&answer).into_owned());
    }
    stream.write_all(&frame(true, 8, &1000_u16.to_be_bytes())).map_err(fault("goodbye"))?;
    // One that drains may have said goodbye right behind the answer.
    let mut rest = answer.split_off(head_end);
    stream.read_to_end(&mut rest).map_err(fault("end"))?;
    if rest.first() == Some(&0x88) { Ok(()) } else { Err(format!("no Close frame, but {rest:?}")) }
}

/// Processes that are ended with the test.
pub(crate) struct Successors(pub(crate) Vec<Pid>);

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

/// `longwire upgrade` for this process; the number of the new one, or what it said on standard error.
pub(crate) fn upgrade(pid: Pid) -> Result<Pid, (Option<i32>, String)> {
    let output = run(longwire(&["upgrade", "--pid", &pid.as_raw_nonzero().to_string()]));
    if !output.status.success() {
        return Err((output.status.code(), String::from_utf8(output.stderr).unwrap()));
    }
    let said = String::from_utf8(output.stdout).unwrap();
    let number = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    Ok(Pid::from_raw(number).unwrap())
}

/// Whether a process has ended, waited for by its parent or not.
pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

fn await_end(pid: Pid) -> Duration {
    let began = Instant::now();
    while !is_gone(pid) {
        let waited = began.elapsed();
        assert!(waited <= DRAIN_TIME + EXIT_TIME_MAX, "the old process is still there: {waited:?}");
        sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

#[test]
fn lc02_upgrades_under_connects_refuse_and_reset_nobody() {
    on_every_backend(|backend| {
        let upgrades = number("UPGRADES", UPGRADES);
        let per_second = number("UPGRADE_CONNECTS_PER_SECOND", CONNECTS_PER_SECOND);
        let flags = ["--backend", backend, "--workers", "2", "--drain-time", "2s"];
        let program = Program::start(&flags);
        let connects = Connects::begin(program.addr, per_second);
        let began = Instant::now();
        let (mut pid, mut successors, mut slowest) =
            (program.pid(), Successors(Vec::new()), DRAIN_TIME);
        for _ in 0..upgrades {
            let mut held: Vec<Client> = (0..20).map(|_| Client::open(program.addr)).collect();
            held.iter_mut().for_each(|client| client.echo("before"));
            let next = upgrade(pid).unwrap();
            successors.0.push(next);
            Client::open(program.addr).echo("served by either");
            for mut client in held {
                assert_eq!(client.read_close().0, 1012, "the old process drains");
                client.send_close(1012);
                client.read_end();
            }
            slowest = slowest.max(DRAIN_TIME + await_end(pid));
            pid = next;
        }
        let took = began.elapsed();
        let (served, faults) = connects.end();
        eprintln!(
            "{backend}: {upgrades} upgrades in {took:?}, {served} connects, {} faults",
            faults.len()
        );
        assert!(
            faults.is_empty(),
            "{} of {served}: {:?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
        assert!(served > 0);
        kill_process(pid, Signal::TERM).unwrap();
        await_end(pid);
        assert!(TcpStream::connect(program.addr).is_err(), "the last one has closed the port");
    });
}

/// A copy of the program that can be replaced; removed with its folder when it is dropped.
pub(crate) struct Copy(pub(crate) PathBuf);

impl Copy {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("longwire-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let copy = Self(folder);
        copy.put_program();
        copy
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("longwire")
    }

    /// As a package manager does: a new file takes the place of the old one.
    fn put_program(&self) {
        let new = self.0.join("new");
        fs::copy(env!("CARGO_BIN_EXE_longwire"), &new).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    pub(crate) fn put_script(&self, text: &str) {
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    pub(crate) fn command(&self, of: &Command) -> Command {
        let mut command = Command::new(self.path());
        command.args(of.get_args()).env_remove("LONGWIRE_LOG");
        command
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lc02_new_program_that_does_not_start_leaves_the_old_one_serving() {
    let copy = Copy::new("broken");
    let program = Program::start_by(copy.command(&echo_command(&["--workers", "1"])));
    let mut client = Client::open(program.addr);
    for (script, word) in
        [("#!/bin/sh\nexit 3\n", "ended before it served"), ("#!/nowhere/sh\n", "could not start")]
    {
        copy.put_script(script);
        let (code, stderr) = upgrade(program.pid()).unwrap_err();
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("goes on") && stderr.contains(word), "{stderr}");
        assert_eq!(stderr.matches('\n').count(), 1, "one line: {stderr}");
        client.echo("as if nothing had happened");
        Client::open(program.addr).echo("and so are others");
    }
    copy.put_program();
    let successor = Successors(vec![upgrade(program.pid()).unwrap()]);
    assert_eq!(client.read_close().0, 1012);
    Client::open(program.addr).echo("the third is good");
    let (code, stderr) = upgrade(program.pid()).unwrap_err();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("stopping already"), "{stderr}");
    drop(successor);
}

#[test]
fn lc02_reason_of_the_new_program_is_told() {
    let (certificate, key) = longwire::self_signed(&[]).unwrap();
    let folder = Copy::new("certificate");
    let (file, key_file) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
    fs::write(&file, certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    let flags = ["--tls-cert", file.to_str().unwrap(), "--tls-key", key_file.to_str().unwrap()];
    let program = Program::start(&flags);
    fs::remove_file(&file).unwrap();
    let (code, stderr) = upgrade(program.pid()).unwrap_err();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cert.pem"), "what the new one said: {stderr}");
}

#[test]
fn lc02_administration_and_socket_file_go_on_in_the_new_process() {
    on_every_backend(|backend| {
        let folder = Copy::new(&format!("socket-{backend}"));
        let path = folder.0.join("s");
        let unix = format!("unix:{}", path.display());
        let flags = ["--backend", backend, "--listen", &unix];
        let program = Program::start_by(serve_command(&flags));
        let ready = |word: &str| {
            let mut stream = TcpStream::connect(program.admin()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(word), "{answer}");
        };
        ready("HTTP/1.0 200");
        let pid = program.pid();
        let successors = Successors(vec![upgrade(pid).unwrap()]);
        for _ in 0..10 {
            ready("HTTP/1.0 200");
        }
        await_end(pid);
        assert!(path.exists(), "the old process has left the file");
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        Client::open_at(program.addr, "/echo").echo("and the port");
        kill_process(successors.0[0], Signal::TERM).unwrap();
        await_end(successors.0[0]);
        assert!(!path.exists(), "the new one has removed it");
    });
}

#[test]
fn upgrade_of_nobody_is_an_error() {
    let output = run(longwire(&["upgrade", "--pid", "999999999"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no server answers") && stderr.matches('\n').count() == 1, "{stderr}");
}

#[test]
fn lc06_restart_after_a_kill_takes_the_port_within_a_second() {
    on_every_backend(|backend| {
        let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
        for round in 0..5 {
            let listen = addr.to_string();
            let flags = ["--backend", backend, "--listen", &listen, "--allow-any-origin"];
            let began = Instant::now();
            let program = Program::start_by(longwire(&[&["echo"][..], &flags].concat()));
            let took = began.elapsed();
            assert!(round == 0 || took < Duration::from_secs(3), "{took:?}");
            addr = program.addr;
            let mut clients: Vec<Client> = (0..50).map(|_| Client::open(addr)).collect();
            clients.iter_mut().for_each(|client| client.echo("in memory alone"));
            program.signal(Signal::KILL);
            program.wait();
            let end = clients[0].stream.read(&mut [0; 1]);
            let is_reset = |kind| kind == ErrorKind::ConnectionReset;
            assert!(matches!(end, Ok(0)) || end.is_err_and(|error| is_reset(error.kind())));
        }
    });
}
