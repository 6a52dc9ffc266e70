//! `loadgen bench` as users run it: a matrix file, servers that are started and stopped for each
//! cell, good ones, a wrong one and one that does not start.
//!
//! The servers are this test program again: the ignored test serves until it is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longwire::{Conn, Handler, Message, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Where the ignored test listens.
const LISTEN: &str = "LOADGEN_TEST_LISTEN";
/// Whether it answers with something else.
const WRONG: &str = "LOADGEN_TEST_WRONG";

struct Echo {
    is_wrong: bool,
}

impl Handler for Echo {
    type State = ();

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        if self.is_wrong {
            let mut copy = message.payload().to_vec();
            copy.reverse();
            conn.send_binary(&copy).unwrap();
        } else {
            conn.echo(message).unwrap();
        }
    }
}

#[test]
#[ignore = "it is the server of the others, and runs until it is killed"]
fn serves_until_killed() {
    let addr: SocketAddr = std::env::var(LISTEN).unwrap().parse().unwrap();
    let is_wrong = std::env::var_os(WRONG).is_some();
    Server::builder().listen(addr.into()).workers(1).run(|_core| Echo { is_wrong }).unwrap();
}

/// A matrix file, removed with all that was written beside it.
struct Matrix {
    folder: PathBuf,
}

impl Matrix {
    fn new(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("matrix.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(["bench", &self.path("matrix.toml")]).args(args).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn server(name: &str, environment: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"{environment} {LISTEN}=127.0.0.1:{{port}} \
         {} --exact serves_until_killed --ignored\"\n",
        program.display()
    )
}

fn workload(duration: &str) -> String {
    format!(
        "[[workload]]\nname = \"small\"\nfigure = \"server_cpu_us_per_message\"\n\
         arguments = \"echo --conns 4 --duration {duration} --warmup 100ms\"\n"
    )
}

fn json(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn servers_take_turns_and_the_one_that_does_not_start_is_shown_with_its_reason() {
    let broken = "[[server]]\nname = \"broken\"\ncommand = \"no-such-program {port}\"\n";
    let text = [
        "repeats = 2\nport = 23100\n",
        &server("first", ""),
        broken,
        &server("second", ""),
        &workload("300ms"),
    ]
    .concat();
    let matrix = Matrix::new("turns", &text);
    let (markdown, html) = (matrix.path("out.md"), matrix.path("out.html"));
    let args = ["--json", "-", "--markdown", &markdown, "--html", &html];
    let output = matrix.command(&args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let json = json(&output.stdout);
    let cells = &json["workloads"][0]["cells"];
    for index in [0, 2] {
        assert_eq!(cells[index]["rounds"].as_array().unwrap().len(), 2);
        assert!(cells[index]["value"]["median"].as_f64().unwrap() > 0.0, "{json}");
    }
    assert!(cells[2]["to_first"]["median"].as_f64().unwrap() > 0.0);
    let reason = cells[1]["rounds"][0]["failed"].as_str().unwrap();
    assert!(reason.contains("127") && reason.contains("not found"), "{reason}");
    let turns: Vec<&str> = said.lines().map(|line| line.split(", ").nth(1).unwrap()).collect();
    assert_eq!(turns, ["first", "broken", "second", "first", "broken", "second"]);
    let markdown = fs::read_to_string(markdown).unwrap();
    assert!(markdown.starts_with("<!-- loadgen bench: begin -->"), "{markdown}");
    assert!(markdown.contains("could not be run: the server ended"), "{markdown}");
    assert!(fs::read_to_string(html).unwrap().contains("<h2>small</h2>"));
}

#[test]
fn wrong_answers_are_shown_and_end_with_status_1() {
    let text = [
        "repeats = 1\nport = 23200\n",
        &server("wrong", &format!("{WRONG}=1")),
        &workload("300ms"),
    ]
    .concat();
    let output = Matrix::new("wrong", &text).command(&["--quiet"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("WRONG ANSWERS: "), "{shown}");
}

#[test]
fn mistake_in_the_file_is_one_line_and_status_2() {
    for (text, said) in [
        (workload("1s"), "there is no [[server]]"),
        (server("a", "").replace("name", "nmae") + &workload("1s"), "did you mean `name`?"),
        (server("a", "") + &workload("1s").replace("_us_", "_ms_"), "no figure is called"),
    ] {
        let output = Matrix::new("mistake", &text).command(&[]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn run_in_which_nothing_starts_ends_with_status_2_and_the_reason() {
    let broken = "[[server]]\nname = \"broken\"\ncommand = \"no-such-program {port}\"\n";
    let text = ["port = 23300\n", broken, &workload("1s")].concat();
    let output = Matrix::new("nothing", &text).command(&["--quiet"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("loadgen: no cell could be run: the server ended"), "{error}");
}

#[test]
fn interrupted_run_shows_what_is_complete_and_leaves_no_server() {
    let text = [
        "repeats = 50\nport = 23400\n",
        &server("first", ""),
        &server("second", ""),
        &workload("500ms"),
    ]
    .concat();
    let matrix = Matrix::new("interrupted", &text);
    let mut child = matrix.command(&["--json", "-"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("[1/100] small, first, round 1: "), "{line}");
    // The second cell's server is up.
    let second = SocketAddr::from(([127, 0, 0, 1], 23_401));
    let begun = Instant::now();
    while TcpStream::connect(second).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let json = json(&stdout);
    assert_eq!(json["interrupted"], true);
    let cells = &json["workloads"][0]["cells"];
    assert_eq!(cells[0]["rounds"].as_array().unwrap().len(), 1);
    assert_eq!(cells[1]["rounds"].as_array().unwrap().len(), 0);
    assert!(TcpStream::connect(second).is_err(), "the server still runs");
}
