//! Negotiation of permessage-deflate (RFC 7692 §7.1), the only extension there is: a server picks
//! from the offers of a client, a client judges the answer of a server.
//!
//! Strict on both sides. An offer with anything unknown, repeated or out of range in it is declined
//! and the next one looked at, as the RFC asks; an answer with such a thing in it fails the
//! handshake. Names are compared byte by byte, in one pass over the lines. Nothing a peer wrote is
//! ever written back: the answer is put together from the texts below and a number.

use super::UpgradeError;
use super::fields::{ExtensionPart, ExtensionParts, ParameterValue};

/// The window of DEFLATE unless agreed otherwise, as the logarithm of its bytes.
const WINDOW_BITS_DEFAULT: u8 = 15;
/// The smallest window zlib compresses with. RFC 7692 also knows 8, and zlib has no raw form of it.
const WINDOW_BITS_MIN: u8 = 9;

const EXTENSION_NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// Largest size of what [`Acceptance::write_answer`] writes: every parameter, bits of two digits.
pub(crate) const ANSWER_BYTES_MAX: usize = EXTENSION_NAME.len()
    + (SEPARATOR.len() + SERVER_NO_CONTEXT_TAKEOVER.len())
    + (SEPARATOR.len() + CLIENT_NO_CONTEXT_TAKEOVER.len())
    + (SEPARATOR.len() + SERVER_MAX_WINDOW_BITS.len() + "=15".len())
    + (SEPARATOR.len() + CLIENT_MAX_WINDOW_BITS.len() + "=15".len());
const SEPARATOR: &str = "; ";

/// What both sides of a connection agreed about compression.
///
/// `server_` is about messages of the server, `client_` about those of the client, whichever side
/// this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeflateParams {
    /// The server compresses each message on its own.
    pub(crate) server_no_context_takeover: bool,
    /// The client compresses each message on its own.
    pub(crate) client_no_context_takeover: bool,
    /// The server refers back at most this far, as a logarithm: 9 to 15 (for a client 8 as well).
    pub(crate) server_window_bits: u8,
    /// The client refers back at most this far, as a logarithm: 9 to 15 (for a server 8 as well).
    pub(crate) client_window_bits: u8,
}

const _: () = assert!(size_of::<DeflateParams>() == 4);

/// What this side wants of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeflatePolicy {
    /// Messages may refer to earlier ones, in both directions. It compresses better, and each
    /// connection has a window to remember for each direction.
    pub(crate) context_takeover: bool,
    /// Largest window in either direction, as a logarithm: 9 to 15.
    pub(crate) window_bits_max: u8,
}

impl DeflatePolicy {
    fn check(&self) {
        assert!(self.window_bits_max >= WINDOW_BITS_MIN, "zlib can compress with this window");
        assert!(self.window_bits_max <= WINDOW_BITS_DEFAULT, "DEFLATE has such a window");
    }
}

/// An offer a server takes, and what its answer has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acceptance {
    /// What holds once the answer is sent.
    pub(crate) params: DeflateParams,
    /// A limit the client set has to be confirmed, even one of 15 (RFC 7692 §7.1.2.1).
    answers_server_bits: bool,
    answers_client_bits: bool,
}

/// Picks the first acceptable offer of permessage-deflate, for a server.
///
/// `lines` are the values of the `Sec-WebSocket-Extensions` headers of a valid request.
pub(crate) fn accept_offer<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    policy: &DeflatePolicy,
) -> Option<Acceptance> {
    policy.check();
    for line in lines {
        let mut offer: Option<Parameters> = None;
        for part in ExtensionParts::new(line) {
            match part {
                ExtensionPart::Name(name) => {
                    if let Some(acceptance) = offer.and_then(|offer| offer.accept(policy)) {
                        return Some(acceptance);
                    }
                    offer = (name == EXTENSION_NAME.as_bytes()).then(Parameters::default);
                }
                ExtensionPart::Parameter { name, value } => {
                    offer = offer.and_then(|offer| offer.with(name, value));
                }
                ExtensionPart::Malformed => return None,
            }
        }
        if let Some(acceptance) = offer.and_then(|offer| offer.accept(policy)) {
            return Some(acceptance);
        }
    }
    None
}

impl Acceptance {
    /// Writes the value of the response's `Sec-WebSocket-Extensions` to the start of `out` and
    /// returns its size. `out` has room for [`ANSWER_BYTES_MAX`].
    pub(crate) fn write_answer(&self, out: &mut [u8]) -> usize {
        let params = &self.params;
        let mut bytes = 0;
        let mut append = |part: &[u8]| {
            out[bytes..bytes + part.len()].copy_from_slice(part);
            bytes += part.len();
        };
        append(EXTENSION_NAME.as_bytes());
        for (answered, name) in [
            (params.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
            (params.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
        ] {
            if answered {
                append(SEPARATOR.as_bytes());
                append(name.as_bytes());
            }
        }
        for (answered, name, bits) in [
            (self.answers_server_bits, SERVER_MAX_WINDOW_BITS, params.server_window_bits),
            (self.answers_client_bits, CLIENT_MAX_WINDOW_BITS, params.client_window_bits),
        ] {
            if answered {
                append(SEPARATOR.as_bytes());
                append(name.as_bytes());
                append(match bits {
                    8 => b"=8",
                    9 => b"=9",
                    10 => b"=10",
                    11 => b"=11",
                    12 => b"=12",
                    13 => b"=13",
                    14 => b"=14",
                    _ => b"=15",
                });
            }
        }
        bytes
    }
}

/// The offer of a client: the value of its `Sec-WebSocket-Extensions`.
pub(crate) fn offer(policy: &DeflatePolicy) -> String {
    policy.check();
    let mut text = EXTENSION_NAME.to_owned();
    if !policy.context_takeover {
        text = [&text, SERVER_NO_CONTEXT_TAKEOVER, CLIENT_NO_CONTEXT_TAKEOVER].join(SEPARATOR);
    }
    let bits = policy.window_bits_max;
    if bits < WINDOW_BITS_DEFAULT {
        format!("{text}; {SERVER_MAX_WINDOW_BITS}={bits}; {CLIENT_MAX_WINDOW_BITS}={bits}")
    } else {
        // Without a number: the server may name any window (RFC 7692 §7.1.2.2).
        format!("{text}; {CLIENT_MAX_WINDOW_BITS}")
    }
}

/// Judges what a server answered to [`offer`] with the same policy. None if it takes no extension.
///
/// `lines` are the values of the `Sec-WebSocket-Extensions` headers of the answer.
pub(crate) fn accept_answer<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    policy: &DeflatePolicy,
) -> Result<Option<DeflateParams>, UpgradeError> {
    policy.check();
    let mut answer: Option<Parameters> = None;
    for line in lines {
        let mut found = false;
        for part in ExtensionParts::new(line) {
            answer = match part {
                ExtensionPart::Name(name) if name != EXTENSION_NAME.as_bytes() => {
                    return Err(UpgradeError::UnrequestedExtension);
                }
                ExtensionPart::Name(_) if answer.is_none() => Some(Parameters::default()),
                ExtensionPart::Parameter { name, value } => {
                    answer.and_then(|answer| answer.with(name, value))
                }
                ExtensionPart::Name(_) | ExtensionPart::Malformed => None,
            };
            if answer.is_none() {
                return Err(UpgradeError::ExtensionMismatch);
            }
            found = true;
        }
        if !found {
            return Err(UpgradeError::ExtensionMismatch);
        }
    }
    match answer {
        None => Ok(None),
        Some(answer) => answer.agree(policy).ok_or(UpgradeError::ExtensionMismatch).map(Some),
    }
}

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientBits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientBits {
    /// There is no number: an offer says so that the server may choose one.
    Any,
    Max(u8),
}

impl Parameters {
    /// One more parameter. None if it is unknown, repeated, or its value is not one of its values.
    fn with(mut self, name: &[u8], value: ParameterValue<'_>) -> Option<Self> {
        let repeated = if name == SERVER_NO_CONTEXT_TAKEOVER.as_bytes() {
            no_value(value)?;
            std::mem::replace(&mut self.server_no_context_takeover, true)
        } else if name == CLIENT_NO_CONTEXT_TAKEOVER.as_bytes() {
            no_value(value)?;
            std::mem::replace(&mut self.client_no_context_takeover, true)
        } else if name == SERVER_MAX_WINDOW_BITS.as_bytes() {
            self.server_max_window_bits.replace(window_bits(value)?).is_some()
        } else if name == CLIENT_MAX_WINDOW_BITS.as_bytes() {
            let bits = match value {
                ParameterValue::Absent => ClientBits::Any,
                _ => ClientBits::Max(window_bits(value)?),
            };
            self.client_max_window_bits.replace(bits).is_some()
        } else {
            return None;
        };
        (!repeated).then_some(self)
    }

    /// What a server makes of this offer. None if it cannot keep to it.
    fn accept(self, policy: &DeflatePolicy) -> Option<Acceptance> {
        let server_bits = self.server_max_window_bits.unwrap_or(WINDOW_BITS_DEFAULT);
        if server_bits < WINDOW_BITS_MIN {
            return None;
        }
        let server_bits = server_bits.min(policy.window_bits_max);
        // RFC 7692 §7.1.2.2: a client that does not offer it must not be limited. The window to
        // inflate with is whole in any case, so nothing is gained by confirming what it offers.
        let limits_client = policy.window_bits_max < WINDOW_BITS_DEFAULT;
        let client_bits = match self.client_max_window_bits {
            Some(ClientBits::Any) if limits_client => Some(policy.window_bits_max),
            Some(ClientBits::Max(bits)) if limits_client => Some(bits.min(policy.window_bits_max)),
            Some(_) | None => None,
        };
        Some(Acceptance {
            params: DeflateParams {
                server_no_context_takeover: self.server_no_context_takeover
                    || !policy.context_takeover,
                // RFC 7692 §7.1.1.2: this may be asked of every client, offered or not.
                client_no_context_takeover: self.client_no_context_takeover
                    || !policy.context_takeover,
                server_window_bits: server_bits,
                client_window_bits: client_bits.unwrap_or(WINDOW_BITS_DEFAULT),
            },
            answers_server_bits: self.server_max_window_bits.is_some()
                || server_bits < WINDOW_BITS_DEFAULT,
            answers_client_bits: client_bits.is_some(),
        })
    }

    /// What a client makes of this answer to its offer. None if it is no answer to it.
    fn agree(self, policy: &DeflatePolicy) -> Option<DeflateParams> {
        // RFC 7692 §7.1.1.1 and §7.1.2.1: what the server accepts of its own part, it repeats.
        if !policy.context_takeover && !self.server_no_context_takeover {
            return None;
        }
        let limited = policy.window_bits_max < WINDOW_BITS_DEFAULT;
        let server_bits = match self.server_max_window_bits {
            Some(bits) if bits <= policy.window_bits_max => bits,
            None if !limited => WINDOW_BITS_DEFAULT,
            Some(_) | None => return None,
        };
        let client_bits = match self.client_max_window_bits {
            Some(ClientBits::Max(bits)) if bits < WINDOW_BITS_MIN => return None,
            Some(ClientBits::Max(bits)) if bits <= policy.window_bits_max => bits,
            Some(_) => return None,
            None => policy.window_bits_max,
        };
        Some(DeflateParams {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover || !policy.context_takeover,
            server_window_bits: server_bits,
            client_window_bits: client_bits,
        })
    }
}

fn no_value(value: ParameterValue<'_>) -> Option<()> {
    (value == ParameterValue::Absent).then_some(())
}

/// The value of a `_max_window_bits`: 8 to 15 in its shortest form. RFC 6455 §9.1 would let it
/// stand in quotes, no client writes it so, and those that read it differ.
fn window_bits(value: ParameterValue<'_>) -> Option<u8> {
    match value {
        ParameterValue::Token([digit @ b'8'..=b'9']) => Some(digit - b'0'),
        ParameterValue::Token([b'1', digit @ b'0'..=b'5']) => Some(10 + digit - b'0'),
        ParameterValue::Absent | ParameterValue::Token(_) | ParameterValue::Quoted => None,
    }
}

#[cfg(test)]
mod tests;
