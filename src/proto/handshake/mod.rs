//! The opening handshake (RFC 6455 §4) over bytes in memory: no I/O, no clock, no allocation on
//! the way to a 101.
//!
//! A server feeds what it has received to a [`HeadScanner`] until that reports the head's length,
//! gives exactly those bytes to [`Request::parse`], and answers with [`response::write_accept`] or
//! [`Refusal::write_response`]. The scanner judges lines and sizes while bytes arrive and looks at
//! each byte once; the request judges meaning, once, when the head is whole. So how the bytes were
//! cut into reads cannot change the answer.
//!
//! Deliberately absent: bodies (a request that has one is refused), percent-decoding (paths are
//! compared as they came), keep-alive (a refusal ends the connection). Whether to compress at
//! all is the caller's choice: [`extensions::accept_offer`] reads the offers of a valid request.

mod answer;
mod client;
pub(crate) mod extensions;
mod fields;
pub(crate) mod forwarded;
#[cfg(test)]
mod hostile_heads;
mod refusal;
mod request;
pub(crate) mod response;
mod scanner;
mod target;

pub use answer::Response;
pub(crate) use answer::append_header;
pub(crate) use client::{Upgrade, UpgradeError};
pub(crate) use fields::is_token;
pub use refusal::Refusal;
pub use request::Request;
pub(crate) use scanner::HeadScanner;

/// How large a request head may be. Sizes are bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// The request line without its line end; longer ones are refused with 414.
    pub(crate) request_line_bytes_max: usize,
    /// One header line without its line end; longer ones are refused with 431.
    pub(crate) header_line_bytes_max: usize,
    /// All header lines with their line ends, the request line not counted; else 431.
    pub(crate) head_bytes_max: usize,
    /// Header lines; more are refused with 431. At most [`HeadLimits::HEADER_COUNT_CAP`].
    pub(crate) header_count_max: usize,
}

impl HeadLimits {
    /// Above this many header lines a head is refused whatever `header_count_max` says: the places
    /// for them are on the stack.
    pub(crate) const HEADER_COUNT_CAP: usize = 256;

    /// Every head is small enough.
    pub(crate) const NONE: Self = Self {
        request_line_bytes_max: usize::MAX,
        header_line_bytes_max: usize::MAX,
        head_bytes_max: usize::MAX,
        header_count_max: usize::MAX,
    };

    /// Bytes after which the scanner has decided in any case: what a head can occupy at most, the
    /// empty lines before and after it included.
    pub(crate) fn bytes_max(&self) -> usize {
        const LINE_END_BYTES: usize = 2;
        let empty_lines_bytes = (scanner::LEADING_EMPTY_LINES_MAX + 1) * LINE_END_BYTES;
        self.request_line_bytes_max + LINE_END_BYTES + self.head_bytes_max + empty_lines_bytes
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: 8 * 1024,
            header_line_bytes_max: 8 * 1024,
            head_bytes_max: 16 * 1024,
            header_count_max: 100,
        }
    }
}
