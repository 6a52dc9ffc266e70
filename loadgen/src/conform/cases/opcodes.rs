//! Section 4: reserved opcodes fail the connection.

use super::List;
use crate::conform::case::{Pace, Session, empty_ping, paced, plain, text};
use crate::conform::frame::TEXT;

const HELLO: &[u8] = b"Hello, world!";
const RESERVED: &[u8] = b"reserved opcode payload";

pub(super) fn add(list: &mut List) {
    for (group, first) in [(1, 3), (2, 11)] {
        let alone =
            |opcode, payload: &[u8]| Session::protocol_error(vec![plain(opcode, payload)], vec![]);
        let title = |opcode| format!("a frame with opcode {opcode}");
        list.session(&[4, group, 1], title(first), alone(first, b""));
        let with_payload = format!("{} and payload", title(first + 1));
        list.session(&[4, group, 2], with_payload, alone(first + 1, RESERVED));

        let between = |opcode, payload: &[u8], pace| {
            let steps = vec![plain(TEXT, HELLO), plain(opcode, payload), empty_ping()];
            Session::protocol_error(paced(pace, steps), vec![text(HELLO)]).or_non_strict(vec![])
        };
        let cases = [
            (3, first + 2, &b""[..], Pace::Together, ""),
            (4, first + 3, HELLO, Pace::Together, " and payload"),
            (5, first + 4, HELLO, Pace::Chopped(1), " and payload, byte by byte"),
        ];
        for (number, opcode, payload, pace, rest) in cases {
            let title = format!("text, {}{rest}, ping", title(opcode));
            list.session(&[4, group, number], title, between(opcode, payload, pace));
        }
    }
}
