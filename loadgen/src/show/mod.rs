//! How a result is shown: a table to people, JSON to programs, one HTML file to keep.
//!
//! Nothing here measures or judges. Text that came from a peer is cleaned before it reaches a
//! terminal and escaped before it reaches a page. What the loop kind means is said in one place, so
//! that no display can leave it out or word it otherwise.

pub(crate) mod chart;
pub(crate) mod compare;
pub(crate) mod html;
pub(crate) mod json;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod table;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::report::{Compression, LoopKind, Report, Transport, Unit, count_as_f64};
use crate::units;

/// The loop kind, and what the latencies of such a run can and cannot say.
pub(crate) fn loop_text(kind: LoopKind) -> String {
    match kind {
        LoopKind::Closed { depth } => format!(
            "closed loop, {depth} in flight per connection: throughput, not latency under load"
        ),
        LoopKind::Open { rate } => format!(
            "open loop, {} messages/s: latency from the intended instant",
            units::number(rate)
        ),
    }
}

/// The value of a figure with its unit; bytes per second have no unit of their own in the model.
pub(crate) fn figure_text(name: &str, value: f64, unit: Unit) -> String {
    let text = units::value(value, unit);
    if unit == Unit::Bytes && name.ends_with("_per_s") && value.is_finite() {
        return text + "/s";
    }
    text
}

/// Length of the measured part, and what drove the server.
pub(crate) fn generator_text(report: &Report) -> String {
    let threads = if report.threads == 1 { "thread" } else { "threads" };
    format!(
        "{} measured; generator: {} {threads}, {}",
        units::micros(report.seconds * 1e6),
        report.threads,
        report.backend
    )
}

/// What the messages went through: TLS or not, compressed or not.
pub(crate) fn transport_text(report: &Report) -> String {
    let transport = match report.transport {
        Transport::Tcp => "no TLS",
        Transport::Tls => "TLS",
    };
    let compression = match report.compression {
        None => "compression not offered".to_owned(),
        Some(Compression { agreed_conns: 0, .. }) => {
            "compression offered, and declined by the server".to_owned()
        }
        Some(Compression { opened_conns, agreed_conns }) if agreed_conns < opened_conns => format!(
            "permessage-deflate agreed on {} of {} connections only",
            units::count(agreed_conns),
            units::count(opened_conns)
        ),
        Some(_) => "permessage-deflate agreed on every connection".to_owned(),
    };
    format!("{transport}; {compression}")
}

/// The machine in one line.
pub(crate) fn machine_text(report: &Report) -> String {
    let machine = &report.machine;
    format!(
        "{}, {} cores, {}, Linux {}",
        machine.cpu,
        machine.cores,
        units::bytes(count_as_f64(machine.memory_bytes)),
        machine.kernel
    )
}

/// Fails now if `path` cannot be written, rather than after the run. `-` is stdout.
pub(crate) fn check_output(path: &Path) -> Result<(), String> {
    if is_stdout(path) {
        return Ok(());
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map(|_file| ())
        .map_err(|error| unwritable(path, &error))
}

/// Writes a whole file, or to stdout if `path` is `-`.
pub(crate) fn write_output(path: &Path, text: &str) -> Result<(), String> {
    if is_stdout(path) {
        return print(text);
    }
    fs::write(path, text).map_err(|error| unwritable(path, &error))
}

/// Writes to stdout; that nobody reads to the end, as with `| head`, is not an error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to stdout: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The text with its control characters made visible: a close reason may hold escape sequences.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}; give a path that can be written", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_kind_says_what_its_latencies_mean() {
        assert_eq!(
            loop_text(LoopKind::Closed { depth: 1 }),
            "closed loop, 1 in flight per connection: throughput, not latency under load"
        );
        assert_eq!(
            loop_text(LoopKind::Open { rate: 50_000.0 }),
            "open loop, 50,000 messages/s: latency from the intended instant"
        );
    }

    #[test]
    fn transport_says_whether_the_server_agreed_on_compression() {
        let mut report = sample::report();
        assert_eq!(transport_text(&report), "no TLS; compression not offered");
        report.transport = Transport::Tls;
        for (agreed_conns, words) in [
            (0, "TLS; compression offered, and declined by the server"),
            (3, "TLS; permessage-deflate agreed on 3 of 1,000 connections only"),
            (1000, "TLS; permessage-deflate agreed on every connection"),
        ] {
            report.compression = Some(Compression { opened_conns: 1000, agreed_conns });
            assert_eq!(transport_text(&report), words);
        }
    }

    #[test]
    fn escape_sequences_of_a_peer_do_not_reach_the_terminal() {
        assert_eq!(printable("bye\u{1b}[2J\n\u{9b}"), "bye\\u{1b}[2J\\n\\u{9b}");
        assert_eq!(printable("grüße \"x\""), "grüße \"x\"");
    }

    #[test]
    fn path_that_cannot_be_written_is_found_before_the_run() {
        let error = check_output(Path::new("/nonexistent/report.json")).unwrap_err();
        assert!(error.starts_with("cannot write /nonexistent/report.json: "), "{error}");
        assert_eq!(check_output(Path::new("-")), Ok(()));
    }

    #[test]
    fn checking_an_output_keeps_what_the_file_holds() {
        let path = std::env::temp_dir().join(format!("loadgen-output-{}", std::process::id()));
        write_output(&path, "kept").unwrap();
        check_output(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text, "kept");
    }
}
