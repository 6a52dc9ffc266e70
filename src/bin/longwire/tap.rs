//! `longwire tap`: shows the frames of connections live, as the administration port streams them.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::args::TapArgs;

/// No such connection.
const EXIT_MISSING: u8 = 1;
/// For a connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server writes a line more often than that.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Shows frames until there are no more. An error is one line.
pub(crate) fn run(args: &TapArgs) -> Result<ExitCode, String> {
    let mut lines = ask(args)?;
    let mut frame_count = 0;
    let mut line = String::new();
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(_) => {}
            Err(error) => return Err(format!("the server has stopped answering: {error}")),
        }
        let event: Value = serde_json::from_str(&line)
            .map_err(|_| "the server answers with what is no JSON; is it longwire?".to_owned())?;
        let shown = if args.json { Some(line.trim_end().to_owned()) } else { describe(&event) };
        if let Some(shown) = shown
            && let Err(error) = writeln!(std::io::stdout(), "{shown}")
        {
            // Whoever reads this, such as `head`, has seen enough.
            let is_enough = error.kind() == ErrorKind::BrokenPipe;
            return if is_enough { Ok(ExitCode::SUCCESS) } else { Err(error.to_string()) };
        }
        match event["event"].as_str() {
            Some("missing") => {
                eprintln!(
                    "longwire: there is no such connection; /connections names those that are"
                );
                return Ok(ExitCode::from(EXIT_MISSING));
            }
            Some("frame") => frame_count += 1,
            _ => {}
        }
        if args.count.is_some_and(|count| frame_count >= count) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Begins the stream of lines.
fn ask(args: &TapArgs) -> Result<BufReader<TcpStream>, String> {
    let place = place(&args.admin)?;
    let failed = |what: &str| {
        format!("{what} {}; is --admin right, and does `longwire serve` run?", args.admin)
    };
    let addrs = place.to_socket_addrs().map_err(|error| failed(&format!("{error}:")))?;
    let mut stream = Err(failed("nothing is known of"));
    for addr in addrs {
        stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)
            .map_err(|error| failed(&format!("{error}:")));
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = stream?;
    let request = request(args, &place)?;
    let io = |error: std::io::Error| failed(&format!("{error}:"));
    stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(io)?;
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut lines = BufReader::new(stream);
    let status = read_head(&mut lines).ok_or_else(|| failed("no answer of HTTP from"))?;
    if status == 200 {
        return Ok(lines);
    }
    let mut body = String::new();
    let _ = lines.read_line(&mut body);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let why = answer["error"].as_str().unwrap_or("it says no more");
    Err(match status {
        401 if std::env::var_os("LONGWIRE_ADMIN_TOKEN").is_some() => {
            "the token in LONGWIRE_ADMIN_TOKEN is not the server's --admin-token".to_owned()
        }
        401 => "the server wants a token: set LONGWIRE_ADMIN_TOKEN to its --admin-token".to_owned(),
        404 => format!("{} is no administration port of `longwire serve`", args.admin),
        _ => format!("{} answers with {status}: {why}", args.admin),
    })
}

/// Host and port of the URL.
fn place(url: &str) -> Result<String, String> {
    let advice = || format!("--admin {url}: give http://HOST:PORT, as `longwire serve` says it");
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let place = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if is_plain && has_port { Ok(place.to_owned()) } else { Err(advice()) }
}

fn request(args: &TapArgs, place: &str) -> Result<String, String> {
    let target = match (&args.conn, &args.topic, &args.addr) {
        (Some(id), _, _) => format!("conn={id}"),
        (_, Some(topic), _) => format!("topic={}", percent_encoded(topic)),
        (_, _, Some(addr)) => format!("addr={addr}"),
        (None, None, None) => unreachable!("one of them is required"),
    };
    let payload = if args.payload { "&payload" } else { "" };
    let token = match std::env::var("LONGWIRE_ADMIN_TOKEN") {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            format!("Authorization: Bearer {token}\r\n")
        }
        Ok(_) => return Err("LONGWIRE_ADMIN_TOKEN is not visible ASCII characters".to_owned()),
        Err(_) => String::new(),
    };
    // By HTTP/1.0 the lines come as they are, up to the end of the stream.
    Ok(format!("GET /tap?{target}{payload} HTTP/1.0\r\nHost: {place}\r\n{token}\r\n"))
}

/// Reads the head of an answer; its status.
fn read_head(lines: &mut BufReader<TcpStream>) -> Option<u16> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut head_bytes = 0;
    while head_bytes < HEAD_BYTES_MAX {
        line.clear();
        head_bytes += lines.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if line == "\r\n" {
            return Some(status);
        }
    }
    None
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

/// An event for people, on one line.
fn describe(event: &Value) -> Option<String> {
    let text = |field: &str| event[field].as_str().unwrap_or("-").to_owned();
    let id = text("id");
    Some(match event["event"].as_str()? {
        "watching" => format!("{id} watching {}", text("address")),
        "ended" => format!("{id} ended by {}: {} {}", text("side"), event["code"], text("cause")),
        "skipped" => format!("... {} events left out ...", event["count"]),
        "frame" => {
            let flag = |field: &str| event[field].as_bool().unwrap_or_default();
            let mut line = format!(
                "{} {id} {:<3} {} {} bytes",
                clock(event["time"].as_f64().unwrap_or_default()),
                text("direction"),
                text("opcode"),
                event["bytes"],
            );
            for (is_so, word) in [
                (flag("compressed"), " compressed"),
                (!flag("fin"), " more follows"),
                (flag("assembled"), " whole"),
            ] {
                line.push_str(if is_so { word } else { "" });
            }
            if let Some(payload) = event["payload"].as_str() {
                line.push_str("  ");
                line.push_str(payload);
            }
            line
        }
        _ => return None,
    })
}

/// The time of day, in UTC.
fn clock(unix_seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(unix_seconds).unwrap_or_default();
    let seconds = time.as_secs() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_a_host_and_a_port() {
        assert_eq!(place("http://127.0.0.1:9002/"), Ok("127.0.0.1:9002".to_owned()));
        assert_eq!(place("http://[::1]:9002"), Ok("[::1]:9002".to_owned()));
        assert_eq!(
            place("127.0.0.1:9002"),
            Ok("127.0.0.1:9002".to_owned()),
            "as `serve --admin` has it"
        );
        for wrong in
            ["127.0.0.1", "https://a:1", "http://a", "http://a:b", "http://a:1/x", "http://a b:1"]
        {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics_stand_in_a_query_whatever_they_are() {
        assert_eq!(percent_encoded("a/b-c"), "a/b-c");
        assert_eq!(percent_encoded("a&b=%\u{e4}"), "a%26b%3d%25%c3%a4");
    }

    #[test]
    fn time_of_day_is_of_utc() {
        assert_eq!(clock(86_400.0 + 3_723.5), "01:02:03.500");
    }
}
