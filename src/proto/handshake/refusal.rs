//! Why a request is refused, and the one response that says so.
//!
//! Each variant is one reason, with its status and its label for counters. The response is complete,
//! ends the connection, and is made of constants alone: nothing of the request can come back in it,
//! so a refused request is no way to split responses or to reflect text.

use std::fmt;
use std::io::Write as _;

/// Why an opening handshake was refused. Each reason maps to one HTTP response.
///
/// Most refusals are decided by longwire itself, from the request alone. An application refuses
/// with [`Refusal::Unauthorized`], [`Refusal::Forbidden`], [`Refusal::NotFound`],
/// [`Refusal::TooManyRequests`] or [`Refusal::Overloaded`]. The connection is closed after the
/// response in every case; a client that sees 503 or 429 may try again later, one that sees
/// another status should change its request first.
///
/// RFC 6455 section 4.2.2, RFC 9112.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refusal {
    /// 400: a line feed without a carriage return before it.
    BareLineFeed,
    /// 400: a carriage return without a line feed after it.
    BareCarriageReturn,
    /// 400: a control byte in the request line or in a header.
    ControlByte,
    /// 400: more than two empty lines before the request line.
    LeadingEmptyLines,
    /// 400: the first line is not method, target and version with one space between.
    MalformedRequestLine,
    /// 400: a method of more than 16 bytes.
    MethodTooLong,
    /// 414: the request line is longer than its limit.
    RequestLineTooLong,
    /// 400: the request target is no path and no absolute URI, or has bytes a URI cannot have.
    MalformedTarget,
    /// 505: an HTTP version other than 1.x.
    UnsupportedHttpVersion,
    /// 431: one header line is longer than its limit.
    HeaderTooLong,
    /// 431: all header lines together are longer than their limit.
    HeadTooLong,
    /// 431: more header lines than their limit.
    TooManyHeaders,
    /// 400: a header line without a valid name directly before its colon.
    MalformedHeader,
    /// 400: a header continued on the next line (obs-fold).
    FoldedHeader,
    /// 400: no `Host`.
    MissingHost,
    /// 400: more than one `Host`.
    DuplicateHost,
    /// 400: a `Host`, or an authority in the target, that is not one host with an optional port.
    MalformedHost,
    /// 400: `Content-Length` twice, not a number, or next to `Transfer-Encoding`.
    MalformedContentLength,
    /// 400: a `Transfer-Encoding` that is not exactly `chunked`, or in HTTP/1.0.
    MalformedTransferEncoding,
    /// 405: a method other than GET.
    MethodNotAllowed,
    /// 426: HTTP/1.0, which has no upgrade.
    OutdatedHttpVersion,
    /// 426: no `Connection: upgrade` or no `Upgrade: websocket`.
    NotAnUpgrade,
    /// 417: an `Expect` header on an upgrade.
    UnexpectedExpect,
    /// 400: an upgrade that announces a body.
    UnexpectedBody,
    /// 400: no `Sec-WebSocket-Version`.
    MissingVersion,
    /// 400: more than one `Sec-WebSocket-Version`.
    DuplicateVersion,
    /// 426: a `Sec-WebSocket-Version` other than 13.
    UnsupportedVersion,
    /// 400: no `Sec-WebSocket-Key`.
    MissingKey,
    /// 400: more than one `Sec-WebSocket-Key`.
    DuplicateKey,
    /// 400: a `Sec-WebSocket-Key` that is not 16 bytes in Base64.
    MalformedKey,
    /// 400: a `Sec-WebSocket-Protocol` with an empty name or one that is no token.
    MalformedProtocols,
    /// 400: the same name twice in `Sec-WebSocket-Protocol`.
    DuplicateProtocol,
    /// 400: more than 32 names, or more than 1 KiB, in `Sec-WebSocket-Protocol`.
    TooManyProtocols,
    /// 400: a `Sec-WebSocket-Extensions` against its grammar.
    MalformedExtensions,
    /// 403: more than one `Origin`.
    DuplicateOrigin,
    /// 403: an `Origin` that is not on the list, or none where one is required.
    ForeignOrigin,
    /// 400: bytes after the head, before the handshake was answered.
    EarlyBytes,
    /// 408: the head was not complete in time.
    Timeout,
    /// 401: the request carries no valid credentials.
    Unauthorized,
    /// 403: the request is understood and not permitted, such as one of a foreign origin.
    Forbidden,
    /// 404: nothing is served at this path.
    NotFound,
    /// 429: this client asks too often.
    TooManyRequests,
    /// 503: the server takes no more connections for now.
    Overloaded,
    /// 503: more handshakes come in a second than the server begins.
    HandshakeRate,
}

/// When a client that was refused for now may try again.
const RETRY_SECONDS: u8 = 5;

/// What is fixed about one refusal: status, label, and the text of the response.
type Facts = (u16, &'static str, &'static str);

impl Refusal {
    /// The HTTP status of the response.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.facts().0
    }

    /// The reason phrase that belongs to the status (RFC 9110 section 15).
    #[must_use]
    pub const fn reason_phrase(self) -> &'static str {
        reason_phrase(self.status())
    }

    /// A fixed label for counters and logs, in `snake_case`. It never holds text of a peer.
    #[must_use]
    pub const fn class(self) -> &'static str {
        self.facts().1
    }

    /// Appends the response, complete with its body, to `out`.
    ///
    /// The response carries `Connection: close` and `Content-Length`, and the headers its status
    /// asks for: `Allow`, `Upgrade`, `Sec-WebSocket-Version`, `WWW-Authenticate`, `Retry-After`.
    pub fn write_response(self, out: &mut Vec<u8>) {
        self.write_response_with(RETRY_SECONDS, out);
    }

    /// The same with so many seconds in `Retry-After`, where there is one.
    pub(crate) fn write_response_with(self, retry_seconds: u8, out: &mut Vec<u8>) {
        let status = self.status();
        append(out, format_args!("HTTP/1.1 {status} {}\r\n", self.reason_phrase()));
        // RFC 9110 §7.8: who sends `Upgrade` names it in `Connection`, too.
        let connection = if status == 426 { "close, upgrade" } else { "close" };
        append(out, format_args!("Connection: {connection}\r\n"));
        out.extend_from_slice(match status {
            401 => b"WWW-Authenticate: Bearer\r\n",
            405 => b"Allow: GET\r\n",
            426 => b"Upgrade: websocket\r\n",
            _ => b"",
        });
        if matches!(status, 429 | 503) {
            append(out, format_args!("Retry-After: {retry_seconds}\r\n"));
        }
        if matches!(self, Self::MissingVersion | Self::UnsupportedVersion) {
            out.extend_from_slice(b"Sec-WebSocket-Version: 13\r\n");
        }
        let body = self.body();
        append(out, format_args!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len()));
        append(out, format_args!("\r\n{body}"));
    }

    /// The body of the response. There is none after 405, because the method may have been HEAD,
    /// which must not be answered with one (RFC 9110 §9.3.2).
    const fn body(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "",
            _ => self.facts().2,
        }
    }

    const fn facts(self) -> Facts {
        match self {
            Self::BareLineFeed => (400, "bare_line_feed", "line feed without carriage return"),
            Self::BareCarriageReturn => (400, "bare_carriage_return", "carriage return alone"),
            Self::ControlByte => (400, "control_byte", "control byte in the head"),
            Self::LeadingEmptyLines => (400, "leading_empty_lines", "too many empty lines"),
            Self::MalformedRequestLine => (400, "request_line", "malformed request line"),
            Self::MethodTooLong => (400, "method_too_long", "method too long"),
            Self::RequestLineTooLong => (414, "request_line_too_long", "request line too long"),
            Self::MalformedTarget => (400, "target", "malformed request target"),
            Self::UnsupportedHttpVersion => (505, "http_version", "only HTTP/1.1 is spoken here"),
            Self::HeaderTooLong => (431, "header_too_long", "a header line is too long"),
            Self::HeadTooLong => (431, "head_too_long", "the headers are too long"),
            Self::TooManyHeaders => (431, "too_many_headers", "too many headers"),
            Self::MalformedHeader => (400, "header", "malformed header"),
            Self::FoldedHeader => (400, "folded_header", "header continued on a second line"),
            Self::MissingHost => (400, "missing_host", "no Host"),
            Self::DuplicateHost => (400, "duplicate_host", "more than one Host"),
            Self::MalformedHost => (400, "host", "malformed host"),
            Self::MalformedContentLength => (400, "content_length", "malformed Content-Length"),
            Self::MalformedTransferEncoding => (400, "transfer_encoding", "transfer encoding"),
            Self::MethodNotAllowed => (405, "method", "only GET is allowed"),
            Self::OutdatedHttpVersion => (426, "outdated_http", "HTTP/1.0 has no upgrade"),
            Self::NotAnUpgrade => (426, "not_an_upgrade", "this endpoint speaks WebSocket"),
            Self::UnexpectedExpect => (417, "expect", "Expect is not supported"),
            Self::UnexpectedBody => (400, "body", "an upgrade has no body"),
            Self::MissingVersion => (400, "missing_version", "no Sec-WebSocket-Version"),
            Self::DuplicateVersion => (400, "duplicate_version", "two Sec-WebSocket-Version"),
            Self::UnsupportedVersion => (426, "version", "only WebSocket version 13 is spoken"),
            Self::MissingKey => (400, "missing_key", "no Sec-WebSocket-Key"),
            Self::DuplicateKey => (400, "duplicate_key", "more than one Sec-WebSocket-Key"),
            Self::MalformedKey => (400, "key", "malformed Sec-WebSocket-Key"),
            Self::MalformedProtocols => (400, "protocols", "malformed Sec-WebSocket-Protocol"),
            Self::DuplicateProtocol => (400, "duplicate_protocol", "a sub-protocol named twice"),
            Self::TooManyProtocols => (400, "too_many_protocols", "too many sub-protocols"),
            Self::MalformedExtensions => (400, "extensions", "malformed Sec-WebSocket-Extensions"),
            Self::DuplicateOrigin => (403, "duplicate_origin", "more than one Origin"),
            Self::ForeignOrigin => (403, "origin", "not permitted from this origin"),
            Self::EarlyBytes => (400, "early_bytes", "bytes before the handshake was answered"),
            Self::Timeout => (408, "timeout", "the request took too long"),
            Self::Unauthorized => (401, "unauthorized", "credentials needed"),
            Self::Forbidden => (403, "forbidden", "not permitted"),
            Self::NotFound => (404, "not_found", "nothing here"),
            Self::TooManyRequests => (429, "too_many_requests", "too many requests"),
            Self::Overloaded => (503, "overloaded", "no more connections for now"),
            Self::HandshakeRate => (503, "handshake_rate", "too many come at once; try again"),
        }
    }
}

/// The reason phrase that belongs to a status; empty for one that is not listed, as RFC 9112 §4
/// permits.
pub(super) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, _, text) = self.facts();
        write!(f, "{status} {}: {text}", self.reason_phrase())
    }
}

impl std::error::Error for Refusal {}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(refusal: Refusal) -> String {
        let mut out = Vec::new();
        refusal.write_response(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Every reason. A variant that is added without a line here fails to compile in `facts` first.
    const ALL: [Refusal; 44] = [
        Refusal::BareLineFeed,
        Refusal::BareCarriageReturn,
        Refusal::ControlByte,
        Refusal::LeadingEmptyLines,
        Refusal::MalformedRequestLine,
        Refusal::MethodTooLong,
        Refusal::RequestLineTooLong,
        Refusal::MalformedTarget,
        Refusal::UnsupportedHttpVersion,
        Refusal::HeaderTooLong,
        Refusal::HeadTooLong,
        Refusal::TooManyHeaders,
        Refusal::MalformedHeader,
        Refusal::FoldedHeader,
        Refusal::MissingHost,
        Refusal::DuplicateHost,
        Refusal::MalformedHost,
        Refusal::MalformedContentLength,
        Refusal::MalformedTransferEncoding,
        Refusal::MethodNotAllowed,
        Refusal::OutdatedHttpVersion,
        Refusal::NotAnUpgrade,
        Refusal::UnexpectedExpect,
        Refusal::UnexpectedBody,
        Refusal::MissingVersion,
        Refusal::DuplicateVersion,
        Refusal::UnsupportedVersion,
        Refusal::MissingKey,
        Refusal::DuplicateKey,
        Refusal::MalformedKey,
        Refusal::MalformedProtocols,
        Refusal::DuplicateProtocol,
        Refusal::TooManyProtocols,
        Refusal::MalformedExtensions,
        Refusal::DuplicateOrigin,
        Refusal::ForeignOrigin,
        Refusal::EarlyBytes,
        Refusal::Timeout,
        Refusal::Unauthorized,
        Refusal::Forbidden,
        Refusal::NotFound,
        Refusal::TooManyRequests,
        Refusal::Overloaded,
        Refusal::HandshakeRate,
    ];

    #[test]
    fn every_refusal_is_one_complete_response_that_closes() {
        for refusal in ALL {
            let text = response(refusal);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let status_line = format!("HTTP/1.1 {} {}", refusal.status(), refusal.reason_phrase());
            assert_eq!(head.lines().next(), Some(status_line.as_str()));
            assert!(head.contains("\r\nConnection: close"), "{refusal:?}");
            assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
            assert!(text.is_ascii() && !head.contains("Transfer-Encoding"));
            assert!((400..600).contains(&refusal.status()));
            let bad_request = refusal.reason_phrase() == "Bad Request";
            assert_eq!(bad_request, refusal.status() == 400, "{refusal:?} has a phrase of its own");
        }
    }

    #[test]
    fn every_refusal_has_a_label_of_its_own() {
        for (index, refusal) in ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{refusal:?} stands in order, none is left out");
            let class = refusal.class();
            assert!(class.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(ALL[..index].iter().all(|earlier| earlier.class() != class), "{class}");
        }
    }

    #[test]
    fn hs17_refusals_of_the_application_have_their_status_and_headers() {
        for (refusal, status, header) in [
            (Refusal::Unauthorized, 401, "WWW-Authenticate: Bearer"),
            (Refusal::Forbidden, 403, "Connection: close"),
            (Refusal::NotFound, 404, "Connection: close"),
            (Refusal::TooManyRequests, 429, "Retry-After: 5"),
            (Refusal::Overloaded, 503, "Retry-After: 5"),
        ] {
            assert_eq!(refusal.status(), status);
            assert!(response(refusal).contains(&format!("\r\n{header}\r\n")), "{refusal:?}");
        }
    }

    #[test]
    fn hd03_late_head_is_answered_with_408() {
        let text = response(Refusal::Timeout);
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"));
    }
}
