//! The URL of a broker: which protocol, where, over TLS or not, and who we are there.
//!
//! A password is in it, so it is shown without what stands before the `@`.

use std::fmt;
use std::str::FromStr;

use crate::topic::decode;

/// What brokers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nats,
    Redis,
}

/// Where a broker is, and what it is told about us.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) kind: Kind,
    pub(super) is_tls: bool,
    /// A name or an address of IPv4 or IPv6, without brackets. TLS checks this name and no other.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) login: Login,
}

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Nobody,
    /// A token of NATS.
    Token(String),
    /// A password of Redis alone.
    Password(String),
    User {
        name: String,
        password: String,
    },
}

const ADVICE: &str = "a broker is nats://HOST:4222, tls://HOST:4222 (NATS over TLS), \
                      redis://HOST:6379 or rediss://HOST:6379 (over TLS), with USER:PASSWORD@ \
                      before the host if it asks for them";

impl FromStr for Address {
    type Err = String;

    /// What is wrong is told without the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(ADVICE)?;
        let (kind, is_tls) = match scheme {
            "nats" => (Kind::Nats, false),
            "tls" => (Kind::Nats, true),
            "redis" => (Kind::Redis, false),
            "rediss" => (Kind::Redis, true),
            _ => return Err(ADVICE.to_owned()),
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Channels of Redis belong to no database; its number is often part of such a URL.
        let is_database = kind == Kind::Redis && path.bytes().all(|byte| byte.is_ascii_digit());
        if !path.is_empty() && !is_database {
            return Err(format!("nothing may follow the port; {ADVICE}"));
        }
        let (login, place) = match place.rsplit_once('@') {
            Some((login, place)) => (Login::of(kind, login)?, place),
            None => (Login::Nobody, place),
        };
        let (host, port) = host_and_port(place, kind).ok_or(ADVICE)?;
        Ok(Self { kind, is_tls, host, port, login })
    }
}

impl Login {
    fn of(kind: Kind, text: &str) -> Result<Self, String> {
        let plain = |text: &str| {
            decode(text).map_err(|_| "percent signs in the login of a broker are wrong".to_owned())
        };
        match (kind, text.split_once(':')) {
            (Kind::Nats, None) => Ok(Self::Token(plain(text)?)),
            (Kind::Redis, None) => Err("write USER:PASSWORD@ or :PASSWORD@ for Redis".to_owned()),
            (Kind::Redis, Some(("", password))) => Ok(Self::Password(plain(password)?)),
            (_, Some((name, password))) => {
                Ok(Self::User { name: plain(name)?, password: plain(password)? })
            }
        }
    }
}

fn host_and_port(place: &str, kind: Kind) -> Option<(String, u16)> {
    let default = match kind {
        Kind::Nats => 4222,
        Kind::Redis => 6379,
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port {
        "" => default,
        text => text.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    (!host.is_empty() && host.chars().all(is_host)).then(|| (host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.kind, self.is_tls) {
            (Kind::Nats, false) => "nats",
            (Kind::Nats, true) => "tls",
            (Kind::Redis, false) => "redis",
            (Kind::Redis, true) => "rediss",
        };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_protocol_place_and_login() {
        let user = |name: &str, password: &str| Login::User {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        for (text, shown, login) in [
            ("nats://10.0.0.1", "nats://10.0.0.1:4222", Login::Nobody),
            ("tls://b.example:5000/", "tls://b.example:5000", Login::Nobody),
            ("nats://s3cr3t@b", "nats://b:4222", Login::Token("s3cr3t".to_owned())),
            ("nats://me:a%40b:c@b", "nats://b:4222", user("me", "a@b:c")),
            ("redis://:pw@[::1]/3", "redis://[::1]:6379", Login::Password("pw".to_owned())),
            ("rediss://me:p@w@b:1", "rediss://b:1", user("me", "p@w")),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert!(address.login == login, "{text}");
            assert!(!format!("{address:?}").contains('@'));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for text in [
            "",
            "b:4222",
            "http://secret@b",
            "nats://",
            "nats://secret@",
            "nats://b:0",
            "nats://secret@b:x",
            "nats://b/secret",
            "redis://b/secret",
            "redis://secret@b",
            "nats://%zz:secret@b",
            "nats://[::1",
            "nats://b:1:secret",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
