//! The program under a service manager: what it says to that, the sockets it is given, and the unit
//! files.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::backends::skip;
use crate::client::Client;
use crate::process::{Program, echo_command, longwire, on_every_backend, run, serve_command};
use crate::upgrading::{Successors, upgrade};

const PATIENCE: Duration = Duration::from_secs(15);

/// The manager's end: what it was told.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Self {
        let name = format!("longwire-notify-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 1024];
        let len = self.socket.recv(&mut bytes).expect("the manager is told something");
        let text = std::str::from_utf8(&bytes[..len]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The next message with this line in it.
    fn await_line(&self, line: &str) -> Vec<String> {
        loop {
            let told = self.next();
            if told.iter().any(|one| one.starts_with(line)) {
                return told;
            }
        }
    }

    fn told_by(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn manager_is_told_of_every_stage() {
    let manager = Manager::new("stages");
    let mut command = echo_command(&["--workers", "2", "--drain-time", "3s"]);
    manager.told_by(&mut command);
    let program = Program::start_by(command);
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving"]);
    let _held = Client::open(program.addr);
    program.signal(Signal::HUP);
    let told = manager.next();
    assert_eq!(told[0], "RELOADING=1");
    let micros = told[1].strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0, "{told:?}");
    assert_eq!(manager.next(), ["READY=1", "STATUS=serving"]);
    program.signal(Signal::TERM);
    assert_eq!(manager.next(), ["STOPPING=1", "STATUS=draining"]);
    assert!(manager.next()[0].starts_with("STATUS=draining, "), "how many are left");
}

#[test]
fn lc05_watchdog_is_told_at_half_of_its_time_at_the_latest() {
    let manager = Manager::new("watchdog");
    let mut command = echo_command(&["--workers", "1"]);
    manager.told_by(&mut command);
    command.env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
    let program = Program::start_by(command);
    manager.await_line("WATCHDOG=1");
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2000) && took < Duration::from_secs(6), "{took:?}");
    program.signal(Signal::STOP);
    while manager.socket.set_read_timeout(Some(Duration::from_millis(700))).is_ok() {
        let Err(error) = manager.socket.recv(&mut [0; 64]) else { continue };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "a process that is stopped says nothing");
        break;
    }
    program.signal(Signal::CONT);
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.await_line("WATCHDOG=1");
}

#[test]
fn manager_is_told_which_process_is_the_main_one_after_an_upgrade() {
    let manager = Manager::new("upgrade");
    let mut command = echo_command(&["--workers", "1", "--drain-time", "1s"]);
    manager.told_by(&mut command);
    let program = Program::start_by(command);
    manager.await_line("READY=1");
    let pid = program.pid().as_raw_nonzero().to_string();
    let output = run(longwire(&["upgrade", "--pid", &pid]));
    let said = String::from_utf8(output.stdout).unwrap();
    let successor = said.split_whitespace().nth(1).unwrap().to_owned();
    let told = manager.await_line("MAINPID=");
    assert_eq!(told[0], format!("MAINPID={successor}"));
    assert_eq!(told[1], "READY=1");
    kill_process(Pid::from_raw(successor.parse().unwrap()).unwrap(), Signal::TERM).unwrap();
    manager.await_line("STOPPING=1");
    program.wait();
}

/// Starts the program as a service manager would: with sockets from descriptor 3 on.
fn activated(of: &Command, sockets: &[OwnedFd], names: &str) -> Command {
    let fds: Vec<String> =
        sockets.iter().map(|fd| std::os::fd::AsRawFd::as_raw_fd(fd).to_string()).collect();
    // The shell is given copies at numbers that it does not use itself, and moves them.
    let mut script = String::new();
    for (index, fd) in fds.iter().enumerate() {
        script += &format!("exec {}<&{fd}; ", index + 3);
    }
    script += "export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(of.get_program()).args(of.get_args());
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    command
}

/// A listening socket that a child inherits, at a number that the shell does not use.
fn inheritable(listener: impl AsFd) -> OwnedFd {
    let fd = rustix::io::fcntl_dupfd_cloexec(listener, 100).unwrap();
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

fn bound(addr: &str) -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind(addr).unwrap();
    let addr = listener.local_addr().unwrap();
    (inheritable(listener), addr)
}

#[test]
fn sockets_that_are_given_take_the_place_of_the_addresses() {
    on_every_backend(|backend| {
        let ((first, addr), (admin, admin_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let flags = ["--backend", backend, "--workers", "3"];
        let sockets = [first, admin];
        let program = Program::start_by(activated(&serve_command(&flags), &sockets, "web:admin"));
        assert_eq!((program.addrs(), program.admin()), (vec![addr], admin_addr));
        let clients: Vec<Client> = (0..30).map(|_| Client::open_at(addr, "/echo")).collect();
        TcpStream::connect(admin_addr).unwrap();
        program.signal(Signal::TERM);
        drop(clients);
        program.wait();
        // The manager's sockets live on: who comes now waits for the next server.
        let mut waiting = Client::connect(addr);
        let request = crate::client::REQUEST.replacen("GET / ", "GET /echo ", 1);
        waiting.send_raw(request.as_bytes());
        let next = Program::start_by(activated(&serve_command(&flags), &sockets, "web:admin"));
        waiting.finish_handshake();
        next.signal(Signal::TERM);
    });
}

#[test]
fn socket_that_is_given_once_is_served_by_every_worker() {
    on_every_backend(|backend| {
        let (socket, addr) = bound("127.0.0.1:0");
        let flags = ["--backend", backend, "--workers", "2"];
        let program = Program::start_by(activated(&serve_command(&flags), &[socket], ""));
        let opened = |core: u32| {
            let metrics = crate::http::get(program.admin(), "/metrics").body;
            let name = format!("longwire_connections_opened_total{{core=\"{core}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap().parse::<usize>().unwrap()
        };
        // Who is woken for a connection is the kernel's choice, and on a busy machine mostly the same.
        let mut clients: Vec<Client> = Vec::new();
        let mut shares = [0; 2];
        while shares.contains(&0) {
            assert!(clients.len() < 4000, "{shares:?}");
            clients.extend((0..100).map(|_| Client::open_at(addr, "/echo")));
            shares = [opened(0), opened(1)];
        }
        eprintln!("{backend}: {shares:?}");
        assert_eq!(shares.iter().sum::<usize>(), clients.len());
    });
}

#[test]
fn socket_of_a_service_manager_may_be_for_tls() {
    let ((plain, plain_addr), (secure, secure_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    let command = echo_command(&["--workers", "1", "--tls-self-signed"]);
    let program = Program::start_by(activated(&command, &[plain, secure], "plain:tls"));
    let lines = &program.announcement;
    assert!(lines.contains(&format!("listening on {plain_addr}")), "{lines:?}");
    assert!(lines.contains(&format!("listening on {secure_addr} (TLS)")), "{lines:?}");
    Client::open(plain_addr).echo("in the clear");
}

/// Before, it was handed over as one without: the new process took what came there in the clear.
#[test]
fn unix_socket_for_tls_is_one_after_an_upgrade_as_well() {
    let path = std::env::temp_dir().join(format!("longwire-tls-{}.sock", std::process::id()));
    let _ = fs::remove_file(&path);
    let (plain, _) = bound("127.0.0.1:0");
    let secure = inheritable(UnixListener::bind(&path).unwrap());
    let command = echo_command(&["--workers", "1", "--tls-self-signed"]);
    let program = Program::start_by(activated(&command, &[plain, secure], "plain:tls"));
    let line = format!("listening on unix:{} (TLS)", path.display());
    assert!(program.announcement.contains(&line), "{:?}", program.announcement);
    let refuses_plain_text = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(crate::client::REQUEST.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    };
    refuses_plain_text();
    let successors = Successors(vec![upgrade(program.pid()).unwrap()]);
    refuses_plain_text();
    while program.next_line() != line {}
    drop(successors);
    let _ = fs::remove_file(&path);
}

#[test]
fn descriptor_that_is_no_socket_is_an_error_in_one_line() {
    let file = fs::File::open("/dev/null").unwrap();
    let fd = rustix::io::fcntl_dupfd_cloexec(file, 100).unwrap();
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    let fds = [fd];
    let mut command = activated(&echo_command(&[]), &fds, "");
    command.stdin(Stdio::null());
    crate::process::expect_refusal(command, &["a socket that was given"]);
}

#[test]
fn unit_files_are_what_systemd_understands() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skip("systemd-analyze", "it is not installed");
        return;
    }
    // What a unit starts must be there to be understood.
    let folder = std::env::temp_dir().join(format!("longwire-units-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut units = Vec::new();
    for name in ["longwire.service", "longwire.socket"] {
        let unit = fs::read_to_string(contrib.join(name)).unwrap();
        let unit = unit.replace("/usr/bin/longwire", env!("CARGO_BIN_EXE_longwire"));
        fs::write(folder.join(name), unit).unwrap();
        units.push(folder.join(name));
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(&units);
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::remove_dir_all(&folder).unwrap();
    // It says what it does not know of other units, too.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("longwire")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
