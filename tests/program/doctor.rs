//! `longwire doctor` on the machine of the tests: its exit codes, its JSON, and whether a server
//! that is started as it says holds what it says.

use std::process::Command;

use serde_json::Value;

use crate::client::Client;
use crate::process::{Program, expect_refusal, has_io_uring, longwire, run};

/// A command that has at most so many descriptors.
fn limited(descriptors: u32, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_longwire")]).args(args);
    command
}

/// The verdict of a `doctor` with so many descriptors, and its exit code.
fn verdict(descriptors: u32, args: &[&str]) -> (Value, Option<i32>) {
    let output = run(limited(descriptors, &[&["doctor", "--json"], args].concat()));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn doctor_tells_by_its_exit_code_whether_they_fit() {
    for (wanted, code) in [("100", 0), ("1K", 1)] {
        let output = run(limited(300, &["doctor", "--connections", wanted]));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("RLIMIT_NOFILE") && text.contains("soft 300, hard 300"), "{text}");
        let (value, json_code) = verdict(300, &["--connections", wanted]);
        assert_eq!(json_code, Some(code));
        assert_eq!(value["fits"], code == 0);
        assert_eq!(value["narrowest"]["plain"], "RLIMIT_NOFILE");
        assert_eq!(value["machine"]["nofile_hard"], 300);
    }
}

#[test]
fn doctor_asked_for_no_number_is_content() {
    let (value, code) = verdict(300, &[]);
    assert_eq!((code, &value["fits"]), (Some(0), &Value::Null));
    let holds = value["holds"]["plain"].as_u64().unwrap();
    assert!((1..300).contains(&holds), "{holds}");
    assert_eq!(value["machine"]["io_uring"], has_io_uring());
}

#[test]
fn flags_of_doctor_that_make_no_sense_are_said() {
    for (flags, words) in [
        (&["--connections", "0"][..], &["--connections", "50K"][..]),
        (&["--connections", "1.5M"], &["whole number"]),
        (&["--connections", "9999999999"], &["too many"]),
        (&["--connections"], &["--connections"]),
        (&["--workers", "0"], &["--workers", "1..=1024"]),
        (&["--workers", "1025"], &["--workers", "1..=1024"]),
        (&["--tsl"], &["--tsl", "--help"]),
        (&["now"], &["now"]),
    ] {
        expect_refusal(longwire(&[&["doctor"], flags].concat()), words);
    }
}

#[test]
fn help_of_doctor_names_every_flag_and_the_exit_codes() {
    let output = run(longwire(&["doctor", "--help"]));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["--connections", "--tls", "--direct-descriptors", "--workers", "--json"] {
        assert!(text.contains(&format!("  {word}")), "{word} is not in {text}");
    }
    assert!(text.contains("Exit codes: 0") && text.contains("longwire doctor --connections 1M"));
}

#[test]
fn server_started_as_doctor_says_holds_what_it_says() {
    const CONNS: usize = 500;
    if !has_io_uring() {
        return;
    }
    let wanted = CONNS.to_string();
    let asked = ["--connections", &wanted, "--direct-descriptors", "--workers", "1"];
    let (value, code) = verdict(300, &asked);
    assert_eq!(code, Some(1), "a ring of 300 does not hold {CONNS}: {value}");
    let words = |name: &str| -> Vec<String> {
        let command = value["then"][name].as_str().unwrap();
        command.split_whitespace().skip(2).map(str::to_owned).collect()
    };
    let check = words("check");
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    assert_eq!(verdict(300, &check).1, Some(0), "{value}");

    let flags = words("command");
    let mut args = vec!["echo", "--listen", "127.0.0.1:0", "--allow-any-origin"];
    args.extend(flags.iter().map(String::as_str));
    let program = Program::start_by(limited(300, &args));
    let mut clients: Vec<Client> = (0..CONNS).map(|_| Client::open(program.addr)).collect();
    for client in &mut clients {
        client.echo("here");
    }
}
