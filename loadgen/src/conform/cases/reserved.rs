//! Section 3: reserved bits fail the connection, since no extension was agreed on.

use super::List;
use crate::conform::case::{Pace, Payload, Session, Step, empty_ping, paced, plain, text};
use crate::conform::frame::{BINARY, CLOSE, Head, TEXT};

const HELLO: &[u8] = b"Hello, world!";

pub(super) fn add(list: &mut List) {
    let alone = |opcode, rsv, payload: &[u8]| {
        Session::protocol_error(vec![with_bits(opcode, rsv, payload)], vec![])
    };
    list.session(&[3, 1], "text with RSV 1", alone(TEXT, 1, HELLO));
    let between = |rsv, pace| {
        let steps = vec![plain(TEXT, HELLO), with_bits(TEXT, rsv, HELLO), empty_ping()];
        Session::protocol_error(paced(pace, steps), vec![text(HELLO)]).or_non_strict(vec![])
    };
    list.session(&[3, 2], "text, text with RSV 2, ping", between(2, Pace::Together));
    list.session(&[3, 3], "text, text with RSV 3, ping, each apart", between(3, Pace::Apart));
    list.session(
        &[3, 4],
        "text, text with RSV 4, ping, byte by byte",
        between(4, Pace::Chopped(1)),
    );
    let bytes = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    list.session(&[3, 5], "binary with RSV 5", alone(BINARY, 5, bytes));
    list.session(&[3, 6], "binary with RSV 6", alone(BINARY, 6, HELLO));
    list.session(&[3, 7], "Close with RSV 7", alone(CLOSE, 7, b""));
}

fn with_bits(opcode: u8, rsv: u8, payload: &[u8]) -> Step {
    Step::Frame(Head { rsv, ..Head::of(opcode) }, Payload::new(payload), Pace::Together)
}
