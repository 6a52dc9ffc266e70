//! permessage-deflate (RFC 7692) as the runner speaks it: offers, the strict reading of an answer, and
//! what both sides must keep to then.
//!
//! Written for the runner alone. A conformance suite that used the library's own negotiation would
//! take its errors for the truth.

pub(crate) mod blocks;
mod codec;
mod reach;

pub(crate) use codec::{Deflater, InflateFault, Inflater, deflated};

use super::answer::Head;

pub(crate) const NAME: &str = "permessage-deflate";
pub(crate) const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
/// RFC 7692 §7.1.2: the base 2 logarithm of the largest window, which holds if nothing is said.
pub(crate) const WINDOW_BITS_MAX: u8 = 15;

/// Parameters of an offer, or of the answer to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) server_no_context_takeover: bool,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_max_window_bits: Option<u8>,
    /// `Some(None)` is the parameter without a value, which only an offer may have.
    pub(crate) client_max_window_bits: Option<Option<u8>>,
}

impl Params {
    /// Reads one element of the header; nothing if it is another extension.
    pub(crate) fn parse(element: &str) -> Result<Option<Self>, String> {
        let mut parts = element.split(';').map(|part| part.trim_matches([' ', '\t']));
        if parts.next() != Some(NAME) {
            return Ok(None);
        }
        let mut params = Self::default();
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            if seen.contains(&name) {
                return Err(format!("`{name}` stands twice"));
            }
            seen.push(name);
            params.set(name, value)?;
        }
        Ok(Some(params))
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        match (name, value) {
            ("server_no_context_takeover", None) => self.server_no_context_takeover = true,
            ("client_no_context_takeover", None) => self.client_no_context_takeover = true,
            ("server_max_window_bits", Some(value)) => {
                self.server_max_window_bits = Some(window_bits(value)?);
            }
            ("client_max_window_bits", value) => {
                self.client_max_window_bits = Some(value.map(window_bits).transpose()?);
            }
            ("server_no_context_takeover" | "client_no_context_takeover", Some(_)) => {
                return Err(format!("`{name}` has a value"));
            }
            ("server_max_window_bits", None) => return Err(format!("`{name}` has no value")),
            _ => return Err(format!("the parameter `{name}` is not known")),
        }
        Ok(())
    }

    /// Why these parameters are no answer to `offer`, if they are not.
    fn fault_as_answer_to(&self, offer: &Self) -> Option<String> {
        if offer.server_no_context_takeover && !self.server_no_context_takeover {
            // RFC 7692 §7.1.1.1: a server accepts it by saying it, too.
            return Some("server_no_context_takeover was asked for and is missing".to_owned());
        }
        match (offer.server_max_window_bits, self.server_max_window_bits) {
            (Some(_), None) => {
                return Some("server_max_window_bits was asked for and is missing".to_owned());
            }
            (Some(most), Some(bits)) if bits > most => {
                return Some(format!("server_max_window_bits is {bits}, more than {most}"));
            }
            _ => {}
        }
        match (offer.client_max_window_bits, self.client_max_window_bits) {
            (_, Some(None)) => Some("client_max_window_bits has no value".to_owned()),
            (None, Some(_)) => Some("client_max_window_bits was not offered".to_owned()),
            (Some(Some(most)), Some(Some(bits))) if bits > most => {
                Some(format!("client_max_window_bits is {bits}, more than {most}"))
            }
            _ => None,
        }
    }

    /// What was agreed on by this answer; nothing if the server declined. The error says in words what
    /// makes the answer wrong. `offers` are those that may be accepted.
    pub(crate) fn agreed(head: &Head, offers: &[&str]) -> Result<Option<Self>, String> {
        let mut answers = Vec::new();
        for element in head.list(EXTENSIONS) {
            let fault = |why| format!("the answer `{element}` is wrong: {why}");
            match Self::parse(element).map_err(fault)? {
                Some(params) => answers.push((element, params)),
                None => return Err(format!("the extension `{element}` was agreed on")),
            }
        }
        let (element, answer) = match answers.as_slice() {
            [] => return Ok(None),
            [one] => *one,
            _ => return Err(format!("{NAME} was agreed on {} times", answers.len())),
        };
        let mut fault = "no offer could be accepted".to_owned();
        for offer in offers {
            // An offer of ours that may be accepted is well formed.
            let Ok(Some(offer)) = Self::parse(offer) else { continue };
            match answer.fault_as_answer_to(&offer) {
                None => return Ok(Some(answer)),
                Some(why) => fault = why,
            }
        }
        Err(format!("the answer `{element}` is wrong: {fault}"))
    }

    /// The window that we may use.
    fn client_window_bits(&self) -> u8 {
        self.client_max_window_bits.flatten().unwrap_or(WINDOW_BITS_MAX)
    }

    /// The window that the server may use.
    fn server_window_bits(&self) -> u8 {
        self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }
}

/// RFC 7692 §7.1.2.1: 8 to 15, without leading zeros.
fn window_bits(text: &str) -> Result<u8, String> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    match inner.parse::<u8>() {
        Ok(bits @ 8..=WINDOW_BITS_MAX) if bits.to_string() == inner => Ok(bits),
        _ => Err(format!("`{text}` is no number of window bits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::answer::Answer;

    const ALL: &str = "permessage-deflate; server_no_context_takeover; \
                       server_max_window_bits=10; client_max_window_bits";

    fn agreed(lines: &str, offers: &[&str]) -> Result<Option<Params>, String> {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket{lines}");
        match Answer::parse(head.as_bytes(), Vec::new()) {
            Answer::Head(head) => Params::agreed(&head, offers),
            other => panic!("{other:?}"),
        }
    }

    fn answer(element: &str, offers: &[&str]) -> Result<Option<Params>, String> {
        agreed(&format!("\r\nSec-WebSocket-Extensions: {element}"), offers)
    }

    #[test]
    fn answer_without_the_extension_declines() {
        assert_eq!(agreed("", &[NAME]), Ok(None));
    }

    #[test]
    fn answer_may_add_what_only_binds_the_server() {
        let text = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; \
                    client_no_context_takeover";
        let params = answer(text, &[NAME]).unwrap().unwrap();
        assert!(params.server_no_context_takeover && params.client_no_context_takeover);
        assert_eq!((params.server_window_bits(), params.client_window_bits()), (9, 15));
    }

    #[test]
    fn answer_must_grant_what_was_asked_for() {
        let right = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9";
        assert!(answer(right, &[ALL]).unwrap().is_some());
        let cases = [
            ("permessage-deflate", "server_no_context_takeover was asked for"),
            ("permessage-deflate; server_no_context_takeover", "bits was asked for"),
            (
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=11",
                "11, more than 10",
            ),
        ];
        for (text, words) in cases {
            assert!(answer(text, &[ALL]).unwrap_err().contains(words), "{text}");
        }
        assert!(answer("permessage-deflate", &[ALL, NAME]).unwrap().is_some(), "the second offer");
    }

    #[test]
    fn answer_binds_the_client_only_as_far_as_it_offered() {
        let text = "permessage-deflate; client_max_window_bits=10";
        assert!(answer(text, &[NAME]).unwrap_err().contains("was not offered"));
        let open = ["permessage-deflate; client_max_window_bits"];
        assert_eq!(answer(text, &open).unwrap().unwrap().client_window_bits(), 10);
        let nine = ["permessage-deflate; client_max_window_bits=9"];
        assert!(answer(text, &nine).unwrap_err().contains("10, more than 9"));
        let bare = "permessage-deflate; client_max_window_bits";
        assert!(answer(bare, &open).unwrap_err().contains("has no value"));
    }

    #[test]
    fn malformed_answers_are_named() {
        let cases = [
            ("x-other", "`x-other` was agreed on"),
            ("permessage-deflate, permessage-deflate", "2 times"),
            ("permessage-deflate; x-unknown", "`x-unknown` is not known"),
            ("permessage-deflate; server_max_window_bits", "has no value"),
            ("permessage-deflate; server_max_window_bits=16", "no number of window bits"),
            ("permessage-deflate; server_max_window_bits=7", "no number of window bits"),
            ("permessage-deflate; server_max_window_bits=08", "no number of window bits"),
            ("permessage-deflate; server_max_window_bits=+9", "no number of window bits"),
            ("permessage-deflate; server_no_context_takeover=1", "has a value"),
            (
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
                "stands twice",
            ),
        ];
        for (text, words) in cases {
            let error = answer(text, &[NAME]).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
