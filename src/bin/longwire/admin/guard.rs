//! Who may ask: hosts that a browser may have been led to, origins of pages, and the token.
//!
//! A port of this machine is within reach of every page that a browser here shows. A page of another
//! origin says so in `Origin`; one whose name has been made to mean this machine (DNS rebinding) is of
//! the same origin, but asks for a host that this is not.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longwire::Error;
use ring::hmac;
use ring::rand::SystemRandom;

use super::fault;

/// What probes ask for. It tells nothing that a connect does not.
const FREE: [&str; 2] = ["/healthz", "/readyz"];
/// What a client can show; a browser asks its user, if Basic is among it.
const CHALLENGES: [&str; 2] = ["Bearer", "Basic realm=\"longwire\", charset=\"UTF-8\""];

/// Decides who may ask.
pub(super) struct Guard {
    token: Option<Token>,
    /// Names by which browsers may ask, in lower case.
    hosts: Vec<String>,
}

/// A token, kept as a code under a key of this process: comparing codes takes the same time
/// wherever they differ.
struct Token {
    key: hmac::Key,
    code: hmac::Tag,
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NoHost,
    ForeignHost,
    ForeignOrigin,
    Token,
}

impl Guard {
    pub(super) fn new(token: Option<&str>, hosts: &[String]) -> Result<Self, Error> {
        let token = token.map(Token::new).transpose()?;
        Ok(Self { token, hosts: hosts.to_vec() })
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let host = single(headers, &header::HOST)?.ok_or(Fault::NoHost)?;
        if !self.knows(host) {
            return Err(Fault::ForeignHost);
        }
        let origin = single(headers, &header::ORIGIN).map_err(|_| Fault::ForeignOrigin)?;
        if origin.is_some_and(|origin| !is_same(origin, host)) {
            return Err(Fault::ForeignOrigin);
        }
        match &self.token {
            Some(token) if !token.is_shown(headers) => Err(Fault::Token),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this is a host that no name server has a say in, or one that was named.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.split_once(']').map(|(address, _)| address);
                return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
            }
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let known = |known: &str| name.eq_ignore_ascii_case(known);
        name.parse::<IpAddr>().is_ok() || known("localhost") || self.hosts.iter().any(|h| known(h))
    }
}

impl Token {
    /// A token that can stand behind `Bearer` (RFC 6750 §2.1). What is wrong with one is said
    /// without showing it.
    fn new(token: &str) -> Result<Self, Error> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Misuse(
                "the token of --admin-token or LONGWIRE_ADMIN_TOKEN is visible ASCII characters, \
                 such as `openssl rand -hex 16` makes"
                    .to_owned(),
            ));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| Error::Misuse("the kernel gives no random bytes".to_owned()))?;
        let code = hmac::sign(&key, token.as_bytes());
        Ok(Self { key, code })
    }

    /// `Authorization: Bearer TOKEN`, or the token as the password of `Basic`.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Ok(Some(credentials)) = single(headers, &header::AUTHORIZATION) else { return false };
        let Some((scheme, shown)) = credentials.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("Bearer") {
            return self.is(shown.trim().as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("Basic") {
            return false;
        }
        let Ok(pair) = STANDARD.decode(shown.trim()) else { return false };
        let colon = pair.iter().position(|&byte| byte == b':');
        colon.is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    fn is(&self, shown: &[u8]) -> bool {
        hmac::verify(&self.key, shown, self.code.as_ref()).is_ok()
    }
}

/// A header that must not be there twice; its text, if it is there.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Fault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Fault::NoHost),
        (Some(_), Some(_)) => Err(Fault::NoHost),
    }
}

/// Whether a page of this origin was loaded from this host and port.
fn is_same(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, place)| {
        matches!(scheme, "http" | "https") && place.eq_ignore_ascii_case(host)
    })
}

/// Lets a request through, or answers it.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let is_free = FREE.contains(&request.uri().path());
    let judgement = if is_free { Ok(()) } else { guard.judge(request.headers()) };
    let mut response = match judgement {
        Ok(()) => next.run(request).await,
        Err(fault) => refusal(fault),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn refusal(why: Fault) -> Response {
    let (status, text) = match why {
        Fault::NoHost => (StatusCode::BAD_REQUEST, "one Host header is needed"),
        Fault::ForeignHost => {
            (StatusCode::FORBIDDEN, "ask by IP address, localhost, or a name of --admin-host")
        }
        Fault::ForeignOrigin => (StatusCode::FORBIDDEN, "pages of other origins may not ask"),
        Fault::Token => (StatusCode::UNAUTHORIZED, "show the token: Authorization: Bearer TOKEN"),
    };
    let mut response = fault(status, text);
    if why == Fault::Token {
        for challenge in CHALLENGES {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(guard: &Guard, headers: &[(&'static str, &str)]) -> Result<(), Fault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        guard.judge(&map)
    }

    #[test]
    fn hp05_names_of_strangers_are_not_ours() {
        let guard = Guard::new(None, &["admin.example".to_owned()]).unwrap();
        for host in
            ["127.0.0.1:9002", "[::1]:9002", "[::1]", "10.0.0.1", "localhost:1", "LocalHost"]
        {
            assert_eq!(judge(&guard, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(judge(&guard, &[("host", "Admin.Example:80")]), Ok(()));
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "xadmin.example",
            "",
            ":9002",
            "[::1.evil.example]",
            "[evil]:80",
        ] {
            assert_eq!(judge(&guard, &[("host", host)]), Err(Fault::ForeignHost), "{host}");
        }
        assert_eq!(judge(&guard, &[]), Err(Fault::NoHost));
        let two = [("host", "127.0.0.1"), ("host", "evil.example")];
        assert_eq!(judge(&guard, &two), Err(Fault::NoHost));
    }

    #[test]
    fn hp05_pages_of_other_origins_may_not_ask() {
        let guard = Guard::new(None, &[]).unwrap();
        let host = ("host", "127.0.0.1:9002");
        assert_eq!(judge(&guard, &[host, ("origin", "http://127.0.0.1:9002")]), Ok(()));
        for origin in [
            "null",
            "",
            "http://127.0.0.1:9001",
            "http://127.0.0.1",
            "http://localhost:9002",
            "https://evil.example",
            "file://127.0.0.1:9002",
            "http://127.0.0.1:9002, http://evil.example",
        ] {
            let judged = judge(&guard, &[host, ("origin", origin)]);
            assert_eq!(judged, Err(Fault::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn token_that_cannot_stand_in_a_header_is_not_shown() {
        for token in ["", "my secret", "secret\n", "s\u{e9}cret"] {
            let Err(error) = Guard::new(Some(token), &[]) else { panic!("{token:?}") };
            assert!(!error.to_string().contains("ecret"), "{error}");
        }
    }

    #[test]
    fn hp05_token_is_shown_whole_and_once() {
        let guard = Guard::new(Some("s3cr3t"), &[]).unwrap();
        let host = ("host", "127.0.0.1:9002");
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for good in ["Bearer s3cr3t", "bearer s3cr3t", &basic("me:s3cr3t"), &basic(":s3cr3t")] {
            assert_eq!(judge(&guard, &[host, ("authorization", good)]), Ok(()), "{good}");
        }
        for bad in [
            "Bearer s3cr3",
            "Bearer s3cr3tt",
            "Bearer S3CR3T",
            "Bearer",
            "s3cr3t",
            "Token s3cr3t",
            &basic("s3cr3t"),
            &basic("s3cr3t:"),
            "Basic s3cr3t",
        ] {
            let judged = judge(&guard, &[host, ("authorization", bad)]);
            assert_eq!(judged, Err(Fault::Token), "{bad}");
        }
        assert_eq!(judge(&guard, &[host]), Err(Fault::Token));
        let shown = ("authorization", "Bearer s3cr3t");
        assert_eq!(judge(&guard, &[host, shown, shown]), Err(Fault::Token));
    }
}
