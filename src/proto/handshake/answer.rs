//! An HTTP response of the application: to a request that it rejects, or that is no upgrade.
//!
//! One complete response that ends the connection: nothing after it is answered, so a client that
//! pipelines requests cannot make the server queue responses (row HP01).

use std::fmt;
use std::io::Write as _;

use super::fields::is_token;
use super::refusal::reason_phrase;

/// An HTTP response, complete, after which the connection is closed.
///
/// `Connection: close` and `Content-Length` are added by longwire.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Response {
    /// A response with this status (RFC 9110 section 15) and no body.
    ///
    /// # Panics
    ///
    /// If the status is not one of a final response: 200 to 599.
    #[must_use]
    pub fn new(status: u16) -> Self {
        assert!((200..600).contains(&status), "{status} is no status of a final response");
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// One more header, such as `Set-Cookie`.
    ///
    /// # Panics
    ///
    /// If the name is no token (RFC 9110 section 5.1), the value has a control byte, or the header
    /// is one that frames the response: `Connection`, `Content-Length`, `Transfer-Encoding`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let framing = ["connection", "content-length", "transfer-encoding"];
        assert!(
            !framing.iter().any(|framing| name.eq_ignore_ascii_case(framing)),
            "{name} is longwire's to set"
        );
        append_header(&mut self.headers, name, value);
        self
    }

    /// The body. Set its `Content-Type` by [`header`](Self::header).
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A body of plain text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.header("Content-Type", "text/plain; charset=utf-8").body(text)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the response to `out`; without its body if it answers a HEAD (RFC 9110 §9.3.2).
    pub(crate) fn write(&self, to_head: bool, out: &mut Vec<u8>) {
        let Self { status, headers, body } = self;
        let start = format_args!("HTTP/1.1 {status} {}\r\n", reason_phrase(*status)).to_string();
        out.extend_from_slice(start.as_bytes());
        out.extend_from_slice(headers);
        // RFC 9110 §8.6, §15.3.5, §15.4.5: these have no content, and no length of it.
        if !matches!(status, 204 | 304) {
            write!(out, "Content-Length: {}\r\n", body.len()).expect("a vector takes every write");
        }
        out.extend_from_slice(b"Connection: close\r\n\r\n");
        if !to_head && !matches!(status, 204 | 304) {
            out.extend_from_slice(body);
        }
    }
}

impl fmt::Debug for Response {
    /// Headers and body may carry credentials and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Appends one header line.
///
/// # Panics
///
/// If the name is no token or the value has a control byte: text of a peer that found its way here
/// must not become a header of its own.
pub(crate) fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    assert!(is_token(name.as_bytes()), "{name:?} is no name of a header");
    let clean = value.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
    assert!(clean, "the value of {name} has a control byte");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, to_head: bool) -> String {
        let mut out = Vec::new();
        response.write(to_head, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn response_is_complete_and_closes() {
        let response = Response::new(200).header("X-Node", "a").text("ok");
        assert_eq!(
            written(&response, false),
            "HTTP/1.1 200 OK\r\nX-Node: a\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\nok"
        );
    }

    #[test]
    fn hp03_head_is_answered_without_a_body() {
        let text = written(&Response::new(200).text("ok"), true);
        assert!(text.contains("Content-Length: 2\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn response_without_content_has_no_length() {
        assert_eq!(
            written(&Response::new(204).text("x"), false),
            "HTTP/1.1 204 No Content\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    #[should_panic(expected = "control byte")]
    fn header_cannot_split_the_response() {
        let _ = Response::new(302).header("Location", "/\r\nSet-Cookie: a=b");
    }

    #[test]
    #[should_panic(expected = "is longwire's to set")]
    fn header_cannot_change_the_framing() {
        let _ = Response::new(200).header("content-length", "7");
    }
}
