//! Offers and answers of permessage-deflate: any bytes are judged without a panic; what is accepted
//! keeps to RFC 7692 by a plain reading; our own client and server always agree; and offers that
//! nobody takes change nothing about the ones behind them.
//!
//! The first byte of an input is the wishes of both sides; each line of the rest is a header's value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire::fuzz_internals::{Agreed, judge_answer, judge_offer, offer};

fuzz_target!(|input: &[u8]| {
    let Some((&how, rest)) = input.split_first() else { return };
    let server = (how & 1 != 0, 9 + (how >> 1 & 7) % 7);
    let client = (how & 0x10 != 0, 9 + (how >> 5) % 7);
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let judged = judge_offer(&lines, server.0, server.1);
    let _ = judge_answer(&lines, client.0, client.1);
    if let Some((agreed, answer)) = &judged {
        check_answer(*agreed, answer, server);
    }
    check_plain_reading(&lines, server, judged.as_ref().map(|(agreed, _)| *agreed));
    check_junk(&lines, server, &judged);
    check_own_offer(&lines, server, client, &judged);
});

/// The answer says what was agreed, and nothing that a server may not say.
fn check_answer(agreed: Agreed, answer: &[u8], server: (bool, u8)) {
    let [answer] = &elements(answer).expect("an answer keeps the grammar")[..] else {
        panic!("one extension is answered");
    };
    let params = answer.params().expect("an answer has known parameters");
    assert_eq!(params.server_no_takeover, agreed.server_no_context_takeover);
    assert_eq!(params.client_no_takeover, agreed.client_no_context_takeover);
    assert_eq!(params.server_bits.unwrap_or(15), agreed.server_window_bits);
    let client_bits = params.client_bits.map_or(15, |bits| bits.expect("an answer has a number"));
    assert_eq!(client_bits, agreed.client_window_bits);
    assert!(agreed.server_window_bits <= server.1, "a server keeps to its own bound");
    assert!(server.0 || agreed.server_no_context_takeover && agreed.client_no_context_takeover);
}

/// The first offer that a server with these wishes can keep to, where the lines hold no quotes.
fn check_plain_reading(lines: &[&[u8]], server: (bool, u8), judged: Option<Agreed>) {
    let Some(offers) = lines.iter().map(|line| elements(line)).collect::<Option<Vec<_>>>() else {
        return;
    };
    let expected = offers.iter().flatten().find_map(|offer| {
        let params = offer.params()?;
        let server_bits = params.server_bits.unwrap_or(15);
        if server_bits < 9 {
            return None;
        }
        let client_bits = match params.client_bits {
            Some(bits) if server.1 < 15 => bits.unwrap_or(15).min(server.1),
            _ => 15,
        };
        Some(Agreed {
            server_no_context_takeover: params.server_no_takeover || !server.0,
            client_no_context_takeover: params.client_no_takeover || !server.0,
            server_window_bits: server_bits.min(server.1),
            client_window_bits: client_bits,
        })
    });
    assert_eq!(judged, expected, "the offers of a plain reading");
}

/// Offers that nobody takes, put in front.
fn check_junk(lines: &[&[u8]], server: (bool, u8), judged: &Option<(Agreed, Vec<u8>)>) {
    let junk: [&[u8]; 6] = [
        b"x-webkit-deflate-frame; no_context_takeover",
        b"permessage-deflate; server_max_window_bits=16",
        b"permessage-deflate; client_no_context_takeover=1",
        b"permessage-deflate; mux=\"a\"",
        b"Permessage-Deflate, permessage-bzip2",
        b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    ];
    let behind: Vec<&[u8]> = junk.iter().chain(lines).copied().collect();
    assert_eq!(&judge_offer(&behind, server.0, server.1), judged, "junk in lines before");
    let joined: Vec<Vec<u8>> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| [junk[index % junk.len()], b", ", line].concat())
        .collect();
    let joined: Vec<&[u8]> = joined.iter().map(Vec::as_slice).collect();
    assert_eq!(&judge_offer(&joined, server.0, server.1), judged, "junk within the lines");
}

/// Our own client's offer behind these lines, if they get nothing themselves.
fn check_own_offer(
    lines: &[&[u8]],
    server: (bool, u8),
    client: (bool, u8),
    judged: &Option<(Agreed, Vec<u8>)>,
) {
    let own = offer(client.0, client.1);
    if judged.is_some() || lines.iter().any(|line| elements(line).is_none()) {
        return;
    }
    let all: Vec<&[u8]> = lines.iter().copied().chain([own.as_bytes()]).collect();
    let (agreed, answer) = judge_offer(&all, server.0, server.1).expect("our offer is acceptable");
    let theirs = judge_answer(&[&answer], client.0, client.1).expect("our answer is acceptable");
    let theirs = theirs.expect("an answer was given");
    assert_eq!(theirs.server_no_context_takeover, agreed.server_no_context_takeover);
    assert_eq!(theirs.client_no_context_takeover, agreed.client_no_context_takeover);
    assert_eq!(theirs.server_window_bits, agreed.server_window_bits);
    assert!(theirs.client_window_bits <= agreed.client_window_bits, "no wider than was agreed");
}

/// An element of the list: its name, and its parameters with their values.
struct Element<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<&'a str>)>,
}

#[derive(Default)]
struct Params {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

/// RFC 6455 §9.1 for a line without quotes; none if the line has some, or is malformed.
fn elements(line: &[u8]) -> Option<Vec<Element<'_>>> {
    let line = std::str::from_utf8(line).ok()?;
    let token = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        !text.is_empty() && text.chars().all(allowed)
    };
    let mut found = Vec::new();
    for element in line.split(',') {
        let mut words = element.split(';').map(|word| word.trim_matches([' ', '\t']));
        let name = words.next()?;
        let parameters: Vec<(&str, Option<&str>)> = words
            .map(|word| match word.split_once('=') {
                None => (word, None),
                Some((name, value)) => (name, Some(value)),
            })
            .collect();
        if name.is_empty() && parameters.is_empty() {
            continue;
        }
        let well_formed = token(name)
            && parameters.iter().all(|(name, value)| token(name) && value.is_none_or(token));
        if !well_formed {
            return None;
        }
        found.push(Element { name, parameters });
    }
    Some(found)
}

impl Element<'_> {
    /// RFC 7692 §7.1; none if it is another extension, or a parameter is unknown, twice there, or
    /// has a value that it cannot have.
    fn params(&self) -> Option<Params> {
        if self.name != "permessage-deflate" {
            return None;
        }
        let bits = |value: &str| (8..=15).find(|bits: &u8| bits.to_string() == value);
        let mut params = Params::default();
        let mut seen = Vec::new();
        for (name, value) in &self.parameters {
            if seen.contains(name) {
                return None;
            }
            seen.push(name);
            match (*name, value) {
                ("server_no_context_takeover", None) => params.server_no_takeover = true,
                ("client_no_context_takeover", None) => params.client_no_takeover = true,
                ("server_max_window_bits", Some(value)) => params.server_bits = Some(bits(value)?),
                ("client_max_window_bits", None) => params.client_bits = Some(None),
                ("client_max_window_bits", Some(value)) => {
                    params.client_bits = Some(Some(bits(value)?));
                }
                _ => return None,
            }
        }
        Some(params)
    }
}
