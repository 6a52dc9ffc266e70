//! Section 5: which frame may follow which.

use super::List;
use crate::conform::case::{Pace, Session, Step, open_ended, paced, plain, pong, text};
use crate::conform::frame::{CONTINUATION, PING, PONG, TEXT};

const ONE: &[u8] = b"fragment1";
const TWO: &[u8] = b"fragment2";
const THREE: &[u8] = b"fragment3";
const ORPHAN: &[u8] = b"non-continuation payload";
const HELLO: &[u8] = b"Hello, world!";
const PACES: [(Pace, &str); 3] =
    [(Pace::Together, ""), (Pace::Apart, ", each apart"), (Pace::Chopped(1), ", byte by byte")];

pub(super) fn add(list: &mut List) {
    for (number, opcode, name) in [(1, PING, "ping"), (2, PONG, "pong")] {
        let steps = vec![open_ended(opcode, ONE), plain(CONTINUATION, TWO)];
        let session = Session::protocol_error(steps, vec![]);
        list.session(&[5, number], format!("a {name} in two fragments"), session);
    }
    for (number, (pace, rest)) in (3..).zip(PACES) {
        let steps = vec![open_ended(TEXT, ONE), plain(CONTINUATION, TWO)];
        let session = Session::echo(paced(pace, steps), vec![text(b"fragment1fragment2")]);
        list.session(
            &[5, number],
            format!("text in two fragments{rest}"),
            session.closing_at_last(),
        );
    }
    for (number, (pace, rest)) in (6..).zip(PACES) {
        let ping = plain(PING, b"ping payload");
        let steps = vec![open_ended(TEXT, ONE), ping, plain(CONTINUATION, TWO)];
        let events = vec![pong(b"ping payload"), text(b"fragment1fragment2")];
        let session = Session::echo(paced(pace, steps), events).closing_at_last();
        list.session(&[5, number], format!("text in two fragments, a ping between{rest}"), session);
    }
    for (first, is_last, name) in [(9, true, "a last"), (12, false, "a first")] {
        for (number, (pace, rest)) in (first..).zip(PACES) {
            let steps = vec![orphan(is_last, ORPHAN), plain(TEXT, HELLO)];
            let session = Session::protocol_error(paced(pace, steps), vec![]);
            let title = format!("{name} continuation of nothing, then text{rest}");
            list.session(&[5, number], title, session);
        }
    }
    add_mixed(list);
    add_pauses(list);
}

/// A continuation without a message.
fn orphan(is_last: bool, payload: &[u8]) -> Step {
    if is_last { plain(CONTINUATION, payload) } else { open_ended(CONTINUATION, payload) }
}

fn add_mixed(list: &mut List) {
    let steps = vec![
        open_ended(TEXT, ONE),
        plain(CONTINUATION, TWO),
        open_ended(CONTINUATION, THREE),
        plain(TEXT, b"fragment4"),
    ];
    let session = Session::protocol_error(steps, vec![text(b"fragment1fragment2")]);
    let title = "text in two fragments, a continuation of nothing, then text";
    list.session(&[5, 15], title, session.or_non_strict(vec![]));
    for (number, is_last, name) in [(16, false, "first"), (17, true, "last")] {
        let once = [orphan(is_last, ONE), open_ended(TEXT, TWO), plain(CONTINUATION, THREE)];
        let steps = [once.clone(), once].concat();
        let title = format!("twice: a {name} continuation of nothing, then text in two fragments");
        list.session(&[5, number], title, Session::protocol_error(steps, vec![]));
    }
    let steps = vec![open_ended(TEXT, ONE), plain(TEXT, TWO)];
    let session = Session::protocol_error(steps, vec![]);
    list.session(&[5, 18], "text in two fragments which both say text", session);
}

fn add_pauses(list: &mut List) {
    let pings = [&b"pongme 1!"[..], b"pongme 2!"];
    for (number, pace, rest) in [(19, Pace::Together, ""), (20, Pace::Apart, ", each apart")] {
        let steps = vec![
            open_ended(TEXT, ONE),
            open_ended(CONTINUATION, TWO),
            plain(PING, pings[0]),
            Step::Pause,
            open_ended(CONTINUATION, THREE),
            open_ended(CONTINUATION, b"fragment4"),
            plain(PING, pings[1]),
            plain(CONTINUATION, b"fragment5"),
        ];
        let whole = text(b"fragment1fragment2fragment3fragment4fragment5");
        let events = vec![pong(pings[0]), pong(pings[1]), whole];
        let session = Session::echo(paced(pace, steps), events).closing_at_last();
        let title = format!("text in five fragments, a ping and a second's pause among them{rest}");
        list.session(&[5, number], title, session);
    }
}
