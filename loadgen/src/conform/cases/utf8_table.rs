//! Byte sequences on both sides of every border of UTF-8, in the groups of Markus Kuhn's stress test
//! for decoders. Whether a sequence is valid is stated here and checked against the standard library.

/// Sequences of one kind.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Valid(&'static [&'static [u8]]),
    Invalid(&'static [&'static [u8]]),
    /// First valid ones, then invalid ones.
    Both(&'static [&'static [u8]], &'static [&'static [u8]]),
    /// Every beginning of a valid text; valid where it ends between two characters.
    Prefixes(&'static str),
    /// Bytes that only continue a character: some, and at last all of them.
    Continuations,
    /// Starting bytes of each length, with a space behind each.
    LonelyStarts,
    /// Code points of which Unicode says that they are no characters.
    NonCharacters,
}

/// A Greek word of 11 bytes; its second letter is the one of polytonic Greek, which takes three.
pub(super) const GREEK: &str = "κ\u{1f79}σμε";

const UNFINISHED: &[&[u8]] = &[
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf8\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xf7\xbf\xbf",
    b"\xfb\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf",
];

/// Groups 6.5 to 6.23.
pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "text",
        kind: Kind::Valid(&[
            b"hello$world",
            b"hello\xc2\xa2world",
            b"hello\xe2\x82\xacworld",
            b"hello\xf0\xa4\xad\xa2world",
            GREEK.as_bytes(),
        ]),
    },
    Group { name: "beginning of a text", kind: Kind::Prefixes(GREEK) },
    Group {
        name: "first of its length",
        kind: Kind::Valid(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
    },
    Group {
        name: "first of 5 or 6 bytes",
        kind: Kind::Invalid(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    },
    Group {
        name: "last of its length",
        kind: Kind::Valid(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    },
    Group {
        name: "last of 4, 5 or 6 bytes",
        kind: Kind::Invalid(&[
            b"\xf7\xbf\xbf\xbf",
            b"\xfb\xbf\xbf\xbf\xbf",
            b"\xfd\xbf\xbf\xbf\xbf\xbf",
        ]),
    },
    Group {
        name: "beside a border",
        kind: Kind::Both(
            &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"],
            &[b"\xf4\x90\x80\x80"],
        ),
    },
    Group { name: "continuation bytes alone", kind: Kind::Continuations },
    Group { name: "starting bytes alone", kind: Kind::LonelyStarts },
    Group { name: "last byte missing", kind: Kind::Invalid(UNFINISHED) },
    Group {
        name: "unfinished ones in a row",
        kind: Kind::Invalid(&[
            b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\
              \xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf",
        ]),
    },
    Group {
        name: "bytes that never occur",
        kind: Kind::Invalid(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    },
    Group {
        name: "slash in too many bytes",
        kind: Kind::Invalid(&[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
    },
    Group {
        name: "last in too many bytes",
        kind: Kind::Invalid(&[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
    },
    Group {
        name: "zero in too many bytes",
        kind: Kind::Invalid(&[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
    },
    Group {
        name: "surrogate",
        kind: Kind::Invalid(&[
            b"\xed\xa0\x80",
            b"\xed\xad\xbf",
            b"\xed\xae\x80",
            b"\xed\xaf\xbf",
            b"\xed\xb0\x80",
            b"\xed\xbe\x80",
            b"\xed\xbf\xbf",
        ]),
    },
    Group {
        name: "pair of surrogates",
        kind: Kind::Invalid(&[
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xed\xa0\x80\xed\xbf\xbf",
            b"\xed\xad\xbf\xed\xb0\x80",
            b"\xed\xad\xbf\xed\xbf\xbf",
            b"\xed\xae\x80\xed\xb0\x80",
            b"\xed\xae\x80\xed\xbf\xbf",
            b"\xed\xaf\xbf\xed\xb0\x80",
            b"\xed\xaf\xbf\xed\xbf\xbf",
        ]),
    },
    Group { name: "non-character", kind: Kind::NonCharacters },
    Group {
        name: "special",
        kind: Kind::Valid(&[
            b"\xef\xbf\xb9",
            b"\xef\xbf\xba",
            b"\xef\xbf\xbb",
            b"\xef\xbf\xbc",
            b"\xef\xbf\xbd",
            b"\xef\xbf\xbe",
            b"\xef\xbf\xbf",
        ]),
    },
];

impl Group {
    /// The sequences, each with whether it is valid.
    pub(super) fn sequences(&self) -> Vec<(bool, Vec<u8>)> {
        let all = |is_valid, list: &[&[u8]]| {
            list.iter().map(|bytes| (is_valid, bytes.to_vec())).collect::<Vec<_>>()
        };
        match &self.kind {
            Kind::Valid(list) => all(true, list),
            Kind::Invalid(list) => all(false, list),
            Kind::Both(valid, invalid) => [all(true, valid), all(false, invalid)].concat(),
            Kind::Prefixes(text) => (1..=text.len())
                .map(|end| (text.is_char_boundary(end), text.as_bytes()[..end].to_vec()))
                .collect(),
            Kind::Continuations => continuations(),
            Kind::LonelyStarts => lonely_starts(),
            Kind::NonCharacters => non_characters(),
        }
    }
}

fn continuations() -> Vec<(bool, Vec<u8>)> {
    let pair = [0x80, 0xbf];
    let rows = [&[0x80][..], &[0xbf]].map(<[u8]>::to_vec);
    let longer = (2..=6).map(|bytes| pair.iter().copied().cycle().take(bytes).collect());
    let every: Vec<u8> = (0x80..0xbf).collect();
    rows.into_iter().chain(longer).chain([every]).map(|bytes| (false, bytes)).collect()
}

fn lonely_starts() -> Vec<(bool, Vec<u8>)> {
    // The last of each range is left out, as in the suite.
    let ranges = [0xc0..0xdf, 0xe0..0xef, 0xf0..0xf7, 0xf8..0xfb, 0xfc..0xfd];
    let spaced = |range: std::ops::Range<u8>| range.flat_map(|byte| [byte, b' ']).collect();
    ranges.map(|range| (false, spaced(range))).into()
}

fn non_characters() -> Vec<(bool, Vec<u8>)> {
    let mut list = Vec::new();
    let mut add = |code: u32| {
        let character = char::from_u32(code).map(String::from);
        list.extend(character.map(|text| (true, text.into_bytes())));
    };
    // The last two of each plane.
    for plane in 0..=16 {
        add(plane << 16 | 0xfffe);
        add(plane << 16 | 0xffff);
    }
    list
}

/// Bytes as digits, cut where it helps nobody.
pub(super) fn hex(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 32;
    let mut text: String = bytes.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_MAX {
        text.push_str("...");
    }
    text
}
