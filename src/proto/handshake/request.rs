//! One complete request head, judged and taken apart without a copy.
//!
//! Tokens are found by `httparse`; what they may be is decided here, by this order of questions,
//! so that each hostile head has exactly one answer:
//!
//! 1. Is it HTTP/1.x at all? Request line, version, header names, `Host`, body framing.
//! 2. Is it an upgrade? Method, target, `Connection` and `Upgrade`. If not, it may still be plain
//!    HTTP for the application to answer.
//! 3. Is it an upgrade we take? No expectation, no body, version, key, sub-protocols, extensions.
//!
//! Line ends, control bytes and sizes are the scanner's and are not asked again.

use std::fmt;
use std::net::IpAddr;
use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::{self, OfferedProtocols, Single};
use super::target::{self, Target};
use super::{HeadLimits, HeadScanner, Refusal};

/// Characters of a `Sec-WebSocket-Key`: 16 bytes in Base64.
const KEY_CHARS: usize = 24;
/// Header places tried first; only a head with more of them pays for `HEADER_COUNT_CAP`.
const HEADER_COUNT_TYPICAL: usize = 32;

/// A request of a client, as the server sees it: its opening handshake (RFC 6455 section 4.1), or
/// plain HTTP.
///
/// Everything is borrowed from the bytes that were received, and nothing is decoded: percent
/// signs stay as they are, and header values are bytes. A `Request` is valid HTTP without a body;
/// all others were refused before, with a [`Refusal`]. It may be no upgrade at all: see
/// [`is_upgrade`](Self::is_upgrade).
#[derive(Clone, Copy)]
pub struct Request<'a> {
    target: &'a str,
    parts: Target<'a>,
    host: &'a str,
    origin: Option<&'a [u8]>,
    /// The client's key, or why this cannot be answered with 101.
    key: Result<&'a [u8], Refusal>,
    is_head: bool,
    /// Tells the client's address.
    client: Option<&'a dyn Fn() -> Option<IpAddr>>,
    /// The header lines with their line ends, without the empty line.
    field_lines: &'a [u8],
}

impl<'a> Request<'a> {
    /// Judges a head that [`HeadScanner`] found complete. Its limits may have changed while the head
    /// came, so they are not asked again.
    pub(crate) fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        debug_assert_eq!(
            HeadScanner::default().scan(head, &HeadLimits::NONE),
            Ok(Some(head.len())),
            "a head is parsed after it was scanned"
        );
        let (line, field_lines) = split_request_line(head)?;
        let line = RequestLine::parse(line)?;
        let known = KnownFields::parse(field_lines)?;
        let host = known.host(line.version_minor)?;
        known.check_framing(line.version_minor)?;

        let is_head = line.method == b"HEAD";
        if line.method != b"GET" && !is_head {
            return Err(Refusal::MethodNotAllowed);
        }
        let parts = Target::parse(line.target)?;
        let key = if is_head {
            Err(Refusal::MethodNotAllowed)
        } else if line.version_minor == 0 {
            // RFC 9110 §7.8: an upgrade in HTTP/1.0 is to be ignored.
            Err(Refusal::OutdatedHttpVersion)
        } else if known.is_upgrade() {
            Ok(known.check_upgrade()?)
        } else {
            Err(Refusal::NotAnUpgrade)
        };
        if key.is_err() && known.has_body() {
            return Err(Refusal::UnexpectedBody);
        }
        let origin = match known.origin {
            Single::Absent => None,
            Single::Present(origin) => Some(origin),
            Single::Repeated => return Err(Refusal::DuplicateOrigin),
        };
        // RFC 9112 §3.2.2: the authority of an absolute target replaces `Host`.
        // HTTP/1.0 could do without either.
        let host = parts.authority.or(host).unwrap_or_default();
        let field_lines = field_lines.strip_suffix(b"\r\n").unwrap_or(field_lines);
        Ok(Self {
            target: line.target,
            parts,
            host,
            origin,
            key,
            is_head,
            client: None,
            field_lines,
        })
    }

    /// Whether the client asks for a WebSocket. If not, the request can be answered as HTTP only.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.key.is_ok()
    }

    /// The client's key, or the refusal if this is no upgrade.
    pub(crate) fn upgrade_key(&self) -> Result<&'a [u8], Refusal> {
        self.key
    }

    /// Whether the method is HEAD, so that the answer has no body. The only other one is GET.
    pub(crate) fn is_head(&self) -> bool {
        self.is_head
    }

    /// The same request, of which it is known how to find out whose it is.
    pub(crate) fn with_client<'b>(self, client: &'b dyn Fn() -> Option<IpAddr>) -> Request<'b>
    where
        'a: 'b,
    {
        Request { client: Some(client), ..self }
    }

    /// The client's address: what a trusted proxy has told, or else what the kernel knows of the
    /// peer. `None` for a peer of a Unix socket.
    #[must_use]
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.client.and_then(|client| client())
    }

    /// The path of the target, from its first slash up to the query. It is never decoded.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.parts.path
    }

    /// What follows the first `?` of the target; `Some("")` if nothing follows it.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.parts.query
    }

    /// The request target as it was received: a path with its query, or an absolute URI.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The host this request is for, with its port if one was named. Case is as received.
    ///
    /// It is the authority of an absolute target, else the `Host` header (RFC 9112 section 3.2).
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The `Origin` header: which site's script opens this connection. Browsers always send it,
    /// other clients seldom do (RFC 6455 section 10.2).
    #[must_use]
    pub fn origin(&self) -> Option<&'a [u8]> {
        self.origin
    }

    /// The value of the first header of this name, compared without regard to ASCII case.
    ///
    /// The value has no blanks at its ends, may be empty, and may hold bytes above 0x7F.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers, names as received, in the order received.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        Fields { lines: self.field_lines }
    }

    /// The sub-protocols the client offers, the one it likes most first (RFC 6455 section 11.3.4).
    ///
    /// They are tokens, at most 32, no two of them equal.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values_of("Sec-WebSocket-Protocol")
            .flat_map(fields::list_elements)
            .filter_map(|name| str::from_utf8(name).ok())
    }

    /// The first of `supported` that the client offers, for the answer of the server.
    ///
    /// What is returned is the server's own text, never the client's.
    #[must_use]
    pub fn select_protocol<'s>(&self, supported: &[&'s str]) -> Option<&'s str> {
        let offered = |name: &&'s str| self.protocols().any(|protocol| protocol == *name);
        supported.iter().copied().find(offered)
    }

    /// The `Sec-WebSocket-Extensions` lines, in order; together they are one list of offers. Their
    /// syntax is valid (RFC 6455 section 9.1), their content is not judged.
    pub fn extensions_header(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values_of("Sec-WebSocket-Extensions").filter_map(|value| str::from_utf8(value).ok())
    }

    /// The same lines as bytes.
    pub(crate) fn extension_lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.values_of("Sec-WebSocket-Extensions")
    }

    fn values_of(&self, wanted: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for Request<'_> {
    /// Shows the target and the host; headers may carry credentials and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("target", &self.target)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The first line, in parts.
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a str,
    version_minor: u8,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::MalformedRequestLine);
        };
        let version_minor = match version {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => minor - b'0',
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Refusal::UnsupportedHttpVersion);
            }
            _ => return Err(Refusal::MalformedRequestLine),
        };
        let target = target::target_text(target)?;
        Ok(Self { method, target, version_minor })
    }
}

/// The headers that decide about an upgrade.
#[derive(Default)]
struct KnownFields<'a> {
    host: Single<'a>,
    origin: Single<'a>,
    content_length: Single<'a>,
    transfer_encoding: Single<'a>,
    version: Single<'a>,
    key: Single<'a>,
    connection_upgrade: bool,
    upgrade_websocket: bool,
    expect: bool,
    has_protocols: bool,
    malformed_extensions: bool,
    field_lines: &'a [u8],
}

impl<'a> KnownFields<'a> {
    fn parse(field_lines: &'a [u8]) -> Result<Self, Refusal> {
        let mut places = [httparse::EMPTY_HEADER; HEADER_COUNT_TYPICAL];
        match httparse::parse_headers(field_lines, &mut places) {
            Err(httparse::Error::TooManyHeaders) => {
                let mut places = [httparse::EMPTY_HEADER; HeadLimits::HEADER_COUNT_CAP];
                Self::from_parsed(field_lines, httparse::parse_headers(field_lines, &mut places))
            }
            parsed => Self::from_parsed(field_lines, parsed),
        }
    }

    fn from_parsed(
        field_lines: &'a [u8],
        parsed: httparse::Result<(usize, &[httparse::Header<'a>])>,
    ) -> Result<Self, Refusal> {
        let headers = match parsed {
            Ok(httparse::Status::Complete((bytes, headers))) if bytes == field_lines.len() => {
                headers
            }
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
            Ok(_) | Err(_) => return Err(Refusal::MalformedHeader),
        };
        let mut known = Self { field_lines, ..Self::default() };
        for header in headers {
            known.record(header.name, header.value);
        }
        Ok(known)
    }

    /// Takes note of one header. The length of a name tells most names apart at once.
    fn record(&mut self, name: &str, value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => self.host.record(value),
            6 if is("origin") => self.origin.record(value),
            6 if is("expect") => self.expect = true,
            7 if is("upgrade") => {
                self.upgrade_websocket |= fields::list_contains(value, "websocket");
            }
            10 if is("connection") => {
                self.connection_upgrade |= fields::list_contains(value, "upgrade");
            }
            14 if is("content-length") => self.content_length.record(value),
            17 if is("transfer-encoding") => self.transfer_encoding.record(value),
            17 if is("sec-websocket-key") => self.key.record(value),
            21 if is("sec-websocket-version") => self.version.record(value),
            22 if is("sec-websocket-protocol") => self.has_protocols = true,
            24 if is("sec-websocket-extensions") => {
                self.malformed_extensions |= !fields::extensions_are_well_formed(value);
            }
            _ => {}
        }
    }

    /// RFC 9112 §3.2: exactly one valid `Host`; HTTP/1.0 could do without.
    fn host(&self, version_minor: u8) -> Result<Option<&'a str>, Refusal> {
        match self.host {
            Single::Absent if version_minor == 0 => Ok(None),
            Single::Absent => Err(Refusal::MissingHost),
            Single::Repeated => Err(Refusal::DuplicateHost),
            Single::Present(host) => target::authority_of(host).map(Some),
        }
    }

    /// RFC 9112 §6: where a body would end has to be beyond doubt even if it is not read, because
    /// a proxy in front may have seen another end.
    fn check_framing(&self, version_minor: u8) -> Result<(), Refusal> {
        match self.transfer_encoding {
            Single::Absent => {}
            Single::Present(coding) if coding.eq_ignore_ascii_case(b"chunked") => {
                if version_minor == 0 {
                    return Err(Refusal::MalformedTransferEncoding);
                }
                if self.content_length != Single::Absent {
                    return Err(Refusal::MalformedContentLength);
                }
            }
            Single::Present(_) | Single::Repeated => {
                return Err(Refusal::MalformedTransferEncoding);
            }
        }
        match self.content_length {
            Single::Absent => Ok(()),
            Single::Present(value) if fields::content_length(value).is_some() => Ok(()),
            Single::Present(_) | Single::Repeated => Err(Refusal::MalformedContentLength),
        }
    }

    /// Whether the client asks for a WebSocket (RFC 6455 §4.2.1).
    fn is_upgrade(&self) -> bool {
        self.connection_upgrade && self.upgrade_websocket
    }

    /// Whether a body is announced.
    fn has_body(&self) -> bool {
        let body_bytes = match self.content_length {
            Single::Present(value) => fields::content_length(value),
            Single::Absent | Single::Repeated => None,
        };
        self.transfer_encoding != Single::Absent || body_bytes.is_some_and(|bytes| bytes > 0)
    }

    /// Whether this is an upgrade we take (RFC 6455 §4.2.1). Returns the key.
    fn check_upgrade(&self) -> Result<&'a [u8], Refusal> {
        if self.expect {
            return Err(Refusal::UnexpectedExpect);
        }
        if self.has_body() {
            return Err(Refusal::UnexpectedBody);
        }
        match self.version {
            Single::Absent => return Err(Refusal::MissingVersion),
            Single::Repeated => return Err(Refusal::DuplicateVersion),
            Single::Present(b"13") => {}
            Single::Present(_) => return Err(Refusal::UnsupportedVersion),
        }
        let key = self.key()?;
        self.check_lists()?;
        Ok(key)
    }

    /// RFC 6455 §4.2.1 (5): the key is 16 bytes in canonical Base64, which has 24 characters.
    fn key(&self) -> Result<&'a [u8], Refusal> {
        let key = match self.key {
            Single::Absent => return Err(Refusal::MissingKey),
            Single::Repeated => return Err(Refusal::DuplicateKey),
            Single::Present(key) => key,
        };
        // Three bytes for each four characters, before the padding is known.
        let mut nonce = [0; KEY_CHARS / 4 * 3];
        match STANDARD.decode_slice(key, &mut nonce) {
            Ok(16) if key.len() == KEY_CHARS => Ok(key),
            Ok(_) | Err(_) => Err(Refusal::MalformedKey),
        }
    }

    fn check_lists(&self) -> Result<(), Refusal> {
        if self.malformed_extensions {
            return Err(Refusal::MalformedExtensions);
        }
        if !self.has_protocols {
            return Ok(());
        }
        // A second walk, for the few that offer any, spares all others the room for the names.
        let mut protocols = OfferedProtocols::default();
        for (name, value) in (Fields { lines: self.field_lines }) {
            if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                protocols.record(value)?;
            }
        }
        Ok(())
    }
}

/// Walks over header lines that are known to be well-formed.
struct Fields<'a> {
    lines: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line_bytes = self.lines.iter().position(|&byte| byte == b'\r')?;
        let (line, rest) = self.lines.split_at(line_bytes);
        self.lines = rest.strip_prefix(b"\r\n")?;
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = str::from_utf8(&line[..colon]).ok()?;
        Some((name, fields::trim_blanks(&line[colon + 1..])))
    }
}

/// The request line without the empty lines before it, and what follows it.
fn split_request_line(head: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let mut rest = head;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let end = rest.iter().position(|&byte| byte == b'\r').ok_or(Refusal::MalformedRequestLine)?;
    let (line, rest) = rest.split_at(end);
    Ok((line, rest.strip_prefix(b"\r\n").ok_or(Refusal::BareCarriageReturn)?))
}
