//! The grammar of header values: tokens, lists, numbers, sub-protocols and extensions.
//!
//! Values are bytes and are compared as bytes, with ASCII case folding where the RFC asks for it:
//! decoding them first would let other characters fold into ASCII ones. Every function is one pass
//! over its input. What the values mean together is for `request` and `client` to say.

use super::Refusal;

/// Sub-protocols a client may offer.
const PROTOCOL_COUNT_MAX: usize = 32;
/// Bytes of all offered sub-protocol names together.
const PROTOCOL_NAMES_BYTES_MAX: usize = 1024;

/// A header that may be present at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Single<'a> {
    /// Not there.
    #[default]
    Absent,
    /// There once, with this value.
    Present(&'a [u8]),
    /// There more than once.
    Repeated,
}

impl<'a> Single<'a> {
    /// One more line of this header.
    pub(super) fn record(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Present(value),
            Self::Present(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The sub-protocol names offered so far, checked as they come.
#[derive(Debug, Default)]
pub(super) struct OfferedProtocols<'a> {
    names: [&'a [u8]; PROTOCOL_COUNT_MAX],
    count: usize,
    bytes: usize,
}

impl<'a> OfferedProtocols<'a> {
    /// One more `Sec-WebSocket-Protocol` line (RFC 6455 §11.3.4: several lines are one list).
    ///
    /// The comparison of all pairs is bounded by `PROTOCOL_COUNT_MAX`, hence linear in the input.
    pub(super) fn record(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        for name in list_elements(value) {
            if !is_token(name) {
                return Err(Refusal::MalformedProtocols);
            }
            self.bytes += name.len();
            if self.count == PROTOCOL_COUNT_MAX || self.bytes > PROTOCOL_NAMES_BYTES_MAX {
                return Err(Refusal::TooManyProtocols);
            }
            if self.names[..self.count].contains(&name) {
                return Err(Refusal::DuplicateProtocol);
            }
            self.names[self.count] = name;
            self.count += 1;
        }
        Ok(())
    }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// Whether these bytes are one token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// The elements between the commas, without the blanks around them. Empty ones are included.
pub(super) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_blanks)
}

/// Whether a comma-separated list has this element, in any case.
pub(super) fn list_contains(value: &[u8], wanted: &str) -> bool {
    list_elements(value).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The bytes without spaces and tabs at either end.
pub(super) fn trim_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A `Content-Length`: digits and nothing else, at most 2^64 - 1 (RFC 9110 §8.6).
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// One piece of a `Sec-WebSocket-Extensions` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionPart<'a> {
    /// The name with which an element of the list begins.
    Name(&'a [u8]),
    /// A parameter of the element begun last.
    Parameter { name: &'a [u8], value: ParameterValue<'a> },
    /// Here the line breaks its grammar; nothing follows.
    Malformed,
}

/// What stands behind the `=` of an extension's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterValue<'a> {
    /// There is no `=`.
    Absent,
    /// A token.
    Token(&'a [u8]),
    /// A token in quotes. Nothing here takes one, so what it says is not kept.
    Quoted,
}

/// Whether one `Sec-WebSocket-Extensions` line keeps its grammar (RFC 6455 §9.1).
pub(super) fn extensions_are_well_formed(value: &[u8]) -> bool {
    let mut found = false;
    for part in ExtensionParts::new(value) {
        match part {
            ExtensionPart::Name(_) => found = true,
            ExtensionPart::Parameter { .. } => {}
            ExtensionPart::Malformed => return false,
        }
    }
    found
}

/// The pieces of one `Sec-WebSocket-Extensions` line, in one pass over it (RFC 6455 §9.1).
///
/// ```text
/// line      = element *( "," element )      empty elements are skipped, one must be left
/// element   = token *( ";" parameter )
/// parameter = token [ "=" ( token | quoted token ) ]
/// ```
///
/// That one element is left is not asked here.
#[derive(Clone, Debug)]
pub(super) struct ExtensionParts<'a> {
    /// What is not taken apart yet, without blanks at its start.
    rest: &'a [u8],
    within_element: bool,
}

impl<'a> ExtensionParts<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { rest: trim_blanks(line), within_element: false }
    }

    /// The next name or parameter. None where the grammar is broken.
    fn part(&mut self) -> Option<ExtensionPart<'a>> {
        if !self.within_element {
            self.within_element = true;
            return self.token().map(ExtensionPart::Name);
        }
        let [b';', after @ ..] = self.rest else { return None };
        self.rest = skip_blanks(after);
        let name = self.token()?;
        let value = match self.rest {
            [b'=', after @ ..] => {
                self.rest = skip_blanks(after);
                self.parameter_value()?
            }
            _ => ParameterValue::Absent,
        };
        Some(ExtensionPart::Parameter { name, value })
    }

    /// A parameter's value. Unquoted, a quoted value has to be a token as well, so the backslash of
    /// a quoted pair must stand before a byte of a token.
    fn parameter_value(&mut self) -> Option<ParameterValue<'a>> {
        let [b'"', quoted @ ..] = self.rest else { return self.token().map(ParameterValue::Token) };
        let mut rest = quoted;
        loop {
            rest = match rest {
                [b'"', after @ ..] if rest.len() < quoted.len() => {
                    self.rest = skip_blanks(after);
                    return Some(ParameterValue::Quoted);
                }
                [b'\\', byte, after @ ..] if is_token_byte(*byte) => after,
                [byte, after @ ..] if is_token_byte(*byte) => after,
                _ => return None,
            };
        }
    }

    /// A token; the blanks behind it are passed over.
    fn token(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest;
        let end = rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        self.rest = skip_blanks(after);
        (!token.is_empty()).then_some(token)
    }
}

impl<'a> Iterator for ExtensionParts<'a> {
    type Item = ExtensionPart<'a>;

    fn next(&mut self) -> Option<ExtensionPart<'a>> {
        while let [b',', after @ ..] = self.rest {
            self.rest = skip_blanks(after);
            self.within_element = false;
        }
        if self.rest.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            self.rest = &[];
        }
        Some(part.unwrap_or(ExtensionPart::Malformed))
    }
}

fn skip_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = true;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let separators = b"\"(),/:;<=>?@[\\]{}";
        for byte in 0..=255u8 {
            let expected = byte.is_ascii_graphic() && !separators.contains(&byte);
            assert_eq!(is_token_byte(byte), expected, "{byte:#x}");
        }
    }

    #[test]
    fn list_has_its_elements_in_any_case_and_position() {
        for value in ["upgrade", "Upgrade", "keep-alive, UPGRADE", "\tupgrade ,x", ",,upgrade"] {
            assert!(list_contains(value.as_bytes(), "upgrade"), "{value}");
        }
        for value in ["", "upgraded", "up grade", "x-upgrade", "\"upgrade\"", "upgrade;q=1"] {
            assert!(!list_contains(value.as_bytes(), "upgrade"), "{value}");
        }
    }

    #[test]
    fn hd13_content_length_is_digits_within_64_bits() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"18446744073709551615"), Some(u64::MAX));
        for value in ["", "+5", "-5", "5,5", "5 5", "0x5", "18446744073709551616", "5\u{b2}", "５"]
        {
            assert_eq!(content_length(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn hs15_extensions_keep_their_grammar() {
        for value in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits = 10 , x-other ; a=\"b\"",
            "a;b=\"\\c\", , d",
            "foo;bar;baz",
        ] {
            assert!(extensions_are_well_formed(value.as_bytes()), "{value}");
        }
        for value in [
            "",
            ",",
            ";",
            "a;",
            "a;;b",
            "a;=1",
            "a;b=",
            "a b",
            "a;b=\"\"",
            "a;b=\"c",
            "a;b=\"c d\"",
            "a;b=\"c\\\"",
            "a=b",
            "a;b=c=d",
            "a;b=\"c\"d",
            "a;b=\"c\\ \"",
            "\"a\"",
            "a/b",
            "é",
        ] {
            assert!(!extensions_are_well_formed(value.as_bytes()), "{value}");
        }
    }
}
