//! HTTP/1.1 as the clients speak it: requests with the header lines a browser sends with `fetch`,
//! and answers with a `Content-Length` or without a body.

use std::io::Write as _;

/// Header places tried; the servers send four or five.
const HEADER_COUNT_MAX: usize = 32;

/// What Chrome on Linux adds to a `fetch` within one site, without any cookie.
const BROWSER_LINES: &str = concat!(
    "Connection: keep-alive\r\n",
    "sec-ch-ua-platform: \"Linux\"\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) ",
    "Chrome/141.0.0.0 Safari/537.36\r\n",
    "Accept: application/json\r\n",
    "sec-ch-ua: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"\r\n",
    "sec-ch-ua-mobile: ?0\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Sec-Fetch-Mode: cors\r\n",
    "Sec-Fetch-Dest: empty\r\n",
    "Referer: https://app.example.com/dashboard\r\n",
    "Accept-Encoding: gzip, deflate, br, zstd\r\n",
    "Accept-Language: en-US,en;q=0.9\r\n",
);

/// Which header lines a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    Browser,
    /// `Host` alone, the least that HTTP/1.1 allows.
    Minimal,
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// Appends a request for what is newer than `after`.
pub(crate) fn put_request(
    request: &mut Vec<u8>,
    route: &str,
    client: usize,
    after: u64,
    headers: Headers,
) {
    let lines = match headers {
        Headers::Browser => BROWSER_LINES,
        Headers::Minimal => "",
    };
    // Writing to a vector does not fail.
    let _ = write!(
        request,
        "GET /{route}/{client}?after={after} HTTP/1.1\r\nHost: app.example.com\r\n{lines}\r\n"
    );
}

/// The answer at the beginning of `bytes` and its length, once it is there whole.
pub(crate) fn parse_answer(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, String> {
    let mut lines = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut head = httparse::Response::new(&mut lines);
    let parsed = head.parse(bytes).map_err(|error| format!("an answer is not HTTP: {error}"))?;
    let (httparse::Status::Complete(head_bytes), Some(status)) = (parsed, head.code) else {
        return Ok(None);
    };
    let length = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = match length {
        Some(line) => str::from_utf8(line.value)
            .ok()
            .and_then(|value| value.trim().parse::<usize>().ok())
            .ok_or_else(|| "an answer has a malformed Content-Length".to_owned())?,
        None if status == 204 => 0,
        None => return Err(format!("an answer with status {status} does not say its length")),
    };
    let end = head_bytes.saturating_add(body_bytes);
    Ok(bytes.get(head_bytes..end).map(|body| (Answer { status, body }, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn answer_is_found_only_when_it_is_whole() {
        for end in 0..ANSWER.len() {
            assert_eq!(parse_answer(&ANSWER[..end]), Ok(None), "{end} bytes");
        }
        let followed = [ANSWER, b"HTTP"].concat();
        let answer = Answer { status: 200, body: b"abc" };
        assert_eq!(parse_answer(&followed), Ok(Some((answer, ANSWER.len()))));
    }

    #[test]
    fn answer_without_content_needs_no_length() {
        let bytes = b"HTTP/1.1 204 No Content\r\n\r\n";
        let answer = Answer { status: 204, body: b"" };
        assert_eq!(parse_answer(bytes), Ok(Some((answer, bytes.len()))));
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn request_is_one_that_a_parser_of_requests_takes() {
        for headers in [Headers::Browser, Headers::Minimal] {
            let mut bytes = Vec::new();
            put_request(&mut bytes, "poll", 12, 3, headers);
            let mut lines = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
            let mut request = httparse::Request::new(&mut lines);
            let parsed = request.parse(&bytes).unwrap();
            assert_eq!(parsed, httparse::Status::Complete(bytes.len()));
            assert_eq!(request.path, Some("/poll/12?after=3"));
        }
    }
}
