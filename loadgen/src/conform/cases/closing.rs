//! Section 7: the closing handshake, its codes and its reasons.

use super::List;
use super::utf8_table::GREEK;
use crate::conform::case::{
    Event, Pace, Payload, Session, Step, close_1000, close_payload, empty_ping, open_ended, plain,
    text,
};
use crate::conform::frame::{CLOSE, CONTINUATION, Head, TEXT};

const HELLO: &[u8] = b"Hello World!";
const VALID_CODES: [u16; 13] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const INVALID_CODES: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
const UNDEFINED_CODES: [u16; 2] = [5000, 65_535];

pub(super) fn add(list: &mut List) {
    add_order(list);
    add_payloads(list);
    for (number, code) in (1..).zip(VALID_CODES) {
        let session = Session::close(vec![close(code, b"")], &[1000, code], true);
        list.session(&[7, 7, number], format!("Close with {code}, which is valid"), session);
    }
    for (number, code) in (1..).zip(INVALID_CODES) {
        let session = Session::close(vec![close(code, b"")], &[1002], false);
        list.session(&[7, 9, number], format!("Close with {code}, which is not valid"), session);
    }
    for (number, code) in (1..).zip(UNDEFINED_CODES) {
        let session = Session::close(vec![close(code, b"")], &[1000, code, 1002], false);
        let session = Session { informational: true, ..session };
        list.session(&[7, 13, number], format!("Close with {code}, which nobody defines"), session);
    }
}

fn close(code: u16, reason: &[u8]) -> Step {
    Step::Close(close_payload(code, reason))
}

/// What comes around and behind a Close frame.
fn add_order(list: &mut List) {
    let mut session = Session::echo(vec![plain(TEXT, HELLO)], vec![text(HELLO)]);
    session.outcomes[0].closing.code_is_the_point = true;
    list.session(&[7, 1, 1], "text, then Close once it has come back", session);

    let normal = |steps| Session::close(steps, &[1000], true);
    let twice = normal(vec![close_1000(), plain(CLOSE, b"")]);
    list.session(&[7, 1, 2], "two Close frames", twice);
    let session = normal(vec![close_1000(), empty_ping()]);
    list.session(&[7, 1, 3], "a ping behind a Close frame", session);
    let session = normal(vec![close_1000(), plain(TEXT, HELLO)]);
    list.session(&[7, 1, 4], "text behind a Close frame", session);
    let steps =
        vec![open_ended(TEXT, b"fragment1"), close_1000(), plain(CONTINUATION, b"fragment2")];
    list.session(&[7, 1, 5], "a Close frame between two fragments of a text", normal(steps));

    let large = Payload::repeated(b"BAsd7&jh23", 256 << 10);
    let steps = vec![
        Step::Frame(Head::of(TEXT), large.clone(), Pace::Together),
        plain(TEXT, HELLO),
        close_1000(),
        empty_ping(),
    ];
    let mut session = Session { informational: true, ..normal(steps) };
    let whole = Event::Message { binary: false, payload: large };
    session.outcomes[0].events = vec![whole, text(HELLO)];
    let title = "text of 262,144 bytes, a short one, Close and ping, all at once";
    list.session(&[7, 1, 6], title, session.or_non_strict(vec![]));
}

/// What a Close frame may hold.
fn add_payloads(list: &mut List) {
    let normal = |payload| Session::close(vec![Step::Close(payload)], &[1000], true);
    let wrong = |payload, codes: &[u16]| Session::close(vec![Step::Close(payload)], codes, false);
    let reasoned = |reason: &[u8]| close_payload(1000, reason);
    list.session(&[7, 3, 1], "Close without a payload", normal(Vec::new()));
    list.session(&[7, 3, 2], "Close with one byte", wrong(b"a".to_vec(), &[1002]));
    list.session(&[7, 3, 3], "Close with a code", normal(reasoned(b"")));
    list.session(&[7, 3, 4], "Close with a code and a reason", normal(reasoned(HELLO)));
    let longest = normal(reasoned(&[b'*'; 123]));
    list.session(&[7, 3, 5], "Close with the longest reason there may be", longest);
    let too_long = wrong(reasoned(&[b'*'; 124]), &[1002]);
    list.session(&[7, 3, 6], "Close with a reason that is a byte too long", too_long);
    let reason = [GREEK.as_bytes(), b"\xed\xa0\x80edited"].concat();
    let session = wrong(reasoned(&reason), &[1002, 1007]);
    list.session(&[7, 5, 1], "Close with a reason that is not UTF-8", session);
}
