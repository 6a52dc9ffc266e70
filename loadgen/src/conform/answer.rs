//! The server's answer to an opening request: read with a bound, taken apart, and held to RFC 6455.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::wire::Wire;

const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELD_COUNT_MAX: usize = 200;
/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What came back for a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Head(Head),
    /// The connection ended before the head did.
    Ended,
    /// Nothing, or no whole head, in the time there was.
    Silence,
    /// Bytes that are no HTTP/1.1 head; these are the first of them.
    NotHttp(String),
}

/// The head of an HTTP answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    /// What came behind the head in the same reads.
    pub(crate) rest: Vec<u8>,
}

impl Answer {
    /// Reads until the head is whole.
    pub(crate) fn read(mut stream: &Wire, patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                return Self::parse(&bytes[..end], bytes[end + 4..].to_vec());
            }
            if bytes.len() > HEAD_BYTES_MAX || !b"HTTP/".starts_with(&bytes[..bytes.len().min(5)]) {
                return not_http(&bytes);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return Self::Silence;
            }
            match stream.read(&mut block) {
                Ok(0) => return Self::Ended,
                Ok(count) => bytes.extend_from_slice(&block[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Self::Silence,
                    ErrorKind::Interrupted => {}
                    _ => return Self::Ended,
                },
            }
        }
    }

    pub(super) fn parse(head: &[u8], rest: Vec<u8>) -> Self {
        let Ok(text) = std::str::from_utf8(head) else { return not_http(head) };
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| {
            let mut words = line.splitn(3, ' ');
            let version = words.next()?;
            let status = words.next().filter(|status| status.len() == 3)?;
            version.starts_with("HTTP/1.").then(|| status.parse().ok())?
        });
        let Some(status) = status else { return not_http(head) };
        let mut fields = Vec::new();
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) if fields.len() < FIELD_COUNT_MAX => {
                    fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
                }
                _ => return not_http(head),
            }
        }
        Self::Head(Head { status, fields, rest })
    }

    /// In words, for a report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Head(head) => head.describe(),
            Self::Ended => "the connection ended without an answer".to_owned(),
            Self::Silence => "no answer in time".to_owned(),
            Self::NotHttp(start) => format!("an answer that is not HTTP/1.1: `{start}`"),
        }
    }
}

fn not_http(bytes: &[u8]) -> Answer {
    let start = &bytes[..bytes.len().min(40)];
    Answer::NotHttp(String::from_utf8_lossy(start).escape_debug().to_string())
}

impl Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Elements of a header which is a list, over all its lines.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let elements = self.values(name).flat_map(|value| value.split(','));
        elements
            .map(|element| element.trim_matches([' ', '\t']))
            .filter(|element| !element.is_empty())
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    pub(crate) fn contains(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// What is wrong with this answer to a request which had `key` and offered nothing.
    pub(crate) fn fault_of_accept(&self, key: &str) -> Option<String> {
        let accepts: Vec<&str> = self.values("Sec-WebSocket-Accept").collect();
        let expected = accept_value(key);
        if self.status != 101 {
            return Some(format!("status {} instead of 101", self.status));
        }
        if !self.contains("Upgrade", "websocket") {
            return Some("no `Upgrade: websocket` in the answer".to_owned());
        }
        if !self.contains("Connection", "upgrade") {
            return Some("no `Connection: Upgrade` in the answer".to_owned());
        }
        match accepts.as_slice() {
            [] => Some("no Sec-WebSocket-Accept in the answer".to_owned()),
            [accept] if **accept == expected => None,
            [accept] => Some(format!("Sec-WebSocket-Accept is `{accept}`, not `{expected}`")),
            _ => Some(format!("Sec-WebSocket-Accept stands {} times", accepts.len())),
        }
    }

    /// What the answer chose although nobody offered it.
    pub(crate) fn fault_of_choice(
        &self,
        protocols: &[&str],
        extensions: &[&str],
    ) -> Option<String> {
        let chosen: Vec<&str> = self.values("Sec-WebSocket-Protocol").collect();
        match chosen.as_slice() {
            [] => {}
            [one] if protocols.contains(one) => {}
            _ => return Some(format!("the subprotocol `{}` was chosen", chosen.join(", "))),
        }
        for element in self.list("Sec-WebSocket-Extensions") {
            let name = element.split(';').next().unwrap_or_default().trim();
            if !extensions.contains(&name) {
                return Some(format!("the extension `{element}` was agreed on"));
            }
        }
        None
    }

    fn describe(&self) -> String {
        let mut text = format!("status {}", self.status);
        for name in ["Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
        {
            if let Some(value) = self.first(name) {
                // Writing into a string cannot fail.
                let _ = write!(text, ", {name}: {value}");
            }
        }
        text
    }
}

/// The accept value for a key.
pub(crate) fn accept_value(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn head(text: &str) -> Head {
        match Answer::parse(text.as_bytes(), Vec::new()) {
            Answer::Head(head) => head,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn accepting(more: &str) -> Head {
        head(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\n{more}"
        ))
    }

    #[test]
    fn accept_value_is_that_of_the_standard() {
        assert_eq!(accept_value(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let right = accepting("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(right.fault_of_accept(KEY), None);
    }

    #[test]
    fn every_fault_of_a_101_is_named() {
        let wrong = accepting("Sec-WebSocket-Accept: AAAA");
        assert!(wrong.fault_of_accept(KEY).unwrap().contains("is `AAAA`, not `s3pP"));
        assert!(
            accepting("X: y").fault_of_accept(KEY).unwrap().contains("no Sec-WebSocket-Accept")
        );
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let twice = accepting(&format!("{accept}\r\n{accept}"));
        assert!(twice.fault_of_accept(KEY).unwrap().contains("2 times"));
        let none = head(&format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\n{accept}"));
        assert!(none.fault_of_accept(KEY).unwrap().contains("no `Upgrade"));
        let none = head(&format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n{accept}"));
        assert!(none.fault_of_accept(KEY).unwrap().contains("no `Connection"));
        assert!(head("HTTP/1.1 404 x").fault_of_accept(KEY).unwrap().contains("404"));
    }

    #[test]
    fn choices_nobody_offered_are_named() {
        let chat = accepting("Sec-WebSocket-Protocol: chat");
        assert!(chat.fault_of_choice(&[], &[]).unwrap().contains("`chat`"));
        assert_eq!(chat.fault_of_choice(&["chat"], &[]), None);
        let both = accepting("Sec-WebSocket-Protocol: chat, superchat");
        assert!(both.fault_of_choice(&["chat", "superchat"], &[]).is_some());
        let deflate = accepting("Sec-WebSocket-Extensions: permessage-deflate; x=1");
        assert!(deflate.fault_of_choice(&[], &[]).is_some());
        assert_eq!(deflate.fault_of_choice(&[], &["permessage-deflate"]), None);
    }

    #[test]
    fn what_is_no_http_is_told_by_its_start() {
        for text in
            ["SSH-2.0-x", "HTTP/1.1", "HTTP/1.1 1x1 y", "HTTP/2 101", "HTTP/1.1 101 x\r\nno colon"]
        {
            let answer = Answer::parse(text.as_bytes(), Vec::new());
            assert!(matches!(answer, Answer::NotHttp(_)), "{text}: {answer:?}");
        }
    }
}
