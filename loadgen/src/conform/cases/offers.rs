//! Section 26: offers of permessage-deflate, valid, malformed, and both beside each other.
//!
//! RFC 7692 §7.1 has a server decline what it cannot take and what has wrong parameters; RFC 6455 §9.1
//! has it fail the handshake only over what breaks the grammar of the header.

use super::{List, Row};
use crate::conform::deflate::EXTENSIONS;
use crate::conform::request::Request;
use crate::conform::upgrade::{ACCEPT, Instead, REFUSE, Rule};

/// The offer stands here and in its rule, so that an answer can be held to it.
macro_rules! offer {
    ($title:literal, $instead:ident, $($offer:literal),+) => {
        (
            $title,
            Rule::Deflate { offers: &[$($offer),+], instead: Instead::$instead },
            |request: Request| request.with(EXTENSIONS, &[$($offer),+].join(", ")),
        )
    };
}

/// One offer that nobody may accept.
macro_rules! bad {
    ($title:literal, $offer:literal) => {
        ($title, Rule::ShouldAccept, |request: Request| {
            request.with(EXTENSIONS, concat!("permessage-deflate; ", $offer))
        })
    };
}

/// Something else, and then the one offer that may be accepted.
macro_rules! after {
    ($title:literal, $other:literal) => {
        ($title, GOOD_BESIDE_BAD, |request: Request| {
            request.with(EXTENSIONS, concat!($other, ", permessage-deflate"))
        })
    };
}

const GOOD_BESIDE_BAD: Rule =
    Rule::Deflate { offers: &["permessage-deflate"], instead: Instead::RefuseItsNeighbour };

pub(super) fn add(list: &mut List) {
    let groups = [(1, VALID), (2, INVALID), (3, SYNTAX), (4, AMONG)];
    for (group, cases) in groups {
        for (number, (title, rule, change)) in (1..).zip(cases) {
            list.upgrade(&[26, group, number], title, *rule, *change);
        }
    }
}

const VALID: &[Row] = &[
    offer!("the offer without parameters", Decline, "permessage-deflate"),
    offer!(
        "client_max_window_bits without a value",
        Decline,
        "permessage-deflate; client_max_window_bits"
    ),
    offer!(
        "client_max_window_bits of 8",
        DeclineFreely,
        "permessage-deflate; client_max_window_bits=8"
    ),
    offer!(
        "client_max_window_bits of 9",
        DeclineFreely,
        "permessage-deflate; client_max_window_bits=9"
    ),
    offer!(
        "client_max_window_bits of 15",
        DeclineFreely,
        "permessage-deflate; client_max_window_bits=15"
    ),
    offer!(
        "server_max_window_bits of 8",
        DeclineFreely,
        "permessage-deflate; server_max_window_bits=8"
    ),
    offer!(
        "server_max_window_bits of 9",
        DeclineFreely,
        "permessage-deflate; server_max_window_bits=9"
    ),
    offer!(
        "server_max_window_bits of 12",
        DeclineFreely,
        "permessage-deflate; server_max_window_bits=12"
    ),
    offer!(
        "server_max_window_bits of 15",
        DeclineFreely,
        "permessage-deflate; server_max_window_bits=15"
    ),
    offer!(
        "server_no_context_takeover",
        DeclineFreely,
        "permessage-deflate; server_no_context_takeover"
    ),
    offer!("client_no_context_takeover", Decline, "permessage-deflate; client_no_context_takeover"),
    offer!(
        "every parameter at once",
        DeclineFreely,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=10"
    ),
    offer!(
        "two offers, the second with less",
        Decline,
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
        "permessage-deflate"
    ),
    (
        "no space behind the semicolons, tabs around them",
        Rule::Deflate {
            offers: &["permessage-deflate;server_no_context_takeover;client_max_window_bits"],
            instead: Instead::DeclineFreely,
        },
        |request: Request| {
            let offer = "permessage-deflate;server_no_context_takeover\t;\tclient_max_window_bits";
            request.with(EXTENSIONS, offer)
        },
    ),
    // RFC 6455 §9.1: a quoted value means what stands in the quotation marks.
    (
        "window bits in quotation marks",
        Rule::Deflate {
            offers: &["permessage-deflate; server_max_window_bits=10"],
            instead: Instead::DeclineFreely,
        },
        |request: Request| {
            request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=\"10\"")
        },
    ),
];

// RFC 7692 §7.1: a server declines an offer with any of these.
const INVALID: &[Row] = &[
    bad!("server_max_window_bits of 7", "server_max_window_bits=7"),
    bad!("server_max_window_bits of 16", "server_max_window_bits=16"),
    bad!("server_max_window_bits of 08", "server_max_window_bits=08"),
    bad!("server_max_window_bits of 0", "server_max_window_bits=0"),
    bad!("server_max_window_bits of 010", "server_max_window_bits=010"),
    bad!("server_max_window_bits of +9", "server_max_window_bits=+9"),
    bad!("server_max_window_bits of -9", "server_max_window_bits=-9"),
    bad!("server_max_window_bits of 0x9", "server_max_window_bits=0x9"),
    bad!("server_max_window_bits of 9.0", "server_max_window_bits=9.0"),
    bad!("server_max_window_bits of a word", "server_max_window_bits=nine"),
    bad!("server_max_window_bits of 265, which is 9 in 8 bits", "server_max_window_bits=265"),
    bad!(
        "server_max_window_bits of 2 to the 64 and 9",
        "server_max_window_bits=18446744073709551625"
    ),
    bad!("server_max_window_bits without a value", "server_max_window_bits"),
    bad!("client_max_window_bits of 7", "client_max_window_bits=7"),
    bad!("client_max_window_bits of 16", "client_max_window_bits=16"),
    bad!("client_max_window_bits of 08", "client_max_window_bits=08"),
    bad!("client_max_window_bits of a word", "client_max_window_bits=nine"),
    bad!("server_no_context_takeover with a value", "server_no_context_takeover=1"),
    bad!("client_no_context_takeover with a value", "client_no_context_takeover=true"),
    bad!(
        "server_no_context_takeover twice",
        "server_no_context_takeover; server_no_context_takeover"
    ),
    bad!(
        "client_no_context_takeover twice",
        "client_no_context_takeover; client_no_context_takeover"
    ),
    bad!(
        "the same server_max_window_bits twice",
        "server_max_window_bits=9; server_max_window_bits=9"
    ),
    bad!(
        "client_max_window_bits twice, once with a value",
        "client_max_window_bits; client_max_window_bits=9"
    ),
    bad!("an unknown parameter", "x_unknown"),
    bad!("an unknown parameter behind known ones", "client_max_window_bits; x_unknown=1"),
    bad!("a known parameter with a letter too many", "server_no_context_takeovers"),
    ("the name with a letter too many", ACCEPT, |request| {
        request.with(EXTENSIONS, "permessage-deflates")
    }),
    ("the older x-webkit-deflate-frame alone", ACCEPT, |request| {
        request.with(EXTENSIONS, "x-webkit-deflate-frame")
    }),
];

// RFC 6455 §9.1: what does not keep to the grammar fails the handshake.
const SYNTAX: &[Row] = &[
    ("a value that is missing behind its `=`", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=")
    }),
    // The grammar of HTTP has it, and that of RFC 6455 wants a token in it.
    ("an empty value in quotation marks", Rule::RefuseOrDecline, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=\"\"")
    }),
    ("a value in quotation marks that is no token", Rule::RefuseOrDecline, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=\"1 0\"")
    }),
    ("a quotation mark that is not closed", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=\"10")
    }),
    ("text behind a closed quotation mark", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=\"10\"0")
    }),
    ("two values", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=10=10")
    }),
    ("a parameter without a name", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate; =10")
    }),
    ("a semicolon with nothing behind it", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate;")
    }),
    ("two semicolons", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate;; client_max_window_bits")
    }),
    ("parameters without an extension", REFUSE, |request| {
        request.with(EXTENSIONS, "; client_max_window_bits")
    }),
    ("a space instead of a semicolon", REFUSE, |request| {
        request.with(EXTENSIONS, "permessage-deflate client_max_window_bits")
    }),
    ("a name that is no token", REFUSE, |request| request.with(EXTENSIONS, "permessage/deflate")),
    // Whoever splits at every comma sees an offer in it.
    ("an offer between commas in quotation marks", Rule::RefuseOrDecline, |request| {
        request.with(EXTENSIONS, "x-unknown; a=\"b,permessage-deflate,c\"")
    }),
    ("an empty header", Rule::Open, |request| request.with(EXTENSIONS, "")),
];

// RFC 7692 §5.1: the next offer counts where one was declined.
const AMONG: &[Row] = &[
    after!("7 window bits, then a good offer", "permessage-deflate; server_max_window_bits=7"),
    after!("16 window bits, then a good offer", "permessage-deflate; client_max_window_bits=16"),
    after!(
        "a parameter twice, then a good offer",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover"
    ),
    after!("an unknown parameter, then a good offer", "permessage-deflate; x_unknown"),
    after!("an unknown extension, then a good offer", "x-unknown; server_max_window_bits=9"),
    after!("a value in quotation marks, then a good offer", "x-unknown; a=\"b\""),
    ("a bad offer in one line, a good one in the next", GOOD_BESIDE_BAD, |request| {
        let bad = "permessage-deflate; server_no_context_takeover=1";
        request.with(EXTENSIONS, bad).line("Sec-WebSocket-Extensions: permessage-deflate")
    }),
    ("forty bad offers, then a good one", GOOD_BESIDE_BAD, |request| {
        let bad = ["permessage-deflate; server_max_window_bits=7"; 40].join(", ");
        request.with(EXTENSIONS, &format!("{bad}, permessage-deflate"))
    }),
    // It stays below the limits of heads, and takes long only where parsing is not linear.
    ("an unknown extension with 3000 backslashes in quotation marks", Rule::Open, |request| {
        request.with(EXTENSIONS, &format!("x-unknown; a=\"{}", "\\x".repeat(1500)))
    }),
];
