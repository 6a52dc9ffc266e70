//! An example as a child process, and plain HTTP to ask it with.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::client::{Client, REQUEST};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// What makes a test of an example whole that is run by itself.
const BUILD: &str = "run `cargo build --examples` first";

/// An example that listens; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Example {
    child: Child,
    pub(crate) addr: SocketAddr,
    lines: Receiver<String>,
}

impl Example {
    /// Starts it on a free port.
    pub(crate) fn start(name: &str) -> Self {
        let mut command = Command::new(executable(name));
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        // From here on it is ended whatever happens; what it says tells the address.
        let mut example = Self { child, addr: ([127, 0, 0, 1], 0).into(), lines };
        let line = example.next_line();
        let place = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        example.addr = place.split(',').next().unwrap().parse().unwrap();
        example
    }

    /// The next line that it says.
    pub(crate) fn next_line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the example has something to say")
    }

    /// The head and the body that answer this request, after which the connection ends.
    pub(crate) fn ask(&self, request: &str) -> (String, String) {
        let mut client = Client::connect(self.addr);
        client.send_raw(request.as_bytes());
        let response = client.read_response();
        let (head, body) = response.split_once("\r\n\r\n").expect("a head ends");
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An upgrade request with this line in its head.
pub(crate) fn request_with(line: &str) -> String {
    REQUEST.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

/// Where cargo has put an example: in a folder beside that of the tests. It is built by
/// `cargo test`, but not with every test that is run by itself, so what is there may be old.
fn executable(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(|folder| folder.parent()).unwrap();
    let file = profile.join("examples").join(name);
    let built_at = modified(&file);
    assert!(built_at.is_some(), "{} is not there; {BUILD}", file.display());
    // Cargo's note of what it is made of: `target: source source ...`.
    let note = fs::read_to_string(file.with_extension("d")).unwrap();
    for source in note.split_once(": ").unwrap().1.split_whitespace() {
        let is_older = modified(source.as_ref()) > built_at;
        assert!(!is_older, "{} is older than {source}; {BUILD}", file.display());
    }
    file
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
