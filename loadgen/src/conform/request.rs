//! The opening request of a client, right or wrong in any place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frame::Keys;
use super::tls::Secure;

/// Where the server is, and what to ask for there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addr: std::net::SocketAddr,
    /// What `wss` needs.
    pub(crate) secure: Option<Secure>,
    /// Value of the `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
}

/// An opening request. The methods change one thing each, so that a case shows what is wrong in it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) host: String,
    /// The key as it was before any change; the answer's accept value belongs to it.
    pub(crate) key: String,
    before: String,
    method: String,
    target: String,
    version: String,
    /// Header lines without their ends.
    lines: Vec<String>,
    line_end: &'static str,
    body: Vec<u8>,
}

impl Request {
    /// What RFC 6455 §4.1 asks of a client, and nothing else.
    pub(crate) fn plain(target: &Target, seed: u32) -> Self {
        let mut keys = Keys::new(seed);
        let nonce: Vec<u8> = (0..4).flat_map(|_| keys.next_key()).collect();
        let key = STANDARD.encode(nonce);
        let lines = vec![
            format!("Host: {}", target.host),
            "Upgrade: websocket".to_owned(),
            "Connection: Upgrade".to_owned(),
            format!("Sec-WebSocket-Key: {key}"),
            "Sec-WebSocket-Version: 13".to_owned(),
        ];
        Self {
            host: target.host.clone(),
            key,
            before: String::new(),
            method: "GET".to_owned(),
            target: target.path.clone(),
            version: "HTTP/1.1".to_owned(),
            lines,
            line_end: "\r\n",
            body: Vec::new(),
        }
    }

    /// Bytes in front of the request line.
    pub(crate) fn before(mut self, bytes: &str) -> Self {
        bytes.clone_into(&mut self.before);
        self
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// `{}` stands for the path.
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.replace("{}", &self.target);
        self
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Leaves a header out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.lines.retain(|line| !is_line_of(line, name));
        self
    }

    /// Gives a header another value, or adds it.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        self.without(name).line(&format!("{name}: {value}"))
    }

    /// Another key, whose accept value is then expected.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self.with("Sec-WebSocket-Key", key)
    }

    /// Appends a header line as it stands.
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Puts a header line, as it stands, in front of all others.
    pub(crate) fn first_line(mut self, line: &str) -> Self {
        self.lines.insert(0, line.to_owned());
        self
    }

    /// Writes the name of every header in another way.
    pub(crate) fn names(mut self, change: fn(&str) -> String) -> Self {
        for line in &mut self.lines {
            if let Some((name, rest)) = line.split_once(':') {
                *line = format!("{}:{rest}", change(name));
            }
        }
        self
    }

    pub(crate) fn line_end(mut self, line_end: &'static str) -> Self {
        self.line_end = line_end;
        self
    }

    /// Bytes behind the head.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words: Vec<&str> = [&self.method, &self.target, &self.version]
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        let mut head = format!("{}{}{}", self.before, words.join(" "), self.line_end);
        for line in &self.lines {
            head.push_str(line);
            head.push_str(self.line_end);
        }
        head.push_str(self.line_end);
        let mut bytes = head.into_bytes();
        bytes.extend(&self.body);
        bytes
    }
}

fn is_line_of(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Request {
        let target = Target {
            addr: "127.0.0.1:9001".parse().unwrap(),
            secure: None,
            host: "127.0.0.1:9001".to_owned(),
            path: "/echo".to_owned(),
        };
        Request::plain(&target, 3)
    }

    fn text(request: &Request) -> String {
        String::from_utf8(request.bytes()).unwrap()
    }

    #[test]
    fn plain_request_is_what_the_standard_asks_for() {
        let request = plain();
        let text = text(&request);
        assert!(text.starts_with("GET /echo HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n"));
        assert!(text.ends_with("\r\nSec-WebSocket-Version: 13\r\n\r\n"));
        assert_eq!(STANDARD.decode(&request.key).unwrap().len(), 16);
        assert!(text.contains(&format!("\r\nSec-WebSocket-Key: {}\r\n", request.key)));
    }

    #[test]
    fn changes_change_one_thing() {
        assert!(!text(&plain().without("sec-websocket-key")).contains("Key"));
        let other = text(&plain().with("Host", "a b"));
        assert_eq!(other.matches("Host").count(), 1);
        assert!(other.contains("\r\nHost: a b\r\n"));
        assert!(
            text(&plain().method("POST").version("HTTP/1.0")).starts_with("POST /echo HTTP/1.0")
        );
        assert!(text(&plain().version("")).starts_with("GET /echo\r\n"));
        assert!(text(&plain().target("http://h{}")).starts_with("GET http://h/echo "));
        assert!(text(&plain().names(str::to_uppercase)).contains("\r\nUPGRADE: websocket\r\n"));
        assert!(text(&plain().line_end("\n").body(b"x")).ends_with("13\n\nx"));
    }
}
