//! Plain HTTP for the tests: one request on one connection, and its answer.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::client::Client;

/// An answer, in parts.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v)
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends what begins with a request, and reads the answer to the end of the connection.
pub(crate) fn ask(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut client = Client::connect(addr);
    client.send_raw(bytes);
    answer(&mut client)
}

/// The answer to what was sent already.
pub(crate) fn answer(client: &mut Client) -> Answer {
    let response = client.read_response();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A request for `target` at `addr`, with further header lines and a body.
pub(crate) fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "{method} {target} HTTP/1.1\r\nConnection: close\r\n").unwrap();
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        write!(bytes, "Host: {addr}\r\n").unwrap();
    }
    for header in headers {
        write!(bytes, "{header}\r\n").unwrap();
    }
    if method == "POST" {
        write!(bytes, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn get(addr: SocketAddr, target: &str) -> Answer {
    ask(addr, &request(addr, "GET", target, &[], b""))
}

pub(crate) fn post(addr: SocketAddr, target: &str, headers: &[&str], body: &[u8]) -> Answer {
    ask(addr, &request(addr, "POST", target, headers, body))
}
