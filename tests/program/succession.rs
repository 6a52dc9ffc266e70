//! Upgrades that do not come to their end, and what follows one that does.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::client::{Client, REQUEST};
use crate::config::File;
use crate::process::{Program, echo_command, longwire, on_every_backend, wait_until};
use crate::upgrading::{Copy, Successors, is_gone, upgrade};

fn echo_by(path: &Path, text: &str) {
    let mut client = Client::over(UnixStream::connect(path).unwrap().into());
    client.send_raw(REQUEST.as_bytes());
    client.finish_handshake();
    client.echo(text);
}

/// The second address is in use, which is found out when the first is taken over already.
#[test]
fn lc02_successor_that_fails_when_it_has_the_sockets_leaves_them_to_the_old_one() {
    on_every_backend(|backend| {
        let folder = Copy::new(&format!("fails-{backend}"));
        let path = folder.0.join("s");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = |more: &str, mode: &str| {
            let unix = path.display();
            format!("listen = ['127.0.0.1:0', 'unix:{unix}'{more}]\nunix_mode = '{mode}'\n")
        };
        let file = File::new(&listen("", "600"));
        let flags = ["--backend", backend, "--drain-time", "0s", "--allow-any-origin"];
        let mut command = longwire(&["echo", "--config", file.path()]);
        command.args(flags);
        let program = Program::start_by(command);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        for _ in 0..2 {
            file.write(&listen(&format!(", '{}'", taken.local_addr().unwrap()), "640"));
            let (code, stderr) = upgrade(program.pid()).unwrap_err();
            assert_eq!(code, Some(1), "{stderr}");
            assert!(stderr.contains("in use"), "{stderr}");
            assert_eq!(mode(), 0o600);
            echo_by(&path, "by the same file");
            Client::open(program.addr).echo("by the same port");
        }
        file.write(&listen("", "640"));
        let _successors = Successors(vec![upgrade(program.pid()).unwrap()]);
        assert_eq!(mode(), 0o640, "one that serves goes by its own settings");
        echo_by(&path, "by the new one");
    });
}

#[test]
fn server_that_is_stopped_while_its_successor_starts_takes_that_along() {
    let copy = Copy::new("stopped");
    let flags = ["--workers", "1", "--drain-time", "3s"];
    let program = Program::start_by(copy.command(&echo_command(&flags)));
    // It keeps the old one there, so that it can answer.
    let mut client = Client::open(program.addr);
    let note = copy.0.join("pid");
    let text = format!(
        "#!/bin/sh\necho $$ > '{}.new'\nmv '{0}.new' '{0}'\nexec sleep 60\n",
        note.display()
    );
    copy.put_script(&text);
    let pid = program.pid();
    let upgrading = thread::spawn(move || upgrade(pid));
    wait_until("the new program to start", || note.exists(), String::new);
    let number = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    let successor = Pid::from_raw(number).unwrap();
    let asked_at = Instant::now();
    program.signal(Signal::TERM);
    let (code, stderr) = upgrading.join().unwrap().unwrap_err();
    assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("stopped meanwhile"), "{stderr}");
    assert!(is_gone(successor));
    assert_eq!(client.read_close().0, 1012);
    client.send_close(1012);
    assert_eq!(program.wait().0.code(), Some(0));
}

/// Who looks for the only server finds the one that serves.
#[test]
fn server_that_drains_has_no_name_for_orders() {
    let has_name = |pid: Pid| {
        let name = format!("@longwire-control-{}", pid.as_raw_nonzero());
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        // A connection that was accepted there may last a moment longer, but does not listen.
        sockets.lines().any(|line| line.ends_with(&name) && line.contains(" 00010000 "))
    };
    let program = Program::start(&["--workers", "1", "--drain-time", "3s"]);
    let _held = Client::open(program.addr);
    assert!(has_name(program.pid()));
    let successor = upgrade(program.pid()).unwrap();
    let _successors = Successors(vec![successor]);
    assert!(!has_name(program.pid()), "it drains");
    assert!(has_name(successor));
    let _client = Client::open(program.addr);
    rustix::process::kill_process(successor, Signal::TERM).unwrap();
    wait_until("the name to go", || !has_name(successor), String::new);
    assert!(!is_gone(successor), "it drains as well");
}

#[test]
fn link_that_was_set_to_a_new_version_is_followed() {
    let folder = Copy::new("link");
    let (first, second) = (folder.0.join("1"), folder.0.join("2"));
    for version in [&first, &second] {
        fs::create_dir(version).unwrap();
    }
    fs::rename(folder.path(), first.join("longwire")).unwrap();
    let link = folder.0.join("current");
    symlink(&first, &link).unwrap();
    let mut command = std::process::Command::new(link.join("longwire"));
    command.args(echo_command(&["--workers", "1"]).get_args());
    let program = Program::start_by(command);
    folder.put_script("#!/bin/sh\nexit 7\n");
    fs::rename(folder.path(), second.join("longwire")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&second, &link).unwrap();
    let (_, stderr) = upgrade(program.pid()).unwrap_err();
    assert!(stderr.contains("exit status: 7"), "{stderr}");
    Client::open(program.addr).echo("the old version goes on");
}
