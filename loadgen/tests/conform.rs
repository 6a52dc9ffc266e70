//! `loadgen conform` as a program: against longwire, where nothing may fail, and against a server
//! that is wrong on purpose, where each fault must turn exactly its own cases red.

#![expect(clippy::unwrap_used, reason = "what is missing here has failed the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

/// All sections but that of large messages, which only some faults can touch.
const SMALL: &str = "1,2,3,4,5,6,7,10,20,21,22,23,24,25";

/// Compression: small messages of each kind and under each offer, and all that is not in sections 12
/// and 13, which take minutes.
const COMPRESSION: &str = "12.1.1,12.2.4,12.3.4,12.4.4,12.5.4,13.1.4,13.2.4,13.3.4,13.4.4,13.5.4,\
                           13.6.4,13.7.4,13.2.11,26,27";

/// A child process that listens; killed when it is dropped.
struct Listening {
    child: Child,
    url: String,
}

impl Listening {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.find_map(|line| {
            line.unwrap().strip_prefix("listening on ").map(|addr| addr.trim().to_owned())
        });
        // The rest must be read, or the child would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("ws://{}/", addr.expect("the server says where it listens")) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn loadgen() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_loadgen"))
}

/// The server that is wrong on purpose.
fn broken_echo(faults: &[&str]) -> Listening {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || built(&["--package", "loadgen", "--example", "broken_echo"]);
    let mut command = Command::new(BUILT.get_or_init(build).join("examples/broken_echo"));
    command.args(faults);
    Listening::start(command)
}

/// The program of the package beside this one.
fn longwire() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || built(&["--package", "longwire", "--bin", "longwire"]);
    BUILT.get_or_init(build).join("longwire")
}

/// Builds what `cargo test` builds only in some of its forms; returns the folder where it is.
fn built(what: &[&str]) -> PathBuf {
    let folder = loadgen().parent().unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap())
        .args(what)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.unwrap().success(), "{what:?} is built");
    folder.to_owned()
}

fn conform(args: &[&str]) -> Output {
    Command::new(loadgen()).arg("conform").args(args).output().unwrap()
}

/// What a run printed, and each of its cases.
fn verdicts_of(server: &Listening, cases: &str) -> (Output, Vec<Value>) {
    // Several runs at the same time would wait for each other and call it the server's delay.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = std::env::temp_dir();
    let name = format!("loadgen-conform-{}.json", server.url.replace(['/', ':'], "-"));
    let json = folder.join(name);
    let output = conform(&[&server.url, "--cases", cases, "--json", json.to_str().unwrap()]);
    let value: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let _ = std::fs::remove_file(&json);
    (output, value["cases"].as_array().unwrap().clone())
}

/// The verdict on each case that is neither OK nor INFORMATIONAL; UNIMPLEMENTED is no fault either.
fn faults_of(server: &Listening, cases: &str) -> BTreeMap<String, String> {
    let (output, cases) = verdicts_of(server, cases);
    let faults: BTreeMap<_, _> = cases
        .iter()
        .map(|case| (case["id"].as_str().unwrap(), case["verdict"].as_str().unwrap()))
        .filter(|(_, verdict)| !matches!(*verdict, "OK" | "INFORMATIONAL" | "UNIMPLEMENTED"))
        .map(|(id, verdict)| (id.to_owned(), verdict.to_owned()))
        .collect();
    let failed = faults.values().any(|verdict| verdict == "FAILED");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{output:?}");
    faults
}

fn failed(ids: impl IntoIterator<Item = impl Into<String>>) -> BTreeMap<String, String> {
    ids.into_iter().map(|id| (id.into(), "FAILED".to_owned())).collect()
}

fn numbered(group: &str, numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("{group}.{number}")).collect()
}

/// Cases of text, or of a reason, that is not UTF-8.
fn not_utf8() -> Vec<String> {
    let groups = [
        ("6.3", 2),
        ("6.4", 4),
        ("6.8", 2),
        ("6.10", 3),
        ("6.12", 8),
        ("6.13", 5),
        ("6.14", 10),
        ("6.15", 1),
        ("6.16", 3),
        ("6.17", 5),
        ("6.18", 5),
        ("6.19", 5),
        ("6.20", 7),
        ("6.21", 8),
    ];
    let mut ids: Vec<String> =
        groups.into_iter().flat_map(|(group, count)| numbered(group, 1..=count)).collect();
    ids.extend(numbered("6.6", [1, 3, 4, 6, 8, 10]));
    ids.extend(["6.11.5", "7.5.1"].map(str::to_owned));
    ids
}

#[test]
fn longwire_conforms_on_every_backend() {
    let mut tested = 0;
    for backend in ["epoll", "io_uring"] {
        let mut command = Command::new(longwire());
        command.args(["echo", "--listen", "127.0.0.1:0", "--backend", backend]);
        command.args(["--message-bytes-max", "16908288"]).stderr(Stdio::null());
        if backend == "io_uring" && !has_io_uring() {
            let _ = writeln!(std::io::stderr(), "SKIPPED io_uring: this machine does not allow it");
            assert!(std::env::var_os("CI").is_none(), "CI is set, and there is no io_uring");
            continue;
        }
        let server = Listening::start(command);
        let cases = format!("{SMALL},9,{COMPRESSION}");
        assert_eq!(faults_of(&server, &cases), BTreeMap::new(), "{backend}");
        tested += 1;
    }
    assert!(tested > 0);
}

/// Whether longwire itself finds that io_uring may be used here.
fn has_io_uring() -> bool {
    let mut child = Command::new(longwire())
        .args(["echo", "--listen", "127.0.0.1:0", "--backend", "auto"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.trim_start().starts_with("backend"));
    let _ = child.kill();
    let _ = child.wait();
    line.unwrap().contains("io_uring:")
}

#[test]
fn small_message_limit_fails_only_the_large_messages() {
    let mut command = Command::new(longwire());
    command.args(["echo", "--listen", "127.0.0.1:0", "--message-bytes-max", "1M"]);
    command.stderr(Stdio::null());
    let server = Listening::start(command);
    let large = ["9.1.4", "9.1.5", "9.1.6"];
    assert_eq!(faults_of(&server, "9.1"), failed(large));
    let output = conform(&[&server.url, "--cases", "9.1.4"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("1009: raise its limit of message size"), "{table}");
}

#[test]
fn server_without_a_fault_conforms() {
    assert_eq!(faults_of(&broken_echo(&[]), ""), BTreeMap::new());
}

#[test]
fn server_that_does_not_check_utf8_fails_the_cases_of_it_alone() {
    assert_eq!(faults_of(&broken_echo(&["utf8"]), SMALL), failed(not_utf8()));
}

#[test]
fn server_that_ignores_reserved_bits_fails_the_cases_of_them_alone() {
    let mut expected = failed(numbered("3", 1..=6));
    // It takes the Close frame for a good one, and its answer cannot be told from a failure that
    // does not say why.
    expected.insert("3.7".to_owned(), "NON-STRICT".to_owned());
    assert_eq!(faults_of(&broken_echo(&["reserved-bits"]), SMALL), expected);
}

#[test]
fn server_with_wrong_close_codes_fails_wherever_it_must_fail_the_connection() {
    let mut ids = not_utf8();
    ids.extend(["2.5", "7.3.2", "7.3.6"].map(str::to_owned));
    ids.extend(numbered("3", 1..=7));
    ids.extend(numbered("4.1", 1..=5));
    ids.extend(numbered("4.2", 1..=5));
    ids.extend(numbered("5", [1, 2].into_iter().chain(9..=18)));
    ids.extend(numbered("7.9", 1..=9));
    ids.extend(numbered("25.1", 1..=6));
    ids.extend(numbered("25.2", 1..=7));
    assert_eq!(faults_of(&broken_echo(&["close-code"]), SMALL), failed(ids));
}

#[test]
fn server_that_corrupts_large_echoes_fails_the_cases_of_large_messages_alone() {
    let mut ids = Vec::new();
    for group in ["9.1", "9.2"] {
        ids.extend(numbered(group, 2..=6));
    }
    for group in ["9.3", "9.4"] {
        ids.extend(numbered(group, 1..=9));
    }
    for group in ["9.5", "9.6"] {
        ids.extend(numbered(group, 1..=6));
    }
    assert_eq!(faults_of(&broken_echo(&["corrupt"]), ""), failed(ids));
}

#[test]
fn server_that_takes_unmasked_frames_fails_the_cases_of_masks_alone() {
    let expected = failed(numbered("25.1", 1..=6));
    assert_eq!(faults_of(&broken_echo(&["unmasked"]), SMALL), expected);
}

/// The verdict on each case of [`COMPRESSION`] that is not OK; no server of these tests leaves any out.
fn faults_of_compression(faults: &[&str]) -> BTreeMap<String, String> {
    let (_, cases) = verdicts_of(&broken_echo(faults), COMPRESSION);
    let lacking = cases.iter().filter(|case| case["verdict"] == "UNIMPLEMENTED");
    let lacking: Vec<&str> = lacking.map(|case| case["id"].as_str().unwrap()).collect();
    assert_eq!(lacking, [""; 0], "{faults:?}");
    let faults = cases.iter().filter(|case| {
        // Left open in the RFCs, whatever the server does.
        !(case["verdict"] == "OK" || case["expected"].as_str().unwrap().starts_with("open in"))
    });
    let mut faults: BTreeMap<_, _> = faults
        .map(|case| (case["id"].as_str().unwrap(), case["verdict"].as_str().unwrap()))
        .map(|(id, verdict)| (id.to_owned(), verdict.to_owned()))
        .collect();
    // zlib takes the end that is appended to a message for the rest of a block that was cut off.
    assert_eq!(faults.remove("27.5.17").as_deref(), Some("NON-STRICT"));
    faults
}

#[test]
fn server_that_compresses_rightly_conforms() {
    assert_eq!(faults_of_compression(&["deflate"]), BTreeMap::new());
}

#[test]
fn hs16_server_that_takes_any_offer_fails_the_cases_of_wrong_offers_alone() {
    let mut ids = numbered("26.2", 1..=26);
    ids.extend(numbered("26.3", [2, 3]));
    assert_eq!(faults_of_compression(&["deflate-any-offer"]), failed(ids));
}

#[test]
fn server_that_does_not_say_what_it_agrees_on_fails_where_something_was_asked_for() {
    let mut ids = numbered("26.1", [7, 8, 9, 10, 12, 14, 15]);
    ids.extend(["13.2.4", "13.2.11", "13.3.4", "13.4.4", "13.5.4", "13.6.4"].map(str::to_owned));
    assert_eq!(faults_of_compression(&["deflate-silent-answer"]), failed(ids));
}

#[test]
fn server_that_leaves_the_agreed_window_fails_where_there_is_one() {
    let faults = faults_of_compression(&["deflate-wide-window"]);
    for id in ["13.3.4", "13.5.4"] {
        assert_eq!(faults.get(id).map(String::as_str), Some("FAILED"), "{id}: {faults:?}");
    }
    assert!(faults.keys().all(|id| id.starts_with("13.") || id.starts_with("26.1.")), "{faults:?}");
    assert!(!faults.contains_key("13.1.4") && !faults.contains_key("13.4.4"), "{faults:?}");
}

#[test]
fn server_that_keeps_a_context_it_agreed_to_forget_fails_where_it_did() {
    let faults = faults_of_compression(&["deflate-takeover"]);
    for id in ["13.2.4", "13.2.11", "13.5.4", "13.6.4", "13.7.4"] {
        assert_eq!(faults.get(id).map(String::as_str), Some("FAILED"), "{id}: {faults:?}");
    }
    assert!(!["13.1.4", "13.3.4", "13.4.4", "12.1.1"].iter().any(|id| faults.contains_key(*id)));
}

#[test]
fn pd03_server_that_goes_on_after_wrong_data_fails_the_cases_of_it_alone() {
    let faults = faults_of_compression(&["deflate-any-data"]);
    let mut ids = numbered("27.5", 1..=16);
    // Those two may fail the connection, but must not get a wrong echo.
    ids.extend(["27.1.6", "27.4.13"].map(str::to_owned));
    assert_eq!(faults, failed(ids));
}

#[test]
fn pd04_server_that_refuses_last_blocks_fails_the_cases_of_them_alone() {
    let faults = faults_of_compression(&["deflate-last-block"]);
    assert_eq!(faults, failed(["27.4.3", "27.4.4"]));
}

#[test]
fn pd01_server_without_a_limit_is_told_about_its_bombs() {
    let faults = faults_of_compression(&["deflate-no-limit"]);
    let told = ["27.7.1", "27.7.2"].map(|id| (id.to_owned(), "INFORMATIONAL".to_owned()));
    assert_eq!(faults, BTreeMap::from(told));
}

#[test]
fn server_that_keeps_the_end_of_compressed_messages_fails_all_that_follow_one() {
    let faults = faults_of_compression(&["deflate-tail"]);
    for id in ["12.1.1", "13.1.4", "27.1.9", "27.1.10"] {
        assert_eq!(faults.get(id).map(String::as_str), Some("FAILED"), "{id}: {faults:?}");
    }
}

#[test]
fn server_that_does_not_check_inflated_text_fails_the_cases_of_it_alone() {
    assert_eq!(faults_of_compression(&["deflate", "utf8"]), failed(numbered("27.6", 1..=6)));
}

#[test]
fn fr06_server_that_ignores_reserved_bits_fails_the_cases_of_them_beside_compression() {
    let faults = faults_of_compression(&["deflate", "reserved-bits"]);
    assert_eq!(faults, failed(numbered("27.3", 1..=14)));
}

#[test]
fn server_without_compression_is_told_and_fails_only_if_it_is_required() {
    let server = broken_echo(&[]);
    let cases = "12.1.1,13.7.18,26.1.1,27.1.1,27.3.1";
    let output = conform(&[&server.url, "--cases", cases]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("UNIMPLEMENTED: 4 cases need permessage-deflate"), "{table}");
    let output = conform(&[&server.url, "--cases", cases, "--require", "deflate"]);
    assert_eq!(output.status.code(), Some(1));
    let output = conform(&[&server.url, "--cases", "27.3.1", "--require", "deflate"]);
    assert_eq!(output.status.code(), Some(0), "nothing that was played needs it");
}

#[test]
fn server_with_a_wrong_accept_value_fails_whatever_needs_a_connection() {
    let cases = verdicts_of(&broken_echo(&["accept"]), "").1;
    for case in &cases {
        let (id, verdict, seen) = (&case["id"], &case["verdict"], case["seen"].as_str().unwrap());
        let names_the_fault = seen.contains("Sec-WebSocket-Accept is `");
        assert_eq!(names_the_fault, verdict == "FAILED", "{id}: {verdict}: {seen}");
        let is_refused = seen.starts_with("status 4");
        assert!(names_the_fault || is_refused, "{id}: {seen}");
    }
    let is_frames = |case: &&Value| {
        let section: u16 = case["id"].as_str().unwrap().split('.').next().unwrap().parse().unwrap();
        section <= 13 || section == 25 || section == 27
    };
    assert!(cases.iter().filter(is_frames).all(|case| case["verdict"] == "FAILED"));
    assert_eq!(cases.iter().filter(is_frames).count(), 517 + 18 + 76);
}

#[test]
fn what_is_no_websocket_server_is_one_line_and_status_2() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let cases = [
        (format!("ws://{refused}/"), "refuses connections"),
        (format!("ws://{http}/"), "is not a WebSocket server"),
        (format!("http://{http}/"), "write `ws://"),
    ];
    for (url, words) in cases {
        let output = conform(&[&url]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {line}");
        assert!(line.contains(words) && line.matches('\n').count() == 1, "{url}: {line}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn list_names_every_case_and_needs_no_server() {
    let output = conform(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let of_the_suite = text.lines().filter(|line| {
        let number = line.trim_start().split([':', '.']).next().unwrap_or_default();
        line.starts_with("  ") && number.parse::<u32>().is_ok_and(|section| section <= 13)
    });
    assert_eq!(of_the_suite.count(), 517);
}

#[test]
fn selection_that_selects_nothing_is_refused() {
    for (cases, words) in [("11.*", "selects no case"), ("x", "is no case number")] {
        let output = conform(&["--list", "--cases", cases]);
        assert_eq!(output.status.code(), Some(2), "{cases}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(words), "{cases}");
    }
}

#[test]
fn json_may_take_the_place_of_the_table() {
    let server = broken_echo(&[]);
    let output = conform(&[&server.url, "--cases", "1.1.1,2.1", "--json", "-"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["totals"]["ok"], 2);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn html_report_is_written_beside_the_table() {
    let page = std::env::temp_dir().join(format!("loadgen-conform-{}.html", std::process::id()));
    let server = broken_echo(&["unmasked"]);
    let output = conform(&[&server.url, "--cases", "25", "--html", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = std::fs::read_to_string(&page).unwrap();
    let _ = std::fs::remove_file(&page);
    assert!(text.contains("text, not masked") && text.contains("FAILED"));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("FAILED 25.1.1: text, not masked. Expected: nothing comes back"),
        "{table}"
    );
}
