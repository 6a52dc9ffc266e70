//! Section 23: subprotocols and extensions. Nothing is agreed on that was not offered.

use super::{List, Row};
use crate::conform::upgrade::{ACCEPT, REFUSE, Rule};

const PROTOCOL: &str = "Sec-WebSocket-Protocol";
const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const CHAT: Rule = Rule::Accept { protocols: &["chat"], extensions: &[] };
const CHATS: Rule = Rule::Accept { protocols: &["chat", "superchat"], extensions: &[] };
const DEFLATE: Rule = Rule::Accept { protocols: &[], extensions: &["permessage-deflate"] };

pub(super) fn add(list: &mut List) {
    let protocols: &[Row] = &[
        ("no subprotocol offered", ACCEPT, |request| request),
        ("one subprotocol offered", CHAT, |request| request.with(PROTOCOL, "chat")),
        ("two offered in one line", CHATS, |request| request.with(PROTOCOL, "chat, superchat")),
        ("two offered in two lines", CHATS, |request| {
            request.with(PROTOCOL, "chat").line("Sec-WebSocket-Protocol: superchat")
        }),
        ("the same subprotocol twice", Rule::Open, |request| request.with(PROTOCOL, "chat, chat")),
        ("a subprotocol that is no token", Rule::Open, |request| request.with(PROTOCOL, "ch@t")),
        ("an empty offer of subprotocols", Rule::Open, |request| request.with(PROTOCOL, "")),
    ];
    // RFC 6455 §9.1: unknown extensions are declined, and what breaks the grammar fails the
    // handshake. RFC 7692 §7.1: an offer nobody can take is declined, too.
    let extensions: &[Row] = &[
        ("an unknown extension", ACCEPT, |request| request.with(EXTENSIONS, "x-unknown")),
        ("an unknown extension with parameters", ACCEPT, |request| {
            request.with(EXTENSIONS, "x-unknown; a; b=1; c=\"2\"")
        }),
        ("unknown extensions in two lines", ACCEPT, |request| {
            request.with(EXTENSIONS, "x-one").line("Sec-WebSocket-Extensions: x-two; a=b")
        }),
        ("permessage-deflate among unknown ones", DEFLATE, |request| {
            request.with(EXTENSIONS, "x-one, permessage-deflate; client_max_window_bits, x-two")
        }),
        ("permessage-deflate with an unknown parameter", Rule::ShouldAccept, |request| {
            request.with(EXTENSIONS, "permessage-deflate; x-unknown")
        }),
        ("permessage-deflate with a window of 2 to the 99", Rule::ShouldAccept, |request| {
            request.with(EXTENSIONS, "permessage-deflate; server_max_window_bits=99")
        }),
        ("permessage-deflate with a parameter twice", Rule::ShouldAccept, |request| {
            let offer =
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover";
            request.with(EXTENSIONS, offer)
        }),
        ("an extension without a name", REFUSE, |request| request.with(EXTENSIONS, "; a=1")),
        ("a parameter without a name", REFUSE, |request| request.with(EXTENSIONS, "x-one; =1")),
        ("a quotation mark that is not closed", REFUSE, |request| {
            request.with(EXTENSIONS, "x-one; a=\"1")
        }),
        ("a name that is no token", REFUSE, |request| request.with(EXTENSIONS, "x(one")),
    ];
    for (group, cases) in [(1, protocols), (2, extensions)] {
        for (number, (title, rule, change)) in (1..).zip(cases) {
            list.upgrade(&[23, group, number], title, *rule, *change);
        }
    }
}
